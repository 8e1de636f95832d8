//! The engine's thread: the one place of this crate that knows time and threads.
//!
//! Requests come in through a bounded mailbox and their events go out to one [`Sink`] each. The thread
//! sleeps while there is nothing to do, and ends when its last [`Handle`] is gone and its last request done:
//! so weights live exactly as long as somebody uses them.

#![expect(
    clippy::disallowed_methods,
    reason = "the driver is where the engine meets the clock and its thread"
)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokenizer::Tokenizer;

use crate::backend::Backend;
use crate::backlog::{Backlog, Left, Refusal};
use crate::limits::Limits;
use crate::pace::Pace;
use crate::request::{Failure, Output, Request, RequestId};
use crate::step::{Counts, Engine, Stepped};

/// How often constraints are looked at that all running requests wait for.
const CONSTRAINT_POLL: Duration = Duration::from_micros(500);

/// Where a request's outputs go. Called on the engine's thread: it must not block.
pub trait Sink: Send {
    /// Takes an output; false if nothing receives it, which cancels the request.
    fn send(&mut self, output: Output, timeline: &Timeline) -> bool;
}

impl<F: FnMut(Output, &Timeline) -> bool + Send> Sink for F {
    fn send(&mut self, output: Output, timeline: &Timeline) -> bool {
        self(output, timeline)
    }
}

/// When a request passed its stages. The driver writes it, once for all who read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// It was given to the engine.
    pub arrived: Instant,
    /// The step began that admitted it.
    pub admitted: Option<Instant>,
    /// The step ended that brought its first token.
    pub first_token: Option<Instant>,
    /// The same of its last one so far.
    pub last_token: Option<Instant>,
    /// Its answer was complete.
    pub finished: Option<Instant>,
}

impl Timeline {
    /// The timeline of a request that arrives now.
    pub fn new(arrived: Instant) -> Self {
        Self { arrived, admitted: None, first_token: None, last_token: None, finished: None }
    }

    /// Writes down an output of a step that began and ended then.
    fn note(&mut self, output: &Output, begun: Instant, ended: Instant) {
        match output {
            Output::Admitted => self.admitted = Some(begun),
            Output::Tokens(_) => {
                self.first_token.get_or_insert(ended);
                self.last_token = Some(ended);
            }
            Output::Finished { .. } => self.finished = Some(ended),
            Output::Text(_) | Output::Failed(_) => {}
        }
    }

    /// How long it waited for admission.
    pub fn queue(&self) -> Duration {
        self.admitted.or(self.finished).map_or(Duration::ZERO, |admitted| admitted - self.arrived)
    }

    /// From admission to the first token, or to the end of an answer without any.
    pub fn prefill(&self) -> Duration {
        let to = self.first_token.or(self.finished);
        self.admitted.zip(to).map_or(Duration::ZERO, |(admitted, to)| to - admitted)
    }

    /// From the first token to the end.
    pub fn decode(&self) -> Duration {
        self.first_token.zip(self.finished).map_or(Duration::ZERO, |(first, finished)| finished - first)
    }
}

/// Cancels a request from elsewhere; the engine looks before every step.
#[derive(Clone, Debug, Default)]
pub struct Abort(Arc<AtomicBool>);

impl Abort {
    /// Cancels. Nothing more is sent to the request's sink.
    pub fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Submits requests to an engine and watches it. Dropping the last handle lets the engine finish and end.
pub struct Handle {
    mailbox: SyncSender<Submission>,
    shared: Arc<Shared>,
    limits: Limits,
}

struct Submission {
    request: Request,
    sink: Box<dyn Sink>,
    abort: Abort,
    at: Instant,
}

/// What the engine's thread tells the world.
struct Shared {
    started: Instant,
    next_id: AtomicU64,
    backlog: Backlog,
    running: AtomicUsize,
    pages_used: AtomicUsize,
    pages_total: AtomicUsize,
    scratch_bytes: AtomicUsize,
    pages_cached: AtomicUsize,
    prompt_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    counts: Mutex<(Counts, Pace)>,
    /// Milliseconds after `started` at which the last step ended, or work came to an idle engine.
    progress_ms: AtomicU64,
    /// The same of the last step that admitted a request or brought a token.
    token_ms: AtomicU64,
    abort_all: AtomicBool,
    healthy: AtomicBool,
    ended: AtomicBool,
}

/// What an engine is doing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Snapshot {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Tokens that waiting requests stand for.
    pub queued_tokens: usize,
    /// How long one more would wait, as far as that is known: requests had to wait lately.
    pub queue_wait: Option<Duration>,
    /// Key/value pages held.
    pub pages_used: usize,
    /// Key/value pages there are.
    pub pages_total: usize,
    /// Key/value pages that nobody holds and the prefix cache keeps.
    pub pages_cached: usize,
    /// Bytes of scratch.
    pub scratch_bytes: usize,
    /// Prompt tokens computed since the start.
    pub prompt_tokens: u64,
    /// Tokens generated since the start.
    pub generated_tokens: u64,
    /// What was spared since the start.
    pub counts: Counts,
    /// The steps since the start.
    pub pace: Pace,
    /// How long ago the last step ended, if there is work; zero otherwise.
    pub stuck_for: Duration,
    /// How long ago a step last admitted a request or brought a token, if there is work; zero otherwise.
    pub last_token_age: Duration,
    /// False while the engine is rebuilt after a panic.
    pub healthy: bool,
}

