//! One step of the engine: admit → plan → forward → sample → emit → reclaim.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::{Arc, OnceLock};

use model::{Compute, Isa, SequenceRows};
use tokenizer::Tokenizer;

use crate::backend::Backend;
use crate::constraint::{Allowed, TokenSet};
use crate::limits::Limits;
use crate::pages::PagePool;
use crate::request::{Event, Failure, FinishReason, Request, RequestId};
use crate::sampler::{Draw, Drawn, draw};
use crate::scheduler::{self, Part, Sequence};

/// Continuous batching over one backend. Same requests in the same order, same events, always; and the
/// events of one request do not depend on the others at all.
pub struct Engine<B> {
    backend: B,
    compute: Option<Arc<Compute>>,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    queue: VecDeque<(RequestId, Request)>,
    running: Vec<Sequence>,
    pages: PagePool,
}

/// What a step did.
#[derive(Default, Debug)]
pub struct Stepped {
    /// What happened, in order.
    pub events: Vec<(RequestId, Event)>,
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
        self.events.is_empty() && self.prompt_rows + self.decode_rows == 0
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
    /// Tokens guessed before they were sampled, those included that the calculator forces.
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
        let compute = backend.compute();
        Self { backend, compute, tokenizer, limits, queue: VecDeque::new(), running: Vec::new(), pages }
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
        let evicted = self.pages.evicted();
        self.admit(&mut stepped);
        stepped.counts.cache_hits += scheduler::adopt(&mut self.running, &mut self.pages) as u64;
        let parts = scheduler::plan(&mut self.running, &self.limits);
        self.forward(&parts, &mut stepped);
        self.reclaim();
        stepped.counts.cache_evictions = self.pages.evicted() - evicted;
        stepped
    }

    fn admit(&mut self, stepped: &mut Stepped) {
        let n = scheduler::admit(&mut self.queue, &mut self.running, &mut self.pages, &self.limits);
        for sequence in &self.running[self.running.len() - n..] {
            stepped.events.push((sequence.id, Event::Admitted));
            if self.limits.prefix_cache {
                stepped.counts.cache_queries += sequence.tokens.len() as u64;
                stepped.counts.cache_hits += sequence.cached() as u64;
            }
        }
    }

    /// Runs the parts and moves each one's sequence on.
    fn forward(&mut self, parts: &[Part], stepped: &mut Stepped) {
        if parts.is_empty() {
            return;
        }
        for part in parts {
            let sequence = &mut self.running[part.index];
            self.pages.cover(&mut sequence.holding, sequence.computed + part.rows);
        }
        prepare(&mut self.running, parts);
        let rows: Vec<SequenceRows<'_>> =
            parts.iter().map(|part| self.running[part.index].rows(part)).collect();
        let vocab_size = self.backend.shape().vocab_size;
        let logits: Vec<&[f32]> = self.backend.forward(&rows).chunks_exact(vocab_size).collect();
        let allowed = allow(&mut self.running, parts);
        let late: Vec<bool> = allowed.iter().map(|allowed| *allowed == Some(Allowed::NotYet)).collect();
        let draws: Vec<Option<Draw<'_>>> = parts
            .iter()
            .zip(allowed)
            .flat_map(|(part, allowed)| draws(&self.running[part.index], part, allowed))
            .collect();
        let mut drawn = draw_all(self.compute.as_deref(), &logits, &draws).into_iter();
        drop(draws);
        let mut logits = logits.into_iter();
        for (part, late) in parts.iter().zip(late) {
            let sequence = &mut self.running[part.index];
            let n = sequence.logit_rows(part);
            let drawn: Vec<(Drawn, &[f32])> = drawn.by_ref().zip(logits.by_ref()).take(n).collect();
            count_rows(sequence, part, stepped);
            sequence.waits = late;
            let followed = if late {
                // These rows are computed again once it is known what may be drawn from them.
                sequence.speculation.take_rows();
                0
            } else {
                follow(sequence, drawn, &self.tokenizer, &mut stepped.events)
            };
            stepped.counts.accepted_tokens += followed.saturating_sub(1) as u64;
            // Guesses that were wrong leave nothing behind that is looked at: the next rows overwrite it.
            sequence.computed += part.rows - n + followed;
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

/// Asks the constraints of all parts that sample what their rows may draw.
fn prepare(running: &mut [Sequence], parts: &[Part]) {
    for part in parts.iter().filter(|part| part.samples) {
        let Sequence { request, speculation, waits, .. } = &mut running[part.index];
        // One that waits has asked before.
        if let Some(constraint) = request.constraint.as_mut().filter(|_| !*waits) {
            constraint.prepare(speculation.rows().get(1..).unwrap_or_default());
        }
    }
}

/// What each part's rows may draw; none for parts that are free or have no logits.
fn allow(running: &mut [Sequence], parts: &[Part]) -> Vec<Option<Allowed>> {
    let allowed = |part: &Part| {
        let constraint = running[part.index].request.constraint.as_mut().filter(|_| part.samples);
        constraint.map(|constraint| constraint.allowed())
    };
    parts.iter().map(allowed).collect()
}

/// How the rows of a part that have logits draw their tokens: row i as if the guesses before it were right. None where it
/// is not known yet what may be drawn.
fn draws<'a>(
    sequence: &'a Sequence,
    part: &Part,
    allowed: Option<Allowed>,
) -> impl Iterator<Item = Option<Draw<'a>>> {
    let is_known = allowed != Some(Allowed::NotYet);
    // Where it cannot be told what is allowed, nothing is.
    let none = || TokenSet::from_words(Vec::new());
    let mut sets = allowed.map(|allowed| match allowed {
        Allowed::Sets(sets) => sets.into_iter(),
        Allowed::NotYet | Allowed::Unknown => Vec::new().into_iter(),
    });
    let mut seen = sequence.seen.clone();
    (0..sequence.logit_rows(part)).map(move |i| {
        if let (Some(seen), Some(guess)) = (&mut seen, i.checked_sub(1)) {
            seen.add(sequence.guessed()[guess]);
        }
        is_known.then(|| Draw {
            sampling: &sequence.request.sampling,
            position: sequence.tokens.len() + i,
            seen: seen.clone(),
            allowed: sets.as_mut().map(|sets| sets.next().unwrap_or_else(none)),
            logprobs: sequence.request.logprobs,
        })
    })
}

