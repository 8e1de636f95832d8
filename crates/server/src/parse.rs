//! Bodies to checked values. The shape comes first (422, with a pointer to the field), then the values (400).

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tokenizer::Role;

use crate::limits::Limits;
use crate::options::{Defaults, Options};
use crate::problem::{Code, Problem};

/// Characters of a caller's value that an error repeats.
const MAX_ECHO: usize = 40;
/// Levels of arrays and objects that serde_json reads.
const MAX_DEPTH: usize = 127;

/// A checked body of `POST /generate`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct GenerateRequest {
    pub(crate) messages: Vec<(Role, String)>,
    pub(crate) temperature: f32,
    pub(crate) top_k: usize,
    pub(crate) max_tokens: usize,
    /// Fields that were ignored because the settings say so.
    pub(crate) ignored: Vec<String>,
}

/// What [`generate`] needs to know.
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) defaults: &'a Defaults,
    pub(crate) ignored_fields: &'a BTreeSet<String>,
}

impl<'a> Rules<'a> {
    /// Those that the settings give.
    pub(crate) fn of(options: &'a Options) -> Self {
        Self { limits: &options.limits, defaults: &options.defaults, ignored_fields: &options.ignored_fields }
    }
}

/// Reads a body of `POST /generate`.
pub(crate) fn generate(body: &[u8], rules: &Rules<'_>) -> Result<GenerateRequest, Problem> {
    let mut fields = object(json(body)?, "")?;
    let ignored: Vec<String> =
        rules.ignored_fields.iter().filter(|path| remove(&mut fields, path)).cloned().collect();
    only(&fields, &["messages", "temperature", "max_tokens", "top_k"], "")?;
    let messages = messages(fields.get("messages"))?;
    let temperature = number(fields.get("temperature"), "temperature")?;
    let max_tokens = integer(fields.get("max_tokens"), "max_tokens")?;
    let top_k = integer(fields.get("top_k"), "top_k")?;
    let limits = rules.limits;
    let range = (Code::InvalidTemperature, "temperature", 0.0, limits.temperature);
    let temperature = within(temperature.unwrap_or(rules.defaults.temperature), range)?;
    let range = (Code::InvalidTopK, "top_k", 0.0, limits.top_k as f64);
    let top_k = within(top_k.unwrap_or(rules.defaults.top_k as f64), range)?;
    let range = (Code::InvalidMaxTokens, "max_tokens", 1.0, limits.max_tokens as f64);
    let max_tokens = within(max_tokens.unwrap_or(rules.defaults.max_tokens as f64), range)?;
    Ok(GenerateRequest {
        messages: check_messages(messages, limits)?,
        temperature: temperature as f32,
        top_k: top_k as usize,
        max_tokens: max_tokens as usize,
        ignored,
    })
}

/// Reads a body of `POST /models/swap`: the tag. The contract leaves this object open.
pub(crate) fn swap(body: &[u8]) -> Result<String, Problem> {
    let fields = object(json(body)?, "")?;
    match fields.get("model_tag") {
        Some(Value::String(tag)) => Ok(tag.clone()),
        Some(other) => Err(wrong_type("/model_tag", "a string", other)),
        None => Err(missing("/model_tag")),
    }
}

pub(crate) fn json(body: &[u8]) -> Result<Value, Problem> {
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
pub(crate) fn remove(fields: &mut Map<String, Value>, path: &str) -> bool {
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

fn object(value: Value, pointer: &str) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(wrong_type(pointer, "an object", &other)),
    }
}

/// Refuses the first field that is not known.
fn only(fields: &Map<String, Value>, known: &[&str], pointer: &str) -> Result<(), Problem> {
    let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let known = known.join(", ");
    let detail = format!("The field \"{}\" is not known; the fields are {known}.", short(name));
    Err(Problem::new(Code::UnknownField, detail).at(format!("{pointer}/{}", escape(name))))
}

/// Role and content as they were written, checked for shape only.
fn messages(value: Option<&Value>) -> Result<Vec<(String, String)>, Problem> {
    let list = match value {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("/messages", "an array", other)),
        None => return Err(missing("/messages")),
    };
    let text = |fields: &Map<String, Value>, pointer: &str, name: &str| {
        let at = format!("{pointer}/{name}");
        match fields.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong_type(&at, "a string", other)),
            None => Err(missing(&at)),
        }
    };
    let message = |(i, value): (usize, &Value)| {
        let pointer = format!("/messages/{i}");
        let Value::Object(fields) = value else { return Err(wrong_type(&pointer, "an object", value)) };
        only(fields, &["role", "content"], &pointer)?;
        Ok((text(fields, &pointer, "role")?, text(fields, &pointer, "content")?))
    };
    list.iter().enumerate().map(message).collect()
}

