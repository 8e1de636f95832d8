//! An answer as it comes: events of a stream, or the reason why there are none.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::Question;
use crate::api::ApiClient;
use crate::http::{self, ExchangeFailure, shortened};
use crate::sse::SseReader;
use crate::text::counted;

const GENERATE: &str = "/generate";
const SEED: &str = "x-seed";
/// A server that lives says at least that it waits, more often than this.
const SILENCE: Duration = Duration::from_mins(1);
/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;
/// Bytes of a stream: many times what the longest answer takes.
const MAX_STREAM: usize = 64 << 20;

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum AnswerFailure {
    Exchange(ExchangeFailure),
    /// Nothing came for so long.
    Silent,
    Denied(String),
    /// The service says no, in its words.
    Refused {
        said: String,
        /// Seconds after which to ask again.
        retry_after: Option<u64>,
    },
    /// An error of what is no service of this kind, or of something between it and us.
    Status(StatusCode, String),
    Garbage(String),
    /// The service gave the answer up: the event that says so.
    Ended(Value),
    Cut,
}

impl fmt::Display for AnswerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(failure) => failure.fmt(f),
            Self::Silent => write!(f, "nothing came for {} s", SILENCE.as_secs()),
            Self::Denied(said) => write!(f, "the key is missing or wrong (INTERNAL_API_KEY): {said}"),
            Self::Refused { said, retry_after: None } => f.write_str(said),
            Self::Refused { said, retry_after: Some(seconds) } => {
                write!(f, "{said} Try again in {seconds} s.")
            }
            Self::Status(status, said) => write!(f, "what answers is no samosa server: {status}: {said}"),
            Self::Garbage(said) => write!(f, "the answer holds what is no event: {said:?}"),
            Self::Ended(event) => f.write_str(&http::message(event.to_string().as_bytes())),
            Self::Cut => f.write_str("the connection was closed before the answer was whole"),
        }
    }
}

/// An event of an answer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct AnswerEvent(pub(crate) Value);

impl AnswerEvent {
    /// Text that goes on where the last one ended.
    pub(crate) fn text(&self) -> Option<&str> {
        self.0["token"].as_str()
    }

    /// The last event, if this is it.
    pub(crate) fn done(&self) -> Option<Done> {
        (self.0["done"] == true).then(|| Done(self.0.clone()))
    }
}

/// The last event of a whole answer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Done(pub(crate) Value);

impl Done {
    /// How many of the oldest messages the model was not given.
    pub(crate) fn dropped_messages(&self) -> u64 {
        self.0["dropped_messages"].as_u64().unwrap_or_default()
    }

    /// What the whole answer says of itself, for people, after a first token that took so long.
    pub(crate) fn summary(&self, first: Duration) -> Vec<String> {
        let usage = |name: &str| self.0["usage"][name].as_u64().unwrap_or_default();
        let tokens = usage("completion_tokens");
        let is_cut = self.0["finish_reason"] == "length";
        let length = if is_cut { ", cut at the longest allowed" } else { "" };
        let decode_s = self.0["timings_ms"]["decode"].as_f64().map(|ms| ms / 1e3);
        // The first token is not decoded.
        let rate = decode_s.filter(|_| tokens > 1).map(|seconds| (tokens - 1) as f64 / seconds);
        let begin = [
            shortened(self.0["model_tag"].as_str().unwrap_or("?").as_bytes()),
            format!("{}{length}", counted(tokens, "token", "tokens")),
            format!("first after {:.0} ms", first.as_secs_f64() * 1e3),
        ];
        let rate = rate.filter(|rate| rate.is_finite()).map(|rate| format!("{rate:.0} tokens/s"));
        let seed = self.0["seed"].as_u64().unwrap_or_default();
        let end = [format!("{} cached", usage("cached_tokens")), format!("seed {seed}")];
        begin.into_iter().chain(rate).chain(end).collect()
    }
}

/// An answer on its way. Dropping it stops it.
pub(crate) struct AnswerStream {
    response: Response,
    reader: SseReader,
    /// Bytes so far.
    taken: usize,
    begun: Instant,
    /// How long its first event took.
    pub(crate) first: Duration,
    /// All of its text so far.
    pub(crate) text: String,
}

