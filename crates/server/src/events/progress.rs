//! How far an answer has come. The engine's thread writes it, whoever asks reads it, and neither waits for the other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::{StreamEvent, Timings, Usage};

use crate::clock;
use crate::trace::Stages;

/// When an answer passed its stages, and what it has so far.
pub(crate) struct StreamProgress {
    begun: Instant,
    admitted: OnceLock<Instant>,
    first_token: OnceLock<Instant>,
    tokens: AtomicU64,
    finished: OnceLock<FinishedAt>,
}

/// The end of a whole answer.
struct FinishedAt {
    at: Instant,
    usage: Usage,
    timings: Timings,
}

impl StreamProgress {
    pub(super) fn new(begun: Instant) -> Self {
        Self {
            begun,
            admitted: OnceLock::new(),
            first_token: OnceLock::new(),
            tokens: AtomicU64::new(0),
            finished: OnceLock::new(),
        }
    }

    /// The engine said this.
    pub(super) fn heard(&self, event: &StreamEvent) {
        match event {
            StreamEvent::Admitted => drop(self.admitted.set(clock::now())),
            StreamEvent::Token { .. } => {
                self.first_token.get_or_init(clock::now);
                self.tokens.fetch_add(1, Ordering::Relaxed);
            }
            StreamEvent::Finished { usage, timings, .. } => {
                let (at, usage, timings) = (clock::now(), *usage, *timings);
                self.finished.get_or_init(|| FinishedAt { at, usage, timings });
            }
            StreamEvent::Text(_) | StreamEvent::Failed(_) => {}
        }
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// What a whole answer took; nothing until it is whole.
    pub(super) fn usage(&self) -> Usage {
        self.finished.get().map(|finish| finish.usage).unwrap_or_default()
    }

    /// When the request passed its stages. What the engine said at the end is exact.
    pub(crate) fn stages(&self) -> Stages {
        let begun = self.begun;
        let Some(FinishedAt { at, timings, .. }) = self.finished.get() else {
            let (admitted, first_token) = (self.admitted.get().copied(), self.first_token.get().copied());
            return Stages { begun, admitted, first_token, ended: clock::now() };
        };
        let first_token = at.checked_sub(timings.decode);
        let admitted = first_token.and_then(|at| at.checked_sub(timings.prefill));
        Stages { begun, admitted, first_token, ended: *at }
    }
}
