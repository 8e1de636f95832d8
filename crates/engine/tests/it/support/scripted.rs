//! An engine that says what a script says, with the tokens of the built-in model.

use std::sync::{Arc, LazyLock};

use cpu::{Compute, Isa, sampler};
use engine::backend::{BatchItem, LogitRows, PAGE, PageClass, SampleParams, Sampled, Shape};
use engine::{Backend, Engine, FinishReason, Limits, Request, Sampling, Usage};
use formats::TokenizerFile;
use guides::Calculator;
use tokenizer::{ChatFormat, Tokenizer, Vocabulary};

use super::run::{Event, run};

pub(crate) static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let bytes = include_bytes!("../../../../registry/samosa-mini/tokenizer/tokenizer.pkl");
    let TokenizerFile { pattern, ranks, special, merges } =
        formats::read_tokenizer_pickle("tokenizer.pkl", bytes).unwrap();
    let pattern = pattern.unwrap();
    Arc::new(Tokenizer::new(Vocabulary { pattern, ranks, special, merges }).unwrap())
});

pub(crate) const SEQUENCE_LEN: usize = 4096;
pub(crate) const PROMPT: [u32; 3] = [1, 2, 3];

/// Says `script[i]` at the i-th position after the prompt, whatever stands there in the end.
pub(crate) struct Scripted {
    shape: Shape,
    script: Vec<u32>,
    logits: Vec<f32>,
}

impl Backend for Scripted {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn forward(&mut self, batch: &[BatchItem<'_>]) {
        self.logits.clear();
        for sequence in batch {
            let start = sequence.history.len();
            let end = start + sequence.tokens.len();
            let first = match sequence.logits {
                LogitRows::None => continue,
                LogitRows::Last => end,
                LogitRows::All => start + 1,
            };
            for next in first..=end {
                let start = self.logits.len();
                self.logits.resize(start + self.shape.vocab_size, 0.0);
                // Guesses may go beyond the script.
                let said = self.script.get(next - PROMPT.len()).copied().unwrap_or_default();
                self.logits[start + said as usize] = 1.0;
            }
        }
    }

    fn sample(&mut self, rows: &[SampleParams<'_>]) -> Vec<Sampled> {
        sampler::sample(&Compute::new(Isa::SCALAR, 1), &self.logits, self.shape.vocab_size, rows)
    }
}

pub(crate) static FORMAT: LazyLock<ChatFormat> = LazyLock::new(|| ChatFormat::nanochat(&TOKENIZER).unwrap());

/// The id of a special token.
pub(crate) fn special(name: &str) -> u32 {
    TOKENIZER.special(&format!("<|{name}|>")).unwrap()
}

pub(crate) fn encode(text: &str) -> Vec<u32> {
    TOKENIZER.encode(text)
}

/// What an answer was.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    /// The text of each token, and what was held back at the end.
    pub(crate) texts: Vec<String>,
    pub(crate) reason: FinishReason,
    pub(crate) completion_tokens: usize,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        self.texts.concat()
    }
}

/// An engine that says `script`, and a request for it.
pub(crate) fn scripted(script: &[u32], max_tokens: usize) -> (Engine<Scripted>, Request) {
    let vocab_size = TOKENIZER.vocab_size();
    let classes = vec![PageClass { window: SEQUENCE_LEN, n_pages: SEQUENCE_LEN / PAGE }];
    let shape = Shape { vocab_size, sequence_len: SEQUENCE_LEN, classes };
    let backend = Scripted { shape, script: script.to_vec(), logits: Vec::new() };
    let sampling = Sampling { temperature: 0.0, top_k: 0, seed: 0, ..Sampling::default() };
    let request = Request::new(PROMPT.to_vec(), max_tokens, sampling, vocab_size, SEQUENCE_LEN).unwrap();
    let calculator = Calculator::new(Arc::clone(&TOKENIZER), FORMAT.calculator.unwrap());
    let request = request.ending_at(Arc::clone(&FORMAT.stop_tokens)).guided(Box::new(calculator));
    (Engine::new(backend, Arc::clone(&TOKENIZER), Limits::default()), request)
}

/// What an engine answers to a request.
pub(crate) fn answer_to(engine: &mut Engine<Scripted>, request: Request) -> Answer {
    let events = run(engine, &[request]).remove(0);
    assert_eq!(events[0], Event::Admitted);
    let (mut tokens, mut texts) = (Vec::new(), Vec::new());
    for event in &events[1..events.len() - 1] {
        match event {
            Event::Token { token, text, .. } => {
                tokens.push(*token);
                texts.push(text.clone());
            }
            Event::Text(text) => texts.push(text.clone()),
            other => panic!("{other:?} in the middle"),
        }
    }
    let Some(Event::Finished { reason, usage }) = events.last() else { panic!("{events:?}") };
    let Usage { completion_tokens, prompt_tokens, .. } = *usage;
    assert_eq!((completion_tokens, prompt_tokens), (tokens.len(), PROMPT.len()));
    Answer { tokens, texts, reason: *reason, completion_tokens }
}
