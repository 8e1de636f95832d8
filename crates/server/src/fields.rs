//! Reading a JSON body field by field. Two APIs read alike and word their errors differently: see [`Wording`].

use serde_json::{Map, Value};

use crate::openai::error::dotted;
use crate::problem::{Code, Problem};

/// Characters of a caller's value that an error repeats.
const MAX_ECHO: usize = 40;
/// Levels of arrays and objects that serde_json reads.
const MAX_DEPTH: usize = 127;

/// How an API words its errors, and what it takes for absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wording {
    /// The contract's. Only a field that may be null counts as absent when it is.
    Contract,
    /// OpenAI's. Null counts as absent everywhere.
    OpenAi,
}

impl Wording {
    /// A value of another type than `expected`.
    pub(crate) fn wrong_type(self, at: &str, expected: &str, found: &Value) -> Problem {
        let (found, is_body) = (kind(found), at.is_empty());
        let detail = match self {
            Self::Contract if is_body => format!("The body must be {expected}, not {found}."),
            Self::Contract => format!("The field at {at} must be {expected}, not {found}."),
            Self::OpenAi => {
                let subject = if is_body { "the body".to_owned() } else { format!("'{}'", dotted(at)) };
                format!("Invalid type for {subject}: expected {expected}, but got {found} instead.")
            }
        };
        Problem::new(Code::WrongType, detail).at(at)
    }

    fn missing(self, at: &str, name: &str) -> Problem {
        let detail = match self {
            Self::Contract => format!("The field \"{name}\" is missing."),
            Self::OpenAi => format!("Missing required parameter: '{name}'."),
        };
        Problem::new(Code::MissingField, detail).at(at)
    }

    fn unknown(self, at: &str, name: &str, known: &[&str]) -> Problem {
        let (name, known) = (short(name), known.join(", "));
        let detail = match self {
            Self::Contract => format!("The field \"{name}\" is not known; the fields are {known}."),
            Self::OpenAi => format!("Unknown parameter: '{name}'; those known here are {known}."),
        };
        Problem::new(Code::UnknownField, detail).at(at)
    }

    /// A number, also one that is no whole number.
    pub(crate) fn number(self, value: &Value, at: &str) -> Result<f64, Problem> {
        let expected = match self {
            Self::Contract => "a number or null",
            Self::OpenAi => "a number",
        };
        value.as_f64().ok_or_else(|| self.wrong_type(at, expected, value))
    }

    /// A whole number, also one that is written as 50.0.
    pub(crate) fn whole(self, value: &Value, at: &str) -> Result<f64, Problem> {
        let expected = match self {
            Self::Contract => "a whole number or null",
            Self::OpenAi => "an integer",
        };
        let found = value.as_f64().ok_or_else(|| self.wrong_type(at, expected, value))?;
        if found.fract() == 0.0 {
            return Ok(found);
        }
        let name = dotted(at);
        let detail = match self {
            Self::Contract => format!("The field \"{name}\" is {found}, but must be {expected}."),
            Self::OpenAi => format!("Invalid type for '{name}': {found} is no integer."),
        };
        Err(Problem::new(Code::WrongType, detail).at(at))
    }
}

/// The fields of an object in a body.
pub(crate) struct BodyFields {
    fields: Map<String, Value>,
    /// Where the object is, as a JSON pointer.
    at: String,
    wording: Wording,
}

impl BodyFields {
    /// Those of a body.
    pub(crate) fn parse(body: &[u8], wording: Wording) -> Result<Self, Problem> {
        Self::of(json(body)?, String::new(), wording)
    }

    /// Those of a value, which must be an object.
    pub(crate) fn of(value: Value, at: String, wording: Wording) -> Result<Self, Problem> {
        match value {
            Value::Object(fields) => Ok(Self { fields, at, wording }),
            other => Err(wording.wrong_type(&at, "an object", &other)),
        }
    }

    /// Removes the fields at these paths, and returns the paths at which there were any.
    pub(crate) fn ignore<'a>(&mut self, paths: impl Iterator<Item = &'a String>) -> Vec<String> {
        paths.filter(|path| remove(&mut self.fields, path)).cloned().collect()
    }

    /// Refuses the first field that is not known.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let is_absent = |value: &Value| self.wording == Wording::OpenAi && value.is_null();
        let is_unknown =
            |(name, value): &(&String, &Value)| !is_absent(value) && !known.contains(&name.as_str());
        match self.fields.iter().find(is_unknown) {
            None => Ok(()),
            Some((name, _)) => Err(self.wording.unknown(&self.pointer(&escape(name)), name, known)),
        }
    }

    /// Where one of the fields is.
    pub(crate) fn pointer(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }

    /// Whether a field has this value.
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.fields.get(name).is_some_and(|found| found == value)
    }

    /// Takes the value of a field that may be null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Takes the value of a field that must be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<Value, Problem> {
        let value = match self.wording {
            Wording::Contract => self.fields.remove(name),
            Wording::OpenAi => self.take(name),
        };
        value.ok_or_else(|| self.wording.missing(&self.pointer(name), name))
    }

    /// The objects of an array that must be there, each read when its turn comes.
    pub(crate) fn needed_objects(
        &mut self,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<Self, Problem>> + use<>, Problem> {
        let (at, wording) = (self.pointer(name), self.wording);
        match self.need(name)? {
            Value::Array(list) => {
                let list = list.into_iter().enumerate();
                Ok(list.map(move |(i, value)| Self::of(value, format!("{at}/{i}"), wording)))
            }
            other => Err(wording.wrong_type(&at, "an array", &other)),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wording.wrong_type(&self.pointer(name), "a string", &other)),
        }
    }

    pub(crate) fn needed_text(&mut self, name: &str) -> Result<String, Problem> {
        match self.need(name)? {
            Value::String(text) => Ok(text),
            other => Err(self.wording.wrong_type(&self.pointer(name), "a string", &other)),
        }
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wording.wrong_type(&self.pointer(name), "a boolean", &other)),
        }
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>, Problem> {
        self.take(name).map(|value| self.wording.number(&value, &self.pointer(name))).transpose()
    }

    /// A whole number, also one that is written as 50.0.
    pub(crate) fn whole(&mut self, name: &str) -> Result<Option<f64>, Problem> {
        self.take(name).map(|value| self.wording.whole(&value, &self.pointer(name))).transpose()
    }
}

