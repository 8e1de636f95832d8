//! The events of one answer: from the engine's thread to whoever tells a caller of them.
//!
//! The channel has room for every event a request can cause, so the engine never waits for a reader and a
//! full channel cannot happen. A reader that is gone cancels its request; one that stops reading is ended. How
//! callers are told is for [`crate::sse`] and [`crate::openai`] to say.

mod progress;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use engine::{Abort, Failure, FinishReason, Logprobs, Sink, StreamEvent, Timings, Usage};
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};
use tokio::time::timeout_at;

use crate::clock;
use crate::context::RequestIds;
use crate::metrics::StreamClock;
use crate::problem::{Code, Problem};
use crate::root::Root;
use crate::state::State;
use crate::statistics::streams::OpenStream;

pub(crate) use progress::Progress;

/// Events beside tokens: admission, held-back text, the end.
const OTHER_EVENTS: usize = 4;

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
    /// Its place among the answers to one request.
    pub(crate) index: usize,
    pub(crate) worker: usize,
    pub(crate) model_tag: String,
    /// Identity of the weights.
    pub(crate) weights: String,
    pub(crate) seed: u64,
    pub(crate) dropped_messages: usize,
    pub(crate) prompt_tokens: usize,
    /// Tokens that the answer may have.
    pub(crate) max_tokens: usize,
    /// The request.
    pub(crate) root: Arc<Root>,
}

/// What is said of an answer. After [`Said::Finished`] or [`Said::Failed`] nothing follows.
pub(crate) enum Said {
    /// A token, and what it adds to the text.
    Token { token: u32, text: String, logprobs: Option<Box<Logprobs>> },
    /// Text that was held back until the end.
    Text(String),
    /// The answer is complete.
    Finished { reason: FinishReason, usage: Usage, timings: Timings },
    /// There will be no complete answer.
    Failed(Problem),
}

/// What the two ends tell each other beside events.
struct Shared {
    begun: Instant,
    /// Milliseconds after `begun` at which the reader last asked for more.
    read_ms: AtomicU64,
    too_slow: AtomicBool,
    progress: Arc<Progress>,
}

/// The engine's end.
pub(crate) struct EngineSink {
    events: Sender<StreamEvent>,
    shared: Arc<Shared>,
    state: Arc<State>,
    clock: StreamClock,
}

/// The reader's end.
pub(crate) struct EventStream {
    events: Receiver<StreamEvent>,
    shared: Arc<Shared>,
    state: Arc<State>,
    about: About,
    /// An event taken while the status was not yet decided.
    held: Option<StreamEvent>,
    open: Option<Open>,
    /// It ends then, whatever the engine and the reader do: as long as a request may take, and the patience with a
    /// reader who stops. One that is read in drops would last for ever otherwise, and so would one of an engine that
    /// hangs.
    until: Instant,
    end: Option<End>,
}

/// What a stream has once the engine took its request.
struct Open {
    abort: Abort,
    /// Its place in the table of open streams.
    listed: u64,
}

/// The two ends of a stream.
pub(crate) fn channel(state: Arc<State>, about: About) -> (EngineSink, EventStream) {
    let (sender, events) = bounded(about.max_tokens + OTHER_EVENTS);
    let begun = about.root.origin.begun;
    let clock = StreamClock::new(begun, about.prompt_tokens);
    let shared = Arc::new(Shared::new(begun));
    shared.note_read();
    let (for_sink, sink_state) = (Arc::clone(&shared), Arc::clone(&state));
    let sink = EngineSink { events: sender, shared: for_sink, state: sink_state, clock };
    let limits = &state.options.limits;
    let until = clock::now() + limits.engine.request_timeout + limits.unread_for;
    let (held, open, end) = (None, None, None);
    (sink, EventStream { events, shared, state, about, held, open, until, end })
}

