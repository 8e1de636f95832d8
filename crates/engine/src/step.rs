//! One step of the engine: admit → schedule → forward → sample → accept → reclaim.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::Arc;

use tokenizer::Tokenizer;

use crate::backend::{Backend, BatchItem, NoToken, SampleParams, Sampled};
use crate::guide::Allowed;
use crate::limits::Limits;
use crate::pages::PagePool;
use crate::request::{Failure, FinishReason, GeneratedToken, Logprobs, Output, Request, RequestId};
use crate::scheduler::{self, ScheduledItem, Sequence};

/// Continuous batching over one backend. Same requests in the same order, same events, always; and the
/// events of one request do not depend on the others at all.
pub struct Engine<B> {
    backend: B,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    queue: VecDeque<(RequestId, Request)>,
    running: Vec<Sequence>,
    pages: PagePool,
}

/// What a step did.
#[derive(Default, Debug)]
pub struct Stepped {
    /// What happened, in order; the outputs of one request lie side by side but for its admission.
    pub outputs: Vec<(RequestId, Output)>,
    /// Rows computed: prompts, then decodes.
    pub prompt_rows: usize,
    /// Rows that decoded: one for each sequence, and one for each guess.
    pub decode_rows: usize,
    /// What it spared.
    pub counts: Counts,
}

impl Stepped {
    /// Whether nothing was done: all that runs waits for its constraints.
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty() && self.prompt_rows + self.decode_rows == 0
    }
}

/// What an engine need not compute row by row.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Prompt tokens of admitted requests, looked for in the prefix cache.
    pub cache_queries: u64,
    /// Prompt tokens that were found there, and so not computed.
    pub cache_hits: u64,
    /// Pages that the cache lost to somebody who needed them.
    pub cache_evictions: u64,
    /// Draft tokens: guesses at what is sampled next, computed before it is.
    pub drafted_tokens: u64,
    /// Of these, how many were right.
    pub accepted_tokens: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.cache_queries += other.cache_queries;
        self.cache_hits += other.cache_hits;
        self.cache_evictions += other.cache_evictions;
        self.drafted_tokens += other.drafted_tokens;
        self.accepted_tokens += other.accepted_tokens;
    }
}

impl<B: Backend> Engine<B> {
    /// An idle engine.
    pub fn new(backend: B, tokenizer: Arc<Tokenizer>, limits: Limits) -> Self {
        let limits = limits.checked();
        let pages = PagePool::new(backend.shape(), &limits);
        Self { backend, tokenizer, limits, queue: VecDeque::new(), running: Vec::new(), pages }
    }

    /// Puts a request at the end of the queue. The driver bounds the queue.
    pub fn submit(&mut self, id: RequestId, request: Request) {
        self.queue.push_back((id, request));
    }

