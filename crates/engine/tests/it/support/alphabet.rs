//! An engine in its thread over a backend that says the alphabet, and that waits for the test before every
//! step where the test wants it to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cpu::{Compute, Isa, sampler};
use engine::backend::{BatchItem, PageClass, SampleParams, Sampled, Shape};
use engine::driver::{Snapshot, Watch};
use engine::{
    Abort, Backend, FinishReason, GeneratedToken, Handle, Limits, Output, Refusal, Request, Sampling,
    Timeline, Usage,
};

use super::vocabulary;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for a thread to do what it should not, or to show in a measured time.
pub(crate) const WHILE: Duration = Duration::from_millis(60);
pub(crate) const VOCAB_SIZE: usize = 265;
pub(crate) const SEQUENCE_LEN: usize = 1024;
/// A prompt that ends with this gives logits that are no numbers.
pub(crate) const POISON: u32 = b'!' as u32;
pub(crate) const FULL: usize = 1 << 12;

/// What a test knows of the backend and does to it.
pub(crate) struct Control {
    /// Steps that began.
    pub(crate) steps: AtomicUsize,
    /// Backends that were built, and how many may be.
    pub(crate) built: AtomicUsize,
    pub(crate) may_be_built: usize,
    /// The step that panics.
    pub(crate) panic_at: usize,
    /// Steps wait for one of these; once the sender is gone they do not.
    pub(crate) permits: Mutex<Receiver<()>>,
}

/// Says the alphabet, by position.
pub(crate) struct Alphabet {
    shape: Shape,
    control: Arc<Control>,
    logits: Vec<f32>,
    /// Stands for the weights.
    _weights: Arc<()>,
}

impl Backend for Alphabet {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn forward(&mut self, batch: &[BatchItem<'_>]) {
        let step = self.control.steps.fetch_add(1, Ordering::SeqCst) + 1;
        // An error means that the test lets everything run.
        let _ = self.control.permits.lock().unwrap().recv();
        assert_ne!(step, self.control.panic_at, "as the test wants it");
        self.logits.clear();
        for sequence in batch {
            let start = self.logits.len();
            self.logits.resize(start + VOCAB_SIZE, 0.0);
            self.logits[start + letter(sequence.history.len() + sequence.tokens.len()) as usize] = 1.0;
            if sequence.tokens.last() == Some(&POISON) {
                self.logits[start + VOCAB_SIZE - 1] = f32::NAN;
            }
        }
    }

    fn sample(&mut self, rows: &[SampleParams<'_>]) -> Vec<Sampled> {
        sampler::sample(&Compute::new(Isa::SCALAR, 1), &self.logits, VOCAB_SIZE, rows)
    }
}

pub(crate) fn letter(position: usize) -> u32 {
    u32::from(b'a') + position as u32 % 26
}

/// An engine in its thread.
pub(crate) struct Fixture {
    pub(crate) handle: Handle,
    pub(crate) watch: Watch,
    pub(crate) control: Arc<Control>,
    pub(crate) permits: SyncSender<()>,
    pub(crate) weights: Arc<()>,
}

#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) max_running: usize,
    pub(crate) max_queued: usize,
    pub(crate) max_queued_tokens: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) panic_at: usize,
    pub(crate) may_be_built: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_running: 4,
            max_queued: 16,
            max_queued_tokens: 1 << 20,
            queue_timeout: Duration::from_mins(1),
            request_timeout: Duration::from_mins(1),
            panic_at: usize::MAX,
            may_be_built: 2,
        }
    }
}

impl Setup {
    pub(crate) fn start(self, name: &str) -> Fixture {
        let (permits, receiver) = sync_channel(FULL);
        let control = Arc::new(Control {
            steps: AtomicUsize::new(0),
            built: AtomicUsize::new(0),
            may_be_built: self.may_be_built,
            panic_at: self.panic_at,
            permits: Mutex::new(receiver),
        });
        let weights = Arc::new(());
        let limits = Limits {
            max_running: self.max_running,
            max_queued: self.max_queued,
            max_queued_tokens: self.max_queued_tokens,
            queue_timeout: self.queue_timeout,
            request_timeout: self.request_timeout,
            step_tokens: 256,
            max_tokens: SEQUENCE_LEN,
            // A token with every step, so that steps can be counted.
            speculation_tokens: 0,
            ..Limits::default()
        };
        let build = {
            let (control, weights) = (Arc::clone(&control), Arc::clone(&weights));
            move || {
                let built = control.built.fetch_add(1, Ordering::SeqCst);
                assert!(built < control.may_be_built, "as the test wants it");
                let classes = vec![PageClass { window: SEQUENCE_LEN, n_pages: 128 }];
                let shape = Shape { vocab_size: VOCAB_SIZE, sequence_len: SEQUENCE_LEN, classes };
                let (control, weights) = (Arc::clone(&control), Arc::clone(&weights));
                Alphabet { shape, control, logits: Vec::new(), _weights: weights }
            }
        };
        let handle = Handle::start(name, vocabulary::bytes(), limits, build).unwrap();
        Fixture { watch: handle.watch(), handle, control, permits, weights }
    }
}

