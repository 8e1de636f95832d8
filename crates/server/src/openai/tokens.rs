//! `POST /tokenize` and `POST /detokenize`, in the form that vLLM gave them.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::conversation::{ADD, CONTINUE, ChatPrompt};
use super::parameters::{self, BodyKind, invalid, wrong_type};
use super::{models, prompts};
use crate::app::App;
use crate::parse::Rules;
use crate::problem::Problem;
use crate::request_body;
use crate::request_ids::RequestIds;

/// What is to become tokens.
enum TokenizeInput {
    /// A text; after the token that begins all texts, or not.
    Text {
        text: String,
        with_bos: bool,
    },
    Chat(ChatPrompt),
}

struct TokenizeRequest {
    model: Option<String>,
    input: TokenizeInput,
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
struct Detokenized {
    prompt: String,
}

/// `POST /tokenize`
pub(crate) async fn tokenize(State(app): State<App>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let tokens = tokens(&app, request).await;
    tokens.map_or_else(|problem| problem.response(&ids), |tokens| Json(tokens).into_response())
}

async fn tokens(app: &App, request: Request) -> Result<Tokenized, Problem> {
    let body = request_body::read(request, &app.options.limits).await?;
    let body = read(app, &body)?;
    let served = app.models.admit().await?;
    if let Some(model) = &body.model {
        models::check(&app.options, &served, model)?;
    }
    let tokenizer = &served.model.tokenizer;
    let tokens = match &body.input {
        TokenizeInput::Text { text, with_bos: true } => prompts::encode(&served, text),
        TokenizeInput::Text { text, with_bos: false } => tokenizer.encode(text),
        TokenizeInput::Chat(chat) => chat.render(&served)?,
    };
    let token_strs = body.spelled.then(|| tokens.iter().map(|&token| tokenizer.decode(&[token])).collect());
    Ok(Tokenized { count: tokens.len(), max_model_len: served.sequence_len(), tokens, token_strs })
}

fn read(app: &App, body: &[u8]) -> Result<TokenizeRequest, Problem> {
    let rules = Rules::of(&app.options);
    let (mut fields, ignored) = parameters::read(body, BodyKind::Tokenize, rules.ignored_fields)?;
    app.telemetry.metrics.ignored_fields(&ignored);
    let model = fields.text("model")?;
    let spelled = fields.flag("return_token_strs")?.unwrap_or(false);
    let special = fields.flag("add_special_tokens")?;
    let input = match fields.text("prompt")? {
        None if special.is_some() => {
            let detail =
                "The parameter 'add_special_tokens' is for a 'prompt'; those of a conversation are its own.";
            return Err(invalid("/add_special_tokens", detail));
        }
        None => TokenizeInput::Chat(ChatPrompt::read(&mut fields, &rules)?),
        Some(text) => {
            let is_chat = fields.take("messages").is_some();
            if fields.flag(ADD)?.is_some() | fields.flag(CONTINUE)?.is_some() | is_chat {
                let detail = format!(
                    "What becomes tokens is a 'prompt', or 'messages' with '{ADD}' and '{CONTINUE}', not both."
                );
                return Err(invalid("/prompt", detail));
            }
            let text = prompts::bounded(text, prompts::AT, rules.limits)?;
            TokenizeInput::Text { text, with_bos: special.unwrap_or(true) }
        }
    };
    Ok(TokenizeRequest { model, input, spelled })
}

/// `POST /detokenize`
pub(crate) async fn detokenize(State(app): State<App>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let prompt = text(&app, request).await;
    prompt.map_or_else(|problem| problem.response(&ids), |prompt| Json(prompt).into_response())
}

async fn text(app: &App, request: Request) -> Result<Detokenized, Problem> {
    let body = request_body::read(request, &app.options.limits).await?;
    let (mut fields, ignored) = parameters::read(&body, BodyKind::Detokenize, &app.options.ignored_fields)?;
    app.telemetry.metrics.ignored_fields(&ignored);
    let model = fields.text("model")?;
    let tokens = match fields.need("tokens")? {
        // Nothing is the text of no tokens.
        Value::Array(list) if list.is_empty() => Vec::new(),
        Value::Array(list) => prompts::ids(list, "/tokens")?,
        other => return Err(wrong_type("/tokens", "an array of token ids", &other)),
    };
    let served = app.models.admit().await?;
    if let Some(model) = &model {
        models::check(&app.options, &served, model)?;
    }
    prompts::check(&served, &tokens, "/tokens")?;
    Ok(Detokenized { prompt: served.model.tokenizer.decode(&tokens) })
}
