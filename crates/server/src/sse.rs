//! Server-sent events of one answer: from the engine's thread to the socket.
//!
//! The channel has room for every event a request can cause, so the engine never waits for a reader and a
//! full channel cannot happen. A reader that is gone cancels its request; one that stops reading is ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use engine::{Abort, Failure, FinishReason, Sink, StreamEvent};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};
use tokio::time::{Sleep, sleep, timeout, timeout_at};

use crate::clock;
use crate::context::RequestIds;
use crate::deadline::Missed;
use crate::metrics::StreamClock;
use crate::problem::{Code, Problem};
use crate::state::State;
use crate::trace::Stages;

/// Events beside tokens: admission, held-back text, the end.
const OTHER_EVENTS: usize = 4;
/// The name of the span of an answer.
const ROUTE: &str = "POST /generate";
/// Bytes put together for one write.
const WRITE_BYTES: usize = 16 << 10;

/// What a stream says while there is nothing to say.
const COMMENT: &[u8] = b": waiting\n\n";

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Stop,
    Length,
    ClientGone,
    SlowClient,
    QueueTimeout,
    Deadline,
    Aborted,
    Error,
}

impl End {
    pub(crate) const ALL: [Self; 8] = [
        Self::Stop,
        Self::Length,
        Self::ClientGone,
        Self::SlowClient,
        Self::QueueTimeout,
        Self::Deadline,
        Self::Aborted,
        Self::Error,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ClientGone => "client_gone",
            Self::SlowClient => "slow_client",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::Aborted => "aborted",
            Self::Error => "error",
        }
    }
}

/// What is known of an answer before it begins.
pub(crate) struct About {
    pub(crate) worker: usize,
    pub(crate) model_tag: String,
    /// Identity of the weights.
    pub(crate) weights: String,
    pub(crate) seed: u64,
    pub(crate) dropped_messages: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) ids: RequestIds,
    pub(crate) begun: Instant,
    pub(crate) missed: Missed,
}

/// What the two ends tell each other beside events.
struct Shared {
    begun: Instant,
    /// Milliseconds after `begun` at which the reader last asked for more.
    read_ms: AtomicU64,
    too_slow: AtomicBool,
    admitted: OnceLock<Instant>,
    first_token: OnceLock<Instant>,
    finished: OnceLock<Finish>,
}

/// The end of a whole answer.
struct Finish {
    at: Instant,
    usage: engine::Usage,
    timings: engine::Timings,
}

/// The engine's end.
pub(crate) struct EngineSink {
    events: Sender<StreamEvent>,
    shared: Arc<Shared>,
    state: Arc<State>,
    clock: StreamClock,
}

/// The reader's end: a body.
pub(crate) struct EventStream {
    events: Receiver<StreamEvent>,
    shared: Arc<Shared>,
    state: Arc<State>,
    about: About,
    /// An event taken while the status was not yet decided.
    held: Option<StreamEvent>,
    abort: Option<Abort>,
    heartbeat: Pin<Box<Sleep>>,
    /// It ends then, whatever the engine and the reader do: as long as a request may take, and the patience with a
    /// reader who stops. One that is read in drops would last for ever otherwise, and so would one of an engine that
    /// hangs.
    until: Instant,
    end: Option<End>,
    /// It ended before it said anything: its caller got an answer that says why.
    refused: bool,
}

/// The two ends of a stream of up to `max_tokens` tokens.
pub(crate) fn channel(state: Arc<State>, about: About, max_tokens: usize) -> (EngineSink, EventStream) {
    let (sender, events) = bounded(max_tokens + OTHER_EVENTS);
    let (begun, clock) = (about.begun, StreamClock::new(about.begun, about.prompt_tokens));
    let shared = Arc::new(Shared::new(begun));
    shared.note_read();
    let (for_sink, sink_state) = (Arc::clone(&shared), Arc::clone(&state));
    let sink = EngineSink { events: sender, shared: for_sink, state: sink_state, clock };
    let limits = &state.options.limits;
    let until = clock::now() + limits.engine.request_timeout + limits.unread_for;
    let heartbeat = Box::pin(sleep(limits.heartbeat));
    let (held, abort, end) = (None, None, None);
    let stream =
        EventStream { events, shared, state, about, held, abort, heartbeat, until, end, refused: false };
    (sink, stream)
}

