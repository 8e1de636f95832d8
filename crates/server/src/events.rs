//! The events of one answer: from the engine's thread to whoever tells a caller of them.
//!
//! The channel has room for every event a request can cause, so the engine never waits for a reader and a
//! full channel cannot happen. A reader that is gone cancels its request; one that stops reading is ended. How
//! callers are told is for [`crate::respond`] and [`crate::openai`] to say.

pub(crate) mod progress;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use engine::{Abort, Failure, FinishReason, Output, Sink, Timeline};
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};
use tokio::time::timeout_at;

use crate::app::App;
use crate::clock;
use crate::metrics::stream::AnswerMetrics;
use crate::request_ids::RequestIds;
use crate::request_span::{EndedAnswer, RequestSpan};
use crate::statistics::streams::{OpenStream, StreamEnd};
use progress::StreamProgress;

/// Events beside tokens: admission, held-back text, the end.
const OTHER_EVENTS: usize = 4;

/// What is known of an answer before it begins.
pub(crate) struct AnswerMeta {
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
    pub(crate) span: Arc<RequestSpan>,
}

/// Why there is no complete answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamError {
    /// The engine said why; and seconds until its queue is likely to have drained.
    Failed { failure: Failure, seconds_to_drain: u64 },
    /// The client reads too slowly.
    SlowClient,
    /// The engine is gone, before its first event.
    RequestDropped,
    /// The engine is gone, in the middle of the answer.
    AnswerDropped,
}

/// What the two ends tell each other beside events.
struct StreamShared {
    begun: Instant,
    /// Milliseconds after `begun` at which the reader last asked for more.
    read_ms: AtomicU64,
    too_slow: AtomicBool,
    progress: Arc<StreamProgress>,
}

/// The engine's end.
pub(crate) struct EngineSink {
    outputs: Sender<Output>,
    shared: Arc<StreamShared>,
    app: App,
    metrics: AnswerMetrics,
}

/// The reader's end.
pub(crate) struct EventStream {
    outputs: Receiver<Output>,
    shared: Arc<StreamShared>,
    app: App,
    meta: AnswerMeta,
    /// An output taken while the status was not yet decided.
    held: Option<Output>,
    open: Option<Open>,
    /// It ends then, whatever the engine and the reader do: as long as a request may take, and the patience with a
    /// reader who stops. One that is read in drops would last for ever otherwise, and so would one of an engine that
    /// hangs.
    until: Instant,
    end: Option<StreamEnd>,
}

/// What a stream has once the engine took its request.
struct Open {
    abort: Abort,
    /// Its place in the table of open streams.
    listed: u64,
}

/// The two ends of a stream.
pub(crate) fn channel(app: &App, meta: AnswerMeta) -> (EngineSink, EventStream) {
    let (sender, outputs) = bounded(meta.max_tokens + OTHER_EVENTS);
    let begun = meta.span.context.begun;
    let metrics = AnswerMetrics::new(begun, meta.prompt_tokens);
    let shared = Arc::new(StreamShared::new(begun));
    shared.note_read();
    let sink = EngineSink { outputs: sender, shared: Arc::clone(&shared), app: app.clone(), metrics };
    let options = &app.options;
    let until = clock::now() + options.models.engine.request_timeout + options.limits.unread_for;
    let (held, open, end) = (None, None, None);
    (sink, EventStream { outputs, shared, app: app.clone(), meta, held, open, until, end })
}

impl StreamShared {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            read_ms: AtomicU64::new(0),
            too_slow: AtomicBool::new(false),
            progress: Arc::new(StreamProgress::new(begun)),
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
        let limits = &self.app.options.limits;
        let unread = self.outputs.max_capacity() - self.outputs.capacity();
        unread > limits.unread_events && self.shared.unread_for() > limits.unread_for
    }
}

impl Sink for EngineSink {
    fn send(&mut self, output: Output, timeline: &Timeline) -> bool {
        self.metrics.observe(&output, timeline, &self.app.telemetry.metrics);
        self.shared.progress.note(&output, timeline);
        if self.reader_is_too_slow() {
            self.shared.too_slow.store(true, Ordering::Release);
            return false;
        }
        self.outputs.try_send(output).is_ok()
    }
}

impl EventStream {
    /// The engine has taken the request: from now on the stream counts and is listed, and cancels it when it is dropped.
    pub(crate) fn began(mut self, abort: Abort) -> Self {
        self.app.telemetry.metrics.stream_began();
        let (meta, context) = (&self.meta, &self.meta.span.context);
        let stream = OpenStream {
            request_id: context.ids.request.clone(),
            index: meta.index,
            operation: context.operation.path,
            model_tag: meta.model_tag.clone(),
            worker: meta.worker,
            prompt_tokens: meta.prompt_tokens,
            max_tokens: meta.max_tokens,
            progress: Arc::clone(&self.shared.progress),
        };
        self.open = Some(Open { abort, listed: self.app.telemetry.streams.add(stream) });
        self
    }

    /// What is known of the answer.
    pub(crate) fn meta(&self) -> &AnswerMeta {
        &self.meta
    }

    /// When it passed its stages in the engine.
    pub(crate) fn timeline(&self) -> Timeline {
        self.shared.progress.timeline()
    }

    /// Whether all was said.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Nobody will hear the rest: another answer to the same request failed.
    pub(crate) fn give_up(&mut self) {
        self.end.get_or_insert(StreamEnd::Aborted);
    }

