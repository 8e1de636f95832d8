//! What an answer must look like: `response_format`, which is OpenAI's, and `grammar`, which others have.

use engine::Guide;
use guides::Form;
use serde_json::Value;
use serving::{GrammarError, ServedModel};

use super::parameters::{invalid, object, wrong_type};
use crate::fields::BodyFields;
use crate::problem::{Code, Problem};

const FORMAT: &str = "response_format";
const GRAMMAR: &str = "grammar";

/// What an answer must look like; `None` for any text.
pub(crate) type ResponseFormat = Option<Form>;

/// From the fields of a body.
pub(super) fn read(fields: &mut BodyFields) -> Result<ResponseFormat, Problem> {
    let format = match fields.take(FORMAT) {
        None => None,
        Some(value) => format(object(value, fields.pointer(FORMAT))?)?,
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

fn format(mut fields: BodyFields) -> Result<ResponseFormat, Problem> {
    let kind = fields.needed_text("type")?;
    let known: &[&str] = if kind == "json_schema" { &["type", "json_schema"] } else { &["type"] };
    let form = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Form::JsonObject),
        "json_schema" => {
            let at = fields.pointer("json_schema");
            Some(schema(object(fields.need("json_schema")?, at)?)?)
        }
        _ => {
            let detail = "The formats are 'text', 'json_object' and 'json_schema'.";
            return Err(invalid(&fields.pointer("type"), detail));
        }
    };
    fields.only(known)?;
    Ok(form)
}

fn schema(mut fields: BodyFields) -> Result<Form, Problem> {
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
        schema @ Value::Object(_) => Ok(Form::JsonSchema(schema)),
        other => Err(wrong_type(&at, "an object", &other)),
    }
}

fn grammar(value: Value, at: &str) -> Result<Form, Problem> {
    let (syntax, definition) = match value {
        Value::String(definition) => ("lark".to_owned(), definition),
        Value::Object(_) => {
            let mut fields = object(value, at.to_owned())?;
            fields.only(&["syntax", "definition"])?;
            (fields.needed_text("syntax")?, fields.needed_text("definition")?)
        }
        other => return Err(wrong_type(at, "a string or an object", &other)),
    };
    match syntax.as_str() {
        "lark" => Ok(Form::Lark(definition)),
        "regex" => Ok(Form::Regex(definition)),
        _ => Err(invalid(&format!("{at}/syntax"), "The syntaxes are 'lark' and 'regex'.")),
    }
}

/// What keeps an answer of this model in a format; `None` for text.
pub(super) async fn guide(
    served: &ServedModel,
    format: &ResponseFormat,
) -> Result<Option<Box<dyn Guide>>, Problem> {
    let Some(form) = format.clone() else { return Ok(None) };
    let (field, what) = match form {
        Form::JsonObject => (FORMAT, "object"),
        Form::JsonSchema(_) => (FORMAT, "schema"),
        Form::Lark(_) => (GRAMMAR, "grammar"),
        Form::Regex(_) => (GRAMMAR, "regular expression"),
    };
    let problem = |error| match error {
        GrammarError::Unavailable => Problem::new(Code::Internal, format!("The {what} could not be read.")),
        GrammarError::Refused(error) => {
            let detail = format!("The {what} cannot be followed: {error}.");
            Problem::new(Code::InvalidValue, detail).at(format!("/{field}"))
        }
    };
    served.guide(form).await.map(Some).map_err(problem)
}
