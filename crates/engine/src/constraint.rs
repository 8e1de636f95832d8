//! The seam to what decides which tokens an answer may have: a grammar, in tests anything.

use std::fmt;

/// Follows an answer and tells which tokens may come next. Deterministic: the same tokens, the same sets. When they come
/// may differ; an answer that has to wait for them is left out of steps meanwhile.
pub trait Constraint: Send {
    /// Begins to find out which tokens may follow what was accepted; then, for each of `guess` in turn as long as they are
    /// allowed, those that may follow it. Does not wait. Asked once for each call of [`Self::allowed`] that is answered.
    fn prepare(&mut self, guess: &[u32]);

    /// Whether [`Self::allowed`] would not answer [`Allowed::NotYet`]. Does not wait.
    fn is_ready(&mut self) -> bool;

    /// What was prepared. Waits for a moment at most.
    fn allowed(&mut self) -> Allowed;

    /// Accepts a token, which was allowed.
    fn accept(&mut self, token: u32);

    /// The same constraint at the same place, for another answer.
    fn fork(&self) -> Box<dyn Constraint>;
}

/// Which tokens may come next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// A set for the next token, then one for each guess that is allowed.
    Sets(Vec<TokenSet>),
    /// It takes longer.
    NotYet,
    /// It cannot be told: the grammar is too complex.
    Unknown,
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.fork()
    }
}

impl fmt::Debug for dyn Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Constraint")
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

    /// Takes the logits of all other tokens away. Returns whether any is left.
    pub(crate) fn keep(&self, logits: &mut [f32]) -> bool {
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
