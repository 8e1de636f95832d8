//! One request: connect, ask, read the stream to its end.

use std::fmt;
use std::time::Instant;

use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::answer::MeasuredAnswer;
use super::target::Target;
use super::{LoadPlan, load};
use crate::http::{self, Lost, message};

/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 16 << 10;

/// Why a request has no whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RequestFailure {
    Lost(Lost),
    Denied { status: u16, said: String },
    NoEndpoint { said: String },
    Status { status: u16, said: String },
    NotEvents { content_type: String },
    ErrorEvent(String),
    Garbage(String),
    Cut,
    TimedOut,
}

impl RequestFailure {
    /// What it is counted under.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Lost(Lost::Refused) => "connection refused".to_owned(),
            Self::Lost(Lost::Unreachable(_)) => "no connection".to_owned(),
            Self::Lost(Lost::OutOfSockets(_)) => "no socket".to_owned(),
            Self::Lost(Lost::Untrusted(_)) => "no TLS".to_owned(),
            Self::Lost(Lost::NotHttp) => "not HTTP".to_owned(),
            Self::Denied { status, .. } | Self::Status { status, .. } => format!("HTTP {status}"),
            Self::NoEndpoint { .. } => "HTTP 404".to_owned(),
            Self::NotEvents { .. } => "not an event stream".to_owned(),
            Self::ErrorEvent(_) => "error event".to_owned(),
            Self::Garbage(_) => "garbage".to_owned(),
            Self::Cut | Self::Lost(Lost::Cut) => "cut".to_owned(),
            Self::TimedOut => "timeout".to_owned(),
        }
    }
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => lost.fmt(f),
            Self::Denied { said, .. } => {
                write!(f, "the key is missing or wrong (--key, or INTERNAL_API_KEY): {said}")
            }
            Self::NoEndpoint { said } => {
                write!(f, "the server has no such endpoint (--api, --url) or model (--model): {said}")
            }
            Self::Status { said, .. } => f.write_str(said),
            Self::NotEvents { content_type } => {
                write!(f, "the answer is {content_type}, not text/event-stream")
            }
            Self::ErrorEvent(said) => write!(f, "the server gave the answer up: {said}"),
            Self::Garbage(found) => write!(f, "the stream holds what is no event: {found}"),
            Self::Cut => f.write_str("the stream ended before the answer did"),
            Self::TimedOut => f.write_str("the answer took longer than --timeout allows"),
        }
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
        let sent = target.client.send(request).await.map_err(RequestFailure::Lost)?;
        read(checked(sent).await?, &mut answer, zero).await
    };
    let result = timeout(plan.timeout, exchange).await.unwrap_or(Err(RequestFailure::TimedOut));
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
        return Err(RequestFailure::NotEvents { content_type: kind.to_owned() });
    }
    let said = message(&http::read(response, MAX_REFUSAL).await);
    let status = status.as_u16();
    Err(match status {
        401 | 403 => RequestFailure::Denied { status, said },
        404 => RequestFailure::NoEndpoint { said },
        _ => RequestFailure::Status { status, said },
    })
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
    if answer.is_whole() { Ok(()) } else { Err(RequestFailure::Cut) }
}
