//! The fields of each operation. What is not known is refused by name, and so is what OpenAI has and this server has
//! not, unless it asks for nothing. What has no effect on an answer anywhere, such as
//! the name of the client's user, is taken if its type is right.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::dotted;
use crate::fields::{BodyFields, Wording};
use crate::problem::{Code, Problem};

/// Fields of `POST /v1/chat/completions` alone.
const CHAT: &[&str] =
    &["messages", "top_logprobs", "max_completion_tokens", "add_generation_prompt", "continue_final_message"];
/// Fields of `POST /v1/completions` alone.
const COMPLETIONS: &[&str] = &["prompt"];
/// Fields of both.
const BOTH: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "stop",
    "seed",
    "response_format",
    "grammar",
];
const TOKENIZE: &[&str] = &[
    "model",
    "prompt",
    "messages",
    "add_special_tokens",
    "add_generation_prompt",
    "continue_final_message",
    "return_token_strs",
];
const DETOKENIZE: &[&str] = &["model", "tokens"];

/// Fields of both that are accepted and have no effect on an answer: labels for the provider's storage, cache and abuse
/// checks, and how tools are called, which never are.
const NO_EFFECT: &[(&str, Expected)] = &[
    ("metadata", Expected::Texts),
    ("parallel_tool_calls", Expected::Boolean),
    ("prompt_cache_key", Expected::Text),
    ("safety_identifier", Expected::Text),
    ("user", Expected::Text),
];

/// The type of a value that has no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    Boolean,
    Text,
    Object,
    /// An object whose values are texts.
    Texts,
}

/// Lists of tools, each with the field that says whether they are called.
const TOOLS: [(&str, &str); 2] = [("tools", "tool_choice"), ("functions", "function_call")];

