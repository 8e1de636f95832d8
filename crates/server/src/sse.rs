//! Server-sent events: what answers say, as it goes to a socket. How each event is written is for its [`Frames`].

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use tokio::time::{Sleep, sleep, timeout};

use crate::clock;
use crate::context::Streams;
use crate::events::{About, EventStream, Said};
use crate::problem::Problem;
use crate::root::Origin;
use crate::state::State;

/// Bytes put together for one write.
const WRITE_BYTES: usize = 16 << 10;
/// What a stream says while there is nothing to say.
const COMMENT: &[u8] = b": waiting\n\n";

/// Writes what is said of answers.
pub(crate) trait Frames: Send {
    /// Something was said of an answer. Failures are not given here: they have one form for all.
    fn say(&mut self, about: &About, said: Said, out: &mut Vec<u8>);

    /// All answers are complete.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }
}

/// Writes one event of data: one line, also by Unicode's rules.
pub(crate) fn data(out: &mut Vec<u8>, frame: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    // Writing strings and numbers to a vector cannot fail.
    let _ = frame.serialize(&mut Serializer::with_formatter(&mut *out, OneLine));
    out.extend_from_slice(b"\n\n");
}

/// Formats JSON on one line by Unicode's rules.
///
/// Server-sent events end lines at CR and LF only, but Python's `str.splitlines`, and with it httpx's `aiter_lines`, splits
/// at more characters. JSON escapes those below U+0020 anyway; [`LINE_BREAKS`] are the others.
struct OneLine;

const LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