impl Fixture {
    /// An engine whose steps wait for nobody.
    pub(crate) fn free(setup: Setup, name: &str) -> Self {
        let mut fixture = setup.start(name);
        fixture.let_run();
        fixture
    }

    pub(crate) fn let_run(&mut self) {
        self.permits = sync_channel(0).0;
    }

    pub(crate) fn allow(&self, steps: usize) {
        (0..steps).for_each(|_| self.permits.send(()).unwrap());
    }

    pub(crate) fn steps(&self) -> usize {
        self.control.steps.load(Ordering::SeqCst)
    }

    /// Waits until step `step` began (and, if it has no permit, waits).
    pub(crate) fn wait_for_step(&self, step: usize) {
        wait_until("a step", || self.steps() >= step);
    }

    pub(crate) fn ask(&self, request: Request) -> Asked {
        self.try_ask(request).unwrap()
    }

    pub(crate) fn try_ask(&self, request: Request) -> Result<Asked, Refusal> {
        self.ask_with(request, usize::MAX)
    }

    /// A request whose sink takes `events` events and says at the last of them that nobody listens.
    pub(crate) fn ask_with(&self, request: Request, events: usize) -> Result<Asked, Refusal> {
        let (sender, receiver) = sync_channel(FULL);
        let mut left = events;
        let sink = move |output, timeline: &Timeline| {
            left -= 1;
            sender.send((output, *timeline)).is_ok() && left > 0
        };
        Ok(Asked { abort: self.handle.submit(request, Box::new(sink))?, receiver })
    }

    /// Requests of which as many as possible are admitted with the second step.
    pub(crate) fn ask_together(&self, n: usize, request: &Request) -> Vec<Asked> {
        let first = self.ask(self::request(1, 1));
        self.wait_for_step(1);
        let asked = (0..n).map(|_| self.ask(request.clone())).collect();
        self.allow(1);
        first.assert_complete(1, 1);
        asked
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.watch.snapshot()
    }

    /// Nothing runs, nothing waits, nothing is held.
    pub(crate) fn assert_idle(&self) {
        wait_until("an idle engine", || {
            let Snapshot { running, queued, queued_tokens, pages_used, .. } = self.snapshot();
            (running, queued, queued_tokens, pages_used) == (0, 0, 0, 0)
        });
    }
}

pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("waited for {what} in vain");
}

/// A submitted request.
pub(crate) struct Asked {
    pub(crate) abort: Abort,
    pub(crate) receiver: Receiver<(Output, Timeline)>,
}

impl Asked {
    pub(crate) fn next(&self) -> Output {
        self.receiver.recv_timeout(PATIENCE).unwrap().0
    }

    /// All events until the engine lets go of the sink.
    pub(crate) fn rest(&self) -> Vec<Output> {
        self.rest_with_times().into_iter().map(|(output, _)| output).collect()
    }

    /// The same with the times that came with each.
    pub(crate) fn rest_with_times(&self) -> Vec<(Output, Timeline)> {
        let mut events = Vec::new();
        loop {
            match self.receiver.recv_timeout(PATIENCE) {
                Ok(event) => events.push(event),
                Err(RecvTimeoutError::Disconnected) => return events,
                Err(RecvTimeoutError::Timeout) => panic!("the sink is held for ever, after {events:?}"),
            }
        }
    }

    /// Asserts that the request is answered in full.
    pub(crate) fn assert_complete(&self, prompt_tokens: usize, max_tokens: usize) {
        let events = self.rest();
        let (last, before) = events.split_last().unwrap();
        assert_eq!(before, complete(prompt_tokens, max_tokens), "before {last:?}");
        let Output::Finished { reason, usage, .. } = last else { panic!("{last:?}") };
        // What is cached depends on who was there before.
        let expected = Usage { prompt_tokens, completion_tokens: max_tokens, ..*usage };
        assert_eq!((*reason, *usage), (FinishReason::Length, expected));
    }
}

/// The events of a complete answer but for the last.
pub(crate) fn complete(prompt_tokens: usize, max_tokens: usize) -> Vec<Output> {
    let token = |position| {
        let token = letter(position);
        let text = char::from(token as u8).to_string();
        Output::Tokens(vec![GeneratedToken { token, text, logprobs: None }])
    };
    let tokens = (prompt_tokens..prompt_tokens + max_tokens).map(token);
    std::iter::once(Output::Admitted).chain(tokens).collect()
}

pub(crate) fn request(prompt_tokens: usize, max_tokens: usize) -> Request {
    ending_with(u32::from(b'.'), prompt_tokens, max_tokens)
}

pub(crate) fn ending_with(last: u32, prompt_tokens: usize, max_tokens: usize) -> Request {
    let sampling = Sampling { temperature: 0.0, top_k: 0, seed: 0, ..Sampling::default() };
    let mut prompt = vec![u32::from(b'-'); prompt_tokens];
    prompt[prompt_tokens - 1] = last;
    Request::new(prompt, max_tokens, sampling, VOCAB_SIZE, SEQUENCE_LEN).unwrap()
}
