//! From a body to answers: through the gate, to the model that serves then, into an engine; then as a stream, or as a
//! complete response.
//!
//! A complete response has its headers when it is complete: there is nothing to write before, and no heartbeat. A client
//! that has gone is noticed all the same, since its request is dropped.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use engine::{Guide, Sampling, Scope};
use futures_util::future::try_join_all;
use serving::ServedModel;

use super::chunks::Chunks;
use super::models;
use super::parameters::invalid;
use super::prompts::Prompts;
use super::request::{CompletionRequest, seed_of};
use super::response::{self, CompleteAnswer};
use super::response_format::guide;
use super::types::{CompletionKind, Head, ResponseContext};
use crate::admission::{self, PreparedRequest};
use crate::app::App;
use crate::events::{self, EventStream, StreamError};
use crate::lifecycle::Arriving;
use crate::parse::Rules;
use crate::problem::{Code, Problem};
use crate::request_ids::EndsLater;
use crate::request_span::{Endpoint, RequestContext};
use crate::respond::{self, Events};

/// What reads the bodies of an operation.
pub(super) type ReadBody = fn(&[u8], &Rules<'_>) -> Result<CompletionRequest, Problem>;

/// Answers a request.
pub(super) async fn answer(
    app: &App,
    request: Request,
    operation: Endpoint,
    read: ReadBody,
) -> Result<Response, Problem> {
    let (context, body) = RequestContext::read(request, operation, &app.options.limits).await?;
    let body = read(&body, &Rules::of(&app.options))?;
    app.telemetry.metrics.ignored_fields(&body.ignored);
    let arriving = app.lifecycle.enter()?;
    let stream = body.common.stream;
    let begun = begin(app.clone(), context.clone(), arriving, body);
    let Some(usage) = stream else {
        let (answers, response) = begun.await?;
        let answers = complete(answers, &response).await?;
        let media_type = HeaderValue::from_static("application/json");
        let body = response::render(&response, &answers);
        let mut response = ([(CONTENT_TYPE, media_type)], body).into_response();
        // The answers have a span for the request.
        response.extensions_mut().insert(EndsLater);
        return Ok(response);
    };
    let app_of_stream = app.clone();
    let events = async move {
        let (answers, response) = begun.await?;
        let answers = events::first(answers).await?;
        let frames = Box::new(Chunks::new(response, usage, answers.len()));
        Ok(Events::new(app_of_stream, answers, frames))
    };
    respond::respond(app, context, Box::pin(events)).await
}

/// From a checked request to answers that engines work on.
async fn begin(
    app: App,
    context: RequestContext,
    arriving: Arriving,
    body: CompletionRequest,
) -> Result<(Vec<EventStream>, ResponseContext), Problem> {
    let served = app.models.admit().await?;
    models::check(&app.options, &served, &body.common.model)?;
    check_bias(&served, &body.common.sampling)?;
    let prompts = body.prompts.render(&served).await?;
    let guide = guide(&served, &body.common.format).await?;
    let prepared = |prompt: Vec<u32>| prepare(&served, &body, context.scope, &prompt, guide.as_deref());
    let groups = prompts.into_iter().map(prepared).collect::<Result<Vec<_>, _>>()?;
    check_capacity(&served, &groups)?;
    let kind = match body.prompts {
        Prompts::Chat(_) => CompletionKind::Chat,
        Prompts::Texts(_) | Prompts::Tokens(_) | Prompts::Ids(_) => CompletionKind::Text,
    };
    let head = Head::new(kind, &context.ids.request, &served);
    let tokenizer = body.logprobs.map(|_| Arc::clone(&served.model.tokenizer));
    let answers = admission::submit(&app, &served, context, groups)?;
    drop(arriving);
    Ok((answers, ResponseContext { head, choices: body.common.choices, tokenizer }))
}

/// Requests for the answers to a prompt.
fn prepare(
    served: &ServedModel,
    body: &CompletionRequest,
    scope: Scope,
    prompt: &[u32],
    guide: Option<&dyn Guide>,
) -> Result<Vec<PreparedRequest>, Problem> {
    check_length(served, &body.prompts, prompt.len())?;
    let sampling = &body.common.sampling;
    let request = |choice| {
        let sampling = Sampling { seed: seed_of(sampling.seed, choice), ..sampling.clone() };
        let request = served.request(prompt.to_vec(), body.max_tokens, sampling)?;
        let mut request = request.in_scope(scope).stopping_at(body.common.stops.clone());
        if let Some(top) = body.logprobs {
            request = request.with_logprobs(top);
        }
        if let Some(guide) = guide {
            request = request.guided(guide.fork());
        }
        Ok(PreparedRequest { request, dropped_messages: 0 })
    };
    (0..body.common.choices).map(request).collect()
}

/// Refuses more answers than idle engines accept, since a retry would not help. The answers to one prompt are queued with
/// one engine, before its next step moves any of them out of the queue.
fn check_capacity(served: &ServedModel, groups: &[Vec<PreparedRequest>]) -> Result<(), Problem> {
    let (limits, workers) = (served.workers[0].limits(), served.workers.len());
    let (most, most_tokens) = (limits.max_running.max(limits.max_queued), limits.max_queued_tokens);
    let of_all =
        |of_group: fn(&[PreparedRequest]) -> usize| groups.iter().map(|group| of_group(group)).sum::<usize>();
    let check = |at: &str, answers: usize, tokens: usize, engines: usize| {
        let (most, most_tokens) = (most * engines, most_tokens.saturating_mul(engines));
        let each = if engines > 1 { format!(" for each of {engines} workers") } else { String::new() };
        if answers > most {
            let detail = format!(
                "{answers} answers are asked for at once, but at most {most} can be: the larger of \
                 MAX_RUNNING_REQUESTS and MAX_QUEUED_REQUESTS{each}."
            );
            return Err(invalid(at, detail));
        }
        // A lone request is accepted whatever it reserves.
        if answers > engines && tokens > most_tokens {
            let detail = format!(
                "{answers} answers at once reserve {tokens} tokens with their prompts, but at most {most_tokens} may \
                 wait: MAX_QUEUED_TOKENS{each}."
            );
            return Err(invalid(at, detail));
        }
        Ok(())
    };
    for group in groups {
        check("/n", group.len(), tokens(group), 1)?;
    }
    check("/prompt", of_all(<[PreparedRequest]>::len), of_all(tokens), workers)
}

/// Tokens that requests reserve.
fn tokens(group: &[PreparedRequest]) -> usize {
    group.iter().map(|prepared| prepared.request.total_tokens()).sum()
}

/// Nothing is left out of a prompt here: it fits, or is refused.
fn check_length(served: &ServedModel, prompts: &Prompts, tokens: usize) -> Result<(), Problem> {
    let most = served.sequence_len();
    if tokens < most {
        return Ok(());
    }
    let detail = format!(
        "This model's maximum context length is {most} tokens, one of them at least for the answer, but the prompt has \
         {tokens}."
    );
    let field = if matches!(prompts, Prompts::Chat(_)) { "/messages" } else { "/prompt" };
    Err(Problem::new(Code::PromptTooLong, detail).at(field))
}

fn check_bias(served: &ServedModel, sampling: &Sampling) -> Result<(), Problem> {
    match sampling.bias.iter().find(|(id, _)| !served.has_token(*id)) {
        None => Ok(()),
        Some((id, _)) => Err(invalid("/logit_bias", format!("The model has no token {id}."))),
    }
}

/// Waits for all answers.
async fn complete(
    mut answers: Vec<EventStream>,
    context: &ResponseContext,
) -> Result<Vec<CompleteAnswer>, StreamError> {
    let received = try_join_all(answers.iter_mut().map(|answer| receive(answer, context))).await;
    if received.is_err() {
        events::give_up(&mut answers);
    }
    received
}

/// All events of an answer.
async fn receive(answer: &mut EventStream, context: &ResponseContext) -> Result<CompleteAnswer, StreamError> {
    let mut complete = CompleteAnswer::new(context);
    loop {
        complete.add(answer.next().await?);
        if answer.is_over() {
            return Ok(complete);
        }
    }
}
