//! Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`.
//!
//! The clients choose an exception by the status: 400, 401, 403, 404, 409, 422 and 429 have one each, 500 and above share
//! one. They try 408, 409, 429 and all from 500 on again, after `Retry-After`. So what fits no value is 400 as OpenAI has
//! it, and a full queue stays 503: it is the server that is busy, not this caller who asks too often, and what stands
//! before several replicas sends 503 elsewhere where 429 would go back to the caller.

use axum::http::StatusCode;
use serde::Serialize;

use crate::problem::{Code, Problem};

/// An error on the wire.
#[derive(Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<String>,
    code: &'static str,
}

impl<'a> ErrorBody<'a> {
    pub(crate) fn of(problem: &'a Problem) -> Self {
        let (code, r#type) = (word(problem.code), kind(status(problem.code)));
        let param = problem.param.as_deref().map(dotted).filter(|param| !param.is_empty());
        Self { error: ErrorObject { message: &problem.detail, r#type, param, code } }
    }
}

/// The body of an answer.
pub(crate) fn body(problem: &Problem) -> String {
    // Texts can always be written.
    serde_json::to_string(&ErrorBody::of(problem)).unwrap_or_default()
}

/// The status of an answer: OpenAI has none of its own for JSON that does not fit.
pub(crate) fn status(code: Code) -> StatusCode {
    match code.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// OpenAI's word where it has one.
fn word(code: Code) -> &'static str {
    match code {
        Code::NoMessages => "empty_array",
        Code::TooManyMessages => "array_above_max_length",
        Code::MessageTooLong | Code::ConversationTooLong => "string_above_max_length",
        Code::EmptyMessage
        | Code::InvalidRole
        | Code::InvalidTemperature
        | Code::InvalidTopK
        | Code::InvalidMaxTokens
        | Code::InvalidSeed => "invalid_value",
        Code::PromptTooLong => "context_length_exceeded",
        Code::UnknownField => "unknown_parameter",
        Code::UnsupportedField => "unsupported_parameter",
        Code::MissingField => "missing_required_parameter",
        Code::WrongType => "invalid_type",
        Code::Unauthorized => "invalid_api_key",
        other => other.as_str(),
    }
}

/// A JSON pointer as OpenAI writes it: `/messages/0/content` is `messages[0].content`.
pub(crate) fn dotted(pointer: &str) -> String {
    let mut dotted = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            dotted.extend(["[", &part, "]"]);
        } else {
            dotted.push_str(if dotted.is_empty() { "" } else { "." });
            dotted.push_str(&part);
        }
    }
    dotted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_written_with_dots_and_brackets() {
        for (pointer, expected) in [
            ("", ""),
            ("/model", "model"),
            ("/messages/0/content", "messages[0].content"),
            ("/messages/12/content/3/text", "messages[12].content[3].text"),
            ("/a~1b~0c", "a/b~c"),
        ] {
            assert_eq!(dotted(pointer), expected);
        }
    }
}