pub(crate) fn check_messages(
    messages: Vec<(String, String)>,
    limits: &Limits,
) -> Result<Vec<(Role, String)>, Problem> {
    if messages.is_empty() {
        return Err(Problem::new(Code::NoMessages, "At least one message is required").at("/messages"));
    }
    let (count, limit) = (messages.len(), limits.messages);
    if count > limit {
        let detail = format!("There are {count} messages, but at most {limit} are allowed.");
        return Err(Problem::new(Code::TooManyMessages, detail).at("/messages"));
    }
    let mut total = 0;
    let mut checked = Vec::with_capacity(count);
    for (i, (role, content)) in messages.into_iter().enumerate() {
        let chars = content.chars().count();
        total += chars;
        let at = format!("/messages/{i}/content");
        let role = self::role(&role, i)?;
        // An answer may be empty, and comes back in the history of the next request.
        if chars == 0 && role != Role::Assistant {
            return Err(Problem::new(Code::EmptyMessage, format!("Message {i} has empty content.")).at(at));
        }
        if chars > limits.message_chars {
            let limit = limits.message_chars;
            let detail = format!("Message {i} has {chars} characters, but at most {limit} are allowed.");
            return Err(Problem::new(Code::MessageTooLong, detail).at(at));
        }
        checked.push((role, content));
    }
    if total > limits.conversation_chars {
        let limit = limits.conversation_chars;
        let detail =
            format!("The messages have {total} characters together, but at most {limit} are allowed.");
        return Err(Problem::new(Code::ConversationTooLong, detail).at("/messages"));
    }
    let misplaced = |i: usize| i > 0 || checked.get(1).is_none_or(|(role, _)| *role != Role::User);
    if let Some(i) = (0..count).find(|&i| checked[i].0 == Role::System && misplaced(i)) {
        let rule = "\"system\" is allowed for the first message only, with a user message after it";
        let detail = format!("Message {i} has an invalid role: {rule}.");
        return Err(Problem::new(Code::InvalidRole, detail).at(format!("/messages/{i}/role")));
    }
    Ok(checked)
}

fn role(name: &str, i: usize) -> Result<Role, Problem> {
    match name {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        other => {
            let detail = format!(
                "Message {i} has an invalid role \"{}\"; the roles are user, assistant, and system for the first \
                 message.",
                short(other)
            );
            Err(Problem::new(Code::InvalidRole, detail).at(format!("/messages/{i}/role")))
        }
    }
}

fn number(value: Option<&Value>, name: &str) -> Result<Option<f64>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(other) => Err(wrong_type(&format!("/{name}"), "a number or null", other)),
    }
}

/// A whole number, also when it is written as 50.0.
fn integer(value: Option<&Value>, name: &str) -> Result<Option<f64>, Problem> {
    let number = match value {
        Some(Value::Number(_)) => number(value, name)?,
        None | Some(Value::Null) => None,
        Some(other) => return Err(wrong_type(&format!("/{name}"), "a whole number or null", other)),
    };
    match (number, value) {
        (Some(number), Some(_)) if number.fract() != 0.0 => {
            let detail = format!("The field \"{name}\" is {number}, but must be a whole number or null.");
            Err(Problem::new(Code::WrongType, detail).at(format!("/{name}")))
        }
        _ => Ok(number),
    }
}

fn within(value: f64, (code, name, low, high): (Code, &str, f64, f64)) -> Result<f64, Problem> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(value);
    }
    let detail = format!("The field \"{name}\" is {value}, but must be between {low} and {high}.");
    Err(Problem::new(code, detail).at(format!("/{name}")))
}

fn missing(pointer: &str) -> Problem {
    let name = pointer.rsplit('/').next().unwrap_or(pointer);
    Problem::new(Code::MissingField, format!("The field \"{name}\" is missing.")).at(pointer)
}