impl Handle {
    /// Starts a thread around the engine that `build` makes. `build` is called again after a panic.
    pub fn start<B: Backend + 'static>(
        name: &str,
        tokenizer: Arc<Tokenizer>,
        limits: Limits,
        build: impl Fn() -> B + Send + 'static,
    ) -> std::io::Result<Self> {
        let limits = limits.checked();
        let (mailbox, submissions) = sync_channel(limits.max_queued + limits.max_running);
        let shared = Arc::new(Shared::new());
        let driver_shared = Arc::clone(&shared);
        let (driver_limits, times) = (limits.clone(), limits.clone());
        let (ready, built) = sync_channel(1);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let make = move || Engine::new(build(), Arc::clone(&tokenizer), driver_limits.clone());
            let engine = make();
            driver_shared.look(&engine);
            // The starter may have given up; the thread then ends by itself, its mailbox closed.
            let _ = ready.send(());
            let _end = End(Arc::clone(&driver_shared));
            let streams = HashMap::new();
            Driver {
                engine: Some(engine),
                make,
                shared: driver_shared,
                limits: times,
                streams,
                left: Left::default(),
            }
            .run(&submissions);
        })?;
        built.recv().map_err(|_| std::io::Error::other("the engine could not be built"))?;
        Ok(Self { mailbox, shared, limits })
    }

    /// Queues a request, or says why not. The returned [`Abort`] cancels it.
    pub fn submit(&self, request: Request, sink: Box<dyn Sink>) -> Result<Abort, Refusal> {
        let tokens = request.total_tokens();
        self.shared.note_work();
        self.shared.backlog.reserve(tokens, self.shared.running.load(Ordering::Acquire), &self.limits)?;
        let abort = Abort::default();
        let submission = Submission { request, sink, abort: abort.clone(), at: Instant::now() };
        self.mailbox.try_send(submission).map_err(|error| {
            self.shared.backlog.release(tokens);
            match error {
                TrySendError::Full(_) => Refusal::QueueFull,
                TrySendError::Disconnected(_) => Refusal::Gone,
            }
        })?;
        Ok(abort)
    }

    /// Ends every request with [`Failure::Aborted`]: those that are queued, those that run, and from then on
    /// those that come.
    pub fn abort_all(&self) {
        self.shared.abort_all.store(true, Ordering::Release);
    }

    /// What the engine is doing now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Watches the engine without keeping it alive.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    /// Seconds until the queue is likely to have drained, as requests left it lately; from 1 to 600.
    pub fn seconds_to_drain(&self) -> u64 {
        (self.shared.backlog.time_to_drain().as_secs_f64().ceil() as u64).clamp(1, 600)
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Watches an engine without keeping it alive.
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// What the engine is doing now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    /// Whether its thread has ended and its memory was given back.
    pub fn ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    /// As [`Handle::abort_all`].
    pub fn abort_all(&self) {
        self.0.abort_all.store(true, Ordering::Release);
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            next_id: AtomicU64::new(0),
            backlog: Backlog::default(),
            running: AtomicUsize::new(0),
            pages_used: AtomicUsize::new(0),
            pages_total: AtomicUsize::new(0),
            pages_cached: AtomicUsize::new(0),
            scratch_bytes: AtomicUsize::new(0),
            prompt_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            counts: Mutex::default(),
            progress_ms: AtomicU64::new(0),
            token_ms: AtomicU64::new(0),
            abort_all: AtomicBool::new(false),
            healthy: AtomicBool::new(true),
            ended: AtomicBool::new(false),
        }
    }

    /// Work that comes to an idle engine starts the clock by which it may be called stuck.
    fn note_work(&self) {
        if self.backlog.requests() == 0 && self.running.load(Ordering::Acquire) == 0 {
            self.note_progress(&[]);
            self.token_ms.store(self.progress_ms.load(Ordering::Acquire), Ordering::Release);
        }
    }

    /// A step brought these outputs.
    fn note_progress(&self, outputs: &[(RequestId, Output)]) {
        let now_ms = self.started.elapsed().as_millis() as u64;
        self.progress_ms.store(now_ms, Ordering::Release);
        if outputs.iter().any(|(_, output)| matches!(output, Output::Admitted | Output::Tokens(_))) {
            self.token_ms.store(now_ms, Ordering::Release);
        }
    }

    fn look<B: Backend>(&self, engine: &Engine<B>) {
        let (used, total) = engine.page_usage();
        self.pages_used.store(used, Ordering::Release);
        self.pages_total.store(total, Ordering::Release);
        self.pages_cached.store(engine.cached_pages(), Ordering::Release);
        self.running.store(engine.counts().0, Ordering::Release);
        self.scratch_bytes.store(engine.scratch_bytes(), Ordering::Release);
    }

    fn snapshot(&self) -> Snapshot {
        let (running, queued) = (self.running.load(Ordering::Acquire), self.backlog.requests());
        let since = |ms: &AtomicU64| {
            let at = Duration::from_millis(ms.load(Ordering::Acquire));
            if running + queued > 0 { self.started.elapsed().saturating_sub(at) } else { Duration::ZERO }
        };
        let (counts, pace) = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            running,
            queued,
            queued_tokens: self.backlog.tokens(),
            queue_wait: self.backlog.wait(),
            pages_used: self.pages_used.load(Ordering::Acquire),
            pages_total: self.pages_total.load(Ordering::Acquire),
            pages_cached: self.pages_cached.load(Ordering::Acquire),
            scratch_bytes: self.scratch_bytes.load(Ordering::Acquire),
            prompt_tokens: self.prompt_tokens.load(Ordering::Acquire),
            generated_tokens: self.generated_tokens.load(Ordering::Acquire),
            counts,
            pace,
            stuck_for: since(&self.progress_ms),
            last_token_age: since(&self.token_ms),
            healthy: self.healthy.load(Ordering::Acquire),
        }
    }

    /// Counts what a step did.
    fn count(&self, stepped: &Stepped, took: Duration) {
        let tokens = stepped.outputs.iter().map(|(_, output)| match output {
            Output::Tokens(tokens) => tokens.len() as u64,
            _ => 0,
        });
        self.prompt_tokens.fetch_add(stepped.prompt_rows as u64, Ordering::AcqRel);
        self.generated_tokens.fetch_add(tokens.sum(), Ordering::AcqRel);
        let mut counted = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counted.0 += stepped.counts;
        counted.1.add(took, stepped.prompt_rows + stepped.decode_rows);
    }
}