impl AnswerStream {
    pub(super) async fn ask(client: &ApiClient, question: &Question) -> Result<Self, AnswerFailure> {
        let begun = crate::now();
        let mut request = http::post(client.url.endpoint(GENERATE), &question.body());
        if let Some(seed) = question.sampling.seed {
            request.headers_mut().insert(SEED, seed.into());
        }
        let sent = timeout(SILENCE, client.send(request)).await.map_err(|_| AnswerFailure::Silent)?;
        let response = checked(sent.map_err(AnswerFailure::Exchange)?).await?;
        let (reader, first, text) = (SseReader::default(), Duration::ZERO, String::new());
        Ok(Self { response, reader, taken: 0, begun, first, text })
    }

    /// The next event, up to the one that says that it is done.
    pub(crate) async fn next(&mut self) -> Result<AnswerEvent, AnswerFailure> {
        loop {
            while let Some(field) = self.reader.next_field() {
                // Comments and fields that are none of ours say nothing.
                if field.name == b"data" {
                    let event = event(field.value)?;
                    if self.first.is_zero() {
                        self.first = self.begun.elapsed();
                    }
                    self.text.push_str(event.text().unwrap_or_default());
                    return Ok(event);
                }
            }
            match timeout(SILENCE, self.response.chunk()).await {
                Err(_) => return Err(AnswerFailure::Silent),
                Ok(Ok(Some(bytes))) => self.push(&bytes).map_err(AnswerFailure::Garbage)?,
                Ok(Err(_) | Ok(None)) => return Err(AnswerFailure::Cut),
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.taken += bytes.len();
        if self.taken > MAX_STREAM {
            return Err(format!("more than {MAX_STREAM} bytes"));
        }
        self.reader.push(bytes)
    }

    /// Leaves the connection in order, after the last event.
    pub(crate) async fn close(self) {
        http::finish(self.response).await;
    }
}

fn event(data: &[u8]) -> Result<AnswerEvent, AnswerFailure> {
    match serde_json::from_slice(data) {
        Ok(Value::Object(event)) if event.get("error").is_some_and(|error| !error.is_null()) => {
            Err(AnswerFailure::Ended(Value::Object(event)))
        }
        Ok(event @ Value::Object(_)) => Ok(AnswerEvent(event)),
        _ => Err(AnswerFailure::Garbage(shortened(data))),
    }
}

/// An answer that is a stream.
async fn checked(response: Response) -> Result<Response, AnswerFailure> {
    let status = response.status();
    let kind = http::content_type(&response);
    if status == StatusCode::OK && kind.starts_with("text/event-stream") {
        return Ok(response);
    }
    let is_problem = kind.starts_with("application/problem+json");
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    let body = http::read(response, MAX_REFUSAL).await;
    let said = http::message(&body);
    Err(match status {
        StatusCode::UNAUTHORIZED => AnswerFailure::Denied(said),
        status if status.is_success() => AnswerFailure::Garbage(shortened(&body)),
        _ if is_problem => AnswerFailure::Refused { said, retry_after },
        status => AnswerFailure::Status(status, said),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_an_object_and_no_error() {
        assert_eq!(event(br#"{"token":"a\n"}"#).unwrap().text(), Some("a\n"));
        let done = event(br#"{"done":true,"seed":7}"#).unwrap();
        assert!(done.text().is_none() && done.done().is_some());
        assert!(event(br#"{"token":"a","error":null}"#).unwrap().done().is_none());
        assert!(matches!(event(br#"{"error":{"message":"No."}}"#), Err(AnswerFailure::Ended(_))));
        for wrong in ["[1]", "{", "[DONE]"] {
            assert!(matches!(event(wrong.as_bytes()), Err(AnswerFailure::Garbage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_summary_tells_what_is_known() {
        let first = Duration::from_millis(31);
        let done = |done: Value| Done(done).summary(first).join(" · ");
        let whole = json!({ "model_tag": "d\u{1b}20", "finish_reason": "length", "seed": 7,
            "usage": { "completion_tokens": 5, "cached_tokens": 2 }, "timings_ms": { "decode": 100.0 } });
        assert_eq!(
            done(whole),
            "d20… · 5 tokens, cut at the longest allowed · first after 31 ms · 40 tokens/s · 2 cached · seed 7"
        );
        assert_eq!(done(json!({})), "? · 0 tokens · first after 31 ms · 0 cached · seed 0");
    }
}
