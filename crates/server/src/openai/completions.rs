//! `POST /v1/completions`: texts or tokens to go on with.

use axum::extract::{Request, State};
use axum::response::Response;

use super::create;
use super::parameters::{self, BodyKind, invalid};
use super::prompts::{AT, MAX_PROMPTS, Prompts};
use super::request::{Common, CompletionRequest, MAX_LOGPROBS, max_tokens};
use crate::app::App;
use crate::parse::Rules;
use crate::problem::Problem;
use crate::request_ids::RequestIds;
use crate::request_span::Endpoint;

const OPERATION: Endpoint = Endpoint { path: "/v1/completions", name: "text_completion" };
/// Tokens of an answer, for those who do not say.
const DEFAULT_MAX_TOKENS: usize = 16;

/// The handler.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let answered = create::answer(&app, request, OPERATION, read).await;
    answered.unwrap_or_else(|problem| problem.response(&ids))
}

fn read(body: &[u8], rules: &Rules<'_>) -> Result<CompletionRequest, Problem> {
    let limits = rules.limits;
    let (mut fields, ignored) = parameters::read(body, BodyKind::Completions, rules.ignored_fields)?;
    let common = Common::read(&mut fields, rules)?;
    let max_tokens = max_tokens(&mut fields, &["max_tokens"])?;
    let max_tokens = max_tokens.unwrap_or(DEFAULT_MAX_TOKENS.min(limits.max_tokens as usize));
    let logprobs = fields.whole_in("logprobs", 0..=MAX_LOGPROBS)?.map(|top| top as usize);
    let prompts = Prompts::read(&mut fields, limits)?;
    let (count, choices) = (prompts.count(), common.choices);
    if count * choices > MAX_PROMPTS {
        let detail = format!(
            "There are {count} prompts with {choices} answers each, but at most {MAX_PROMPTS} answers are allowed."
        );
        return Err(invalid(AT, detail));
    }
    Ok(CompletionRequest { common, max_tokens, logprobs, prompts, ignored })
}
