//! `POST /v1/completions`: texts or tokens to go on with.

use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::response::Response;
use serde_json::Value;

use super::answer::{self, Asked, Prompts};
use super::common::{Common, MAX_LIKELY, max_tokens};
use super::fields::{self, Body, Fields, invalid, whole, wrong_type};
use crate::context::RequestIds;
use crate::generation::Generation;
use crate::limits::Limits;
use crate::parse::Rules;
use crate::problem::Problem;
use crate::root::Operation;
use crate::state::State;

const OPERATION: Operation = Operation { path: "/v1/completions", name: "text_completion" };
/// Most prompts of a request, and answers to all of them.
const MAX_PROMPTS: usize = 64;
/// Tokens of an answer, for those who do not say.
const DEFAULT_MAX_TOKENS: usize = 16;
const AT: &str = "/prompt";
const EXPECTED: &str = "a string, an array of strings, an array of token ids, or an array of such arrays";

/// The handler.
pub(crate) async fn create(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let answered = answer::answer(&state, request, (OPERATION, read)).await;
    answered.unwrap_or_else(|problem| problem.response(&ids))
}

fn read(body: &[u8], rules: &Rules<'_>) -> Result<Asked, Problem> {
    let limits = rules.limits;
    let (mut fields, ignored) = fields::read(body, Body::Completions, rules.ignored_fields)?;
    let common = Common::read(&mut fields, rules)?;
    let max_tokens = max_tokens(&mut fields, &["max_tokens"])?;
    let max_tokens = max_tokens.unwrap_or(DEFAULT_MAX_TOKENS.min(limits.max_tokens as usize));
    let likely = fields.whole("logprobs", 0..=MAX_LIKELY)?.map(|top| top as usize);
    let prompts = prompts(&mut fields, limits)?;
    let count = match &prompts {
        Prompts::Texts(texts) => texts.len(),
        Prompts::Ids(ids) => ids.len(),
        Prompts::Tokens(_) | Prompts::Chat(_) => 1,
    };
    if count * common.choices > MAX_PROMPTS {
        let detail = format!(
            "There are {count} prompts with {} answers each, but at most {MAX_PROMPTS} answers are allowed.",
            common.choices
        );
        return Err(invalid(AT, detail));
    }
    Ok(Asked { common, max_tokens, likely, prompts, ignored })
}

fn prompts(fields: &mut Fields, limits: &Limits) -> Result<Prompts, Problem> {
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

/// The prompts as tokens. Texts have the token in front that begins all that a model learns from.
pub(super) async fn render(generation: &Generation, prompts: &Prompts) -> Result<Vec<Vec<u32>>, Problem> {
    let mut rendered = Vec::new();
    match prompts {
        Prompts::Texts(texts) => {
            for text in texts {
                rendered.push(encode(generation, text));
                // Others have their turn between two texts.
                tokio::task::yield_now().await;
            }
        }
        Prompts::Ids(prompts) => {
            for (i, prompt) in prompts.iter().enumerate() {
                check(generation, prompt, &format!("{AT}/{i}"))?;
            }
            rendered.clone_from(prompts);
        }
        Prompts::Tokens(prompt) => {
            check(generation, prompt, AT)?;
            rendered.push(prompt.clone());
        }
        Prompts::Chat(conversation) => rendered.push(conversation.render(generation)?),
    }
    Ok(rendered)
}

/// A text after the token that begins all that a model learns from. Nothing that it spells becomes a special token.
pub(super) fn encode(generation: &Generation, text: &str) -> Vec<u32> {
    let mut ids = vec![generation.model.chat.bos];
    ids.extend(generation.model.tokenizer.encode(text));
    ids
}

/// Whether these are all tokens of the model.
pub(super) fn check(generation: &Generation, ids: &[u32], at: &str) -> Result<(), Problem> {
    match ids.iter().position(|&id| !generation.has_token(id)) {
        None => Ok(()),
        Some(i) => Err(invalid(&format!("{at}/{i}"), format!("The model has no token {}.", ids[i]))),
    }
}
