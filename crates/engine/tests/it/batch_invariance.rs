//! Batch invariance with the real transformer: a request's tokens, and every bit of its logits, are those of
//! its run alone, whatever its neighbours, the step's budget and the number of threads; for every
//! generation, number format and instruction set. Backends that break this on purpose must be noticed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cpu::transformer::KvPlan;
use cpu::{Compute, Isa, KvCache, KvLayout, Session, Transformer, WeightFormat, Weights, sampler};
use engine::backend::Shape;
use engine::backend::{PAGE, SampleParams, Sampled};
use engine::{Backend, BatchItem, Engine, Limits, LogitRows, Request, Sampling};
use formats::TensorTable;
use model::{Config, Overrides};

use crate::support::run::{Event, run};
use crate::support::{vocabulary, wishes};

const MODELS: [&str; 7] = ["g0", "g1", "g3", "g5", "g6", "g7", "g7-wide-heads"];
/// Of `requests`.
const LONG_PROMPTS_FROM: usize = 4;
const FORMATS: [WeightFormat; 4] = WeightFormat::ALL;

fn load(name: &str, format: WeightFormat) -> Arc<Weights> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name);
    let file = |prefix: &str| -> PathBuf {
        let mut files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).unwrap()
    };
    let source = Arc::new(std::fs::File::open(file("model_")).unwrap());
    let table = TensorTable::read("model.pt", source).unwrap();
    let meta = formats::read_meta("meta.json", &std::fs::read(file("meta_")).unwrap()).unwrap();
    let config = Config::read(&table, &meta, &Overrides::default()).unwrap();
    Arc::new(Weights::load(&Compute::new(Isa::SCALAR, 2), &table, config, format).unwrap())
}

/// What each of them asks for beside an answer; see `wishes`.
const WISHES: [u64; 7] = [1, 2 * 3 * 11, 5 * 7, 17 * 2, 11 * 3, 5 * 17, 2];

/// Prompts that are short, longer than a page and longer than the short window; greedy and seeded.
fn requests(weights: &Weights) -> Vec<Request> {
    let Config { vocab_size, sequence_len, .. } = weights.config;
    let request = |(i, &(prompt_len, max_tokens, temperature)): (usize, &(usize, usize, f32))| {
        let prompt = (0..prompt_len).map(|j| ((i * 131 + j * j * 7 + j) % vocab_size) as u32).collect();
        let sampling = Sampling { temperature, top_k: i % 3 * 20, seed: i as u64, ..Sampling::default() };
        let sampling = wishes::sampling(WISHES[i], &sampling);
        let request = Request::new(prompt, max_tokens, sampling, vocab_size, sequence_len).unwrap();
        wishes::request(WISHES[i], vocabulary::chat(request))
    };
    [(1, 9, 0.0), (2, 20, 1.0), (5, 8, 1.0), (31, 5, 0.8), (33, 4, 0.0), (64, 3, 1.5), (150, 6, 1.0)]
        .iter()
        .enumerate()
        .map(request)
        .collect()
}

/// What is done to logits on their way out: (sequences in the batch, one row).
type Meddle = fn(usize, &mut [f32]);

/// A transformer that notes every row of logits it gives.
struct Recorded {
    /// One for batches, and one for a batch of one if that is computed otherwise.
    inner: Transformer,
    lone: Option<Transformer>,
    meddle: Meddle,
    compute: Compute,
    logits: Vec<f32>,
    /// Position and bits of each row.
    seen: Arc<Mutex<Vec<(usize, u64)>>>,
}

impl Backend for Recorded {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn forward(&mut self, batch: &[BatchItem<'_>]) {
        self.inner.forward(batch);
        self.logits = self.inner.logits().to_vec();
        if let Some(lone) = &mut self.lone {
            lone.forward(batch);
            if batch.len() == 1 {
                self.logits = lone.logits().to_vec();
            }
        }
        let positions = batch.iter().flat_map(|sequence| {
            let start = sequence.history.len();
            let end = start + sequence.tokens.len();
            match sequence.logits {
                LogitRows::None => end..end,
                LogitRows::Last => end - 1..end,
                LogitRows::All => start..end,
            }
        });
        let rows = self.logits.chunks_exact_mut(self.inner.shape().vocab_size);
        for (position, row) in positions.zip(rows) {
            (self.meddle)(batch.len(), row);
            self.seen.lock().unwrap().push((position, hash(row)));
        }
    }

    fn sample(&mut self, rows: &[SampleParams<'_>]) -> Vec<Sampled> {
        sampler::sample(&self.compute, &self.logits, self.inner.shape().vocab_size, rows)
    }
}

fn hash(row: &[f32]) -> u64 {
    row.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3))
}

