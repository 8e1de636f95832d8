//! What callers ask for and what they get back.

use std::sync::Arc;

use crate::guide::Guide;

/// Names a request within one engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Who may share computed prefixes with whom: those of one scope. A digest of what tells callers apart.
pub type Scope = [u8; 32];

/// How tokens are chosen. By default the likeliest one is drawn from all, at a temperature of 1.
///
/// Logits are biased, then penalised, then divided by the temperature; of the candidates that `top_k` leaves, `top_p`
/// and `min_p` keep the likely ones, by their share of what is left.
#[derive(Clone, PartialEq, Debug)]
pub struct Sampling {
    /// 0 takes the likeliest token; otherwise logits are divided by this.
    pub temperature: f32,
    /// Only this many likeliest tokens are candidates; 0 keeps all.
    pub top_k: usize,
    /// The fewest likeliest candidates that have this share of all probability together; 1 keeps all.
    pub top_p: f32,
    /// Candidates that are at least this likely, compared with the likeliest; 0 keeps all.
    pub min_p: f32,
    /// What tokens lose for having come before.
    pub penalties: Penalties,
    /// What is added to the logits of tokens.
    pub bias: Arc<[(u32, f32)]>,
    /// With the position of a token, all the randomness there is.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            penalties: Penalties::default(),
            bias: Arc::default(),
            seed: 0,
        }
    }
}

/// What tokens lose for having come before.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Penalties {
    /// Subtracted from a token's logit for each time that it is in the answer.
    pub frequency: f32,
    /// Subtracted once from a token's logit if it is in the answer.
    pub presence: f32,
    /// Divides a positive logit, and multiplies a negative one, of a token that is in the prompt or in the answer; 1
    /// changes nothing.
    pub repetition: f32,
}

impl Default for Penalties {
    fn default() -> Self {
        Self { frequency: 0.0, presence: 0.0, repetition: 1.0 }
    }
}

/// A request that the engine may rely on.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
    pub(crate) scope: Scope,
    pub(crate) stops: Vec<String>,
    pub(crate) logprobs: Option<usize>,
    pub(crate) stop_tokens: Arc<[u32]>,
    pub(crate) guide: Option<Box<dyn Guide>>,
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
        vocab_size: usize,
        sequence_len: usize,
    ) -> Result<Self, InvalidRequest> {
        if prompt.is_empty() {
            return Err(InvalidRequest::EmptyPrompt);
        }
        if prompt.len() >= sequence_len || max_tokens == 0 {
            return Err(InvalidRequest::NoRoom);
        }
        let biased = sampling.bias.iter().map(|(id, _)| id);
        if prompt.iter().chain(biased).any(|&id| id as usize >= vocab_size) {
            return Err(InvalidRequest::UnknownToken);
        }
        let max_tokens = max_tokens.min(sequence_len - prompt.len());
        Ok(Self {
            prompt,
            max_tokens,
            sampling,
            scope: Scope::default(),
            stops: Vec::new(),
            logprobs: None,
            stop_tokens: Arc::default(),
            guide: None,
        })
    }

    /// The same request, sharing computed prefixes with requests of this scope only.
    #[must_use]
    pub fn in_scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The same request, whose answer ends before the first of these texts. Empty ones are never found.
    #[must_use]
    pub fn stopping_at(self, stops: Vec<String>) -> Self {
        Self { stops, ..self }
    }

    /// The same request, whose tokens come with their log probabilities and those of so many likeliest tokens.
    #[must_use]
    pub fn with_logprobs(self, top: usize) -> Self {
        Self { logprobs: Some(top), ..self }
    }

    /// The same request, whose answer ends at any of these tokens, and does not contain it.
    #[must_use]
    pub fn ending_at(self, stop_tokens: Arc<[u32]>) -> Self {
        Self { stop_tokens, ..self }
    }

    /// The same request, whose answer is steered by a guide.
    #[must_use]
    pub fn guided(self, guide: Box<dyn Guide>) -> Self {
        Self { guide: Some(guide), ..self }
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
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }
}

/// What a step did for a request, in order; at most one of each. After [`Output::Finished`] or [`Output::Failed`] nothing
/// follows.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// It left the queue.
    Admitted,
    /// The tokens of the step.
    Tokens(Vec<GeneratedToken>),
    /// Text that was held back: what remained of an incomplete character, or might have become a stop text.
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

/// A token of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct GeneratedToken {
    /// The token's id.
    pub token: u32,
    /// The characters it completed: none while a character waits for its rest, or the text may become a stop text.
    pub text: String,
    /// How likely it was, if the request asks for that.
    pub logprobs: Option<Box<Logprobs>>,
}

/// How likely a token was, by the model's logits alone: no temperature, bias, penalty or constraint is in it.
#[derive(Clone, PartialEq, Debug)]
pub struct Logprobs {
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The same of the likeliest tokens, as many as were asked for, the likeliest first, the lower id on ties.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FinishReason {
    /// The model ended its turn.
    Stop,
    /// The answer came to a text that ends it, and does not contain it.
    StopText,
    /// `max_tokens` or the end of the context was reached.
    Length,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The weights gave a logit that is not a number.
    NotFinite,
    /// What the answer must look like became too complex to follow.
    Constraint,
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
