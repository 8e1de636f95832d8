//! Grammars read by the worker of this crate, with the built-in model's tokens.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use engine::{Allowed, Guide, TokenSet};
use formats::TokenizerFile;
use guides::{Error, Form, Grammars, Settings};
use serde_json::Value;
use tokenizer::{Tokenizer, Vocabulary};

pub(crate) static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let bytes = include_bytes!("../../../registry/samosa-mini/tokenizer/tokenizer.pkl");
    let TokenizerFile { pattern, ranks, special, merges } =
        formats::read_tokenizer_pickle("tokenizer.pkl", bytes).unwrap();
    let pattern = pattern.unwrap();
    Arc::new(Tokenizer::new(Vocabulary { pattern, ranks, special, merges }).unwrap())
});

/// How long sets may take here: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn settings() -> Settings {
    Settings {
        command: vec![env!("CARGO_BIN_EXE_grammar-worker").into()],
        deadline: Duration::from_secs(10),
        slow_reads: 4,
        memory_bytes: 128 << 20,
    }
}

pub(crate) fn grammars() -> &'static Grammars {
    static GRAMMARS: LazyLock<Grammars> =
        LazyLock::new(|| Grammars::new(Arc::clone(&TOKENIZER), end(), settings()));
    &GRAMMARS
}

pub(crate) fn json_schema(schema: &Value) -> Result<Box<dyn Guide>, Error> {
    grammars().read(&Form::JsonSchema(schema.clone()), ())
}

pub(crate) fn lark(grammar: &str) -> Result<Box<dyn Guide>, Error> {
    grammars().read(&Form::Lark(grammar.to_owned()), ())
}

pub(crate) fn regex(regex: &str) -> Result<Box<dyn Guide>, Error> {
    grammars().read(&Form::Regex(regex.to_owned()), ())
}

/// The token that ends an answer.
pub(crate) fn end() -> u32 {
    TOKENIZER.special("<|assistant_end|>").unwrap()
}

/// The sets after what was accepted and after each guess; `None` where they cannot be told.
pub(crate) fn sets(constraint: &mut dyn Guide, guess: &[u32]) -> Option<Vec<Vec<u32>>> {
    constraint.prepare(guess);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match constraint.allowed() {
            Allowed::Sets(sets) => return Some(sets.iter().map(ids).collect()),
            Allowed::Any => panic!("a grammar allows some tokens, not all"),
            Allowed::Unknown => return None,
            Allowed::NotYet => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    panic!("the worker gives no sets")
}

fn ids(set: &TokenSet) -> Vec<u32> {
    (0..TOKENIZER.vocab_size() as u32).filter(|&id| set.contains(id)).collect()
}

/// What may come next.
pub(crate) fn allowed(constraint: &mut dyn Guide) -> Vec<u32> {
    let mut sets = sets(constraint, &[]).unwrap();
    assert_eq!(sets.len(), 1);
    sets.remove(0)
}

/// Tokens drawn from what is allowed, up to the end or to so many. A small generator, so that cases can be had again.
pub(crate) fn draw(constraint: &mut dyn Guide, mut seed: u64, most: usize) -> (String, bool) {
    let mut drawn = Vec::new();
    while drawn.len() < most {
        let ids = allowed(constraint);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = ids[(seed >> 33) as usize % ids.len()];
        if id == end() {
            return (TOKENIZER.decode(&drawn), true);
        }
        constraint.accept(id);
        drawn.push(id);
    }
    (TOKENIZER.decode(&drawn), false)
}

/// Whether a text can be said under a constraint, token by token, and ended there.
pub(crate) fn accepts(mut constraint: Box<dyn Guide>, text: &str) -> bool {
    for token in TOKENIZER.encode(text) {
        if !allowed(&mut *constraint).contains(&token) {
            return false;
        }
        constraint.accept(token);
    }
    allowed(&mut *constraint).contains(&end())
}