    /// Forgets a request: its place and pages are free before the next step.
    pub fn cancel(&mut self, id: RequestId) {
        self.queue.retain(|(queued, _)| *queued != id);
        for sequence in &mut self.running {
            sequence.done |= sequence.id == id;
        }
        self.reclaim();
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Requests that run and that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.queue.len())
    }

    /// Key/value pages held and in all.
    pub fn page_usage(&self) -> (usize, usize) {
        self.pages.usage()
    }

    /// Key/value pages that nobody holds and the prefix cache keeps.
    pub fn cached_pages(&self) -> usize {
        self.pages.cached()
    }

    /// Asserts that pages are counted right: each is free, cached, or held by those who run. For tests.
    pub fn audit(&self) {
        self.pages.audit(self.running.iter().map(|sequence| &sequence.holding));
    }

    /// Everything that is in the engine, so that all of it can be failed.
    pub fn drain(&mut self) -> Vec<RequestId> {
        let queued = self.queue.drain(..).map(|(id, _)| id);
        let ids = self.running.iter().map(|sequence| sequence.id).chain(queued).collect();
        for sequence in &mut self.running {
            sequence.done = true;
        }
        self.reclaim();
        ids
    }

    /// Computes one batch.
    pub fn step(&mut self) -> Stepped {
        let mut stepped = Stepped::default();
        self.admit(&mut stepped);
        let items = self.schedule(&mut stepped);
        self.forward(&items);
        let sampled = self.sample(&items);
        self.accept(&items, sampled, &mut stepped);
        self.reclaim();
        stepped.counts.cache_evictions = self.pages.take_evicted();
        stepped
    }

    fn admit(&mut self, stepped: &mut Stepped) {
        let n = scheduler::admit(&mut self.queue, &mut self.running, &mut self.pages, &self.limits);
        for sequence in &self.running[self.running.len() - n..] {
            stepped.outputs.push((sequence.id, Output::Admitted));
            if self.limits.prefix_cache {
                stepped.counts.cache_queries += sequence.tokens.len() as u64;
                stepped.counts.cache_hits += sequence.cached() as u64;
            }
        }
    }

    /// Chooses the rows of the next batch.
    fn schedule(&mut self, stepped: &mut Stepped) -> Vec<ScheduledItem> {
        stepped.counts.cache_hits += scheduler::adopt(&mut self.running, &mut self.pages) as u64;
        let items = scheduler::plan(&mut self.running, &self.limits);
        for item in &items {
            let sequence = &self.running[item.index];
            if sequence.generated() > 0 {
                stepped.decode_rows += item.rows;
            } else {
                stepped.prompt_rows += item.rows;
            }
            stepped.counts.drafted_tokens += sequence.draft().len() as u64;
        }
        items
    }

    /// Computes the rows, and meanwhile has the guides find out what may be sampled from them.
    fn forward(&mut self, items: &[ScheduledItem]) {
        if items.is_empty() {
            return;
        }
        for item in items {
            let sequence = &mut self.running[item.index];
            self.pages.cover(&mut sequence.holding, sequence.computed + item.rows);
            if item.samples {
                sequence.prepare_guide();
            }
        }
        let batch: Vec<BatchItem<'_>> =
            items.iter().map(|item| self.running[item.index].batch_item(item)).collect();
        self.backend.forward(&batch);
    }

    /// Samples from all rows that have logits: for each item its rows in order, or `None` where its guide does not know
    /// yet what may be sampled.
    fn sample(&mut self, items: &[ScheduledItem]) -> Vec<Option<Vec<Sampled>>> {
        let allowed: Vec<Allowed> = items.iter().map(|item| self.running[item.index].allowed(item)).collect();
        let mut params: Vec<SampleParams<'_>> = Vec::new();
        let mut row = 0;
        for (item, allowed) in items.iter().zip(&allowed) {
            let sequence = &self.running[item.index];
            let n = sequence.logit_rows(item);
            if *allowed != Allowed::NotYet {
                params.extend(
                    (0..n).map(|i| SampleParams { row: row + i, ..sequence.sample_params(i, allowed) }),
                );
            }
            row += n;
        }
        let mut sampled =
            if params.is_empty() { Vec::new() } else { self.backend.sample(&params) }.into_iter();
        let of_part = |(item, allowed): (&ScheduledItem, &Allowed)| {
            let n = self.running[item.index].logit_rows(item);
            (*allowed != Allowed::NotYet).then(|| sampled.by_ref().take(n).collect())
        };
        items.iter().zip(&allowed).map(of_part).collect()
    }

    /// Moves each item's sequence on: its tokens, its text, and the pages that are complete or no longer seen.
    fn accept(&mut self, items: &[ScheduledItem], sampled: Vec<Option<Vec<Sampled>>>, stepped: &mut Stepped) {
        for (item, sampled) in items.iter().zip(sampled) {
            let sequence = &mut self.running[item.index];
            let n = sequence.logit_rows(item);
            let draft = sequence.speculation.take_draft();
            sequence.waits = sampled.is_none();
            // Without a sample the rows with logits are computed again once the guide is ready.
            let valid = sampled.map_or(0, |sampled| {
                let mut accepted = Accepted::new(sequence, &self.tokenizer);
                let valid = accepted.rows(&draft, sampled);
                let (id, outputs) = (accepted.sequence.id, accepted.outputs());
                stepped.outputs.extend(outputs.map(|output| (id, output)));
                valid
            });
            stepped.counts.accepted_tokens += valid.saturating_sub(1) as u64;
            // Rows of rejected draft tokens leave nothing behind that is seen: the next rows overwrite them.
            sequence.computed += item.rows - n + valid;
            self.pages.publish(&mut sequence.holding, &sequence.tokens, sequence.computed);
            self.pages.give_back_behind(&mut sequence.holding, sequence.computed);
        }
    }

    fn reclaim(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            if self.running[i].done {
                // The order of the rest stays: prompts are read in order of arrival.
                let sequence = self.running.remove(i);
                self.pages.release(sequence.holding);
            } else {
                i += 1;
            }
        }
    }

    /// Bytes of scratch the backend holds.
    pub fn scratch_bytes(&self) -> usize {
        self.backend.scratch_bytes()
    }
}