fn json(body: &[u8]) -> Result<Value, Problem> {
    if body.is_empty() {
        return Err(Problem::new(Code::InvalidJson, "The body is empty."));
    }
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = what_is_wrong(&error.to_string());
        Problem::new(Code::InvalidJson, format!("The body {what} at line {line}, column {column}."))
    })
}

/// Classifies serde_json's message: its public error has no kind for these.
fn what_is_wrong(message: &str) -> String {
    let begins = |start: &str| message.starts_with(start);
    if begins("number out of range") {
        "holds a number that is too large".to_owned()
    } else if begins("recursion limit exceeded") {
        format!("is too deeply nested: more than {MAX_DEPTH} levels")
    } else if begins("lone leading surrogate") || begins("unexpected end of hex escape") {
        // The second is the message for a leading surrogate without an escape after it, and for nothing else.
        "holds a lone surrogate (\\uD800 to \\uDFFF come in pairs only)".to_owned()
    } else {
        "is not valid JSON".to_owned()
    }
}

/// Removes the field at a path from an object: `name`, `name.inner`, or `list[].inner` for every element of a list.
/// Returns whether there was one.
fn remove(fields: &mut Map<String, Value>, path: &str) -> bool {
    let Some((head, rest)) = path.split_once('.') else { return fields.shift_remove(path).is_some() };
    let within = |value: &mut Value| value.as_object_mut().is_some_and(|inner| remove(inner, rest));
    match head.strip_suffix("[]") {
        None => fields.get_mut(head).is_some_and(within),
        Some(list) => {
            let elements = fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            elements.map(within).filter(|removed| *removed).count() > 0
        }
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A caller's text, short enough for an error.
pub(crate) fn short(text: &str) -> String {
    if text.chars().count() > MAX_ECHO {
        text.chars().take(MAX_ECHO).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

/// A name inside a JSON pointer.
pub(crate) fn escape(name: &str) -> String {
    short(name).replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_json_is_classified() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        for (body, says) in [
            (deep(MAX_DEPTH + 1), "is too deeply nested: more than 127 levels at line 1, column 128."),
            ("{\"a\":".repeat(200), "is too deeply nested"),
            (r#"{"a":"\ud800"}"#.to_owned(), "holds a lone surrogate"),
            (r#"{"a":"\uDFFF"}"#.to_owned(), "holds a lone surrogate"),
            (r#"{"a":"\ud83d\ud83d"}"#.to_owned(), "holds a lone surrogate"),
            (r#"{"a":"\ud83dx"}"#.to_owned(), "holds a lone surrogate"),
            (r#"{"a":"\ud83d\n"}"#.to_owned(), "holds a lone surrogate"),
            (r#"{"\udc00":1}"#.to_owned(), "holds a lone surrogate"),
            (r#"{"a":"\ud8"}"#.to_owned(), "is not valid JSON"),
            (r#"{"a":"\ud800"#.to_owned(), "is not valid JSON"),
            ("1e999".to_owned(), "holds a number that is too large"),
            ("{".to_owned(), "is not valid JSON"),
        ] {
            let problem = json(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code, Code::InvalidJson);
            assert!(
                problem.detail.contains(says) && problem.detail.contains("line 1"),
                "{body}: {problem:?}"
            );
        }
        assert!(json(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(json(r#""\ud83e\udd5f""#.as_bytes()).unwrap(), "🥟");
    }

    #[test]
    fn fields_are_removed_by_their_path() {
        let body = serde_json::json!({
            "a": 1, "b": { "c": 2, "d": { "e": 3 } }, "l": [{ "x": 1, "y": [{ "z": 1 }] }, 7, { "x": 2 }, { "y": 0 }],
        });
        for (path, gone) in [
            ("a", &["/a"][..]),
            ("b", &["/b"]),
            ("b.c", &["/b/c"]),
            ("b.d.e", &["/b/d/e"]),
            ("l[].x", &["/l/0/x", "/l/2/x"]),
            ("l[].y[].z", &["/l/0/y/0/z"]),
            ("c", &[]),
            ("a.c", &[]),
            ("b[].c", &[]),
            ("l.x", &[]),
            ("l[].z", &[]),
            ("b.d.f", &[]),
        ] {
            let Value::Object(mut fields) = body.clone() else { panic!() };
            assert_eq!(remove(&mut fields, path), !gone.is_empty(), "{path}");
            let mut expected = body.clone();
            for pointer in gone {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                expected.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(name).unwrap();
            }
            assert_eq!(Value::Object(fields), expected, "{path}");
        }
    }
}
