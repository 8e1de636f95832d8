//! What an answer must look like: `response_format`, which is OpenAI's, and `grammar`, which others have.

use std::sync::Arc;

use engine::Guide;
use guides::{Error, Grammars};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::fields::{Fields, invalid, wrong_type};
use crate::generation::Generation;
use crate::problem::{Code, Problem};

const FORMAT: &str = "response_format";
const GRAMMAR: &str = "grammar";

/// What an answer must look like; `None` for any text.
pub(crate) type Form = Option<guides::Form>;

/// From the fields of a body.
pub(super) fn read(fields: &mut Fields) -> Result<Form, Problem> {
    let format = match fields.take(FORMAT) {
        None => None,
        Some(value) => format(Fields::of(value, fields.pointer(FORMAT))?)?,
    };
    let grammar = match fields.take(GRAMMAR) {
        None => return Ok(format),
        Some(value) => grammar(value, &fields.pointer(GRAMMAR))?,
    };
    if format.is_some() {
        let detail = "An answer can have the form of 'response_format' or of 'grammar', but not of both.";
        return Err(invalid(&fields.pointer(GRAMMAR), detail));
    }
    Ok(Some(grammar))
}

fn format(mut fields: Fields) -> Result<Form, Problem> {
    let kind = fields.needed_text("type")?;
    let known: &[&str] = if kind == "json_schema" { &["type", "json_schema"] } else { &["type"] };
    let form = match kind.as_str() {
        "text" => None,
        "json_object" => Some(guides::Form::JsonObject),
        "json_schema" => {
            let at = fields.pointer("json_schema");
            Some(schema(Fields::of(fields.need("json_schema")?, at)?)?)
        }
        _ => {
            let detail = "The formats are 'text', 'json_object' and 'json_schema'.";
            return Err(invalid(&fields.pointer("type"), detail));
        }
    };
    fields.only(known)?;
    Ok(form)
}

fn schema(mut fields: Fields) -> Result<guides::Form, Problem> {
    fields.only(&["name", "schema", "strict", "description"])?;
    let name = fields.needed_text("name")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        let detail = "A schema's name has 1 to 64 letters, digits, underscores and dashes.";
        return Err(invalid(&fields.pointer("name"), detail));
    }
    fields.text("description")?;
    fields.flag("strict")?;
    let at = fields.pointer("schema");
    match fields.need("schema")? {
        schema @ Value::Object(_) => Ok(guides::Form::JsonSchema(schema)),
        other => Err(wrong_type(&at, "an object", &other)),
    }
}

fn grammar(value: Value, at: &str) -> Result<guides::Form, Problem> {
    let (syntax, definition) = match value {
        Value::String(definition) => ("lark".to_owned(), definition),
        Value::Object(_) => {
            let mut fields = Fields::of(value, at.to_owned())?;
            fields.only(&["syntax", "definition"])?;
            (fields.needed_text("syntax")?, fields.needed_text("definition")?)
        }
        other => return Err(wrong_type(at, "a string or an object", &other)),
    };
    match syntax.as_str() {
        "lark" => Ok(guides::Form::Lark(definition)),
        "regex" => Ok(guides::Form::Regex(definition)),
        _ => Err(invalid(&format!("{at}/syntax"), "The syntaxes are 'lark' and 'regex'.")),
    }
}

/// What reads the grammars of answers of one model.
pub(crate) struct Forms {
    grammars: Arc<Grammars>,
    /// How many may still be read at once.
    reads: Arc<Semaphore>,
}

impl Forms {
    pub(crate) fn new(grammars: Grammars, reads: usize) -> Self {
        Self { grammars: Arc::new(grammars), reads: Arc::new(Semaphore::new(reads)) }
    }
}

/// What keeps an answer of these weights in a form; none for text.
pub(crate) async fn constraint(
    generation: &Arc<Generation>,
    form: &Form,
) -> Result<Option<Box<dyn Guide>>, Problem> {
    let Some(form) = form.clone() else { return Ok(None) };
    let (field, what) = match form {
        guides::Form::JsonObject => (FORMAT, "object"),
        guides::Form::JsonSchema(_) => (FORMAT, "schema"),
        guides::Form::Lark(_) => (GRAMMAR, "grammar"),
        guides::Form::Regex(_) => (GRAMMAR, "regular expression"),
    };
    // It is never closed, so that its turn comes.
    let turn = Arc::clone(&generation.forms.reads).acquire_owned().await;
    let grammars = Arc::clone(&generation.forms.grammars);
    // It goes on by itself where the caller has gone by then.
    match tokio::task::spawn_blocking(move || grammars.read(&form, turn)).await {
        Ok(Ok(constraint)) => Ok(Some(constraint)),
        Ok(Err(Error::Unavailable(error))) => {
            tracing::error!(%error, "grammar worker failed");
            Err(Problem::new(Code::Internal, format!("The {what} could not be read.")))
        }
        Ok(Err(error)) => {
            if !matches!(error, Error::Refused(_)) {
                tracing::warn!(%error, "grammar read stopped");
            }
            let detail = format!("The {what} cannot be followed: {error}.");
            Err(Problem::new(Code::InvalidValue, detail).at(format!("/{field}")))
        }
        Err(_) => Err(Problem::new(Code::Internal, format!("The {what} could not be read."))),
    }
}
