//! What callers ask for and what they get back.

/// Names a request within one engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Who may share computed prefixes with whom: those of one scope. A digest of what tells callers apart.
pub type Scope = [u8; 32];

/// How tokens are chosen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// 0 takes the likeliest token; otherwise logits are divided by this.
    pub temperature: f32,
    /// Only this many likeliest tokens are candidates; 0 keeps all.
    pub top_k: usize,
    /// With the position of a token, all the randomness there is.
    pub seed: u64,
}

/// A request that the engine may rely on.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
    pub(crate) scope: Scope,
}

/// Why [`Request::new`] refused. The server checks these before; they guard against its mistakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidRequest {
    /// No tokens at all.
    EmptyPrompt,
    /// No room for a single token of answer.
    NoRoom,
    /// A token id that the model does not know.
    UnknownToken,
}

impl Request {
    /// A prompt of known ids that leaves room for an answer; `max_tokens` is cut to what fits. Its scope is
    /// the one of those who have none.
    pub fn new(
        prompt: Vec<u32>,
        max_tokens: usize,
        sampling: Sampling,
        (vocab_size, sequence_len): (usize, usize),
    ) -> Result<Self, InvalidRequest> {
        if prompt.is_empty() {
            return Err(InvalidRequest::EmptyPrompt);
        }
        if prompt.len() >= sequence_len || max_tokens == 0 {
            return Err(InvalidRequest::NoRoom);
        }
        if prompt.iter().any(|&id| id as usize >= vocab_size) {
            return Err(InvalidRequest::UnknownToken);
        }
        let max_tokens = max_tokens.min(sequence_len - prompt.len());
        Ok(Self { prompt, max_tokens, sampling, scope: Scope::default() })
    }

    /// The same request, sharing computed prefixes with requests of this scope only.
    #[must_use]
    pub fn in_scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Positions it may come to hold.
    pub fn total_tokens(&self) -> usize {
        self.prompt.len() + self.max_tokens
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt.len()
    }

    /// Most tokens the answer may have.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// How its tokens are chosen.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }
}

/// Something that happened to a request. After [`Event::Finished`] or [`Event::Failed`] nothing follows.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// It left the queue.
    Admitted,
    /// A token, and the whole characters it completed (none while a character waits for its rest).
    Token {
        /// The token's id.
        token: u32,
        /// Text to show.
        text: String,
    },
    /// Text that was held back at the end: what remained of an incomplete character.
    Text(String),
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// There will be no complete answer.
    Failed(Failure),
}

/// Why an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The weights gave a logit that is not a number.
    NotFinite,
    /// The engine broke and was rebuilt.
    Internal,
    /// The server stops.
    Aborted,
    /// It waited for admission for as long as any request may.
    QueueTimeout,
    /// It took as long as any request may.
    Deadline,
}

/// Tokens of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, how many were not computed again: others had been, in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens of the answer, the one that ended the turn not counted.
    pub completion_tokens: usize,
}
