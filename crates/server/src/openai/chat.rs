//! `POST /v1/chat/completions`: a conversation to answers, each a new message or the continuation of the last one.

use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::response::Response;
use serde_json::Value;
use tokenizer::{ChatError, Message, Role};

use super::answer::{self, Asked, Prompts};
use super::common::{Common, MAX_LIKELY, max_tokens};
use super::fields::{self, Body, Expected, Fields, invalid, wrong_type};
use crate::context::RequestIds;
use crate::generate::no_chat;
use crate::generation::Generation;
use crate::parse::{self, Rules};
use crate::problem::{Code, Problem};
use crate::root::Operation;
use crate::state::State;

const OPERATION: Operation = Operation { path: "/v1/chat/completions", name: "chat" };
const ASSISTANT: &str = "assistant";
/// Fields of a message that are accepted and that no chat template of nanochat renders: a participant's name, earlier
/// reasoning, hints for a provider's cache.
const NO_EFFECT: [(&str, Expected); 5] = [
    ("name", Expected::Text),
    ("cache_control", Expected::Object),
    ("reasoning_content", Expected::Text),
    ("reasoning", Expected::Text),
    ("provider_specific_fields", Expected::Object),
];
const UNSUPPORTED: [&str; 6] =
    ["tool_calls", "tool_call_id", "function_call", "refusal", "audio", "annotations"];
/// vLLM's names for how a prompt ends.
pub(super) const ADD: &str = "add_generation_prompt";
pub(super) const CONTINUE: &str = "continue_final_message";

/// A conversation that has an answer.
pub(crate) struct Conversation {
    messages: Vec<(Role, String)>,
    end: PromptEnd,
}

/// How the prompt of a conversation ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PromptEnd {
    /// With the token that begins an answer.
    AssistantStart,
    /// Within the last message, without the token that ends it.
    OpenMessage,
    /// With the token that ends the last message.
    MessageEnd,
}

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
    let max_tokens = max_tokens(&mut fields, &names)?;
    let max_tokens = max_tokens.unwrap_or(rules.defaults.max_tokens as usize);
    let likely = likely(&mut fields)?;
    let prompts = Prompts::Chat(Conversation::read(&mut fields, rules)?);
    Ok(Asked { common, max_tokens, likely, prompts, ignored })
}

/// How many likely tokens are named beside each of the answer; none if log probabilities are not wanted at all.
fn likely(fields: &mut Fields) -> Result<Option<usize>, Problem> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.whole("top_logprobs", 0..=MAX_LIKELY)?;
    if top.is_some_and(|top| top > 0) && !wanted {
        let detail = "The parameter 'top_logprobs' is for log probabilities: with 'logprobs' true only.";
        return Err(invalid(&fields.pointer("top_logprobs"), detail));
    }
    Ok(wanted.then(|| top.unwrap_or(0) as usize))
}

impl Conversation {
    /// A conversation within the limits.
    pub(super) fn read(fields: &mut Fields, rules: &Rules<'_>) -> Result<Self, Problem> {
        let at = fields.pointer("messages");
        let list = match fields.need("messages")? {
            Value::Array(list) => list,
            other => return Err(wrong_type(&at, "an array", &other)),
        };
        let message = |(i, value)| message(Fields::of(value, format!("{at}/{i}"))?);
        let messages = list.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
        let messages = parse::check_messages(messages, rules.limits)?;
        let end = PromptEnd::read(fields, messages.last().map(|(role, _)| *role))?;
        Ok(Self { messages, end })
    }

    /// The prompt, whole.
    pub(super) fn render(&self, generation: &Generation) -> Result<Vec<u32>, Problem> {
        let messages: Vec<Message<'_>> =
            self.messages.iter().map(|(role, content)| Message { role: *role, content }).collect();
        let rendered =
            generation.model.chat.render(&generation.model.tokenizer, &messages, None).map_err(|error| {
                if error == ChatError::NoChatTokens {
                    return no_chat();
                }
                let detail = format!("The messages have an invalid role order: {error}.");
                Problem::new(Code::InvalidRole, detail).at("/messages")
            })?;
        let mut ids = rendered.ids;
        // A rendered conversation ends with the last message's end and the answer's beginning, a token each.
        let left_out = match self.end {
            PromptEnd::AssistantStart => 0,
            PromptEnd::MessageEnd => 1,
            PromptEnd::OpenMessage => 2,
        };
        ids.truncate(ids.len() - left_out);
        Ok(ids)
    }
}

impl PromptEnd {
    /// As the fields say, or else as the `last` message's role does: what an assistant said last is continued.
    fn read(fields: &mut Fields, last: Option<Role>) -> Result<Self, Problem> {
        let (adds, continues) = (fields.flag(ADD)?, fields.flag(CONTINUE)?);
        let at = fields.pointer(CONTINUE);
        let may_continue = last == Some(Role::Assistant);
        match (adds, continues) {
            (Some(true), Some(true)) => {
                let detail = format!("The parameters '{ADD}' and '{CONTINUE}' cannot both be true.");
                Err(invalid(&at, detail))
            }
            (_, Some(true)) if !may_continue => {
                let detail =
                    format!("The parameter '{CONTINUE}' is for a last message whose role is '{ASSISTANT}'.");
                Err(invalid(&at, detail))
            }
            (_, Some(true)) => Ok(Self::OpenMessage),
            (None, None) if may_continue => Ok(Self::OpenMessage),
            (Some(false), _) => Ok(Self::MessageEnd),
            (_, _) => Ok(Self::AssistantStart),
        }
    }
}

/// Role and content of a message. A developer is what OpenAI calls the system now. An assistant's may have none.
fn message(mut fields: Fields) -> Result<(String, String), Problem> {
    let role = fields.needed_text("role")?;
    fields.without_effect(&NO_EFFECT)?;
    for name in UNSUPPORTED {
        if fields.take(name).is_some_and(|value| value != Value::Array(Vec::new())) {
            let detail = format!("A message's '{name}' is not supported by this server.");
            return Err(Problem::new(Code::UnsupportedField, detail).at(fields.pointer(name)));
        }
    }
    fields.only(&["role", "content"])?;
    let at = fields.pointer("content");
    let content = if role == ASSISTANT { fields.take("content") } else { Some(fields.need("content")?) };
    let content = match content {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let part = |(i, value)| part(Fields::of(value, format!("{at}/{i}"))?);
            parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(&at, "a string or an array of parts", &other)),
    };
    let role = if role == "developer" { "system".to_owned() } else { role };
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
    fields.without_effect(&[("cache_control", Expected::Object)])?;
    fields.only(&["type", "text"])?;
    fields.needed_text("text")
}