    /// Waits for the first output after admission, and keeps it; or says why there is none.
    async fn first(&mut self) -> Result<(), StreamError> {
        let first = loop {
            match timeout_at(self.until.into(), self.outputs.recv()).await {
                Ok(Some(Output::Admitted)) => {}
                Ok(output) => break output,
                // The engine would have said so, if it did anything at all.
                Err(_) => break Some(Output::Failed(Failure::Deadline)),
            }
        };
        Err(match first {
            Some(Output::Failed(failure)) => self.fail(failure),
            None => {
                self.end = Some(StreamEnd::Error);
                StreamError::RequestDropped
            }
            Some(output) => {
                self.held = Some(output);
                return Ok(());
            }
        })
    }

    /// The next output; waits for it, but no longer than the answer may last.
    pub(crate) async fn next(&mut self) -> Result<Output, StreamError> {
        let until = self.until.into();
        match timeout_at(until, poll_fn(|context| self.poll_next(context))).await {
            Ok(output) => output,
            Err(_) => Err(self.overdue()),
        }
    }

    /// The next output. Not to be asked once it is over.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Output, StreamError>> {
        self.shared.note_read();
        if clock::now() > self.until {
            return Poll::Ready(Err(self.overdue()));
        }
        loop {
            let output = match self.held.take() {
                Some(output) => Some(output),
                None => ready!(self.outputs.poll_recv(context)),
            };
            if output != Some(Output::Admitted) {
                return Poll::Ready(self.received(output));
            }
        }
    }

    /// The error of a stream that lasted too long.
    fn overdue(&mut self) -> StreamError {
        if self.held.is_some() || !self.outputs.is_empty() {
            self.shared.too_slow.store(true, Ordering::Release);
            self.broken()
        } else {
            self.fail(Failure::Deadline)
        }
    }

    /// Sets `end` with the last output.
    fn received(&mut self, output: Option<Output>) -> Result<Output, StreamError> {
        match output {
            Some(Output::Failed(failure)) => return Err(self.fail(failure)),
            Some(Output::Finished { reason: FinishReason::Length, .. }) => self.end = Some(StreamEnd::Length),
            Some(Output::Finished { .. }) => self.end = Some(StreamEnd::Stop),
            Some(Output::Admitted | Output::Tokens(_) | Output::Text(_)) | None => {}
        }
        output.ok_or_else(|| self.broken())
    }

    /// It ends with a failure.
    fn fail(&mut self, failure: Failure) -> StreamError {
        self.end = Some(end_of(failure));
        StreamError::Failed { failure, seconds_to_drain: self.app.models.seconds_to_drain() }
    }

    /// The engine says nothing more, though the answer is not complete.
    fn broken(&mut self) -> StreamError {
        let (end, error) = if self.shared.too_slow.load(Ordering::Acquire) {
            (StreamEnd::SlowClient, StreamError::SlowClient)
        } else {
            (StreamEnd::Error, StreamError::AnswerDropped)
        };
        self.end = Some(end);
        error
    }

    /// Collects the spans of the answer's stages, and counts the rest in the request's.
    fn trace(&self, end: StreamEnd) {
        let (meta, progress) = (&self.meta, &self.shared.progress);
        let answer = EndedAnswer {
            index: meta.index,
            end,
            worker: meta.worker,
            model_tag: meta.model_tag.clone(),
            prompt_tokens: meta.prompt_tokens,
            usage: progress.usage(),
        };
        meta.span.ended(answer, progress.stages());
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // Without a request there was no stream, only its preparation.
        let Some(Open { abort, listed }) = &self.open else { return };
        abort.abort();
        self.app.telemetry.streams.remove(*listed);
        let slow =
            self.shared.too_slow.load(Ordering::Acquire) || self.meta.span.context.write_timeout.is_set();
        let end = self.end.unwrap_or(if slow { StreamEnd::SlowClient } else { StreamEnd::ClientGone });
        let took = self.shared.begun.elapsed();
        self.app.telemetry.metrics.stream_ended(end, took);
        self.trace(end);
        let RequestIds { request, trace, .. } = &self.meta.span.context.ids;
        tracing::info!(
            trace_id = trace,
            request_id = request,
            inference_time_ms = took.as_secs_f64() * 1000.0,
            model_tag = self.meta.model_tag,
            prompt_tokens = self.meta.prompt_tokens,
            outcome = end.as_str(),
            "stream ended"
        );
    }
}

/// Waits until the first of the answers has begun: what fails before has a status of its own.
pub(crate) async fn first(mut answers: Vec<EventStream>) -> Result<Vec<EventStream>, StreamError> {
    let begun = answers[0].first().await;
    if begun.is_err() {
        give_up(&mut answers);
    }
    begun.map(|()| answers)
}

/// Ends all answers, since their request is answered with an error.
pub(crate) fn give_up(answers: &mut [EventStream]) {
    for answer in answers {
        answer.give_up();
        answer.meta.span.refuse();
    }
}

fn end_of(failure: Failure) -> StreamEnd {
    match failure {
        Failure::Aborted => StreamEnd::Aborted,
        Failure::QueueTimeout => StreamEnd::QueueTimeout,
        Failure::Deadline => StreamEnd::Deadline,
        Failure::NotFinite | Failure::Internal | Failure::Constraint => StreamEnd::Error,
    }
}
