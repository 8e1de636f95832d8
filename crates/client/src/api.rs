//! Questions with one answer: what a server does, which models it has, and the one that begins a swap.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use clap::ArgMatches;
use reqwest::header::{HeaderValue, IF_MATCH};
use reqwest::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http::{self, ExchangeFailure, KEY_HEADER, ServerConnector, ServerUrl, message, shortened};

const SWAP: &str = "/models/swap";
/// Longest time one answer may take: the server's disks may be slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 4 << 20;

/// A server, the way to it, and the key that is sent to it.
#[derive(Clone)]
pub struct ApiClient {
    /// Where it is.
    pub url: ServerUrl,
    connector: ServerConnector,
    key: Option<HeaderValue>,
}

/// What a server makes of the request for a swap.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum SwapReply {
    /// The tag is live and unchanged.
    AlreadyLive,
    /// The swap of this number runs.
    Swapping(u64),
}

/// Why there is no answer to a question.
#[derive(Debug)]
pub enum QuestionFailure {
    /// The exchange came to nothing.
    Exchange(ExchangeFailure),
    /// It took too long.
    TimedOut,
    /// The key is missing or wrong.
    Denied(String),
    /// The key is good, but not for this.
    NotAllowed(String),
    /// An error of this server, in its words.
    Problem(String),
    /// An error of what is no server of this kind, or of something between it and us.
    Status(StatusCode, String),
    /// What came is no answer of this server.
    Garbage(String),
}

impl fmt::Display for QuestionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(failure) => failure.fmt(f),
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

impl ApiClient {
    /// One that sends this key of a samosa server.
    pub fn new(url: ServerUrl, connector: ServerConnector, key: Option<String>) -> Result<Self> {
        Self { url, connector, key: None }.with_key(key)
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: Option<String>) -> Result<Self> {
        Ok(Self { key: key.map(http::secret).transpose()?, ..self.clone() })
    }

    /// The server of `--url`.
    pub(crate) fn of_arguments(matches: &ArgMatches, key: Option<String>) -> Result<Self> {
        let (url, trust) = http::server_of(matches)?;
        let connector = ServerConnector::network(&url, &trust, &[])?;
        Self::new(url, connector, key)
    }

    /// Whether it is in this process.
    pub(crate) fn is_in_process(&self) -> bool {
        matches!(self.connector, ServerConnector::InProcess(_))
    }

    /// Sends a request with the key. Returns its answer as far as its head.
    pub(crate) async fn send(&self, mut request: Request) -> Result<Response, ExchangeFailure> {
        if let Some(key) = &self.key {
            request.headers_mut().insert(KEY_HEADER, key.clone());
        }
        self.connector.send(request).await
    }

    /// Where swaps are asked for, for people.
    pub(crate) fn swap_url(&self) -> String {
        self.url.shown(SWAP)
    }

    /// Asks for a model, if what serves has the quoted identity `if_match`.
    pub(crate) async fn swap(
        &self,
        tag: &str,
        if_match: Option<&HeaderValue>,
    ) -> Result<SwapReply, QuestionFailure> {
        let mut request = http::post(self.url.endpoint(SWAP), &json!({ "model_tag": tag }));
        request.headers_mut().insert("prefer", HeaderValue::from_static("wait=0"));
        if let Some(identity) = if_match {
            request.headers_mut().insert(IF_MATCH, identity.clone());
        }
        let answer = self.ask(request).await?;
        match (answer["status"].as_str(), answer["swap_id"].as_u64()) {
            (Some("ok"), _) => Ok(SwapReply::AlreadyLive),
            (Some("swapping"), Some(id)) => Ok(SwapReply::Swapping(id)),
            _ => Err(QuestionFailure::Garbage(shortened(answer.to_string().as_bytes()))),
        }
    }

    /// The server's `/stats`.
    pub async fn stats(&self) -> Result<Value, QuestionFailure> {
        self.ask(http::request(Method::GET, self.url.endpoint("/stats"))).await
    }

    /// The models that the server has.
    pub(crate) async fn models(&self) -> Result<Value, QuestionFailure> {
        self.ask(http::request(Method::GET, self.url.endpoint("/models"))).await
    }

    async fn ask(&self, request: Request) -> Result<Value, QuestionFailure> {
        timeout(PATIENCE, self.exchange(request)).await.unwrap_or(Err(QuestionFailure::TimedOut))
    }

    async fn exchange(&self, request: Request) -> Result<Value, QuestionFailure> {
        let response = self.send(request).await.map_err(QuestionFailure::Exchange)?;
        let status = response.status();
        let is_problem = http::content_type(&response).starts_with("application/problem+json");
        let body = http::read(response, MAX_ANSWER).await;
        match status {
            StatusCode::UNAUTHORIZED => Err(QuestionFailure::Denied(message(&body))),
            StatusCode::FORBIDDEN => Err(QuestionFailure::NotAllowed(message(&body))),
            status if is_problem && !status.is_success() => Err(QuestionFailure::Problem(message(&body))),
            status if !status.is_success() => Err(QuestionFailure::Status(status, message(&body))),
            _ => match serde_json::from_slice(&body) {
                Ok(answer @ Value::Object(_)) => Ok(answer),
                _ => Err(QuestionFailure::Garbage(shortened(&body))),
            },
        }
    }
}
