//! Who runs in the next step: sequences that decode first, then prompts in order of arrival, in chunks that
//! fit the step's budget. A prompt whose next page another sequence computes in this very step waits for it.
//! Where no prompt is read and few decode, guesses fill the step.

use std::collections::VecDeque;

use model::{LogitRows, PAGE, SequenceRows};
use tokenizer::{StreamDecoder, Tokenizer};

use crate::limits::Limits;
use crate::pages::{Holding, PagePool};
use crate::request::{Request, RequestId, Usage};
use crate::sampler::Seen;
use crate::speculation::Speculation;
use crate::stop::StopTexts;
use crate::tool::ToolState;

/// A request on its way through the engine.
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) request: Request,
    /// The prompt and the answer so far.
    pub(crate) tokens: Vec<u32>,
    /// How many of them have keys and values.
    pub(crate) computed: usize,
    /// How many were computed by others.
    cached: usize,
    pub(crate) holding: Holding,
    pub(crate) tool: ToolState,
    pub(crate) speculation: Speculation,
    pub(crate) decoder: StreamDecoder,
    pub(crate) stops: StopTexts,
    /// What came before, if its sampling asks.
    pub(crate) seen: Option<Seen>,
    /// Whether its constraint was asked and had not answered when a token was to be sampled.
    pub(crate) waits: bool,
    pub(crate) done: bool,
}

/// Rows of one sequence in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// Index among the running sequences.
    pub(crate) index: usize,
    /// How many of its tokens, guesses included.
    pub(crate) rows: usize,
    /// Whether these complete what is known of it, so that a token can be sampled.
    pub(crate) samples: bool,
}

impl Sequence {
    fn new(id: RequestId, mut request: Request, holding: Holding) -> Self {
        let mut tokens = Vec::with_capacity(request.total_tokens());
        tokens.extend_from_slice(&request.prompt);
        let computed = holding.published * PAGE;
        let stops = StopTexts::new(std::mem::take(&mut request.stops));
        let seen = Seen::new(&request.prompt, &request.sampling);
        Self {
            id,
            request,
            tokens,
            computed,
            cached: computed,
            holding,
            tool: ToolState::default(),
            speculation: Speculation::default(),
            decoder: StreamDecoder::default(),
            stops,
            seen,
            waits: false,
            done: false,
        }
    }

    /// Tokens to compute before the next one can be sampled.
    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// How many of its tokens were computed by others.
    pub(crate) fn cached(&self) -> usize {
        self.cached
    }

    /// Tokens of the answer so far.
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.cached,
            completion_tokens: self.generated(),
        }
    }

    /// Appends a token of the answer. Where its form is prescribed, no tool adds anything to it.
    pub(crate) fn append(&mut self, token: u32, tokenizer: &Tokenizer) {
        self.tokens.push(token);
        if let Some(seen) = &mut self.seen {
            seen.add(token);
        }
        match &mut self.request.constraint {
            Some(constraint) => constraint.accept(token),
            None => self.tool.follow(token, tokenizer),
        }
    }

    /// Whether it has to be left out of a step, since its constraint has not answered yet.
    fn is_blocked(&mut self) -> bool {
        self.waits && self.request.constraint.as_mut().is_some_and(|constraint| !constraint.is_ready())
    }

    /// Takes over what others have computed of its prompt meanwhile. Returns how many tokens that is.
    fn adopt(&mut self, pages: &mut PagePool) -> usize {
        let at = self.holding.published * PAGE;
        if self.computed != at || self.pending() <= PAGE {
            return 0;
        }
        pages.adopt(&mut self.holding, &self.tokens);
        self.computed = self.holding.published * PAGE;
        self.cached += self.computed - at;
        self.computed - at
    }

    /// The block of tokens after what is published of it, if they are known.
    fn next_block(&self) -> Option<&[u32]> {
        self.tokens.get(self.holding.published * PAGE..(self.holding.published + 1) * PAGE)
    }

    /// Whether it could take over the block that `other` is computing.
    fn can_wait_for(&self, other: &Self) -> bool {
        self.holding.place.is_some()
            && self.holding.place == other.holding.place
            && self.computed == self.holding.published * PAGE
            && self.pending() > PAGE
            && self.next_block() == other.next_block()
    }

    /// Guesses up to `limit` tokens after the last one. Returns how many.
    fn guess(&mut self, limit: usize) -> usize {
        // What its constraint is asked stands already.
        if self.waits {
            return 0;
        }
        let (generated, most) = (self.generated(), self.request.total_tokens());
        // A token is sampled after the last guess too, and must be one of the answer.
        let limit = limit.min(self.request.max_tokens - generated - 1);
        let forced = self.tool.forced();
        match self.tokens.last() {
            Some(&last) if forced.len() > 0 => self.speculation.know(last, limit, forced),
            _ => self.speculation.guess(&self.tokens, most, limit),
        }
    }

    /// The rows of a part, as the backend wants them.
    pub(crate) fn rows(&self, part: &Part) -> SequenceRows<'_> {
        let guess = self.speculation.rows();
        let (tokens, logits) = match part.samples {
            true if !guess.is_empty() => (guess, LogitRows::All),
            true => (&self.tokens[self.computed..], LogitRows::Last),
            false => (&self.tokens[self.computed..self.computed + part.rows], LogitRows::None),
        };
        let previous = self.computed.checked_sub(1).map(|i| self.tokens[i]);
        SequenceRows { tokens, previous, position: self.computed, tables: &self.holding.tables, logits }
    }

    /// The guessed tokens of its rows.
    pub(crate) fn guessed(&self) -> &[u32] {
        self.speculation.rows().get(1..).unwrap_or_default()
    }

    /// How many of a part's rows have logits: the last ones.
    pub(crate) fn logit_rows(&self, part: &Part) -> usize {
        if part.samples { self.speculation.rows().len().max(1) } else { 0 }
    }
}

