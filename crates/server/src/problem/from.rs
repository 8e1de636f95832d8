//! Errors of models, engines and streams as problems.

use engine::{Failure, InvalidRequest, Refusal};
use registry::Category;
use serving::error::sentence;
use serving::{AdmitError, SwapError};
use tokenizer::ChatError;

use super::{Code, Problem};
use crate::events::StreamError;
use crate::lifecycle::Draining;

/// Seconds after which another process may serve.
const COME_BACK_S: u64 = 30;

/// A model cannot be had, for a reason of this kind; `text` is for callers.
fn no_such_model(category: Category, text: &str) -> Problem {
    let code = match category {
        Category::NotFound => Code::ModelNotFound,
        Category::BadCheckpoint => Code::BadCheckpoint,
        Category::OutOfMemory => Code::OutOfMemory,
        Category::Storage => Code::StorageFailed,
        Category::StorageFull => Code::StorageFull,
        Category::SourceFailed => Code::SourceFailed,
    };
    let problem = Problem::new(code, sentence(text));
    if code == Code::ModelNotFound { problem.at("/model_tag") } else { problem }
}

impl From<&registry::Error> for Problem {
    fn from(error: &registry::Error) -> Self {
        no_such_model(error.category(), &error.public())
    }
}

impl From<SwapError> for Problem {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Registry(error) => Self::from(&*error),
            SwapError::Fetch(error) => no_such_model(error.category(), &error.public()),
            SwapError::NoStorage => Self::new(Code::StorageFailed, error.to_string()),
            SwapError::InProgress { target } => {
                let detail = format!("A swap to \"{target}\" is running; ask again when it has ended.");
                Self::new(Code::SwapInProgress, detail).retry_after(5)
            }
            SwapError::PreconditionFailed { serving } => {
                let serving = serving.map_or_else(|| "none".to_owned(), |identity| format!("\"{identity}\""));
                let detail = format!("If-Match names other weights than those that serve: {serving}.");
                Self::new(Code::PreconditionFailed, detail)
            }
            SwapError::NoEngine | SwapError::Broken => Self::new(Code::Internal, error.to_string()),
        }
    }
}

impl From<Draining> for Problem {
    fn from(_: Draining) -> Self {
        let detail = "The server is stopping and takes no new requests.";
        Self::new(Code::Draining, detail).retry_after(COME_BACK_S)
    }
}

impl From<AdmitError> for Problem {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::NoModel { is_loading } => {
                let seconds = if is_loading { 2 } else { 30 };
                Self::new(Code::NoModel, "No model is loaded; see /health.").retry_after(seconds)
            }
            AdmitError::SwapQueueFull { limit } => {
                let detail =
                    format!("The weights are being exchanged, and the places to wait ({limit}) are taken.");
                Self::new(Code::QueueFull, detail).retry_after(5)
            }
            AdmitError::SwapTimeout { limit } => {
                let detail = format!("The weights were not exchanged within {} s.", limit.as_secs_f64());
                Self::new(Code::DeadlineExceeded, detail).retry_after(5)
            }
            AdmitError::Stopping => {
                Self::new(Code::ShuttingDown, "The server is stopping.").retry_after(COME_BACK_S)
            }
            AdmitError::Engine { refusal: Refusal::Gone, .. } => {
                let detail = "The engine has ended; the model has to be swapped in again.";
                Self::new(Code::NoModel, detail).retry_after(30)
            }
            AdmitError::Engine { refusal, limits, seconds_to_drain } => {
                refused(refusal, &limits).retry_after(seconds_to_drain)
            }
        }
    }
}

/// An engine's queue is full, or would be.
fn refused(refusal: Refusal, limits: &engine::Limits) -> Problem {
    match refusal {
        Refusal::QueueTokens => {
            let limit = limits.max_queued_tokens;
            let detail = format!(
                "The requests that wait stand for {limit} tokens with this one, or more; no more may."
            );
            Problem::new(Code::QueueFull, detail)
        }
        Refusal::QueueTime { wait } => {
            let (wait, limit) = (wait.as_secs_f64().ceil(), limits.queue_timeout.as_secs_f64());
            let detail =
                format!("A place would be free in about {wait} s, but requests wait {limit} s at most.");
            Problem::new(Code::QueueTimeout, detail)
        }
        Refusal::QueueFull | Refusal::Gone => {
            let (running, queued) = (limits.max_running, limits.max_queued);
            let detail = format!(
                "The places for running requests ({running}) and for waiting ones ({queued}) are taken."
            );
            Problem::new(Code::QueueFull, detail)
        }
    }
}

impl From<ChatError> for Problem {
    fn from(error: ChatError) -> Self {
        if error == ChatError::NoChatTokens {
            let detail = "The tokenizer of the model that serves has no chat tokens: it completes texts, by \
                          /v1/completions, and takes no messages.";
            return Self::new(Code::UnsupportedValue, detail).at("/messages");
        }
        Self::new(Code::InvalidRole, format!("The messages have an invalid role order: {error}."))
    }
}

/// A checked request was refused by the engine: a mistake of ours.
impl From<InvalidRequest> for Problem {
    fn from(invalid: InvalidRequest) -> Self {
        tracing::error!(?invalid, "a checked request was refused by the engine");
        Self::new(Code::Internal, "The request could not be given to the engine.")
    }
}

impl From<StreamError> for Problem {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Failed { failure, seconds_to_drain } => {
                let (code, detail) = failed(failure);
                let problem = Self::new(code, detail);
                if code.retryable() { problem.retry_after(seconds_to_drain) } else { problem }
            }
            StreamError::SlowClient => {
                Self::new(Code::SlowClient, "The stream was read too slowly and has been ended.")
            }
            StreamError::RequestDropped => Self::new(Code::Internal, "The engine gave the request up."),
            StreamError::AnswerDropped => Self::new(Code::Internal, "The engine gave the answer up."),
        }
    }
}

fn failed(failure: Failure) -> (Code, &'static str) {
    match failure {
        Failure::NotFinite => (Code::Internal, "The model gave a result that is not a number."),
        Failure::Internal => (Code::Internal, "The engine broke; try again."),
        Failure::Constraint => (
            Code::TooComplex,
            "The form that the answer must have became too complex to follow; simplify it.",
        ),
        Failure::Aborted => (Code::ShuttingDown, "The server is stopping."),
        Failure::QueueTimeout => {
            (Code::QueueTimeout, "The request waited for a place as long as any may; see QUEUE_TIMEOUT.")
        }
        Failure::Deadline => {
            (Code::DeadlineExceeded, "The answer took as long as any may; see REQUEST_TIMEOUT.")
        }
    }
}
