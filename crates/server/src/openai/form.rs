//! What an answer must look like: `response_format`, which is OpenAI's, and `grammar`, which others have.

use engine::Constraint;
use serde_json::Value;

use super::fields::{Fields, invalid, wrong_type};
use crate::generation::Generation;
use crate::problem::{Code, Problem};

/// Longest grammar or schema, in bytes of its text.
const MAX_BYTES: usize = 64 << 10;
const FORMAT: &str = "response_format";
const GRAMMAR: &str = "grammar";

/// What an answer must look like.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) enum Form {
    /// Anything.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema(Value),
    /// A text of a grammar in Lark's syntax.
    Lark(String),
    /// A text that an expression matches as a whole.
    Regex(String),
}

impl Form {
    /// From the fields of a body.
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Problem> {
        let format = match fields.take(FORMAT) {
            None => Self::Text,
            Some(value) => format(Fields::of(value, fields.pointer(FORMAT))?)?,
        };
        let grammar = match fields.take(GRAMMAR) {
            None => return Ok(format),
            Some(value) => grammar(value, &fields.pointer(GRAMMAR))?,
        };
        if format != Self::Text {
            let detail = "An answer can have the form of 'response_format' or of 'grammar', but not of both.";
            return Err(invalid(&fields.pointer(GRAMMAR), detail));
        }
        Ok(grammar)
    }
}

fn format(mut fields: Fields) -> Result<Form, Problem> {
    let kind = fields.needed_text("type")?;
    let known: &[&str] = if kind == "json_schema" { &["type", "json_schema"] } else { &["type"] };
    let form = match kind.as_str() {
        "text" => Form::Text,
        "json_object" => Form::JsonObject,
        "json_schema" => {
            let at = fields.pointer("json_schema");
            schema(Fields::of(fields.need("json_schema")?, at)?)?
        }
        _ => {
            let detail = "The formats are 'text', 'json_object' and 'json_schema'.";
            return Err(invalid(&fields.pointer("type"), detail));
        }
    };
    fields.only(known)?;
    Ok(form)
}

fn schema(mut fields: Fields) -> Result<Form, Problem> {
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
        schema @ Value::Object(_) => {
            bounded(schema.to_string().len(), &at)?;
            Ok(Form::JsonSchema(schema))
        }
        other => Err(wrong_type(&at, "an object", &other)),
    }
}

fn grammar(value: Value, at: &str) -> Result<Form, Problem> {
    let (syntax, definition) = match value {
        Value::String(definition) => ("lark".to_owned(), definition),
        Value::Object(_) => {
            let mut fields = Fields::of(value, at.to_owned())?;
            fields.only(&["syntax", "definition"])?;
            (fields.needed_text("syntax")?, fields.needed_text("definition")?)
        }
        other => return Err(wrong_type(at, "a string or an object", &other)),
    };
    bounded(definition.len(), at)?;
    match syntax.as_str() {
        "lark" => Ok(Form::Lark(definition)),
        "regex" => Ok(Form::Regex(definition)),
        _ => Err(invalid(&format!("{at}/syntax"), "The syntaxes are 'lark' and 'regex'.")),
    }
}

fn bounded(bytes: usize, at: &str) -> Result<(), Problem> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(invalid(at, format!("It has {bytes} bytes, but at most {MAX_BYTES} are allowed.")))
}

/// What keeps an answer of these weights in a form; none for text.
pub(crate) async fn constraint(
    generation: &Generation,
    form: &Form,
) -> Result<Option<Box<dyn Constraint>>, Problem> {
    let _ = generation;
    let field = match form {
        Form::Text => return Ok(None),
        Form::JsonObject | Form::JsonSchema(_) => FORMAT,
        Form::Lark(_) | Form::Regex(_) => GRAMMAR,
    };
    let detail = format!("The parameter '{field}' is not available yet, but for text.");
    Err(Problem::new(Code::UnsupportedField, detail).at(format!("/{field}")))
}
