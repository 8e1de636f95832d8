//! Who runs in the next step: sequences that decode first, then prompts in order of arrival, in chunks that
//! fit the step's budget. A prompt whose next page another sequence computes in this very step waits for it.
//! Where no prompt is read and few decode, draft tokens fill the step.

use std::collections::VecDeque;

use tokenizer::StreamDecoder;

use crate::backend::{BatchItem, LogitRows, PAGE, SampleParams, TokenCounts};
use crate::guide::Allowed;
use crate::limits::Limits;
use crate::pages::{Holding, PagePool};
use crate::request::{Request, RequestId, Usage};
use crate::speculation::Speculation;
use crate::stop::StopTexts;

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
    pub(crate) speculation: Speculation,
    pub(crate) decoder: StreamDecoder,
    pub(crate) stops: StopTexts,
    /// Counts of its tokens, if penalties ask for them.
    counts: Option<TokenCounts>,
    /// Whether its guide was asked and had not answered when a token was to be sampled.
    pub(crate) waits: bool,
    pub(crate) done: bool,
}

/// Rows of one sequence in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScheduledItem {
    /// Index among the running sequences.
    pub(crate) index: usize,
    /// How many of its tokens, draft tokens included.
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
        let counts = TokenCounts::new(&request.prompt, &request.sampling);
        Self {
            id,
            request,
            tokens,
            computed,
            cached: computed,
            holding,
            speculation: Speculation::default(),
            decoder: StreamDecoder::default(),
            stops,
            counts,
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

    /// Appends a token of the answer.
    pub(crate) fn append(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(counts) = &mut self.counts {
            counts.add(token);
        }
        if let Some(guide) = &mut self.request.guide {
            guide.accept(token);
        }
    }

    /// The `i`-th of the tokens that must come next.
    pub(crate) fn forced(&self, i: usize) -> Option<u32> {
        self.request.guide.as_ref().and_then(|guide| guide.forced().get(i).copied())
    }

    /// Asks the guide what may be sampled from the next rows.
    pub(crate) fn prepare_guide(&mut self) {
        // While it waits, what was asked before stands.
        if let Some(guide) = self.request.guide.as_mut().filter(|_| !self.waits) {
            guide.prepare(self.speculation.draft());
        }
    }

    /// What may be sampled from the rows of a item.
    pub(crate) fn allowed(&mut self, item: &ScheduledItem) -> Allowed {
        match self.request.guide.as_mut().filter(|_| item.samples) {
            Some(guide) => guide.allowed(),
            None => Allowed::Any,
        }
    }

    /// How row `i` of those with logits is sampled: as if the draft tokens before it were accepted.
    pub(crate) fn sample_params<'a>(&'a self, i: usize, allowed: &'a Allowed) -> SampleParams<'a> {
        SampleParams {
            row: i,
            sampling: &self.request.sampling,
            position: self.tokens.len() + i,
            counts: self.counts.as_ref(),
            draft: self.draft().get(..i).unwrap_or_default(),
            allowed: allowed.after(i),
            forced: self.forced(i),
            logprobs: self.request.logprobs,
        }
    }

    /// Whether it has to be left out of a step, since its guide has not answered yet.
    fn is_blocked(&mut self) -> bool {
        self.waits && self.request.guide.as_mut().is_some_and(|guide| !guide.is_ready())
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

    /// Drafts up to `limit` tokens after the last one. Returns how many.
    fn make_draft(&mut self, limit: usize) -> usize {
        // While it waits, what its guide was asked stands; and forced tokens need no guess.
        if self.waits || self.pending() > 1 || self.forced(0).is_some() {
            return 0;
        }
        // A token is sampled after the last draft token too, and must be one of the answer.
        let limit = limit.min(self.request.max_tokens - self.generated() - 1);
        self.speculation.guess(&self.tokens, self.request.total_tokens(), limit)
    }

    /// The draft tokens of the next rows.
    pub(crate) fn draft(&self) -> &[u32] {
        self.speculation.draft()
    }

    /// The rows of a item, as the backend wants them.
    pub(crate) fn batch_item(&self, item: &ScheduledItem) -> BatchItem<'_> {
        let (history, rest) = self.tokens.split_at(self.computed);
        let (tokens, logits) = match item.samples {
            true if !self.draft().is_empty() => (self.speculation.rows(), LogitRows::All),
            true => (rest, LogitRows::Last),
            false => (&rest[..item.rows], LogitRows::None),
        };
        BatchItem { tokens, history, tables: &self.holding.tables, logits }
    }

    /// How many of a item's rows have logits: the last ones.
    pub(crate) fn logit_rows(&self, item: &ScheduledItem) -> usize {
        if item.samples { 1 + self.draft().len() } else { 0 }
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

/// The items of the next step, with draft tokens.
pub(crate) fn plan(running: &mut [Sequence], limits: &Limits) -> Vec<ScheduledItem> {
    let ready: Vec<bool> = running.iter_mut().map(|sequence| !sequence.is_blocked()).collect();
    let mut items = share_out(running, &ready, limits);
    if limits.speculation_tokens > 0 && items.iter().all(|item| running[item.index].generated() > 0) {
        let rows: usize = items.iter().map(|item| item.rows).sum();
        let mut spare = limits.speculative_rows.min(limits.step_tokens).saturating_sub(rows);
        let n = items.len();
        for (i, item) in items.iter_mut().enumerate() {
            // What one leaves the next may have.
            let share = spare.div_ceil(n - i).min(limits.speculation_tokens);
            let drafted = if share > 0 { running[item.index].make_draft(share) } else { 0 };
            item.rows += drafted;
            spare -= drafted;
        }
    }
    items
}

/// A row for each sequence that decodes, then prompts in order of arrival; what they leave is for tokens that a guide has
/// forced.
fn share_out(running: &[Sequence], ready: &[bool], limits: &Limits) -> Vec<ScheduledItem> {
    // A prompt's last token alone takes no more than a decode.
    let decodes = |&i: &usize| running[i].generated() > 0 || running[i].pending() == 1;
    let (decoding, reading): (Vec<usize>, Vec<usize>) =
        (0..running.len()).filter(|&i| ready[i]).partition(decodes);
    let decode = |&index: &usize| ScheduledItem { index, rows: 1, samples: running[index].pending() == 1 };
    let mut items: Vec<ScheduledItem> = decoding.iter().map(decode).collect();
    let mut budget = limits.step_tokens - items.len();
    for index in reading {
        let pending = running[index].pending();
        let rows = pending.min(budget);
        if rows == 0 {
            break;
        }
        // Only on those that certainly go on now, so that a sequence waits for a step at most.
        if items[decoding.len()..].iter().any(|item| running[index].can_wait_for(&running[item.index])) {
            continue;
        }
        budget -= rows;
        items.push(ScheduledItem { index, rows, samples: rows == pending });
    }
    for item in &mut items[..decoding.len()] {
        let pending = running[item.index].pending();
        let more = (pending - item.rows).min(budget);
        item.rows += more;
        item.samples = item.rows == pending;
        budget -= more;
    }
    items
}