/// Admits from the queue, in order, while sequences and pages are left. Returns how many.
pub(crate) fn admit(
    queue: &mut VecDeque<(RequestId, Request)>,
    running: &mut Vec<Sequence>,
    pages: &mut PagePool,
    limits: &Limits,
) -> usize {
    let before = running.len();
    while running.len() < limits.max_running {
        let Some((_, request)) = queue.front() else { break };
        let Some(holding) = pages.reserve(request, limits.step_tokens) else { break };
        let Some((id, request)) = queue.pop_front() else { break };
        running.push(Sequence::new(id, request, holding));
    }
    running.len() - before
}

/// Lets every sequence that reads its prompt take over what others have computed of it. Returns how many
/// tokens that is.
pub(crate) fn adopt(running: &mut [Sequence], pages: &mut PagePool) -> usize {
    running.iter_mut().map(|sequence| sequence.adopt(pages)).sum()
}

/// The parts of the next step, with guesses.
pub(crate) fn plan(running: &mut [Sequence], limits: &Limits) -> Vec<Part> {
    let ready: Vec<bool> = running.iter_mut().map(|sequence| !sequence.is_blocked()).collect();
    let mut parts = share_out(running, &ready, limits);
    if limits.speculation_tokens > 0 && parts.iter().all(|part| running[part.index].generated() > 0) {
        let mut spare = limits.speculative_rows.min(limits.step_tokens).saturating_sub(parts.len());
        let n = parts.len();
        for (i, part) in parts.iter_mut().enumerate() {
            // What one leaves the next may have.
            let share = spare.div_ceil(n - i).min(limits.speculation_tokens);
            let guessed = if share > 0 { running[part.index].guess(share) } else { 0 };
            part.rows += guessed;
            spare -= guessed;
        }
    }
    parts
}

fn share_out(running: &[Sequence], ready: &[bool], limits: &Limits) -> Vec<Part> {
    let mut budget = limits.step_tokens;
    let mut parts = Vec::new();
    let (decoding, reading): (Vec<usize>, Vec<usize>) =
        (0..running.len()).filter(|&i| ready[i]).partition(|&i| running[i].pending() == 1);
    for index in decoding.into_iter().chain(reading) {
        let pending = running[index].pending();
        let rows = pending.min(budget);
        if rows == 0 {
            break;
        }
        // Only on those that certainly go on now, so whoever waits does so for a step.
        if parts.iter().any(|part: &Part| running[index].can_wait_for(&running[part.index])) {
            continue;
        }
        budget -= rows;
        parts.push(Part { index, rows, samples: rows == pending });
    }
    parts
}
