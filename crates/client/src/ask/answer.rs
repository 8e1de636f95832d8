//! An answer as it comes: events of a stream, or the reason why there are none.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::http::Error;
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::Question;
use crate::http::{self, Body, Connection, KEY_HEADER, Lost, shortened};
use crate::swap::Server;

const GENERATE: &str = "/generate";
const SEED: &str = "x-seed";
/// A server that lives says at least that it waits, more often than this.
const SILENCE: Duration = Duration::from_mins(1);
/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;
/// Longest line of a stream: whatever is longer is no event.
const MAX_LINE: usize = 1 << 20;
/// Bytes of a stream: many times what the longest answer takes.
const MAX_STREAM: usize = 64 << 20;

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum Failure {
    Lost(Lost),
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => lost.fmt(f),
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
pub(crate) struct Event(pub(crate) Value);

impl Event {
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
    pub(crate) fn model(&self) -> String {
        shortened(self.0["model_tag"].as_str().unwrap_or("?").as_bytes())
    }

    /// Whether it ended because it was long enough, and not because all was said.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.0["finish_reason"] == "length"
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0["seed"].as_u64().unwrap_or_default()
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.0["usage"]["completion_tokens"].as_u64().unwrap_or_default()
    }

    pub(crate) fn cached_tokens(&self) -> u64 {
        self.0["usage"]["cached_tokens"].as_u64().unwrap_or_default()
    }

    pub(crate) fn dropped_messages(&self) -> u64 {
        self.0["dropped_messages"].as_u64().unwrap_or_default()
    }

    /// Tokens a second after the first one, if there were any.
    pub(crate) fn rate(&self) -> Option<f64> {
        let seconds = self.0["timings_ms"]["decode"].as_f64()? / 1e3;
        let later = self.tokens().checked_sub(1).filter(|tokens| *tokens > 0)?;
        Some(later as f64 / seconds).filter(|rate| rate.is_finite())
    }
}

/// An answer on its way. Dropping it stops it.
pub(crate) struct Answer {
    body: Body,
    connection: Option<Connection>,
    lines: Lines,
}

impl Answer {
    pub(super) async fn ask(server: &Server, question: &Question) -> Result<Self, Failure> {
        let request = server.way.place.request(GENERATE).and_then(|request| {
            let request = request.method("POST").header(CONTENT_TYPE, "application/json");
            let request = server.key.iter().fold(request, |request, key| request.header(KEY_HEADER, key));
            let seed = question.sampling.seed;
            let request = seed.iter().fold(request, |request, seed| request.header(SEED, *seed));
            request.body(Full::new(Bytes::from(question.body()))).map_err(|error: Error| error.into())
        });
        let request = request.map_err(|error| Failure::Lost(Lost::Unreachable(error.to_string())))?;
        let sent = timeout(SILENCE, server.way.send(request)).await.map_err(|_| Failure::Silent)?;
        let (response, connection) = sent.map_err(Failure::Lost)?;
        let body = checked(response).await?;
        Ok(Self { body, connection, lines: Lines::default() })
    }

    /// The next event, up to the one that says that it is done.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.lines.ready.pop_front() {
                if !event["error"].is_null() {
                    return Err(Failure::Ended(event));
                }
                return Ok(Event(event));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(Failure::Silent),
                Ok(Some(Ok(frame))) => self.lines.push(frame.data_ref().map_or(&[], |data| &data[..]))?,
                Ok(Some(Err(http::Cut)) | None) => return Err(Failure::Cut),
            }
        }
    }

    /// Leaves the connection in order, after the last event.
    pub(crate) async fn close(mut self) {
        let _ = timeout(http::CLOSING, self.body.frame()).await;
        drop(self.body);
        if let Some(connection) = self.connection {
            connection.closed().await;
        }
    }
}

/// The body of an answer that is a stream.
async fn checked(response: Response<Body>) -> Result<Body, Failure> {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_problem = kind.starts_with("application/problem+json");
    let is_stream = kind.starts_with("text/event-stream");
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    if status == StatusCode::OK && is_stream {
        return Ok(response.into_body());
    }
    let body = http::read(response.into_body(), MAX_REFUSAL).await;
    let said = http::message(&body);
    Err(match status {
        StatusCode::UNAUTHORIZED => Failure::Denied(said),
        status if status.is_success() => Failure::Garbage(shortened(&body)),
        _ if is_problem => Failure::Refused { said, retry_after },
        status => Failure::Status(status, said),
    })
}

/// Bytes of a stream to its events.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    ready: VecDeque<Value>,
    /// Bytes so far.
    taken: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.taken += bytes.len();
        if self.taken > MAX_STREAM {
            return Err(Failure::Garbage(format!("more than {MAX_STREAM} bytes")));
        }
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.partial.len() + part.len() > MAX_LINE {
                return Err(Failure::Garbage(format!("a line of more than {MAX_LINE} bytes")));
            }
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.line(line.trim_ascii_end())?;
            }
        }
        Ok(())
    }

    /// Comments and fields that are none of ours say nothing.
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
        match serde_json::from_slice(data) {
            Ok(event @ Value::Object(_)) => self.ready.push_back(event),
            _ => return Err(Failure::Garbage(shortened(data))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let stream =
            b": waiting\n\ndata: {\"token\":\"a\\n\"}\r\n\r\nevent: x\ndata:{\"done\":true,\"seed\":7}\n\n";
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            for part in stream.chunks(size) {
                lines.push(part).unwrap();
            }
            let events: Vec<Event> = lines.ready.into_iter().map(Event).collect();
            assert_eq!((events.len(), events[0].text(), events[1].text()), (2, Some("a\n"), None), "{size}");
            assert_eq!((events[0].done(), events[1].done().unwrap().seed()), (None, 7));
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for wrong in ["data: [1]\n", "data: {\n", "data: [DONE]\n"] {
            assert!(matches!(Lines::default().push(wrong.as_bytes()), Err(Failure::Garbage(_))), "{wrong}");
        }
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; MAX_LINE]).is_ok() && lines.push(b"x").is_err());
    }
}