impl Formatter for OneLine {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| LINE_BREAKS.contains(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(found))?;
            rest = &rest[at + found.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// A body of server-sent events: one answer to a request, or several.
pub(crate) struct Events {
    state: Arc<State>,
    answers: Vec<EventStream>,
    frames: Box<dyn Frames>,
    heartbeat: Pin<Box<Sleep>>,
    /// The answer that is looked at first: each has its turn.
    turn: usize,
    over: bool,
}

impl Events {
    pub(crate) fn new(state: Arc<State>, answers: Vec<EventStream>, frames: Box<dyn Frames>) -> Self {
        let heartbeat = Box::pin(sleep(state.options.limits.heartbeat));
        Self { state, answers, frames, heartbeat, turn: 0, over: false }
    }

    /// Writes what there is to say, up to the size of a write.
    fn gather(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let count = self.answers.len();
        for i in (self.turn..count).chain(0..self.turn) {
            let answer = &mut self.answers[i];
            while out.len() < WRITE_BYTES && !answer.is_over() {
                match answer.poll_said(context) {
                    Poll::Pending => break,
                    Poll::Ready(Said::Failed(problem)) => {
                        problem.frame(answer.about().root.origin.ids.shape, out);
                        self.answers.iter_mut().for_each(EventStream::give_up);
                        self.over = true;
                        return;
                    }
                    Poll::Ready(said) => self.frames.say(answer.about(), said, out),
                }
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        if self.answers.iter().all(EventStream::is_over) {
            self.frames.finish(out);
            self.over = true;
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut out = Vec::new();
        self.gather(context, &mut out);
        if out.is_empty() {
            ready!(self.heartbeat.as_mut().poll(context));
            out.extend_from_slice(COMMENT);
        }
        let next = self.state.options.limits.heartbeat;
        self.heartbeat.set(sleep(next));
        Poll::Ready(Some(Ok(out.into())))
    }
}

/// A stream on its way: a request that waits for weights, a place, or its first token.
pub(crate) type Beginning = Pin<Box<dyn Future<Output = Result<Events, Problem>> + Send>>;

/// Waits for the first event, so that what fails before it has a real status; but no longer than a stream may
/// be silent.
pub(crate) async fn respond(
    state: &Arc<State>,
    origin: Origin,
    mut beginning: Beginning,
) -> Result<Response, Problem> {
    let silence = state.options.limits.heartbeat;
    let body = match timeout(silence, &mut beginning).await {
        Ok(begun) => Body::from_stream(begun?),
        Err(_) => Body::from_stream(late(Arc::clone(state), origin, beginning)),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, body).into_response();
    response.extensions_mut().insert(Streams);
    Ok(response)
}

/// A body whose status is decided already while its stream still begins.
enum Late {
    Beginning(Beginning),
    Streaming(Box<Events>),
    Over,
}

/// The body of a stream that has not begun when its caller must hear something: comments, then its events, or the
/// reason why there are none.
fn late(
    state: Arc<State>,
    origin: Origin,
    beginning: Beginning,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let comment = || Ok(Bytes::from_static(COMMENT));
    let silence = state.options.limits.heartbeat;
    let rest = stream::unfold(Late::Beginning(beginning), move |late| {
        let (state, origin) = (Arc::clone(&state), origin.clone());
        async move {
            match late {
                Late::Beginning(mut beginning) => match timeout(silence, &mut beginning).await {
                    Err(_) => Some((comment(), Late::Beginning(beginning))),
                    Ok(Ok(mut events)) => Some((events.next().await?, Late::Streaming(Box::new(events)))),
                    Ok(Err(problem)) => Some((Ok(refusal(&state, &origin, &problem)), Late::Over)),
                },
                Late::Streaming(mut events) => Some((events.next().await?, Late::Streaming(events))),
                Late::Over => None,
            }
        }
    });
    stream::once(std::future::ready(comment())).chain(rest)
}

/// An error in place of a stream.
fn refusal(state: &State, origin: &Origin, problem: &Problem) -> Bytes {
    let Origin { operation, ids, begun, .. } = origin;
    state.metrics.refused(problem.code);
    tracing::warn!(
        trace_id = ids.trace,
        request_id = ids.request,
        duration_ms = begun.elapsed().as_secs_f64() * 1000.0,
        error = problem.code.as_str(),
        "request refused after its answer had begun"
    );
    if let Some(spans) = state.options.spans.as_ref().filter(|_| ids.context.sampled) {
        let mut span = ids.context.root(operation.span(), (*begun, clock::now()));
        span.error = Some(problem.code.as_str().to_owned());
        spans.collect(span);
    }
    let mut out = Vec::new();
    problem.frame(ids.shape, &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::problem::{Code, Shape};

    /// Characters at which Python's `str.splitlines` ends a line.
    const PYTHON_BREAKS: &str = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";

    /// The JSON of an event, after checking that it is one line to every client.
    fn read(event: &[u8]) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        let line = text.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        assert!(!line.contains(|c| PYTHON_BREAKS.contains(c)), "{line:?}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_line_break_of_any_kind_is_escaped_and_reads_as_itself() {
        let texts = PYTHON_BREAKS.chars().flat_map(|c| {
            [
                format!("{c}"),
                format!("{c}{c}"),
                format!("a{c}"),
                format!("{c}b"),
                format!("समोसा{c}🥟\"\\{c}"),
            ]
        });
        for text in texts.chain([String::new(), "plain é\u{84}\u{86}\u{2027}\u{202a}".to_owned()]) {
            let mut out = Vec::new();
            data(&mut out, &json!({ "token": text, text.clone(): [text] }));
            assert_eq!(read(&out), json!({ "token": text, text.clone(): [text] }));
        }
        let mut out = Vec::new();
        data(&mut out, &"\u{85}\u{2028}\u{2029}");
        assert_eq!(out, b"data: \"\\u0085\\u2028\\u2029\"\n\n");
    }

    #[test]
    fn errors_of_both_shapes_are_one_line() {
        for shape in [Shape::Details, Shape::OpenAi] {
            let (mut out, detail) = (Vec::new(), format!("The name is {PYTHON_BREAKS}."));
            Problem::new(Code::InvalidValue, detail.clone()).frame(shape, &mut out);
            assert_eq!(read(&out)["error"]["message"], detail);
        }
    }
}