impl Shared {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            read_ms: AtomicU64::new(0),
            too_slow: AtomicBool::new(false),
            admitted: OnceLock::new(),
            first_token: OnceLock::new(),
            finished: OnceLock::new(),
        }
    }

    /// When the request passed its stages. What the engine said at the end is exact.
    fn stages(&self) -> Stages {
        let begun = self.begun;
        let Some(Finish { at, timings, .. }) = self.finished.get() else {
            let (admitted, first_token) = (self.admitted.get().copied(), self.first_token.get().copied());
            return Stages { begun, admitted, first_token, ended: clock::now() };
        };
        let first_token = at.checked_sub(timings.decode);
        let admitted = first_token.and_then(|at| at.checked_sub(timings.prefill));
        Stages { begun, admitted, first_token, ended: *at }
    }

    fn note_read(&self) {
        self.read_ms.store(self.begun.elapsed().as_millis() as u64, Ordering::Release);
    }

    fn unread_for(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.read_ms.load(Ordering::Acquire)))
    }
}

impl EngineSink {
    fn reader_is_too_slow(&self) -> bool {
        let limits = &self.state.options.limits;
        let unread = self.events.max_capacity() - self.events.capacity();
        unread > limits.unread_events && self.shared.unread_for() > limits.unread_for
    }
}

impl Sink for EngineSink {
    fn send(&mut self, event: StreamEvent) -> bool {
        self.clock.heard(&event, &self.state.metrics);
        match &event {
            StreamEvent::Admitted => drop(self.shared.admitted.set(clock::now())),
            StreamEvent::Token { .. } => {
                self.shared.first_token.get_or_init(clock::now);
            }
            StreamEvent::Finished { usage, timings, .. } => {
                let (at, usage, timings) = (clock::now(), *usage, *timings);
                self.shared.finished.get_or_init(|| Finish { at, usage, timings });
            }
            StreamEvent::Text(_) | StreamEvent::Failed(_) => {}
        }
        if self.reader_is_too_slow() {
            self.shared.too_slow.store(true, Ordering::Release);
            return false;
        }
        self.events.try_send(event).is_ok()
    }

    fn waited(&mut self, queue: Duration) {
        self.clock.waited(queue, &self.state.metrics);
    }

    fn tokens_come(&mut self, tokens: usize) {
        self.clock.tokens_come(tokens);
    }
}

impl EventStream {
    /// The engine has taken the request: from now on the stream counts, and cancels it when it is dropped.
    pub(crate) fn began(mut self, abort: Abort) -> Self {
        self.state.metrics.stream_began();
        self.abort = Some(abort);
        self
    }

    /// Waits for the first event that says something, and keeps it for the body.
    pub(crate) async fn first(&mut self) -> Option<StreamEvent> {
        let first = loop {
            match timeout_at(self.until.into(), self.events.recv()).await {
                Ok(Some(StreamEvent::Admitted)) => {}
                Ok(event) => break event,
                // The engine would have said so, if it did anything at all.
                Err(_) => break Some(StreamEvent::Failed(Failure::Deadline)),
            }
        };
        self.end = match &first {
            Some(StreamEvent::Failed(failure)) => Some(end_of(*failure)),
            None => Some(End::Error),
            Some(_) => None,
        };
        self.refused = self.end.is_some();
        if !self.refused {
            self.held.clone_from(&first);
        }
        first
    }

    /// The last frame of a stream that lasted too long.
    fn overdue(&mut self) -> Bytes {
        let mut out = Vec::new();
        if self.held.is_some() || !self.events.is_empty() {
            self.shared.too_slow.store(true, Ordering::Release);
            self.frame(None, &mut out);
        } else {
            self.frame(Some(StreamEvent::Failed(Failure::Deadline)), &mut out);
        }
        out.into()
    }

