//! What an answer must look like, and how that passes to the worker.

use serde_json::Value;

use crate::error::GrammarRefusal;

/// Bytes of a schema as text, of a grammar and of a regular expression.
const MAX_SCHEMA_BYTES: usize = 64 << 10;
const MAX_GRAMMAR_BYTES: usize = 16 << 10;
pub(crate) const MAX_REGEX_BYTES: usize = 4 << 10;

/// The first byte of a form as it passes to the worker.
const JSON_OBJECT: u8 = b'o';
const JSON_SCHEMA: u8 = b's';
const LARK: u8 = b'l';
const REGEX: u8 = b'r';

/// What an answer must look like.
#[derive(Clone, PartialEq, Debug)]
pub enum Form {
    /// Some JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema(Value),
    /// Text that a grammar in Lark's syntax derives, from its rule `start`.
    Lark(String),
    /// Text that a regular expression matches from its beginning to its end.
    Regex(String),
}

impl Form {
    /// The bytes that pass to the worker. Fails if there are more than allowed.
    pub(crate) fn write(&self) -> Result<Vec<u8>, GrammarRefusal> {
        let (kind, text, most) = match self {
            Self::JsonObject => (JSON_OBJECT, String::new(), 0),
            Self::JsonSchema(schema) => (JSON_SCHEMA, schema.to_string(), MAX_SCHEMA_BYTES),
            Self::Lark(grammar) => (LARK, grammar.clone(), MAX_GRAMMAR_BYTES),
            Self::Regex(regex) => (REGEX, regex.clone(), MAX_REGEX_BYTES),
        };
        bounded(text.len(), most)?;
        Ok([&[kind], text.as_bytes()].concat())
    }

    /// The form of such bytes.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (&kind, text) = payload.split_first()?;
        let text = || String::from_utf8(text.to_vec()).ok();
        Some(match kind {
            JSON_OBJECT => Self::JsonObject,
            JSON_SCHEMA => Self::JsonSchema(serde_json::from_str(&text()?).ok()?),
            LARK => Self::Lark(text()?),
            REGEX => Self::Regex(text()?),
            _ => return None,
        })
    }
}

/// Fails if there are more bytes than allowed.
pub(crate) fn bounded(bytes: usize, most: usize) -> Result<(), GrammarRefusal> {
    if bytes <= most {
        Ok(())
    } else {
        Err(GrammarRefusal(format!("it has {bytes} bytes, but at most {most} are allowed")))
    }
}