/// Tokens of each request, and the logits of all in order of position.
#[derive(PartialEq)]
struct Outcome {
    tokens: Vec<Vec<u32>>,
    logits: Vec<(usize, u64)>,
}

impl Outcome {
    /// Requests that share no engine.
    fn alone(weights: &Arc<Weights>, setup: &Setup, requests: &[Request]) -> Self {
        let mut all = Self { tokens: Vec::new(), logits: Vec::new() };
        for request in requests {
            let Self { tokens, logits } = Self::together(weights, setup, std::slice::from_ref(request));
            all.tokens.extend(tokens);
            all.logits.extend(logits);
        }
        all.logits.sort_unstable();
        all
    }

    fn together(weights: &Arc<Weights>, setup: &Setup, requests: &[Request]) -> Self {
        let limits = setup.limits();
        let transformer = |isa| {
            let compute = Compute::new(isa, setup.threads);
            let plan = KvPlan::new(&weights.config, weights.format, 8 << 20, limits.step_tokens);
            Transformer::new(Arc::clone(weights), compute, &plan)
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let backend = Recorded {
            inner: transformer(setup.isa),
            lone: setup.isa_of_one.map(transformer),
            meddle: setup.meddle,
            compute: Compute::new(setup.isa, setup.threads),
            logits: Vec::new(),
            seen: Arc::clone(&seen),
        };
        let mut engine = Engine::new(backend, vocabulary::bytes(), limits);
        let mut outcome = Self { tokens: Vec::new(), logits: Vec::new() };
        for round in 0..=setup.rounds_before {
            let events = run(&mut engine, requests);
            let cached: usize = events.iter().map(|events| cached_tokens(events)).sum();
            assert_eq!(cached > 0, round > 0, "{cached} tokens from the cache in round {round}");
            let mut logits = std::mem::take(&mut *seen.lock().unwrap());
            logits.sort_unstable();
            outcome = Self { tokens: events.iter().map(|events| tokens(events)).collect(), logits };
        }
        outcome
    }
}

fn cached_tokens(events: &[Event]) -> usize {
    let Some(Event::Finished { usage, .. }) = events.last() else { panic!("{events:?}") };
    usage.cached_tokens
}

fn tokens(events: &[Event]) -> Vec<u32> {
    let token = |event: &Event| match event {
        Event::Token { token, .. } => Some(*token),
        Event::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

struct Setup {
    isa: Isa,
    /// What a batch of one is computed with, if not `isa`.
    isa_of_one: Option<Isa>,
    threads: usize,
    step_tokens: usize,
    prefix_cache: bool,
    speculation_tokens: usize,
    /// How often the same requests were answered before, so that their prefixes are cached.
    rounds_before: usize,
    meddle: Meddle,
}

impl Setup {
    fn new(isa: Isa, threads: usize, step_tokens: usize) -> Self {
        Self {
            isa,
            isa_of_one: None,
            threads,
            step_tokens,
            prefix_cache: true,
            speculation_tokens: 0,
            rounds_before: 0,
            meddle: |_, _| {},
        }
    }

    fn limits(&self) -> Limits {
        // A step is never smaller than its decoding sequences and one more row.
        let max_running = (self.step_tokens - 1).min(16);
        let Self { step_tokens, prefix_cache, speculation_tokens, .. } = *self;
        Limits { max_running, step_tokens, prefix_cache, speculation_tokens, ..Limits::default() }
    }
}

/// The specification of the kernels takes its time with the wide model: it gets short prompts for it.
fn is_slow(isa: Isa, weights: &Weights) -> bool {
    isa == Isa::SCALAR && weights.config.n_embd > 64
}

/// Every model in every format on every instruction set. The specification of the kernels, which takes its time, has
/// each model but the wide one in one format, and each format in one model or two.
fn combinations() -> impl Iterator<Item = (String, Arc<Weights>, Isa)> {
    let pairs = MODELS.iter().zip(FORMATS.iter().cycle());
    let pairs = pairs.flat_map(|(name, slow_in)| FORMATS.map(|format| (name, format, format == *slow_in)));
    pairs.flat_map(|(name, format, has_slow)| {
        let weights = load(name, format);
        let is_in = |isa: &Isa| *isa != Isa::SCALAR || has_slow && !is_slow(*isa, &weights);
        let isas: Vec<Isa> = Isa::available().into_iter().filter(is_in).collect();
        isas.into_iter()
            .map(move |isa| (format!("{name} {format:?} {}", isa.name()), Arc::clone(&weights), isa))
    })
}

fn check(name: &str, format: WeightFormat) {
    let weights = load(name, format);
    let requests = requests(&weights);
    for isa in Isa::available() {
        let requests = &requests[..if is_slow(isa, &weights) { LONG_PROMPTS_FROM } else { requests.len() }];
        let alone = Outcome::alone(&weights, &Setup::new(isa, 1, 256), requests);
        assert!(alone.tokens.iter().map(Vec::len).sum::<usize>() > 20, "answers are not trivial");
        for (threads, step_tokens) in [(1, 7), (1, 256), (2, 3), (2, 64)] {
            let together = Outcome::together(&weights, &Setup::new(isa, threads, step_tokens), requests);
            let setup =
                format!("{name} {format:?} {}, {threads} threads, steps of {step_tokens}", isa.name());
            assert_eq!(together.tokens, alone.tokens, "{setup}");
            assert!(together.logits == alone.logits, "the same tokens from other logits: {setup}");
        }
    }
}

#[test]
fn exact_weights() {
    for name in MODELS {
        check(name, WeightFormat::F32);
    }
}

#[test]
fn bf16_weights() {
    for name in MODELS {
        check(name, WeightFormat::Bf16);
    }
}

#[test]
fn int8_weights() {
    for name in MODELS {
        check(name, WeightFormat::Int8);
    }
}

#[test]
fn int4_weights() {
    for name in MODELS {
        check(name, WeightFormat::Int4);
    }
}

#[test]
fn cached_prefixes_give_the_bits_of_computed_ones() {
    for (what, weights, isa) in combinations() {
        let requests = requests(&weights);
        let setup = Setup { prefix_cache: false, ..Setup::new(isa, 1, 256) };
        let uncached = Outcome::alone(&weights, &setup, &requests);
        for (step_tokens, rounds_before) in [(256, 0), (256, 1), (7, 1), (64, 2)] {
            let setup = Setup { rounds_before, ..Setup::new(isa, 2, step_tokens) };
            let cached = Outcome::together(&weights, &setup, &requests);
            assert!(cached == uncached, "{what}, round {rounds_before} in steps of {step_tokens}");
        }
    }
}

/// Rows of guesses that were wrong have logits that nobody asked for; all others must be there, bit for bit.
#[test]
fn guesses_change_no_bit() {
    let mut guessed_rows = 0;
    for (what, weights, isa) in combinations() {
        let Config { vocab_size, sequence_len, .. } = weights.config;
        let request = |seed: u64| {
            let prompt = (0..40).map(|j| ((j % 5 * 31 + seed * 7) % vocab_size as u64) as u32).collect();
            // Sharp enough to repeat itself, now and then.
            let sampling = Sampling {
                temperature: [0.0, 0.02][seed as usize % 2],
                top_k: 0,
                seed,
                ..Sampling::default()
            };
            vocabulary::chat(Request::new(prompt, 60, sampling, vocab_size, sequence_len).unwrap())
        };
        let requests: Vec<Request> = (0..4).map(request).collect();
        let setup = |speculation_tokens| Setup { speculation_tokens, ..Setup::new(isa, 2, 64) };
        let plain = Outcome::alone(&weights, &setup(0), &requests);
        for (speculation_tokens, n) in [(7, 1), (7, 2), (2, 4)] {
            let speculative: Vec<Outcome> = requests
                .chunks(n)
                .map(|requests| Outcome::together(&weights, &setup(speculation_tokens), requests))
                .collect();
            let tokens: Vec<&Vec<u32>> = speculative.iter().flat_map(|outcome| &outcome.tokens).collect();
            assert!(tokens.into_iter().eq(&plain.tokens), "{what}, {n} at once");
            let mut rows: Vec<(usize, u64)> =
                speculative.iter().flat_map(|outcome| outcome.logits.iter().copied()).collect();
            rows.sort_unstable();
            guessed_rows += rows.len() - plain.logits.len();
            let mut rows = rows.into_iter();
            assert!(plain.logits.iter().all(|row| rows.any(|other| other == *row)), "{what}");
        }
    }
    assert!(guessed_rows > 100, "{guessed_rows} rows were guessed in vain, or this shows nothing");
}

/// Whether (tokens, logits) of requests in company differ from those alone.
fn differs(weights: &Arc<Weights>, setup: &Setup) -> (bool, bool) {
    let requests = requests(weights);
    let alone = Outcome::alone(weights, setup, &requests);
    let together = Outcome::together(weights, setup, &requests);
    (alone.tokens != together.tokens, alone.logits != together.logits)
}

#[test]
fn logits_that_depend_on_the_batch_are_noticed() {
    let weights = load("g7", WeightFormat::F32);
    let with = |meddle| Setup { meddle, ..Setup::new(Isa::detect(), 1, 64) };
    assert_eq!(differs(&weights, &with(|_, _| {})), (false, false), "the control of the control");
    let visible = |sequences: usize, row: &mut [f32]| {
        row.iter_mut().enumerate().for_each(|(id, logit)| *logit += (id * sequences % 7) as f32);
    };
    assert_eq!(differs(&weights, &with(visible)), (true, true));
    let one_bit = |sequences: usize, row: &mut [f32]| {
        row[700] = f32::from_bits(row[700].to_bits() ^ u32::from(sequences > 1));
    };
    assert!(differs(&weights, &with(one_bit)).1, "the last bit of one logit");
}

/// A server that has one kernel for single rows and another for batches: the classic way to break this.
#[test]
fn another_order_of_sums_for_a_batch_of_one_is_noticed() {
    let fast = Isa::detect();
    if fast == Isa::SCALAR {
        return;
    }
    let weights = load("g7", WeightFormat::F32);
    let setup = Setup { isa_of_one: Some(Isa::SCALAR), ..Setup::new(fast, 1, 64) };
    assert!(differs(&weights, &setup).1);
    let same = Setup { isa_of_one: Some(fast), ..Setup::new(fast, 1, 64) };
    assert_eq!(differs(&weights, &same), (false, false), "the control of the control");
}

/// A sequence under way in a session, its pages given out by hand.
struct Run {
    tokens: Vec<u32>,
    tables: Vec<Vec<u32>>,
}

const SEQUENCES: usize = 16;
const STEPS: usize = 3;
const BLOCKS: usize = 5;

impl Run {
    /// Sequence `i`; its pages lie among those of the others, in falling order.
    fn new(weights: &Weights, i: usize, step: usize, classes: usize) -> Self {
        let vocab_size = weights.config.vocab_size;
        let tokens = (0..3 + i * step).map(|j| ((i * 37 + j * 11) % vocab_size) as u32).collect();
        let table = (0..BLOCKS).map(|block| ((BLOCKS - 1 - block) * SEQUENCES + i) as u32).collect();
        Self { tokens, tables: vec![table; classes] }
    }

    /// Rows from `position` on.
    fn rows(&self, position: usize) -> BatchItem<'_> {
        let (history, tokens) = self.tokens.split_at(position);
        BatchItem { tokens, history, tables: &self.tables, logits: LogitRows::Last }
    }
}

/// Sixteen prompts in a session.
struct Prompts<'a> {
    weights: &'a Weights,
    session: Session,
    runs: Vec<Run>,
}

impl<'a> Prompts<'a> {
    fn read(weights: &'a Weights, compute: &Compute) -> Self {
        let layout = KvLayout::new(&weights.config, weights.format);
        let n_pages = vec![BLOCKS * SEQUENCES; layout.classes.len()];
        let mut session = Session::new(KvCache::new(&layout, &n_pages));
        let longer = if is_slow(compute.isa, weights) { 2 } else { 9 };
        let runs: Vec<Run> = (0..SEQUENCES).map(|i| Run::new(weights, i, longer, n_pages.len())).collect();
        assert!(runs.iter().all(|run| run.tokens.len() + STEPS <= BLOCKS * PAGE));
        for run in &runs {
            session.forward(compute, weights, &[run.rows(0)]);
        }
        Self { weights, session, runs }
    }