/// A request's way out, and when it passed its stages.
struct Stream {
    sink: Box<dyn Sink>,
    abort: Abort,
    tokens: usize,
    timeline: Timeline,
}

struct Driver<B: Backend, F> {
    /// Absent only while it is rebuilt.
    engine: Option<Engine<B>>,
    make: F,
    shared: Arc<Shared>,
    limits: Limits,
    streams: HashMap<RequestId, Stream>,
    /// Requests that gave their places up since the last step was counted.
    left: Left,
}

/// Says that the thread has ended, however it ends, after its engine was freed.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.healthy.store(false, Ordering::Release);
        self.0.ended.store(true, Ordering::Release);
    }
}

impl<B: Backend, F: Fn() -> Engine<B>> Driver<B, F> {
    fn run(mut self, submissions: &Receiver<Submission>) {
        while let Some(engine) = &self.engine {
            if engine.is_idle() {
                self.shared.look(engine);
                self.shared.backlog.note_idle();
                match submissions.recv() {
                    Ok(submission) => self.accept(submission),
                    Err(_) => break,
                }
            }
            while let Ok(submission) = submissions.try_recv() {
                self.accept(submission);
            }
            self.cancel_aborted();
            self.end_overdue();
            match catch_unwind(AssertUnwindSafe(|| self.step())) {
                Ok(true) => {}
                Ok(false) => submissions.recv_timeout(CONSTRAINT_POLL).map_or((), |it| self.accept(it)),
                Err(_) => self.rebuild(),
            }
        }
        // Nothing is left here unless the engine could not be rebuilt.
        while let Ok(mut submission) = submissions.try_recv() {
            self.shared.backlog.release(submission.request.total_tokens());
            submission.sink.send(Output::Failed(Failure::Internal), &Timeline::new(submission.at));
        }
    }

    fn accept(&mut self, submission: Submission) {
        let id = RequestId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        let Submission { request, sink, abort, at } = submission;
        let tokens = request.total_tokens();
        self.streams.insert(id, Stream { sink, abort, tokens, timeline: Timeline::new(at) });
        if let Some(engine) = &mut self.engine {
            engine.submit(id, request);
        }
    }

