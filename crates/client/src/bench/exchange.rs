//! One request: connect, ask, read the stream to its end.

use std::time::Instant;

use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::answer::MeasuredAnswer;
use super::target::Target;
use super::{LoadPlan, load};
use crate::http::{self, ExchangeFailure, message};

/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 16 << 10;

/// Why a request has no whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RequestFailure {
    /// What it is counted under.
    pub(super) kind: String,
    /// What went wrong, as a clause.
    pub(super) why: String,
}

impl RequestFailure {
    pub(super) fn new(kind: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind: kind.into(), why: why.into() }
    }

    /// The stream holds what is no event.
    pub(super) fn garbage(found: &str) -> Self {
        Self::new("garbage", format!("the stream holds what is no event: {found}"))
    }

    /// The server said in an event that it failed.
    pub(super) fn error_event(said: &str) -> Self {
        Self::new("error event", format!("the server gave the answer up: {said}"))
    }
}

impl From<ExchangeFailure> for RequestFailure {
    fn from(failure: ExchangeFailure) -> Self {
        let kind = match failure {
            ExchangeFailure::Refused => "connection refused",
            ExchangeFailure::Unreachable(_) => "no connection",
            ExchangeFailure::OutOfSockets(_) => "no socket",
            ExchangeFailure::Untrusted(_) => "no TLS",
            ExchangeFailure::NotHttp => "not HTTP",
            ExchangeFailure::Cut => "cut",
        };
        Self::new(kind, failure.to_string())
    }
}

/// A request and what came of it.
pub(super) struct RequestOutcome {
    /// When it began, in microseconds of the run.
    pub(super) begun: u64,
    pub(super) answer: MeasuredAnswer,
    pub(super) failure: Option<RequestFailure>,
}

/// Sends request number `index` and reads its answer; times count from `zero`.
pub(super) async fn ask(target: &Target, plan: &LoadPlan, index: u64, zero: Instant) -> RequestOutcome {
    let request = target.request(plan, index);
    let mut answer = MeasuredAnswer::new(target.api, plan.answer_tokens);
    let begun = load::micros_since(zero);
    let exchange = async {
        let response = target.client.send(request).await?;
        read(checked(response).await?, &mut answer, zero).await
    };
    let late = || RequestFailure::new("timeout", "the answer took longer than --timeout allows");
    let result = timeout(plan.timeout, exchange).await.unwrap_or_else(|_| Err(late()));
    RequestOutcome { begun, answer, failure: result.err() }
}

/// An answer that is an event stream.
async fn checked(response: Response) -> Result<Response, RequestFailure> {
    let status = response.status();
    if status == StatusCode::OK {
        let kind = http::content_type(&response);
        if kind.to_ascii_lowercase().starts_with("text/event-stream") {
            return Ok(response);
        }
        let kind = if kind.is_empty() { "of no stated type" } else { kind };
        let why = format!("the answer is {kind}, not text/event-stream");
        return Err(RequestFailure::new("not an event stream", why));
    }
    let said = message(&http::read(response, MAX_REFUSAL).await);
    let status = status.as_u16();
    let why = match status {
        401 | 403 => format!("the key is missing or wrong (--key, or INTERNAL_API_KEY): {said}"),
        404 => format!("the server has no such endpoint (--api, --url) or model (--model): {said}"),
        _ => said,
    };
    Err(RequestFailure::new(format!("HTTP {status}"), why))
}

async fn read(
    mut response: Response,
    answer: &mut MeasuredAnswer,
    zero: Instant,
) -> Result<(), RequestFailure> {
    // A body that breaks off after the last word is a whole answer.
    while let Ok(Some(bytes)) = response.chunk().await {
        answer.push(&bytes, load::micros_since(zero))?;
        if answer.ended {
            // What follows is the end of the body; a server that keeps it open is not waited for.
            http::finish(response).await;
            break;
        }
    }
    let cut = || RequestFailure::new("cut", "the stream ended before the answer did");
    if answer.is_whole() { Ok(()) } else { Err(cut()) }
}
