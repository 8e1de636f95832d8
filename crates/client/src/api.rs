//! The two questions of a swap: to begin it, and how it goes.

use std::fmt;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, IF_MATCH};
use hyper::http::request;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http::{self, KEY_HEADER, Lost, Way, message, shortened};

const SWAP: &str = "/models/swap";
const STATS: &str = "/stats";
const MODELS: &str = "/models";
/// Longest time one answer may take: the server's disks may be slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 4 << 20;

/// A server, and the key to it.
pub(crate) struct Server {
    pub(crate) way: Way,
    pub(crate) key: Option<HeaderValue>,
}

/// What became of a request to swap.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// The tag is live and unchanged.
    AlreadyLive,
    /// The swap of this number runs.
    Swapping(u64),
}

/// Why there is no answer to a question.
#[derive(Debug)]
pub(crate) enum Failure {
    Lost(Lost),
    TimedOut,
    Denied(String),
    /// The key is good, but not for this.
    NotAllowed(String),
    /// An error of this server, in its words.
    Problem(String),
    /// An error of what is no server of this kind, or of something between it and us.
    Status(StatusCode, String),
    Garbage(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => lost.fmt(f),
            Self::TimedOut => write!(f, "no answer came within {} s", PATIENCE.as_secs()),
            Self::Denied(said) => {
                write!(f, "the key is missing or wrong (ADMIN_API_KEY, INTERNAL_API_KEY): {said}")
            }
            Self::NotAllowed(said) => write!(f, "it refuses this: {said}"),
            Self::Problem(said) => f.write_str(said),
            Self::Status(status, said) => write!(f, "what answers is no samosa server: {status}: {said}"),
            Self::Garbage(said) => write!(f, "what answers is no samosa server: it says {said:?}"),
        }
    }
}

impl Server {
    /// Where swaps are asked for, as a person reads it.
    pub(crate) fn url(&self) -> String {
        self.way.place.url(SWAP)
    }

    /// Asks for a model, if what serves has the identity `if_match`.
    pub(super) async fn swap(&self, tag: &str, if_match: Option<&str>) -> Result<Asked, Failure> {
        let post = |request: request::Builder| {
            let request = request.method("POST").header(CONTENT_TYPE, "application/json");
            let request = request.header("prefer", "wait=0");
            match if_match {
                Some(identity) => request.header(IF_MATCH, format!("\"{identity}\"")),
                None => request,
            }
        };
        let answer = self.ask(SWAP, post, json!({ "model_tag": tag }).to_string()).await?;
        match (answer["status"].as_str(), answer["swap_id"].as_u64()) {
            (Some("ok"), _) => Ok(Asked::AlreadyLive),
            (Some("swapping"), Some(id)) => Ok(Asked::Swapping(id)),
            _ => Err(Failure::Garbage(shortened(answer.to_string().as_bytes()))),
        }
    }

    /// The server's `/stats`.
    pub(crate) async fn stats(&self) -> Result<Value, Failure> {
        self.ask(STATS, |request| request, String::new()).await
    }

    /// The models that the server has.
    pub(crate) async fn models(&self) -> Result<Value, Failure> {
        self.ask(MODELS, |request| request, String::new()).await
    }

    async fn ask(
        &self,
        endpoint: &str,
        with: impl FnOnce(request::Builder) -> request::Builder,
        body: String,
    ) -> Result<Value, Failure> {
        let written = |request: request::Builder| request.body(Full::new(Bytes::from(body)));
        let request = self.way.place.request(endpoint).and_then(|request| {
            let request = self.key.iter().fold(request, |request, key| request.header(KEY_HEADER, key));
            Ok(written(with(request))?)
        });
        let request = request.map_err(|error| Failure::Lost(Lost::Unreachable(error.to_string())))?;
        timeout(PATIENCE, self.exchange(request)).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Value, Failure> {
        let (response, _connection) = self.way.send(request).await.map_err(Failure::Lost)?;
        let status = response.status();
        let content_type = response.headers().get(CONTENT_TYPE);
        let is_problem =
            content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
        let body = http::read(response.into_body(), MAX_ANSWER).await;
        match status {
            StatusCode::UNAUTHORIZED => Err(Failure::Denied(message(&body))),
            StatusCode::FORBIDDEN => Err(Failure::NotAllowed(message(&body))),
            status if is_problem && !status.is_success() => Err(Failure::Problem(message(&body))),
            status if !status.is_success() => Err(Failure::Status(status, message(&body))),
            _ => match serde_json::from_slice(&body) {
                Ok(answer @ Value::Object(_)) => Ok(answer),
                _ => Err(Failure::Garbage(shortened(&body))),
            },
        }
    }
}
