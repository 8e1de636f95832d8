//! One request: connect, ask, read the stream to its end.

use std::time::Instant;

use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::LoadPlan;
use super::answer::{MeasuredAnswer, RequestFailure};
use super::target::Target;
use crate::http::{self, message};

/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 16 << 10;

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
    let begun = micros_since(zero);
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
        answer.push(&bytes, micros_since(zero))?;
        if answer.ended {
            // What follows is the end of the body; a server that keeps it open is not waited for.
            http::finish(response).await;
            break;
        }
    }
    let cut = || RequestFailure::new("cut", "the stream ended before the answer did");
    if answer.is_whole() { Ok(()) } else { Err(cut()) }
}

/// Microseconds since then.
pub(super) fn micros_since(zero: Instant) -> u64 {
    zero.elapsed().as_micros() as u64
}
