//! Bodies to checked values. The shape comes first (422, with a pointer to the field), then the values (400).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use tokenizer::Role;

use crate::fields::{BodyFields, Wording, short};
use crate::limits::Limits;
use crate::options::{Defaults, Options};
use crate::problem::{Code, Problem};

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
    let mut fields = BodyFields::parse(body, Wording::Contract)?;
    let ignored = fields.ignore(rules.ignored_fields.iter());
    fields.only(&["messages", "temperature", "max_tokens", "top_k"])?;
    let messages = fields.needed_objects("messages")?.map(message).collect::<Result<_, _>>()?;
    let (limits, defaults) = (rules.limits, rules.defaults);
    let temperature = fields.number("temperature")?.unwrap_or(defaults.temperature);
    let max_tokens = fields.whole("max_tokens")?.unwrap_or(defaults.max_tokens as f64);
    let top_k = fields.whole("top_k")?.unwrap_or(defaults.top_k as f64);
    within("temperature", temperature, 0.0..=limits.temperature, Code::InvalidTemperature)?;
    within("top_k", top_k, 0.0..=limits.top_k as f64, Code::InvalidTopK)?;
    within("max_tokens", max_tokens, 1.0..=limits.max_tokens as f64, Code::InvalidMaxTokens)?;
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
    BodyFields::parse(body, Wording::Contract)?.needed_text("model_tag")
}

/// Role and content as they were written, checked for shape only.
fn message(fields: Result<BodyFields, Problem>) -> Result<(String, String), Problem> {
    let mut fields = fields?;
    fields.only(&["role", "content"])?;
    Ok((fields.needed_text("role")?, fields.needed_text("content")?))
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

fn within(name: &str, value: f64, range: RangeInclusive<f64>, code: Code) -> Result<(), Problem> {
    if value.is_finite() && range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    let detail = format!("The field \"{name}\" is {value}, but must be between {low} and {high}.");
    Err(Problem::new(code, detail).at(format!("/{name}")))
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