/// What a step adds to one answer.
struct Accepted<'a> {
    sequence: &'a mut Sequence,
    tokenizer: &'a Tokenizer,
    tokens: Vec<GeneratedToken>,
    /// Text that was held back, and the end of the answer.
    last: Vec<Output>,
}

impl<'a> Accepted<'a> {
    fn new(sequence: &'a mut Sequence, tokenizer: &'a Tokenizer) -> Self {
        Self { sequence, tokenizer, tokens: Vec::new(), last: Vec::new() }
    }

    /// Accepts what was sampled from rows: row `i` stands after `i` draft tokens, and counts as long as these are the
    /// tokens of the answer. Returns how many rows count.
    fn rows(&mut self, draft: &[u32], sampled: Vec<Sampled>) -> usize {
        let start = self.sequence.tokens.len();
        let mut valid = 0;
        for (i, sampled) in sampled.into_iter().enumerate() {
            if i > 0 && self.sequence.tokens.get(start + i - 1) != Some(&draft[i - 1]) {
                break;
            }
            valid = i + 1;
            // Forced tokens may have filled the position already.
            if self.sequence.tokens.len() == start + i {
                self.sampled(sampled);
            }
            // A token that is still forced was not known when the rows after this one were sampled.
            if self.sequence.done || self.sequence.forced(0).is_some() {
                break;
            }
        }
        self.sequence.speculation.update(draft.len(), valid.saturating_sub(1), self.sequence.tokens.len());
        valid
    }

    /// Appends a sampled token and those that its guide forces after it.
    fn sampled(&mut self, Sampled { token, logprobs }: Sampled) {
        match token {
            Ok(token) => self.append(token, logprobs),
            Err(NoToken::NotFinite) => self.end(Output::Failed(Failure::NotFinite)),
            Err(NoToken::NothingAllowed) => self.end(Output::Failed(Failure::Constraint)),
        }
        // Log probabilities need the logits of every token: then each forced one takes a step.
        while !self.sequence.done && self.sequence.request.logprobs.is_none() {
            let Some(forced) = self.sequence.forced(0) else { break };
            self.append(forced, None);
        }
    }

    /// Appends a token, and ends the answer where it does.
    fn append(&mut self, token: u32, logprobs: Option<Box<Logprobs>>) {
        let sequence = &mut *self.sequence;
        if sequence.request.stop_tokens.contains(&token) {
            return self.finish(FinishReason::Stop);
        }
        sequence.append(token);
        let text = sequence.decoder.push(self.tokenizer.token_bytes(token).unwrap_or_default());
        let text = sequence.stops.push(text);
        self.tokens.push(GeneratedToken { token, text, logprobs });
        if sequence.stops.found() {
            self.finish(FinishReason::StopText);
        } else if sequence.generated() >= sequence.request.max_tokens {
            self.finish(FinishReason::Length);
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        let last = self.sequence.decoder.finish();
        let rest = self.sequence.stops.push(last) + &self.sequence.stops.finish();
        if !rest.is_empty() {
            self.last.push(Output::Text(rest));
        }
        self.end(Output::Finished { reason, usage: self.sequence.usage() });
    }

    fn end(&mut self, output: Output) {
        self.last.push(output);
        self.sequence.done = true;
    }

    fn outputs(self) -> impl Iterator<Item = Output> {
        let tokens = (!self.tokens.is_empty()).then_some(Output::Tokens(self.tokens));
        tokens.into_iter().chain(self.last)
    }
}
