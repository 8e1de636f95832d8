//! Answers a request with a stream: waits for its first event, then writes events as they come. How each is written is
//! for its [`Frames`].

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::Output;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::{Sleep, sleep, timeout};

use crate::app::App;
use crate::clock;
use crate::events::EventStream;
use crate::problem::Problem;
use crate::request_ids::EndsLater;
use crate::request_span::RequestContext;
use crate::sse::COMMENT;

/// Bytes put together for one write.
const WRITE_BYTES: usize = 16 << 10;

/// Writes what is said of answers.
pub(crate) trait Frames: Send {
    /// Writes an output of an answer. Failures are not given here: they have one form for all.
    fn write(&mut self, answer: &EventStream, output: Output, out: &mut Vec<u8>);

    /// All answers are complete.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }
}

/// A body of server-sent events: one answer to a request, or several.
pub(crate) struct Events {
    app: App,
    answers: Vec<EventStream>,
    frames: Box<dyn Frames>,
    heartbeat: Pin<Box<Sleep>>,
    /// The answer that is looked at first: each has its turn.
    turn: usize,
    over: bool,
}

impl Events {
    pub(crate) fn new(app: App, answers: Vec<EventStream>, frames: Box<dyn Frames>) -> Self {
        let heartbeat = Box::pin(sleep(app.options.limits.heartbeat));
        Self { app, answers, frames, heartbeat, turn: 0, over: false }
    }

    /// Writes what there is to say, up to the size of a write.
    fn gather(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let count = self.answers.len();
        for i in (self.turn..count).chain(0..self.turn) {
            let answer = &mut self.answers[i];
            while out.len() < WRITE_BYTES && !answer.is_over() {
                match answer.poll_next(context) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) => {
                        Problem::from(error).frame(answer.meta().span.context.ids.shape, out);
                        self.answers.iter_mut().for_each(EventStream::give_up);
                        self.over = true;
                        return;
                    }
                    Poll::Ready(Ok(output)) => self.frames.write(answer, output, out),
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
        let next = self.app.options.limits.heartbeat;
        self.heartbeat.set(sleep(next));
        Poll::Ready(Some(Ok(out.into())))
    }
}

/// A stream on its way: a request that waits for weights, a place, or its first token.
pub(crate) type Beginning = Pin<Box<dyn Future<Output = Result<Events, Problem>> + Send>>;

/// Waits for the first event, so that what fails before it has a real status; but no longer than a stream may
/// be silent.
pub(crate) async fn respond(
    app: &App,
    request: RequestContext,
    mut beginning: Beginning,
) -> Result<Response, Problem> {
    let silence = app.options.limits.heartbeat;
    let body = match timeout(silence, &mut beginning).await {
        Ok(begun) => Body::from_stream(begun?),
        Err(_) => Body::from_stream(late(app.clone(), request, beginning)),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, body).into_response();
    response.extensions_mut().insert(EndsLater);
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
    app: App,
    request: RequestContext,
    beginning: Beginning,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let comment = || Ok(Bytes::from_static(COMMENT));
    let silence = app.options.limits.heartbeat;
    let rest = stream::unfold(Late::Beginning(beginning), move |late| {
        let (app, request) = (app.clone(), request.clone());
        async move {
            match late {
                Late::Beginning(mut beginning) => match timeout(silence, &mut beginning).await {
                    Err(_) => Some((comment(), Late::Beginning(beginning))),
                    Ok(Ok(mut events)) => Some((events.next().await?, Late::Streaming(Box::new(events)))),
                    Ok(Err(problem)) => Some((Ok(refusal(&app, &request, &problem)), Late::Over)),
                },
                Late::Streaming(mut events) => Some((events.next().await?, Late::Streaming(events))),
                Late::Over => None,
            }
        }
    });
    stream::once(std::future::ready(comment())).chain(rest)
}

/// An error in place of a stream.
fn refusal(app: &App, request: &RequestContext, problem: &Problem) -> Bytes {
    let RequestContext { operation, ids, begun, .. } = request;
    app.telemetry.metrics.refused(problem.code);
    tracing::warn!(
        trace_id = ids.trace,
        request_id = ids.request,
        duration_ms = begun.elapsed().as_secs_f64() * 1000.0,
        error = problem.code.as_str(),
        "request refused after its answer had begun"
    );
    if let Some(spans) = app.telemetry.spans.as_ref().filter(|_| ids.context.sampled) {
        let mut span = ids.context.root(operation.span(), *begun, clock::now());
        span.error = Some(problem.code.as_str().to_owned());
        spans.collect(span);
    }
    let mut out = Vec::new();
    problem.frame(ids.shape, &mut out);
    out.into()
}
