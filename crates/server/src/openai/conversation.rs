//! Conversations in bodies, and the prompts that they become.

use serde_json::Value;
use serving::ServedModel;
use tokenizer::{Message, Role};

use super::parameters::{Expected, invalid, object, wrong_type};
use crate::fields::{BodyFields, short};
use crate::parse::{self, Rules};
use crate::problem::{Code, Problem};

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
pub(super) struct ChatPrompt {
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

impl ChatPrompt {
    /// A conversation within the limits.
    pub(super) fn read(fields: &mut BodyFields, rules: &Rules<'_>) -> Result<Self, Problem> {
        let messages = fields.needed_objects("messages")?.map(|fields| message(fields?));
        let messages = messages.collect::<Result<_, _>>()?;
        let messages = parse::check_messages(messages, rules.limits)?;
        let end = PromptEnd::read(fields, messages.last().map(|(role, _)| *role))?;
        Ok(Self { messages, end })
    }

    /// All tokens of the prompt.
    pub(super) fn render(&self, served: &ServedModel) -> Result<Vec<u32>, Problem> {
        let messages: Vec<Message<'_>> =
            self.messages.iter().map(|(role, content)| Message { role: *role, content }).collect();
        let rendered = served.render_chat(&messages, None);
        let rendered = rendered.map_err(|error| Problem::from(error).at("/messages"))?;
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
    fn read(fields: &mut BodyFields, last: Option<Role>) -> Result<Self, Problem> {
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
fn message(mut fields: BodyFields) -> Result<(String, String), Problem> {
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
            let part = |(i, value)| part(object(value, format!("{at}/{i}"))?);
            parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(&at, "a string or an array of parts", &other)),
    };
    let role = if role == "developer" { "system".to_owned() } else { role };
    Ok((role, content))
}

/// The text of a part of a message.
fn part(mut fields: BodyFields) -> Result<String, Problem> {
    let kind = fields.needed_text("type")?;
    if kind != "text" {
        let kind = short(&kind);
        let detail = format!("Parts of the type '{kind}' are not supported by this server; 'text' is.");
        return Err(Problem::new(Code::UnsupportedValue, detail).at(fields.pointer("type")));
    }
    fields.without_effect(&[("cache_control", Expected::Object)])?;
    fields.only(&["type", "text"])?;
    fields.needed_text("text")
}
