//! `POST /tokenize` and `POST /detokenize`, in the form that vLLM gave them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as FromState};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::chat::{ADD, CONTINUE, Conversation};
use super::fields::{self, Body, invalid, wrong_type};
use super::{completions, models};
use crate::context::RequestIds;
use crate::parse::Rules;
use crate::problem::Problem;
use crate::start;
use crate::state::State;

/// Whether something is added.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    Yes,
    No,
}

/// What is to become tokens.
enum Text {
    /// A text, after the token that begins all texts or not.
    Prompt(String, Added),
    Chat(Conversation),
}

struct Asked {
    model: Option<String>,
    text: Text,
    /// Whether the tokens are spelled out too.
    spelled: bool,
}

#[derive(Serialize)]
struct Tokenized {
    count: usize,
    max_model_len: usize,
    tokens: Vec<u32>,
    token_strs: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Prompt {
    prompt: String,
}

/// `POST /tokenize`
pub(crate) async fn tokenize(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let tokens = tokens(&state, request).await;
    tokens.map_or_else(|problem| problem.response(&ids), |tokens| Json(tokens).into_response())
}

async fn tokens(state: &State, request: Request) -> Result<Tokenized, Problem> {
    let body = start::read_json_body(request, &state.options.limits).await?;
    let asked = read(state, &body)?;
    let generation = start::weights(state).await?;
    if let Some(model) = &asked.model {
        models::check(state, &generation, model)?;
    }
    let tokenizer = &generation.model.tokenizer;
    let tokens = match &asked.text {
        Text::Prompt(text, Added::Yes) => completions::encode(&generation, text),
        Text::Prompt(text, Added::No) => tokenizer.encode(text),
        Text::Chat(conversation) => conversation.render(&generation)?,
    };
    let token_strs = asked.spelled.then(|| tokens.iter().map(|&token| tokenizer.decode(&[token])).collect());
    Ok(Tokenized { count: tokens.len(), max_model_len: generation.sequence_len(), tokens, token_strs })
}

fn read(state: &State, body: &[u8]) -> Result<Asked, Problem> {
    let options = &state.options;
    let (limits, defaults, ignored_fields) = (&options.limits, &options.defaults, &options.ignored_fields);
    let (mut fields, ignored) = fields::read(body, Body::Tokenize, ignored_fields)?;
    for field in &ignored {
        state.metrics.ignored_field(field);
    }
    let model = fields.text("model")?;
    let spelled = fields.flag("return_token_strs")?.unwrap_or(false);
    let special = fields.flag("add_special_tokens")?;
    let special = special.map(|flag| if flag { Added::Yes } else { Added::No });
    let text = match fields.text("prompt")? {
        None if special.is_some() => {
            let detail =
                "The parameter 'add_special_tokens' is for a 'prompt'; those of a conversation are its own.";
            return Err(invalid("/add_special_tokens", detail));
        }
        None => {
            let rules = Rules { limits, defaults, ignored_fields };
            Text::Chat(Conversation::read(&mut fields, &rules)?)
        }
        Some(text) => {
            let is_chat = fields.take("messages").is_some();
            if fields.flag(ADD)?.is_some() | fields.flag(CONTINUE)?.is_some() | is_chat {
                let detail = format!(
                    "What becomes tokens is a 'prompt', or 'messages' with '{ADD}' and '{CONTINUE}', not both."
                );
                return Err(invalid("/prompt", detail));
            }
            Text::Prompt(completions::bounded(text, "/prompt", limits)?, special.unwrap_or(Added::Yes))
        }
    };
    Ok(Asked { model, text, spelled })
}

/// `POST /detokenize`
pub(crate) async fn detokenize(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let prompt = text(&state, request).await;
    prompt.map_or_else(|problem| problem.response(&ids), |prompt| Json(prompt).into_response())
}

async fn text(state: &State, request: Request) -> Result<Prompt, Problem> {
    let body = start::read_json_body(request, &state.options.limits).await?;
    let (mut fields, ignored) = fields::read(&body, Body::Detokenize, &state.options.ignored_fields)?;
    for field in &ignored {
        state.metrics.ignored_field(field);
    }
    let model = fields.text("model")?;
    let tokens = match fields.need("tokens")? {
        // Nothing is the text of no tokens.
        Value::Array(list) if list.is_empty() => Vec::new(),
        Value::Array(list) => completions::ids(list, "/tokens")?,
        other => return Err(wrong_type("/tokens", "an array of token ids", &other)),
    };
    let generation = start::weights(state).await?;
    if let Some(model) = &model {
        models::check(state, &generation, model)?;
    }
    completions::check(&generation, &tokens, "/tokens")?;
    Ok(Prompt { prompt: generation.model.tokenizer.decode(&tokens) })
}