impl Shared {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            read_ms: AtomicU64::new(0),
            too_slow: AtomicBool::new(false),
            progress: Arc::new(Progress::new(begun)),
        }
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
        self.shared.progress.heard(&event);
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
    /// The engine has taken the request: from now on the stream counts and is listed, and cancels it when it is dropped.
    pub(crate) fn began(mut self, abort: Abort) -> Self {
        self.state.metrics.stream_began();
        let stream = OpenStream::new(&self.about, Arc::clone(&self.shared.progress));
        self.open = Some(Open { abort, listed: self.state.streams.add(stream) });
        self
    }

    /// What is known of the answer.
    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// Whether all was said.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Nobody will hear the rest: another answer to the same request failed.
    pub(crate) fn give_up(&mut self) {
        self.end.get_or_insert(End::Aborted);
    }

    /// Waits for the first event that says something, and keeps it; or says why there is none.
    pub(crate) async fn first(&mut self) -> Result<(), Problem> {
        let first = loop {
            match timeout_at(self.until.into(), self.events.recv()).await {
                Ok(Some(StreamEvent::Admitted)) => {}
                Ok(event) => break event,
                // The engine would have said so, if it did anything at all.
                Err(_) => break Some(StreamEvent::Failed(Failure::Deadline)),
            }
        };
        Err(match first {
            Some(StreamEvent::Failed(failure)) => self.fail(failure),
            None => {
                self.end = Some(End::Error);
                Problem::new(Code::Internal, "The engine gave the request up.")
            }
            Some(event) => {
                self.held = Some(event);
                return Ok(());
            }
        })
    }

    /// What is said next; waits for it, but no longer than the answer may last.
    pub(crate) async fn next(&mut self) -> Said {
        let until = self.until.into();
        match timeout_at(until, poll_fn(|context| self.poll_said(context))).await {
            Ok(said) => said,
            Err(_) => self.overdue(),
        }
    }

    /// What is said next. Not to be asked once it is over.
    pub(crate) fn poll_said(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        self.shared.note_read();
        if clock::now() > self.until {
            return Poll::Ready(self.overdue());
        }
        loop {
            let event = match self.held.take() {
                Some(event) => Some(event),
                None => ready!(self.events.poll_recv(context)),
            };
            if let Some(said) = self.said(event) {
                return Poll::Ready(said);
            }
        }
    }

    /// The end of a stream that lasted too long.
    fn overdue(&mut self) -> Said {
        if self.held.is_some() || !self.events.is_empty() {
            self.shared.too_slow.store(true, Ordering::Release);
            self.broken()
        } else {
            Said::Failed(self.fail(Failure::Deadline))
        }
    }

    /// What an event says to a caller. After the last one `end` is set.
    fn said(&mut self, event: Option<StreamEvent>) -> Option<Said> {
        Some(match event {
            Some(StreamEvent::Admitted) => return None,
            Some(StreamEvent::Token { token, text, logprobs }) => Said::Token { token, text, logprobs },
            Some(StreamEvent::Text(text)) => Said::Text(text),
            Some(StreamEvent::Finished { reason, usage, timings }) => {
                self.end = Some(match reason {
                    FinishReason::Stop | FinishReason::StopText => End::Stop,
                    FinishReason::Length => End::Length,
                });
                Said::Finished { reason, usage, timings }
            }
            Some(StreamEvent::Failed(why)) => Said::Failed(self.fail(why)),
            None => self.broken(),
        })
    }

    /// It ends with a failure.
    fn fail(&mut self, failure: Failure) -> Problem {
        self.end = Some(end_of(failure));
        let (code, message) = told(failure);
        let problem = Problem::new(code, message);
        if code.retryable() { problem.retry_after(self.state.seconds_to_drain()) } else { problem }
    }

    /// The engine says nothing more, though the answer is not complete.
    fn broken(&mut self) -> Said {
        let (end, code, message) = if self.shared.too_slow.load(Ordering::Acquire) {
            (End::SlowClient, Code::SlowClient, "The stream was read too slowly and has been ended.")
        } else {
            (End::Error, Code::Internal, "The engine gave the answer up.")
        };
        self.end = Some(end);
        Said::Failed(Problem::new(code, message))
    }

    /// Hands the spans of the answer's stages to whoever collects them, and the rest to the request's.
    fn trace(&self, end: End) {
        let progress = &self.shared.progress;
        self.about.root.ended(&self.about, end, progress.usage(), progress.stages());
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // Without a request there was no stream, only its preparation.
        let Some(Open { abort, listed }) = &self.open else { return };
        abort.abort();
        self.state.streams.remove(*listed);
        let slow = self.shared.too_slow.load(Ordering::Acquire) || self.about.root.origin.missed.is_set();
        let end = self.end.unwrap_or(if slow { End::SlowClient } else { End::ClientGone });
        let took = self.shared.begun.elapsed();
        self.state.metrics.stream_ended(end, took);
        self.trace(end);
        let RequestIds { request, trace, .. } = &self.about.root.origin.ids;
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

/// What a caller is told about a failure.
fn told(failure: Failure) -> (Code, &'static str) {
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
