//! How far an answer has come: the engine's thread writes it, statistics and spans read it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use engine::{Output, Timeline, Usage};

use crate::clock;
use crate::trace::Stages;

/// What an answer has so far.
pub(crate) struct StreamProgress {
    /// When its request had been read.
    begun: Instant,
    /// Held for a copy only.
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    timeline: Timeline,
    tokens: u64,
    /// Of a complete answer.
    usage: Usage,
}

impl StreamProgress {
    pub(super) fn new(begun: Instant) -> Self {
        let state = State { timeline: Timeline::new(begun), tokens: 0, usage: Usage::default() };
        Self { begun, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an output of the engine.
    pub(super) fn note(&self, output: &Output, timeline: &Timeline) {
        let mut state = self.state();
        state.timeline = *timeline;
        match output {
            Output::Tokens(tokens) => state.tokens += tokens.len() as u64,
            Output::Finished { usage, .. } => state.usage = *usage,
            Output::Admitted | Output::Text(_) | Output::Failed(_) => {}
        }
    }

    /// Tokens so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.state().tokens
    }

    /// What a complete answer took; nothing until it is complete.
    pub(super) fn usage(&self) -> Usage {
        self.state().usage
    }

    /// When the request passed its stages in the engine.
    pub(crate) fn timeline(&self) -> Timeline {
        self.state().timeline
    }

    /// When the request passed its stages here and in the engine, up to now or to its end.
    pub(crate) fn stages(&self) -> Stages {
        let Timeline { admitted, first_token, finished, .. } = self.timeline();
        Stages { begun: self.begun, admitted, first_token, ended: finished.unwrap_or_else(clock::now) }
    }
}
