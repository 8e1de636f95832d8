//! What an answer must look like: a JSON Schema, a grammar or a regular expression, as sets of tokens that may come next.
//!
//! The parsing is done by the library llguidance; this crate gives it a model's tokens, bounds what it may spend, and
//! makes [`engine::Constraint`]s of what it finds. It knows nothing of requests and HTTP.

#![forbid(unsafe_code)]

mod constraint;
mod error;

use std::sync::Arc;
use std::thread;

use engine::Constraint;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, earley::SlicedBiasComputer};
use serde_json::{Value, json};
use tokenizer::Tokenizer;

pub use error::Error;

use constraint::Followed;

/// Work for one set of allowed tokens, in the library's units: some 5 ms.
const STEP_FUEL: u64 = 70_000;
/// Items of the parser for one set: as long again.
const STEP_ITEMS: usize = 20_000;
/// Ways in which a text may be read at once: some 70 optional properties of an object. Of ambiguous grammars the work for
/// a set grows with its square and more.
const ROW_ITEMS: usize = 300;
/// States of the lexer, one or two kilobytes each, that an answer may come to hold.
const LEXER_STATES: usize = 10_000;
/// Bytes of the stack on which forms are read: the library follows definitions within definitions by calling itself,
/// and takes up to 10 kB for each. It is memory only as far as it is used.
const STACK: usize = 256 << 20;
/// Bytes of a schema as text. This and the next two bound how deep definitions go, and the time to read them.
const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Bytes of a grammar.
const MAX_GRAMMAR_BYTES: usize = 16 << 10;
/// Bytes of a regular expression.
const MAX_REGEX_BYTES: usize = 4 << 10;
/// Work to read a form, in the library's units: some 20 ms.
const READING_FUEL: u64 = 300_000;
/// Tokens that a form is followed for before anybody waits for an answer in it.
const PROBE: usize = 8;
/// The option of the library inside a schema; ours alone to give.
const OPTIONS: &str = "x-guidance";

/// Makes constraints for the answers of one model. Immutable; made once for each tokenizer.
pub struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// Takes a model's tokens. An answer ends with the end of the assistant's turn.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
        let info = TokRxInfo::new(words.len() as u32, tokenizer.special().end_of_answer());
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words)));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
            .map_err(|error| Error::of(&error))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = READING_FUEL;
        limits.step_lexer_fuel = STEP_FUEL;
        limits.step_max_items = STEP_ITEMS;
        limits.max_items_in_row = ROW_ITEMS;
        limits.max_lexer_states = LEXER_STATES;
        limits.verbose_errors = false;
        Ok(Self { factory })
    }

    /// A JSON object, whatever is in it.
    pub fn json_object(&self) -> Result<Box<dyn Constraint>, Error> {
        self.json_schema(&json!({ "type": "object" }))
    }

    /// JSON that a schema allows, on one line, with a space after each comma and colon.
    pub fn json_schema(&self, schema: &Value) -> Result<Box<dyn Constraint>, Error> {
        let Value::Object(fields) = schema else { return Err(Error("a schema is a JSON object".to_owned())) };
        if fields.contains_key(OPTIONS) {
            return Err(Error(format!("the keyword \"{OPTIONS}\" is not supported")));
        }
        bounded(schema.to_string().len(), MAX_SCHEMA_BYTES)?;
        bounded_patterns(schema)?;
        let mut schema = schema.clone();
        // A model that may put as much space as it likes between two values may never come to the second.
        schema[OPTIONS] =
            json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        self.constraint(TopLevelGrammar::from_json_schema(schema))
    }

    /// Text that a grammar in Lark's syntax derives, from its rule `start`.
    pub fn lark(&self, grammar: &str) -> Result<Box<dyn Constraint>, Error> {
        bounded(grammar.len(), MAX_GRAMMAR_BYTES)?;
        self.constraint(TopLevelGrammar::from_lark(grammar.to_owned()))
    }

    /// Text that a regular expression matches from its beginning to its end.
    pub fn regex(&self, regex: &str) -> Result<Box<dyn Constraint>, Error> {
        bounded(regex.len(), MAX_REGEX_BYTES)?;
        self.constraint(TopLevelGrammar::from_regex(regex))
    }

    fn constraint(&self, grammar: TopLevelGrammar) -> Result<Box<dyn Constraint>, Error> {
        let made = thread::scope(|scope| {
            let make = || {
                let matcher = Matcher::new(self.factory.create_parser(grammar));
                self.probe(matcher.deep_clone()).map(|()| matcher)
            };
            let maker = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
            maker.spawn_scoped(scope, make).map(thread::ScopedJoinHandle::join)
        });
        match made {
            Ok(Ok(matcher)) => Ok(Box::new(Followed::new(matcher?, self.end()))),
            Ok(Err(_)) | Err(_) => Err(Error("there was no reading it".to_owned())),
        }
    }

    /// Follows a form for some tokens: what is too large most often shows at once.
    fn probe(&self, mut matcher: Matcher) -> Result<(), Error> {
        for _ in 0..PROBE {
            let mask = matcher.compute_mask_or_eos().map_err(|error| Error::of(&error))?;
            let Some(token) = mask.iter().find(|&token| token != self.end()) else { break };
            matcher.consume_token(token).map_err(|error| Error::of(&error))?;
        }
        Ok(())
    }

    /// The token that ends an answer.
    fn end(&self) -> u32 {
        self.factory.tok_env().tok_trie().eos_token()
    }
}

fn bounded(bytes: usize, most: usize) -> Result<(), Error> {
    if bytes <= most {
        Ok(())
    } else {
        Err(Error(format!("it has {bytes} bytes, but at most {most} are allowed")))
    }
}

/// The expressions in a schema are as long as others may be. Schemas were read as JSON, which bounds their depth.
fn bounded_patterns(schema: &Value) -> Result<(), Error> {
    match schema {
        Value::Array(items) => items.iter().try_for_each(bounded_patterns),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let pattern = value.as_str().filter(|_| name == "pattern").unwrap_or_default();
            bounded(pattern.len().max(name.len()), MAX_REGEX_BYTES)?;
            bounded_patterns(value)
        }),
        _ => Ok(()),
    }
}

/// A token as the library wants it: special ones are marked, so that no text is mistaken for them.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    // The marker is a byte that no text has; a token that begins with it is no text either.
    if tokenizer.is_special(id) || bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
        let name =
            if tokenizer.is_special(id) { bytes.to_vec() } else { format!("<token {id}>").into_bytes() };
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_slice()].concat();
    }
    bytes.to_vec()
}