    fn cancel_aborted(&mut self) {
        if self.shared.abort_all.load(Ordering::Acquire) {
            self.fail_all(Failure::Aborted);
        }
        let aborted: Vec<RequestId> =
            self.streams.iter().filter(|(_, stream)| stream.abort.is_set()).map(|(id, _)| *id).collect();
        for id in aborted {
            self.cancel(id);
        }
    }

    /// Ends what has waited or run for too long.
    fn end_overdue(&mut self) {
        let now = Instant::now();
        let overdue = |(id, stream): (&RequestId, &Stream)| Some((*id, stream.overdue(now, &self.limits)?));
        for (id, failure) in self.streams.iter().filter_map(overdue).collect::<Vec<_>>() {
            if let Some(engine) = &mut self.engine {
                engine.cancel(id);
                self.shared.look(engine);
            }
            if let Some(mut stream) = self.forget(id) {
                stream.sink.send(Output::Failed(failure), &stream.timeline);
            }
        }
    }

    /// Runs a step. Returns false if all that runs waits for its constraints.
    fn step(&mut self) -> bool {
        let Some(engine) = self.engine.as_mut().filter(|engine| !engine.is_idle()) else {
            return true;
        };
        let begun = Instant::now();
        let stepped = engine.step();
        if stepped.is_idle() {
            return false;
        }
        let (_, waiting) = engine.counts();
        // First, so that whoever sees a request run sees that it came.
        self.shared.note_progress(&stepped.outputs);
        // Before the events: whoever hears of an end may look whether its pages are free.
        self.shared.look(engine);
        self.shared.count(&stepped, begun.elapsed());
        let ended = Instant::now();
        for (id, output) in stepped.outputs {
            if !self.deliver(id, output, begun, ended) {
                self.cancel(id);
            }
        }
        if let Some(engine) = &self.engine {
            self.shared.look(engine);
        }
        let left = std::mem::take(&mut self.left);
        self.shared.backlog.note_step(waiting, begun.elapsed(), left);
        true
    }

    fn cancel(&mut self, id: RequestId) {
        self.forget(id);
        if let Some(engine) = &mut self.engine {
            engine.cancel(id);
        }
    }

    /// Hands an output of a step to its sink; false if the request shall be cancelled.
    fn deliver(&mut self, id: RequestId, output: Output, begun: Instant, ended: Instant) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return true };
        if stream.abort.is_set() {
            return false;
        }
        stream.timeline.note(&output, begun, ended);
        match output {
            Output::Finished { .. } | Output::Failed(_) => {
                if let Some(mut stream) = self.forget(id) {
                    stream.sink.send(output, &stream.timeline);
                }
                true
            }
            Output::Admitted => {
                self.shared.backlog.release(stream.tokens);
                stream.sink.send(output, &stream.timeline)
            }
            Output::Tokens(_) | Output::Text(_) => stream.sink.send(output, &stream.timeline),
        }
    }

    /// Drops a stream; if it was still queued, its place in the queue is free.
    fn forget(&mut self, id: RequestId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if stream.timeline.admitted.is_none() {
            self.shared.backlog.release(stream.tokens);
        } else {
            self.left.add(stream.tokens);
        }
        Some(stream)
    }

    fn fail_all(&mut self, failure: Failure) {
        // First, so that whoever hears of the end finds the pages free.
        if let Some(engine) = &mut self.engine {
            engine.drain();
            self.shared.look(engine);
        }
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            if let Some(mut stream) = self.forget(id) {
                stream.sink.send(Output::Failed(failure), &stream.timeline);
            }
        }
    }

    /// After a panic nothing of the engine is trusted: its requests fail and a new one takes its place. If
    /// that cannot be built either, the thread ends.
    fn rebuild(&mut self) {
        tracing::error!("the engine panicked; its requests fail and it is rebuilt");
        self.shared.healthy.store(false, Ordering::Release);
        // First, so that two never need memory at once.
        self.engine = None;
        for count in [&self.shared.running, &self.shared.pages_used, &self.shared.pages_cached] {
            count.store(0, Ordering::Release);
        }
        self.fail_all(Failure::Internal);
        let Ok(engine) = catch_unwind(AssertUnwindSafe(&self.make)) else {
            tracing::error!("the engine could not be rebuilt; swap a model in to go on");
            return;
        };
        self.shared.look(&engine);
        self.engine = Some(engine);
        self.shared.note_progress(&[]);
        self.shared.healthy.store(true, Ordering::Release);
    }
}

impl Stream {
    /// Why it has to end now, if it has.
    fn overdue(&self, now: Instant, limits: &Limits) -> Option<Failure> {
        let age = now.duration_since(self.timeline.arrived);
        let waits_too_long = self.timeline.admitted.is_none() && age > limits.queue_timeout;
        let deadline = (age > limits.request_timeout).then_some(Failure::Deadline);
        waits_too_long.then_some(Failure::QueueTimeout).or(deadline)
    }
}
