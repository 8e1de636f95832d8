//! A model whose logits are a hash of the tokens that its page tables let it see.
//!
//! It keeps the tokens themselves where a transformer keeps keys and values, so a wrong page, a page given
//! back too early or a page in two hands changes what it says.

use cpu::{Compute, Isa, sampler};
use engine::Limits;
use engine::backend::{
    Backend, BatchItem, LogitRows, NO_PAGE, PAGE, PageClass, SampleParams, Sampled, Shape,
};
pub(crate) use engine::random::mix;
use tokenizer::ChatFormat;

use super::vocabulary;

/// Ids of `vocabulary::bytes` are below this.
pub(crate) const VOCAB_SIZE: usize = 256 + 9;

/// What lies where nothing was written.
const UNWRITTEN: u32 = u32::MAX;
/// By how much the likeliest token stands out.
const FAVOUR: f32 = 6.0;

/// Ways in which a backend would break the engine's promises; tests must notice each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// A sound backend.
    None,
    /// Results depend on how many sequences share the batch.
    SeesNeighbours,
    /// Attention looks a page further back than its window.
    LooksTooFar,
    /// Results depend on how many rows of the sequence are computed at once.
    SeesGuesses,
}

/// What a toy tends to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// Sums for the calculator, broken characters and early ends.
    Varied,
    /// The same few letters in turn, with a slip now and then.
    Chant,
    /// The same few letters in no order.
    Random,
}

/// The backend; (class) stores of (page, offset).
pub(crate) struct Toy {
    shape: Shape,
    limits: Limits,
    format: ChatFormat,
    compute: Compute,
    flaw: Flaw,
    manner: Manner,
    stores: Vec<Vec<u32>>,
    logits: Vec<f32>,
}

impl Toy {
    pub(crate) fn new(shape: Shape, limits: Limits, flaw: Flaw) -> Self {
        let stores = shape.classes.iter().map(|class| vec![UNWRITTEN; class.n_pages * PAGE]).collect();
        let (format, compute) = (vocabulary::format(), Compute::new(Isa::SCALAR, 1));
        Self { shape, limits, format, compute, flaw, manner: Manner::Varied, stores, logits: Vec::new() }
    }

    pub(crate) fn saying(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// A shape with room for `sequences` of full length, if the engine keeps no page longer than needed.
    pub(crate) fn shape(
        sequence_len: usize,
        windows: &[usize],
        step_tokens: usize,
        sequences: usize,
    ) -> Shape {
        let class = |&window: &usize| {
            let of_one = sequence_len.div_ceil(PAGE).min((window + step_tokens).div_ceil(PAGE) + 1);
            PageClass { window, n_pages: of_one * sequences }
        };
        Shape { vocab_size: VOCAB_SIZE, sequence_len, classes: windows.iter().map(class).collect() }
    }

    fn check_bounds(&self, batch: &[BatchItem<'_>]) {
        let rows: usize = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        assert!(!batch.is_empty() && batch.len() <= self.limits.max_running, "{} run", batch.len());
        assert!(rows <= self.limits.step_tokens, "{rows} rows in a step of {}", self.limits.step_tokens);
        for sequence in batch {
            assert!(!sequence.tokens.is_empty(), "a sequence without rows");
            let end = sequence.history.len() + sequence.tokens.len();
            assert!(end <= self.shape.sequence_len, "position {end} is beyond the context");
            assert_eq!(sequence.tables.len(), self.shape.classes.len(), "a table for each class");
            // The first class sees at least the token before.
            if let Some((position, &before)) = sequence.history.iter().enumerate().next_back() {
                assert_eq!(before, self.stores[0][slot(&sequence.tables[0], position)], "at {position}");
            }
        }
    }

    fn write(&mut self, sequence: &BatchItem<'_>) {
        for (store, table) in self.stores.iter_mut().zip(sequence.tables) {
            for (position, &token) in (sequence.history.len()..).zip(sequence.tokens) {
                store[slot(table, position)] = token;
            }
        }
    }

    /// A hash of everything that position `position` sees.
    fn look(&self, sequence: &BatchItem<'_>, position: usize) -> u64 {
        let mut seen = mix(position as u64);
        for ((class, store), table) in self.shape.classes.iter().zip(&self.stores).zip(sequence.tables) {
            let reach = class.window + if self.flaw == Flaw::LooksTooFar { PAGE } else { 0 };
            for visible in position.saturating_sub(reach)..=position {
                let token = store[slot(table, visible)];
                assert_ne!(token, UNWRITTEN, "position {visible} was never written");
                seen = mix(seen ^ u64::from(token));
            }
        }
        seen
    }

    fn say(&mut self, last: u32, seen: u64) {
        let start = self.logits.len();
        let noise = (0..VOCAB_SIZE as u64).map(|id| (mix(seen ^ id << 40) >> 40) as f32 / (1 << 23) as f32);
        self.logits.extend(noise);
        let favourite = self.favourite(last, mix(seen)) as usize;
        self.logits[start + favourite] += FAVOUR;
    }

    fn favourite(&self, last: u32, seen: u64) -> u32 {
        let letter = |n: u32| u32::from(b'a') + n % 9;
        match self.manner {
            Manner::Varied => {}
            Manner::Chant => return letter(last + if seen.is_multiple_of(40) { 5 } else { 1 }),
            Manner::Random => return letter((seen >> 8) as u32),
        }
        let (digit, plus) = (u32::from(b'0') + (seen >> 8) as u32 % 10, u32::from(b'+'));
        let is_digit = (u32::from(b'0')..=u32::from(b'9')).contains(&last);
        let (calculator, messages) = (self.format.calculator.unwrap(), self.format.messages.unwrap());
        if last == calculator.python_start || last == plus {
            return digit;
        }
        match (is_digit, seen % 32) {
            (true, 0..=9) => digit,
            (true, 10..=15) => plus,
            (true, 16..) => calculator.python_end,
            (false, 0..=5) => calculator.python_start,
            (false, 6) => messages.assistant_end,
            (false, 7) => self.format.bos,
            (false, 8..=9) => 0xf0,
            (false, 10..=12) => 0xc3,
            (false, 13..=15) => 0xa4,
            (false, _) => u32::from(b'a') + (seen >> 8) as u32 % 26,
        }
    }
}

impl Backend for Toy {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn forward(&mut self, batch: &[BatchItem<'_>]) {
        self.check_bounds(batch);
        for sequence in batch {
            self.write(sequence);
        }
        self.logits.clear();
        for sequence in batch {
            let last = sequence.tokens.len() - 1;
            // Every row looks, as attention does, whether or not its logits are wanted.
            for row in 0..=last {
                let mut seen = self.look(sequence, sequence.history.len() + row);
                if self.flaw == Flaw::SeesNeighbours {
                    seen = mix(seen ^ batch.len() as u64);
                }
                if self.flaw == Flaw::SeesGuesses && sequence.logits == LogitRows::All {
                    seen = mix(seen ^ last as u64);
                }
                if sequence.logits == LogitRows::All || (sequence.logits == LogitRows::Last && row == last) {
                    self.say(sequence.tokens[row], seen);
                }
            }
        }
    }

    fn sample(&mut self, rows: &[SampleParams<'_>]) -> Vec<Sampled> {
        sampler::sample(&self.compute, &self.logits, VOCAB_SIZE, rows)
    }
}

fn slot(table: &[u32], position: usize) -> usize {
    let page = table[position / PAGE];
    assert_ne!(page, NO_PAGE, "the page of position {position} was given back");
    page as usize * PAGE + position % PAGE
}
