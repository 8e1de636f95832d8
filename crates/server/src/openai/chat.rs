//! `POST /v1/chat/completions`: a conversation to answers.

use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::response::Response;
use serde_json::Value;
use tokenizer::{ChatError, Message, Role};

use super::answer::{self, Asked, Prompts};
use super::common::{Common, MAX_LIKELY, max_tokens};
use super::fields::{self, Body, Fields, invalid, wrong_type};
use crate::context::RequestIds;
use crate::generate::no_chat;
use crate::generation::Generation;
use crate::parse::{self, Rules};
use crate::problem::{Code, Problem};
use crate::root::Operation;
use crate::state::State;

const OPERATION: Operation = Operation { path: "/v1/chat/completions", name: "chat" };

/// The handler.
pub(crate) async fn create(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let answered = answer::answer(&state, request, (OPERATION, read)).await;
    answered.unwrap_or_else(|problem| problem.response(&ids))
}

fn read(body: &[u8], rules: &Rules<'_>) -> Result<Asked, Problem> {
    let (mut fields, ignored) = fields::read(body, Body::Chat, rules.ignored_fields)?;
    let common = Common::read(&mut fields, rules)?;
    let names = ["max_tokens", "max_completion_tokens"];
    let max_tokens = max_tokens(&mut fields, &names, rules.limits.max_tokens)?;
    let max_tokens = max_tokens.unwrap_or(rules.defaults.max_tokens as usize);
    let likely = likely(&mut fields)?;
    let prompts = Prompts::Chat(messages(&mut fields, rules)?);
    Ok(Asked { common, max_tokens, likely, prompts, ignored })
}

/// How many likely tokens are named beside each of the answer; none if log probabilities are not wanted at all.
fn likely(fields: &mut Fields) -> Result<Option<usize>, Problem> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.whole("top_logprobs", 0..=MAX_LIKELY)?;
    if top.is_some() && !wanted {
        let detail = "The parameter 'top_logprobs' is for log probabilities: with 'logprobs' true only.";
        return Err(invalid(&fields.pointer("top_logprobs"), detail));
    }
    Ok(wanted.then(|| top.unwrap_or(0) as usize))
}

/// A conversation within the limits.
pub(super) fn messages(fields: &mut Fields, rules: &Rules<'_>) -> Result<Vec<(Role, String)>, Problem> {
    let at = fields.pointer("messages");
    let list = match fields.need("messages")? {
        Value::Array(list) => list,
        other => return Err(wrong_type(&at, "an array", &other)),
    };
    let message = |(i, value)| message(Fields::of(value, format!("{at}/{i}"))?);
    let messages = list.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
    parse::check_messages(messages, rules.limits)
}

/// Role and content of a message. A developer is what OpenAI calls the system now.
fn message(mut fields: Fields) -> Result<(String, String), Problem> {
    let role = fields.needed_text("role")?;
    for name in ["name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio", "annotations"] {
        if fields.take(name).is_some_and(|value| value != Value::Array(Vec::new())) {
            let detail = format!("A message's '{name}' is not supported by this server.");
            return Err(Problem::new(Code::UnsupportedField, detail).at(fields.pointer(name)));
        }
    }
    fields.only(&["role", "content"])?;
    let role = if role == "developer" { "system".to_owned() } else { role };
    let at = fields.pointer("content");
    let content = match fields.need("content")? {
        Value::String(text) => text,
        Value::Array(parts) => {
            let part = |(i, value)| part(Fields::of(value, format!("{at}/{i}"))?);
            parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?
        }
        other => return Err(wrong_type(&at, "a string or an array of parts", &other)),
    };
    Ok((role, content))
}

/// The text of a part of a message.
fn part(mut fields: Fields) -> Result<String, Problem> {
    let kind = fields.needed_text("type")?;
    if kind != "text" {
        let kind = parse::short(&kind);
        let detail = format!("Parts of the type '{kind}' are not supported by this server; 'text' is.");
        return Err(Problem::new(Code::UnsupportedValue, detail).at(fields.pointer("type")));
    }
    fields.only(&["type", "text"])?;
    fields.needed_text("text")
}

/// The prompt of a conversation, whole.
pub(super) fn render(generation: &Generation, messages: &[(Role, String)]) -> Result<Vec<u32>, Problem> {
    let messages: Vec<Message<'_>> =
        messages.iter().map(|(role, content)| Message { role: *role, content }).collect();
    match generation.model.tokenizer.render_chat(&messages, None) {
        Ok(rendered) => Ok(rendered.ids),
        Err(ChatError::NoChatTokens) => Err(no_chat()),
        Err(error) => {
            let detail = format!("The messages have an invalid role order: {error}.");
            Err(Problem::new(Code::InvalidRole, detail).at("/messages"))
        }
    }
}
