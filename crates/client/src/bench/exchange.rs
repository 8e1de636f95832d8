//! One request: connect, ask, read the stream to its end.

use std::fmt;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::events::Answer;
use super::prompt::prompt;
use super::target::Target;
use super::{Plan, load};
use crate::http::{self, Body, CLOSING, Lost, message};

/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 16 << 10;

/// Why a request has no whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
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

impl Failure {
    /// What it is counted under.
    pub(crate) fn kind(&self) -> String {
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

impl fmt::Display for Failure {
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
pub(crate) struct Outcome {
    /// When it began, in microseconds of the run.
    pub(crate) begun: u64,
    pub(crate) answer: Answer,
    pub(crate) failure: Option<Failure>,
}

/// Sends request number `index` and reads its answer; times count from `zero`.
pub(crate) async fn ask(target: &Target, plan: &Plan, index: u64, zero: Instant) -> Outcome {
    let text = prompt((plan.prompt_words, plan.shared_words), plan.seed, index);
    let mut answer = Answer::new(target.api, plan.answer_tokens);
    let begun = load::micros_since(zero);
    let exchange = exchange(target, (plan, &text, index), (&mut answer, zero));
    let result = timeout(plan.timeout, exchange).await.unwrap_or(Err(Failure::TimedOut));
    Outcome { begun, answer, failure: result.err() }
}

async fn exchange(
    target: &Target,
    (plan, prompt, index): (&Plan, &str, u64),
    (answer, zero): (&mut Answer, Instant),
) -> Result<(), Failure> {
    let request = target
        .request(plan, prompt, plan.seed + index)
        .map_err(|error| Failure::Lost(Lost::Unreachable(error.to_string())))?;
    let (response, connection) = target.way.send(request).await.map_err(Failure::Lost)?;
    let mut body = checked(response).await?;
    let read = read(&mut body, answer, zero).await;
    drop(body);
    if let Some(connection) = connection.filter(|_| read.is_ok()) {
        connection.closed().await;
    }
    read
}

/// The body of an answer that is an event stream.
async fn checked(response: Response<Body>) -> Result<Body, Failure> {
    let status = response.status();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("of no stated type").to_owned();
    let body = response.into_body();
    if status == StatusCode::OK {
        let is_stream = content_type.to_ascii_lowercase().starts_with("text/event-stream");
        return if is_stream { Ok(body) } else { Err(Failure::NotEvents { content_type }) };
    }
    let said = message(&http::read(body, MAX_REFUSAL).await);
    let status = status.as_u16();
    Err(match status {
        401 | 403 => Failure::Denied { status, said },
        404 => Failure::NoEndpoint { said },
        _ => Failure::Status { status, said },
    })
}

async fn read(body: &mut Body, answer: &mut Answer, zero: Instant) -> Result<(), Failure> {
    while let Some(frame) = body.frame().await {
        // A body that breaks off after the last word is a whole answer.
        let Ok(frame) = frame else { break };
        if let Some(data) = frame.data_ref() {
            answer.push(data, load::micros_since(zero))?;
        }
        if answer.ended {
            // What follows is the end of the body; a server that keeps it open is not waited for.
            let _ = timeout(CLOSING, body.frame()).await;
            break;
        }
    }
    if answer.is_whole() { Ok(()) } else { Err(Failure::Cut) }
}