/// Draws a token from each row of logits, on all threads there are.
fn draw_all(compute: Option<&Compute>, rows: &[&[f32]], draws: &[Option<Draw<'_>>]) -> Vec<Drawn> {
    let draw_from = |isa, i: usize| draws[i].as_ref().map(|how| draw(isa, rows[i], how)).unwrap_or_default();
    let Some(compute) = compute else {
        return (0..rows.len()).map(|i| draw_from(Isa::SCALAR, i)).collect();
    };
    let drawn: Vec<OnceLock<Drawn>> = rows.iter().map(|_| OnceLock::new()).collect();
    compute.pool.run(rows.len(), &|i| {
        drawn[i].get_or_init(|| draw_from(compute.isa, i));
    });
    drawn.into_iter().map(|drawn| drawn.into_inner().unwrap_or_default()).collect()
}

fn count_rows(sequence: &Sequence, part: &Part, stepped: &mut Stepped) {
    if sequence.generated() > 0 {
        stepped.decode_rows += part.rows;
    } else {
        stepped.prompt_rows += part.rows;
    }
    stepped.counts.drafted_tokens += sequence.speculation.rows().len().saturating_sub(1) as u64;
}

/// Takes the tokens drawn from rows, as long as the row holds what was taken before it. Returns from how many.
fn follow(
    sequence: &mut Sequence,
    drawn: Vec<(Drawn, &[f32])>,
    tokenizer: &Tokenizer,
    events: &mut Vec<(RequestId, Event)>,
) -> usize {
    let rows = sequence.speculation.take_rows();
    let mut followed = 0;
    for (i, (drawn, logits)) in drawn.into_iter().enumerate() {
        followed = i + 1;
        let id = sequence.id;
        take(sequence, drawn, logits, tokenizer, |event| events.push((id, event)));
        if sequence.done || rows.get(i + 1) != sequence.tokens.last() {
            break;
        }
    }
    let right = followed.saturating_sub(1);
    sequence.speculation.judge(rows.len().saturating_sub(1), right, sequence.tokens.len());
    followed
}

/// Appends the drawn token, or the one the tool forces, and says what follows from it.
fn take(
    sequence: &mut Sequence,
    drawn: Drawn,
    logits: &[f32],
    tokenizer: &Tokenizer,
    mut emit: impl FnMut(Event),
) {
    let Some(token) = drawn.token.map(|token| sequence.tool.take_forced().unwrap_or(token)) else {
        sequence.done = true;
        return emit(Event::Failed(why_none(sequence, logits)));
    };
    let special = tokenizer.special();
    if token == special.assistant_end || token == special.bos {
        return finish(sequence, FinishReason::Stop, emit);
    }
    sequence.append(token, tokenizer);
    let text = sequence.decoder.push(tokenizer.token_bytes(token).unwrap_or_default());
    let text = sequence.stops.push(text);
    let logprobs = drawn.likely.map(|likely| Box::new(likely.of(token, logits)));
    emit(Event::Token { token, text, logprobs });
    if sequence.stops.found() {
        finish(sequence, FinishReason::StopText, emit);
    } else if sequence.generated() >= sequence.request.max_tokens {
        finish(sequence, FinishReason::Length, emit);
    }
}

/// Why nothing could be drawn from a row.
fn why_none(sequence: &Sequence, logits: &[f32]) -> Failure {
    let is_broken = sequence.request.constraint.is_none() || logits.iter().any(|logit| logit.is_nan());
    if is_broken { Failure::NotFinite } else { Failure::Constraint }
}

fn finish(sequence: &mut Sequence, reason: FinishReason, mut emit: impl FnMut(Event)) {
    let last = sequence.decoder.finish();
    let rest = sequence.stops.push(last) + &sequence.stops.finish();
    if !rest.is_empty() {
        emit(Event::Text(rest));
    }
    emit(Event::Finished { reason, usage: sequence.usage() });
    sequence.done = true;
}