/// Fields that others support, each with the values that ask for nothing, as JSON.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("audio", "[]"),
    ("best_of", "[1]"),
    ("echo", "[false]"),
    ("function_call", r#"["none", "auto"]"#),
    ("modalities", r#"[["text"]]"#),
    ("moderation", "[]"),
    ("prediction", "[]"),
    ("prompt_cache_retention", r#"["in_memory", "in-memory"]"#),
    ("reasoning_effort", r#"["none"]"#),
    ("service_tier", r#"["auto", "default"]"#),
    ("store", "[false]"),
    ("suffix", r#"[""]"#),
    ("tool_choice", r#"["none", "auto"]"#),
    ("verbosity", r#"["medium"]"#),
    ("web_search_options", "[]"),
];

/// An operation that takes a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyKind {
    Chat,
    Completions,
    Tokenize,
    Detokenize,
}

impl BodyKind {
    /// Fields that an answer depends on.
    fn known(self) -> impl Iterator<Item = &'static str> {
        let (own, shared) = match self {
            Self::Chat => (CHAT, BOTH),
            Self::Completions => (COMPLETIONS, BOTH),
            Self::Tokenize => (TOKENIZE, &[][..]),
            Self::Detokenize => (DETOKENIZE, &[][..]),
        };
        own.iter().chain(shared).copied()
    }

    /// These, and those that are accepted without effect.
    fn taken(self) -> impl Iterator<Item = &'static str> {
        let tools = TOOLS.iter().map(|(name, _)| *name).filter(move |_| self.is_completion());
        self.known().chain(tools).chain(self.no_effect().iter().map(|(name, _)| *name))
    }

    fn is_completion(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    fn no_effect(self) -> &'static [(&'static str, Expected)] {
        if self.is_completion() { NO_EFFECT } else { &[] }
    }

    fn unsupported(self) -> &'static [(&'static str, &'static str)] {
        if self.is_completion() { UNSUPPORTED } else { &[] }
    }
}

/// The fields of an operation's body.
pub struct Parameters {
    /// What it takes.
    pub taken: Vec<&'static str>,
    /// What it takes only with the values that ask for nothing, as JSON.
    pub unsupported: &'static [(&'static str, &'static str)],
}

/// The fields that the operation at a path takes; for the test of its contract.
pub fn parameters(path: &str) -> Option<Parameters> {
    let body = match path {
        "/v1/chat/completions" => BodyKind::Chat,
        "/v1/completions" => BodyKind::Completions,
        "/tokenize" => BodyKind::Tokenize,
        "/detokenize" => BodyKind::Detokenize,
        _ => return None,
    };
    Some(Parameters { taken: body.taken().collect(), unsupported: body.unsupported() })
}

/// Reads a body; and which of its fields were ignored, because the settings say so.
pub(crate) fn read(
    body: &[u8],
    kind: BodyKind,
    ignored: &BTreeSet<String>,
) -> Result<(BodyFields, Vec<String>), Problem> {
    let mut fields = BodyFields::parse(body, Wording::OpenAi)?;
    let unknown = ignored.iter().filter(|name| kind.known().all(|known| known != *name));
    let ignored = fields.ignore(unknown);
    if kind.is_completion() {
        TOOLS.iter().try_for_each(|(name, choice)| uncalled_tools(&mut fields, name, choice))?;
    }
    fields.without_effect(kind.no_effect())?;
    for (name, neutral) in kind.unsupported() {
        if let Some(value) = fields.take(name) {
            refuse_unless(&value, name, neutral)?;
        }
    }
    fields.only(&kind.taken().collect::<Vec<_>>())?;
    Ok((fields, ignored))
}

/// Accepts an empty list of tools, and any list if `choice` is "none": then the model may not call them.
fn uncalled_tools(fields: &mut BodyFields, name: &str, choice: &str) -> Result<(), Problem> {
    let at = fields.pointer(name);
    let tools = match fields.take(name) {
        None => return Ok(()),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(wrong_type(&at, "an array of objects", &other)),
    };
    if let Some((i, other)) = tools.iter().enumerate().find(|(_, tool)| !tool.is_object()) {
        return Err(wrong_type(&format!("{at}/{i}"), "an object", other));
    }
    if tools.is_empty() || fields.is(choice, "none") {
        return Ok(());
    }
    let detail = format!(
        "The parameter '{name}' is not supported by this server, only empty or with '{choice}' \"none\"."
    );
    Err(Problem::new(Code::UnsupportedField, detail).at(at))
}

/// Refuses a field that is not supported, unless its value asks for nothing.
fn refuse_unless(value: &Value, name: &str, neutral: &str) -> Result<(), Problem> {
    let is_same = |allowed: &Value| match (allowed.as_f64(), value.as_f64()) {
        (Some(allowed), Some(value)) => allowed == value,
        _ => allowed == value,
    };
    let allowed: Vec<Value> = serde_json::from_str(neutral).unwrap_or_default();
    if allowed.iter().any(is_same) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
    let but = if allowed.is_empty() { String::new() } else { format!(", only {}", allowed.join(" or ")) };
    let detail = format!("The parameter '{name}' is not supported by this server{but}.");
    Err(Problem::new(Code::UnsupportedField, detail).at(format!("/{name}")))
}

impl BodyFields {
    /// Removes fields that have no effect, after a check of their types.
    pub(crate) fn without_effect(&mut self, names: &[(&str, Expected)]) -> Result<(), Problem> {
        for (name, expected) in names {
            let Some(value) = self.take(name) else { continue };
            let (fits, what) = match expected {
                Expected::Boolean => (value.is_boolean(), "a boolean"),
                Expected::Text => (value.is_string(), "a string"),
                Expected::Object => (value.is_object(), "an object"),
                Expected::Texts => {
                    let are_texts = |values: &Map<String, Value>| values.values().all(Value::is_string);
                    (value.as_object().is_some_and(are_texts), "an object of strings")
                }
            };
            if !fits {
                return Err(wrong_type(&self.pointer(name), what, &value));
            }
        }
        Ok(())
    }

    /// A number within bounds.
    pub(crate) fn number_in(
        &mut self,
        name: &str,
        bounds: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Problem> {
        self.take(name).map(|value| number(&value, &self.pointer(name), bounds)).transpose()
    }

    /// A whole number within bounds, also when it is written as 50.0.
    pub(crate) fn whole_in(
        &mut self,
        name: &str,
        bounds: RangeInclusive<i64>,
    ) -> Result<Option<i64>, Problem> {
        self.take(name).map(|value| whole(&value, &self.pointer(name), bounds)).transpose()
    }
}

/// A number within bounds.
pub(crate) fn number(value: &Value, at: &str, bounds: RangeInclusive<f64>) -> Result<f64, Problem> {
    let found = Wording::OpenAi.number(value, at)?;
    if bounds.contains(&found) {
        return Ok(found);
    }
    let range = match (*bounds.start(), bounds.end()) {
        (f64::MIN_POSITIVE, end) => format!("above 0 and at most {end}"),
        (start, end) => format!("between {start} and {end}"),
    };
    Err(invalid(at, format!("Invalid value for '{}': {found}; it must be {range}.", dotted(at))))
}

/// A whole number within bounds.
pub(crate) fn whole(value: &Value, at: &str, bounds: RangeInclusive<i64>) -> Result<i64, Problem> {
    let found = Wording::OpenAi.whole(value, at)?;
    // What is out of the type's range becomes its end: out of the bounds, unless they have none.
    let exact = value.as_i64().unwrap_or(found as i64);
    if bounds.contains(&exact) {
        return Ok(exact);
    }
    let (name, start) = (dotted(at), bounds.start());
    let range = match *bounds.end() {
        i64::MAX => format!("at least {start}"),
        end => format!("between {start} and {end}"),
    };
    Err(invalid(at, format!("Invalid value for '{name}': {value}; it must be {range}.")))
}

/// A value of the right type that does not do.
pub(crate) fn invalid(at: &str, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidValue, detail).at(at)
}

/// A value of another type.
pub(super) fn wrong_type(at: &str, expected: &str, found: &Value) -> Problem {
    Wording::OpenAi.wrong_type(at, expected, found)
}

/// The fields of a value, which must be an object.
pub(super) fn object(value: Value, at: String) -> Result<BodyFields, Problem> {
    BodyFields::of(value, at, Wording::OpenAi)
}
