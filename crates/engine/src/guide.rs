//! What steers one answer: a grammar, the calculator, in tests anything.

use std::fmt;

/// Follows an answer and says which tokens may, or must, come next. Deterministic: the same tokens, the same replies. When
/// they come may differ; a sequence whose guide is not ready is left out of steps meanwhile.
pub trait Guide: Send {
    /// Tokens that must come next, in order, as far as they are known. The engine takes them without sampling, and
    /// computes them together.
    fn forced(&self) -> &[u32] {
        &[]
    }

    /// Begins to find out which tokens may follow the accepted ones; then, for each token of `draft` in turn as long as
    /// it is allowed, those that may follow it. Does not wait. Called once for each call of [`Self::allowed`] that is
    /// answered.
    fn prepare(&mut self, draft: &[u32]) {
        let _ = draft;
    }

    /// Whether [`Self::allowed`] would not answer [`Allowed::NotYet`]. Does not wait.
    fn is_ready(&mut self) -> bool {
        true
    }

    /// What was prepared. Waits for a moment at most.
    fn allowed(&mut self) -> Allowed {
        Allowed::Any
    }

    /// Accepts a token, which was allowed or forced.
    fn accept(&mut self, token: u32);

    /// The same guide at the same position, for another answer.
    fn fork(&self) -> Box<dyn Guide>;
}

/// Which tokens may come next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// Every token, here and after each draft token.
    Any,
    /// A set for the next token, then one for each draft token that is allowed.
    Sets(Vec<TokenSet>),
    /// It takes longer.
    NotYet,
    /// It cannot be known: the grammar is too complex.
    Unknown,
}

static NOTHING: TokenSet = TokenSet(Vec::new());

impl Allowed {
    /// The tokens that may follow the first `drafted` draft tokens; `None` is every one.
    pub(crate) fn after(&self, drafted: usize) -> Option<&TokenSet> {
        match self {
            Self::Any => None,
            Self::Sets(sets) => Some(sets.get(drafted).unwrap_or(&NOTHING)),
            Self::NotYet | Self::Unknown => Some(&NOTHING),
        }
    }
}

impl Clone for Box<dyn Guide> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl fmt::Debug for dyn Guide {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guide")
    }
}

/// A set of token ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenSet(Vec<u32>);

impl TokenSet {
    /// The ids whose bits are set, 32 to a word, the lowest first.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self(words)
    }

    /// Whether a token is in it.
    pub fn contains(&self, id: u32) -> bool {
        self.0.get((id / u32::BITS) as usize).is_some_and(|word| (word >> (id % u32::BITS)) & 1 == 1)
    }

    /// Sets the logits of all other tokens to minus infinity. Returns whether any is left.
    pub fn keep(&self, logits: &mut [f32]) -> bool {
        let mut left = false;
        for (i, chunk) in logits.chunks_mut(u32::BITS as usize).enumerate() {
            let word = self.0.get(i).copied().unwrap_or(0);
            left |= word << (u32::BITS - chunk.len() as u32) != 0;
            if word == u32::MAX {
                continue;
            }
            for (bit, logit) in chunk.iter_mut().enumerate() {
                *logit = if (word >> bit) & 1 == 1 { *logit } else { f32::NEG_INFINITY };
            }
        }
        left
    }
}
