//! What completions go on with: conversations, texts or tokens.

use serde_json::Value;
use serving::ServedModel;

use super::conversation::ChatPrompt;
use super::parameters::{invalid, whole, wrong_type};
use crate::fields::BodyFields;
use crate::limits::Limits;
use crate::problem::Problem;

/// Most prompts of a request, and answers to all of them.
pub(super) const MAX_PROMPTS: usize = 64;
pub(super) const AT: &str = "/prompt";
const EXPECTED: &str = "a string, an array of strings, an array of token ids, or an array of such arrays";

/// Prompts to complete.
pub(super) enum Prompts {
    Chat(ChatPrompt),
    Texts(Vec<String>),
    /// Token ids, as they are.
    Tokens(Vec<u32>),
    /// The same of several prompts.
    Ids(Vec<Vec<u32>>),
}

impl Prompts {
    /// Those of a `prompt` field.
    pub(super) fn read(fields: &mut BodyFields, limits: &Limits) -> Result<Self, Problem> {
        let list = match fields.need("prompt")? {
            Value::String(text) => return Ok(Prompts::Texts(vec![bounded(text, AT, limits)?])),
            Value::Array(list) => list,
            other => return Err(wrong_type(AT, EXPECTED, &other)),
        };
        if list.is_empty() {
            return Err(invalid(AT, "The prompt is empty: there is nothing to go on with."));
        }
        if list[0].is_number() {
            return Ok(Prompts::Tokens(ids(list, AT)?));
        }
        if list.len() > MAX_PROMPTS {
            let detail = format!("There are {} prompts, but at most {MAX_PROMPTS} are allowed.", list.len());
            return Err(invalid(AT, detail));
        }
        let are_texts = list[0].is_string();
        let places = (0..list.len()).map(|i| format!("{AT}/{i}"));
        if are_texts {
            let text = |(value, at): (Value, String)| match value {
                Value::String(text) => bounded(text, &at, limits),
                other => Err(wrong_type(&at, "a string", &other)),
            };
            return Ok(Prompts::Texts(list.into_iter().zip(places).map(text).collect::<Result<_, _>>()?));
        }
        let ids = |(value, at): (Value, String)| match value {
            Value::Array(list) => ids(list, &at),
            other => Err(wrong_type(&at, EXPECTED, &other)),
        };
        Ok(Prompts::Ids(list.into_iter().zip(places).map(ids).collect::<Result<_, _>>()?))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Ids(ids) => ids.len(),
            Self::Tokens(_) | Self::Chat(_) => 1,
        }
    }

    /// The prompts as tokens. Texts have the token in front that begins all that a model learns from.
    pub(super) async fn render(&self, served: &ServedModel) -> Result<Vec<Vec<u32>>, Problem> {
        let mut rendered = Vec::new();
        match self {
            Self::Texts(texts) => {
                for text in texts {
                    rendered.push(encode(served, text));
                    // Others have their turn between two texts.
                    tokio::task::yield_now().await;
                }
            }
            Self::Ids(prompts) => {
                for (i, prompt) in prompts.iter().enumerate() {
                    check(served, prompt, &format!("{AT}/{i}"))?;
                }
                rendered.clone_from(prompts);
            }
            Self::Tokens(prompt) => {
                check(served, prompt, AT)?;
                rendered.push(prompt.clone());
            }
            Self::Chat(conversation) => rendered.push(conversation.render(served)?),
        }
        Ok(rendered)
    }
}

/// A text within the limit of a conversation.
pub(super) fn bounded(text: String, at: &str, limits: &Limits) -> Result<String, Problem> {
    let (chars, limit) = (text.chars().count(), limits.conversation_chars);
    if chars <= limit {
        return Ok(text);
    }
    Err(invalid(at, format!("The text has {chars} characters, but at most {limit} are allowed.")))
}

/// Token ids. Whether they exist is for the weights to say.
pub(super) fn ids(list: Vec<Value>, at: &str) -> Result<Vec<u32>, Problem> {
    if list.is_empty() {
        return Err(invalid(at, "There are no tokens here."));
    }
    // There may be many, and a place is named only where it is wrong.
    let id = |(i, value): (usize, Value)| match value.as_u64().map(u32::try_from) {
        Some(Ok(id)) => Ok(id),
        _ => whole(&value, &format!("{at}/{i}"), 0..=i64::from(u32::MAX)).map(|id| id as u32),
    };
    list.into_iter().enumerate().map(id).collect()
}

/// A text after the token that begins all that a model learns from. Nothing that it spells becomes a special token.
pub(super) fn encode(served: &ServedModel, text: &str) -> Vec<u32> {
    let mut ids = vec![served.model.chat.bos];
    ids.extend(served.model.tokenizer.encode(text));
    ids
}

/// Whether these are all tokens of the model.
pub(super) fn check(served: &ServedModel, ids: &[u32], at: &str) -> Result<(), Problem> {
    match ids.iter().position(|&id| !served.has_token(id)) {
        None => Ok(()),
        Some(i) => Err(invalid(&format!("{at}/{i}"), format!("The model has no token {}.", ids[i]))),
    }
}
