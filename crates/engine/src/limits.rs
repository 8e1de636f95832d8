//! Every bound of the engine, in one place.

use std::time::Duration;

/// Bounds of one engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sequences that run at once: rows of a decode step.
    pub max_running: usize,
    /// Requests that may wait for admission.
    pub max_queued: usize,
    /// Tokens (prompt and answer together) that waiting requests may stand for.
    pub max_queued_tokens: usize,
    /// How long a request may wait for admission. One that would wait longer is refused at once.
    pub queue_timeout: Duration,
    /// How long a request may take in all, from the queue to its last token.
    pub request_timeout: Duration,
    /// Rows of one step: what a long prompt may add to everyone's next token.
    pub step_tokens: usize,
    /// Tokens of one answer.
    pub max_tokens: usize,
    /// Whether keys and values of prefixes are kept for requests that begin alike.
    pub prefix_cache: bool,
    /// Tokens that are guessed after the last one of a sequence, at most; 0 guesses none.
    pub speculation_tokens: usize,
    /// Rows of a step that decodes up to which guesses are added.
    pub speculative_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_running: 64,
            max_queued: 256,
            max_queued_tokens: 1 << 19,
            queue_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(10),
            step_tokens: 128,
            max_tokens: 4096,
            prefix_cache: true,
            speculation_tokens: 7,
            speculative_rows: 8,
        }
    }
}

impl Limits {
    /// The same limits, with a step at least large enough that prompts advance beside a full batch.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.max_running = self.max_running.max(1);
        self.step_tokens = self.step_tokens.max(self.max_running + 1);
        self
    }
}
