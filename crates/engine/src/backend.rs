//! The seam between the engine and what computes: all that the engine knows of a model on a device.

use std::collections::BTreeMap;

use crate::guide::TokenSet;
use crate::request::{Logprobs, Penalties, Sampling};

/// Positions of a page of the KV cache.
pub const PAGE: usize = 32;

/// Stands in a page table for a page that was freed.
pub const NO_PAGE: u32 = u32::MAX;

/// Sizes that scheduling needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Positions of a sequence.
    pub sequence_len: usize,
    /// Classes of KV pages, the widest window first.
    pub classes: Vec<PageClass>,
}

/// KV pages of the layers that share a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageClass {
    /// How many positions back they attend to.
    pub window: usize,
    /// How many there are.
    pub n_pages: usize,
}

/// Which rows of a batch item need logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogitRows {
    /// None: the prompt goes on.
    None,
    /// The last one: a token will be sampled.
    Last,
    /// All: draft tokens are checked, or a text is scored.
    All,
}

/// Consecutive new tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem<'a> {
    /// Their ids, at least one, each below the vocabulary's size.
    pub tokens: &'a [u32],
    /// All tokens before them; so many positions of the KV cache are filled.
    pub history: &'a [u32],
    /// For each class of pages: the page of every 32 positions from 0 on.
    pub tables: &'a [Vec<u32>],
    /// Which rows need logits.
    pub logits: LogitRows,
}

/// Computes batches. The same contract on every device: rows do not depend on the rows beside them, and the random number of
/// a token is [`crate::random::uniform`] of its request's seed and its position.
pub trait Backend: Send {
    /// Its sizes; they never change.
    fn shape(&self) -> &Shape;

    /// Computes the rows of a batch and keeps the logits that it asks for, in order, for [`Self::sample`].
    fn forward(&mut self, batch: &[BatchItem<'_>]);

    /// Samples from rows of logits of the last batch: one result each, in order.
    fn sample(&mut self, rows: &[SampleParams<'_>]) -> Vec<Sampled>;

    /// Bytes of scratch held now.
    fn scratch_bytes(&self) -> usize {
        0
    }
}

/// How a token is sampled from one row of logits.
#[derive(Clone, Copy, Debug)]
pub struct SampleParams<'a> {
    /// Index among the rows of logits of the last batch.
    pub row: usize,
    /// Temperature, candidates, penalties, biases and seed.
    pub sampling: &'a Sampling,
    /// Position of the token in its sequence.
    pub position: usize,
    /// Counts of the tokens before it, if penalties ask for them.
    pub counts: Option<&'a TokenCounts>,
    /// Draft tokens before it that `counts` does not include yet.
    pub draft: &'a [u32],
    /// The tokens that may be sampled, if not every one.
    pub allowed: Option<&'a TokenSet>,
    /// The token that is taken whatever the logits are.
    pub forced: Option<u32>,
    /// How many of the likeliest tokens are reported with their log probabilities.
    pub logprobs: Option<usize>,
}

/// What came of a row of logits.
#[derive(Clone, PartialEq, Debug)]
pub struct Sampled {
    /// The token, or why there is none.
    pub token: Result<u32, NoToken>,
    /// Its log probability and those of the likeliest tokens, if they were asked for.
    pub logprobs: Option<Box<Logprobs>>,
}

/// Why no token could be sampled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoToken {
    /// A logit is not a number.
    NotFinite,
    /// None of the allowed tokens can be sampled.
    NothingAllowed,
}

/// How often each token occurs in an answer; those of the prompt alone with 0.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenCounts(BTreeMap<u32, u32>);

impl TokenCounts {
    /// The counts before an answer begins, if its sampling asks for any.
    pub fn new(prompt: &[u32], sampling: &Sampling) -> Option<Self> {
        let penalties = sampling.penalties;
        // Prompt tokens matter to the repetition penalty alone.
        let counted = if penalties.repetition == 1.0 { &[] } else { prompt };
        let counts = counted.iter().map(|&token| (token, 0)).collect();
        (penalties != Penalties::default()).then_some(Self(counts))
    }

    /// Counts a token of the answer.
    pub fn add(&mut self, token: u32) {
        *self.0.entry(token).or_default() += 1;
    }

    /// Each token and its count, the tokens of a draft counted too.
    pub fn with_draft(&self, draft: &[u32]) -> impl Iterator<Item = (u32, u32)> {
        let in_draft = |token: u32| draft.iter().filter(|&&drafted| drafted == token).count() as u32;
        let known = self.0.iter().map(move |(&token, &count)| (token, count + in_draft(token)));
        let is_new =
            |&(i, token): &(usize, u32)| !self.0.contains_key(&token) && !draft[..i].contains(&token);
        let new = draft.iter().copied().enumerate().filter(is_new);
        known.chain(new.map(move |(_, token)| (token, in_draft(token))))
    }
}