fn wrong_type(pointer: &str, expected: &str, found: &Value) -> Problem {
    let found = kind(found);
    let subject = if pointer.is_empty() { "The body".to_owned() } else { format!("The field at {pointer}") };
    Problem::new(Code::WrongType, format!("{subject} must be {expected}, not {found}.")).at(pointer)
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

    fn read(body: &str) -> Result<GenerateRequest, Problem> {
        let ignored_fields = BTreeSet::from(["force_web_search".to_owned()]);
        let (limits, defaults) = (Limits::default(), Defaults::default());
        generate(
            body.as_bytes(),
            &Rules { limits: &limits, defaults: &defaults, ignored_fields: &ignored_fields },
        )
    }

    fn hello(rest: &str) -> String {
        format!(r#"{{"messages":[{{"role":"user","content":"Hello"}}]{rest}}}"#)
    }

    fn refusal(body: &str) -> (u16, &'static str, String, Option<String>) {
        let Problem { code, detail, param, .. } = read(body).unwrap_err();
        (code.status().as_u16(), code.as_str(), detail, param)
    }

    #[test]
    fn absent_and_null_take_the_defaults() {
        for rest in ["", r#","temperature":null,"top_k":null,"max_tokens":null"#] {
            let request = read(&hello(rest)).unwrap();
            assert_eq!((request.temperature, request.top_k, request.max_tokens), (0.8, 50, 512));
        }
        let request = read(&hello(r#","temperature":0,"top_k":0,"max_tokens":7.0"#)).unwrap();
        assert_eq!((request.temperature, request.top_k, request.max_tokens), (0.0, 0, 7));
    }

    #[test]
    fn ignored_fields_pass_and_are_counted() {
        let request = read(&hello(r#","force_web_search":false"#)).unwrap();
        assert_eq!(request.ignored, ["force_web_search"]);
        assert!(read(&hello("")).unwrap().ignored.is_empty());
    }

    #[test]
    fn the_shape_is_checked_with_a_pointer() {
        for (body, code, pointer) in [
            ("[]", "wrong_type", ""),
            ("{}", "missing_field", "/messages"),
            (r#"{"messages":{}}"#, "wrong_type", "/messages"),
            (r#"{"messages":[1]}"#, "wrong_type", "/messages/0"),
            (r#"{"messages":[{"role":"user"}]}"#, "missing_field", "/messages/0/content"),
            (r#"{"messages":[{"role":7,"content":"x"}]}"#, "wrong_type", "/messages/0/role"),
            (
                r#"{"messages":[{"role":"user","content":"x","name":"n"}]}"#,
                "unknown_field",
                "/messages/0/name",
            ),
            (&hello(r#","a/b~c":1"#), "unknown_field", "/a~1b~0c"),
            (&hello(r#","top_k":1.5"#), "wrong_type", "/top_k"),
            (&hello(r#","max_tokens":"7""#), "wrong_type", "/max_tokens"),
            (&hello(r#","temperature":true"#), "wrong_type", "/temperature"),
        ] {
            let (status, found, _, param) = refusal(body);
            assert_eq!((status, found, param.as_deref()), (422, code, Some(pointer)), "{body}");
        }
    }

    #[test]
    fn values_are_checked_with_the_limit_and_the_value() {
        let message = |role: &str, content: &str| {
            format!(r#"{{"messages":[{{"role":"{role}","content":"{content}"}}]}}"#)
        };
        let many = |n: usize, chars: usize| {
            let one = format!(r#"{{"role":"user","content":"{}"}}"#, "x".repeat(chars));
            format!(r#"{{"messages":[{}]}}"#, vec![one; n].join(","))
        };
        for (body, code, part) in [
            ("{", "invalid_json", "line 1"),
            (r#"{"messages":[]}"#, "no_messages", "At least one message is required"),
            (&many(501, 1), "too_many_messages", "501 messages, but at most 500"),
            (&message("user", ""), "empty_message", "Message 0"),
            (&message("system", ""), "empty_message", "Message 0"),
            (&message("tool", "x"), "invalid_role", "invalid role \"tool\""),
            (&message("system", "x"), "invalid_role", "invalid role"),
            (&many(1, 8001), "message_too_long", "8001 characters, but at most 8000"),
            (&many(5, 8000), "conversation_too_long", "40000 characters together, but at most 32000"),
            (&hello(r#","temperature":2.1"#), "invalid_temperature", "is 2.1, but must be between 0 and 2"),
            (&hello(r#","top_k":-1"#), "invalid_top_k", "is -1, but must be between 0 and 200"),
            (&hello(r#","top_k":1000000000000000000000000000000"#), "invalid_top_k", "between 0 and 200"),
            (&hello(r#","max_tokens":0"#), "invalid_max_tokens", "is 0, but must be between 1 and 4096"),
        ] {
            let (status, found, detail, _) = refusal(body);
            assert_eq!((status, found), (400, code), "{detail}");
            assert!(detail.contains(part), "{detail}");
        }
        assert!(read(&many(4, 8000)).is_ok() && read(&many(500, 1)).is_ok());
    }

    #[test]
    fn an_assistant_message_may_be_empty() {
        let turns = |roles: &str| {
            let turn = |role: char| {
                let name = if role == 'a' { "assistant" } else { "user" };
                format!(r#"{{"role":"{name}","content":""}}"#)
            };
            let hello = r#"{"role":"user","content":"x"}"#.to_owned();
            let turns: Vec<String> =
                roles.chars().map(|role| if role == 'x' { hello.clone() } else { turn(role) }).collect();
            read(&format!(r#"{{"messages":[{}]}}"#, turns.join(",")))
        };
        for good in ["a", "xa", "xax", "xaax"] {
            assert!(turns(good).unwrap().messages.iter().any(|(_, content)| content.is_empty()), "{good}");
        }
        for wrong in ["u", "xau", "xu"] {
            assert_eq!(turns(wrong).unwrap_err().code, Code::EmptyMessage, "{wrong}");
        }
    }

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

    #[test]
    fn characters_are_counted_not_bytes() {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "समोसा🥟".repeat(1333));
        assert!(read(&body).is_ok());
    }

    #[test]
    fn a_system_message_leads_or_is_refused() {
        let roles = |roles: &[&str]| {
            let messages: Vec<String> =
                roles.iter().map(|role| format!(r#"{{"role":"{role}","content":"x"}}"#)).collect();
            read(&format!(r#"{{"messages":[{}]}}"#, messages.join(",")))
        };
        assert!(roles(&["system", "user"]).is_ok());
        for wrong in
            [&["system"][..], &["system", "assistant"], &["user", "system"], &["system", "system", "user"]]
        {
            assert_eq!(roles(wrong).unwrap_err().code, Code::InvalidRole, "{wrong:?}");
        }
    }
}
