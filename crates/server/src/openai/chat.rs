//! `POST /v1/chat/completions`: a conversation to answers, each a new message or the continuation of the last one.

use axum::extract::{Request, State};
use axum::response::Response;

use super::conversation::ChatPrompt;
use super::create;
use super::parameters::{self, BodyKind, invalid};
use super::prompts::Prompts;
use super::request::{Common, CompletionRequest, MAX_LOGPROBS, max_tokens};
use crate::app::App;
use crate::fields::BodyFields;
use crate::parse::Rules;
use crate::problem::Problem;
use crate::request_ids::RequestIds;
use crate::request_span::Endpoint;

const OPERATION: Endpoint = Endpoint { path: "/v1/chat/completions", name: "chat" };

/// The handler.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let answered = create::answer(&app, request, OPERATION, read).await;
    answered.unwrap_or_else(|problem| problem.response(&ids))
}

fn read(body: &[u8], rules: &Rules<'_>) -> Result<CompletionRequest, Problem> {
    let (mut fields, ignored) = parameters::read(body, BodyKind::Chat, rules.ignored_fields)?;
    let common = Common::read(&mut fields, rules)?;
    let names = ["max_tokens", "max_completion_tokens"];
    let max_tokens = max_tokens(&mut fields, &names)?;
    let max_tokens = max_tokens.unwrap_or(rules.defaults.max_tokens as usize);
    let logprobs = logprobs(&mut fields)?;
    let prompts = Prompts::Chat(ChatPrompt::read(&mut fields, rules)?);
    Ok(CompletionRequest { common, max_tokens, logprobs, prompts, ignored })
}

/// How many of the likeliest tokens are named beside each of the answer; none if log probabilities are not wanted at all.
fn logprobs(fields: &mut BodyFields) -> Result<Option<usize>, Problem> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.whole_in("top_logprobs", 0..=MAX_LOGPROBS)?;
    if top.is_some_and(|top| top > 0) && !wanted {
        let detail = "The parameter 'top_logprobs' is for log probabilities: with 'logprobs' true only.";
        return Err(invalid(&fields.pointer("top_logprobs"), detail));
    }
    Ok(wanted.then(|| top.unwrap_or(0) as usize))
}