    /// Logits of every sequence after each of the same few tokens, decoded in batches of `batch`.
    fn decode(&mut self, compute: &Compute, batch: usize) -> Vec<Vec<u32>> {
        let mut logits = vec![Vec::new(); SEQUENCES];
        for step in 0..STEPS {
            for (i, run) in self.runs.iter_mut().enumerate() {
                run.tokens.push((i * 5 + step * 97) as u32);
            }
            for first in (0..SEQUENCES).step_by(batch) {
                let runs = &self.runs[first..first + batch];
                let rows: Vec<BatchItem<'_>> =
                    runs.iter().map(|run| run.rows(run.tokens.len() - 1)).collect();
                let given = self.session.forward(compute, self.weights, &rows);
                for (row, of) in given.chunks_exact(self.weights.config.vocab_size).zip(&mut logits[first..])
                {
                    of.extend(row.iter().map(|logit| logit.to_bits()));
                }
            }
        }
        for run in &mut self.runs {
            run.tokens.truncate(run.tokens.len() - STEPS);
        }
        logits
    }
}

#[test]
fn decoding_sixteen_at_once_gives_the_bits_of_decoding_one() {
    for (what, weights, isa) in combinations() {
        let [one, two] = [1, 2].map(|threads| Compute::new(isa, threads));
        let mut prompts = Prompts::read(&weights, &two);
        let alone = prompts.decode(&one, 1);
        assert!(alone.windows(2).all(|pair| pair[0] != pair[1]), "sequences differ");
        for (compute, batch) in [(&one, 16), (&two, 16), (&two, 4)] {
            let equal = prompts.decode(compute, batch) == alone;
            assert!(equal, "{what}, {batch} on {} threads", compute.pool.threads());
        }
    }
}

/// The smallest pool still serves a sequence that fills the context.
#[test]
fn no_memory_for_keys_and_values_is_memory_for_one_sequence() {
    let weights = load("g7", WeightFormat::F32);
    let Config { vocab_size, sequence_len, .. } = weights.config;
    let limits = Limits { max_running: 2, step_tokens: 100, ..Limits::default() };
    let plan = KvPlan::new(&weights.config, weights.format, 0, limits.step_tokens);
    let transformer = Transformer::new(weights, Compute::new(Isa::detect(), 1), &plan);
    let mut engine = Engine::new(transformer, vocabulary::bytes(), limits);
    let sampling = Sampling { temperature: 0.0, top_k: 0, seed: 0, ..Sampling::default() };
    let full = |prompt_len| {
        let prompt = vec![1; prompt_len];
        Request::new(prompt, sequence_len, sampling.clone(), vocab_size, sequence_len).unwrap()
    };
    let events = run(&mut engine, &[full(sequence_len - 1), full(sequence_len - 30)]);
    assert_eq!(tokens(&events[0]).len(), 1);
    assert!(!tokens(&events[1]).is_empty());
}

/// What is planned before a model is loaded is what there is afterwards.
#[test]
fn plans_are_kept() {
    for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
        let weights = load("g7", format);
        assert_eq!(Weights::planned_matrix_bytes(&weights.config, format), weights.matrix_bytes());
        let plan = |kv_bytes| KvPlan::new(&weights.config, format, kv_bytes, 100);
        let one = plan(0).bytes();
        for (kv_bytes, sequences) in [(0, 1), (one, 1), (5 * one, 5), (6 * one - 1, 5)] {
            let planned = plan(kv_bytes);
            assert_eq!((planned.sequences, planned.bytes()), (sequences, sequences * one));
        }
    }
}
