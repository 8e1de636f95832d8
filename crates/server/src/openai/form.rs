//! What an answer must look like: `response_format`, which is OpenAI's, and `grammar`, which others have.

use std::sync::{Arc, OnceLock};

use engine::Constraint;
use grammar::Grammars;
use serde_json::Value;
use tokenizer::Tokenizer;
use tokio::sync::Semaphore;

use super::fields::{Fields, invalid, wrong_type};
use crate::generation::Generation;
use crate::problem::{Code, Problem};

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
        schema @ Value::Object(_) => Ok(Form::JsonSchema(schema)),
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
    match syntax.as_str() {
        "lark" => Ok(Form::Lark(definition)),
        "regex" => Ok(Form::Regex(definition)),
        _ => Err(invalid(&format!("{at}/syntax"), "The syntaxes are 'lark' and 'regex'.")),
    }
}

/// What makes forms for the answers of one model; the part that depends on its tokens alone is made at the first of them.
pub(crate) struct Forms {
    grammars: OnceLock<Result<Grammars, grammar::Error>>,
    /// They take up to a tenth of a second of a core, which answers need too.
    one_at_a_time: Semaphore,
}

impl Default for Forms {
    fn default() -> Self {
        Self { grammars: OnceLock::new(), one_at_a_time: Semaphore::new(1) }
    }
}

impl Forms {
    fn make(
        &self,
        tokenizer: &Tokenizer,
        form: &Form,
    ) -> Result<Option<Box<dyn Constraint>>, grammar::Error> {
        if *form == Form::Text {
            return Ok(None);
        }
        let grammars =
            self.grammars.get_or_init(|| Grammars::new(tokenizer)).as_ref().map_err(Clone::clone)?;
        let made = match form {
            Form::Text => return Ok(None),
            Form::JsonObject => grammars.json_object(),
            Form::JsonSchema(schema) => grammars.json_schema(schema),
            Form::Lark(definition) => grammars.lark(definition),
            Form::Regex(definition) => grammars.regex(definition),
        };
        made.map(Some)
    }
}

/// What keeps an answer of these weights in a form; none for text.
pub(crate) async fn constraint(
    generation: &Arc<Generation>,
    form: &Form,
) -> Result<Option<Box<dyn Constraint>>, Problem> {
    let (field, what) = match form {
        Form::Text => return Ok(None),
        Form::JsonObject => (FORMAT, "object"),
        Form::JsonSchema(_) => (FORMAT, "schema"),
        Form::Lark(_) => (GRAMMAR, "grammar"),
        Form::Regex(_) => (GRAMMAR, "regular expression"),
    };
    // It is never closed, so that its turn comes.
    let _turn = generation.forms.one_at_a_time.acquire().await;
    let (held, form) = (Arc::clone(generation), form.clone());
    let made = tokio::task::spawn_blocking(move || held.forms.make(&held.model.tokenizer, &form)).await;
    match made {
        Ok(Ok(constraint)) => Ok(constraint),
        Ok(Err(error)) => {
            let detail = format!("The {what} cannot be followed: {error}.");
            Err(Problem::new(Code::InvalidValue, detail).at(format!("/{field}")))
        }
        Err(_) => Err(Problem::new(Code::Internal, format!("The {what} could not be read."))),
    }
}