    /// Writes what an event says to a caller. After the last frame `end` is set.
    fn frame(&mut self, event: Option<StreamEvent>, out: &mut Vec<u8>) {
        match event {
            Some(StreamEvent::Token { text, .. } | StreamEvent::Text(text)) => {
                if !text.is_empty() {
                    data(out, &TokenFrame { token: &text, gpu: self.about.worker });
                }
            }
            Some(StreamEvent::Finished { reason, usage, timings }) => {
                self.end = Some(match reason {
                    FinishReason::Stop | FinishReason::StopText => End::Stop,
                    FinishReason::Length => End::Length,
                });
                data(out, &DoneFrame::new(&self.about, reason, usage, timings));
            }
            Some(StreamEvent::Failed(why)) => {
                let (code, message) = failure(why);
                self.end = Some(end_of(why));
                data(out, &ErrorFrame::new(code, message));
            }
            None if self.shared.too_slow.load(Ordering::Acquire) => {
                self.end = Some(End::SlowClient);
                data(
                    out,
                    &ErrorFrame::new(Code::SlowClient, "The stream was read too slowly and has been ended."),
                );
            }
            None => {
                self.end = Some(End::Error);
                data(out, &ErrorFrame::new(Code::Internal, "The engine gave the answer up."));
            }
            Some(StreamEvent::Admitted) => {}
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        self.shared.note_read();
        if clock::now() > self.until {
            return Poll::Ready(Some(Ok(self.overdue())));
        }
        let mut out = Vec::new();
        if let Some(event) = self.held.take() {
            self.frame(Some(event), &mut out);
        }
        while self.end.is_none() && out.len() < WRITE_BYTES {
            match self.events.poll_recv(context) {
                Poll::Ready(event) => self.frame(event, &mut out),
                Poll::Pending => break,
            }
        }
        if out.is_empty() {
            std::task::ready!(self.heartbeat.as_mut().poll(context));
            out.extend_from_slice(COMMENT);
        }
        let next = self.state.options.limits.heartbeat;
        self.heartbeat.set(sleep(next));
        Poll::Ready(Some(Ok(out.into())))
    }
}

impl EventStream {
    /// Hands the spans of the answer to whoever collects them.
    fn trace(&self, end: End) {
        let context = &self.about.ids.context;
        let Some(spans) = self.state.options.spans.as_ref().filter(|_| context.sampled) else { return };
        let stages = self.shared.stages();
        let usage = self.shared.finished.get().map(|finish| finish.usage).unwrap_or_default();
        let failed = matches!(end, End::Error | End::QueueTimeout | End::Deadline | End::Aborted);
        let mut root = context
            .root(ROUTE.to_owned(), (stages.begun, clock::now()))
            .text("http.request.method", "POST")
            .text("http.route", "/generate")
            .count("http.response.status_code", 200)
            .text("gen_ai.operation.name", "chat")
            .text("gen_ai.response.model", self.about.model_tag.as_str())
            .text("gen_ai.response.finish_reasons", end.as_str())
            .count("gen_ai.usage.input_tokens", self.about.prompt_tokens)
            .count("gen_ai.usage.output_tokens", usage.completion_tokens)
            .count("samosa.cached_tokens", usage.cached_tokens)
            .count("samosa.worker", self.about.worker)
            .text("samosa.request_id", self.about.ids.request.as_str());
        root.error = failed.then(|| end.as_str().to_owned());
        // Whoever said why there is no stream has a span for the request already.
        let root = (!self.refused).then_some(root);
        stages.spans(context).chain(root).for_each(|span| spans.collect(span));
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // Without a request there was no stream, only its preparation.
        let Some(abort) = &self.abort else { return };
        abort.abort();
        let slow = self.shared.too_slow.load(Ordering::Acquire) || self.about.missed.is_set();
        let end = self.end.unwrap_or(if slow { End::SlowClient } else { End::ClientGone });
        let took = self.shared.begun.elapsed();
        self.state.metrics.stream_ended(end, took);
        self.trace(end);
        let RequestIds { request, trace, .. } = &self.about.ids;
        tracing::info!(
            trace_id = trace,
            request_id = request,
            inference_time_ms = took.as_secs_f64() * 1000.0,
            model_tag = self.about.model_tag,
            prompt_tokens = self.about.prompt_tokens,
            outcome = end.as_str(),
            "stream ended"
        );
    }
}

/// A stream on its way: a request that waits for weights, a place, or its first token.
pub(crate) type Beginning = Pin<Box<dyn Future<Output = Result<EventStream, Problem>> + Send>>;

/// A body whose status is decided already while its stream still begins.
enum Late {
    Beginning(Beginning),
    Streaming(Box<EventStream>),
    Over,
}

/// The body of a stream that has not begun when its caller must hear something: comments, then its events, or the
/// reason why there are none.
pub(crate) fn late(
    state: Arc<State>,
    asked: (RequestIds, Instant),
    beginning: Beginning,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let comment = || Ok(Bytes::from_static(COMMENT));
    let silence = state.options.limits.heartbeat;
    let rest = stream::unfold(Late::Beginning(beginning), move |late| {
        let (state, asked) = (Arc::clone(&state), asked.clone());
        async move {
            match late {
                Late::Beginning(mut beginning) => match timeout(silence, &mut beginning).await {
                    Err(_) => Some((comment(), Late::Beginning(beginning))),
                    Ok(Ok(mut events)) => Some((events.next().await?, Late::Streaming(Box::new(events)))),
                    Ok(Err(problem)) => Some((Ok(refusal(&state, &asked, &problem)), Late::Over)),
                },
                Late::Streaming(mut events) => Some((events.next().await?, Late::Streaming(events))),
                Late::Over => None,
            }
        }
    });
    stream::once(std::future::ready(comment())).chain(rest)
}

/// An error in place of a stream.
fn refusal(state: &State, (ids, begun): &(RequestIds, Instant), problem: &Problem) -> Bytes {
    state.metrics.refused(problem.code);
    tracing::warn!(
        trace_id = ids.trace,
        request_id = ids.request,
        duration_ms = begun.elapsed().as_secs_f64() * 1000.0,
        error = problem.code.as_str(),
        "request refused after its answer had begun"
    );
    if let Some(spans) = state.options.spans.as_ref().filter(|_| ids.context.sampled) {
        let mut span = ids.context.root(ROUTE.to_owned(), (*begun, clock::now()));
        span.error = Some(problem.code.as_str().to_owned());
        spans.collect(span);
    }
    let mut out = Vec::new();
    data(&mut out, &ErrorFrame::new(problem.code, &problem.detail));
    out.into()
}

/// What a caller is told about a failure.
pub(crate) fn failure(failure: Failure) -> (Code, &'static str) {
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

fn end_of(failure: Failure) -> End {
    match failure {
        Failure::Aborted => End::Aborted,
        Failure::QueueTimeout => End::QueueTimeout,
        Failure::Deadline => End::Deadline,
        Failure::NotFinite | Failure::Internal | Failure::Constraint => End::Error,
    }
}

fn data(out: &mut Vec<u8>, frame: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    // Writing strings and numbers to a vector cannot fail.
    let _ = serde_json::to_writer(&mut *out, frame);
    out.extend_from_slice(b"\n\n");
}

#[derive(Serialize)]
struct TokenFrame<'a> {
    token: &'a str,
    gpu: usize,
}

#[derive(Serialize)]
struct DoneFrame<'a> {
    done: bool,
    finish_reason: &'static str,
    model_tag: &'a str,
    weights: &'a str,
    seed: u64,
    usage: UsageFields,
    timings_ms: TimingFields,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_messages: usize,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names callers read")]
struct UsageFields {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
}

#[derive(Serialize)]
struct TimingFields {
    queue: f64,
    prefill: f64,
    decode: f64,
}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'static str,
    message: &'a str,
    retryable: bool,
}

impl<'a> DoneFrame<'a> {
    fn new(about: &'a About, reason: FinishReason, usage: engine::Usage, timings: engine::Timings) -> Self {
        // Microseconds are as fine as anybody reads.
        let ms = |duration: Duration| duration.as_micros() as f64 / 1000.0;
        Self {
            done: true,
            finish_reason: match reason {
                FinishReason::Stop | FinishReason::StopText => "stop",
                FinishReason::Length => "length",
            },
            model_tag: &about.model_tag,
            weights: &about.weights,
            seed: about.seed,
            usage: UsageFields {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: usage.cached_tokens,
                completion_tokens: usage.completion_tokens,
            },
            timings_ms: TimingFields {
                queue: ms(timings.queue),
                prefill: ms(timings.prefill),
                decode: ms(timings.decode),
            },
            dropped_messages: about.dropped_messages,
        }
    }
}

impl<'a> ErrorFrame<'a> {
    fn new(code: Code, message: &'a str) -> Self {
        Self { error: ErrorFields { code: code.as_str(), message, retryable: code.retryable() } }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}
