//! Grammars read by the library, in the worker. What the library does with them is bounded by the limits of the process,
//! and following them by counts of its own.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory, earley::SlicedBiasComputer};
use serde_json::{Value, json};
use tokenizer::{Tokenizer, Vocabulary};

use crate::error::GrammarRefusal;
use crate::follow::Followed;
use crate::form::Form;
use crate::{pattern, schema};

/// Work for one set of allowed tokens, in the library's units: some 5 ms.
const STEP_FUEL: u64 = 70_000;
/// Items of the parser for one set: as long again.
const STEP_ITEMS: usize = 20_000;
/// Ways in which a text may be read at once: some 70 optional properties of an object. Of ambiguous grammars the work for
/// a set grows with its square and more.
const ROW_ITEMS: usize = 300;
/// States of the lexer, one or two kilobytes each, that an answer may come to hold.
const LEXER_STATES: usize = 10_000;
/// Work to read a grammar, in the library's units: some 20 ms.
const READING_FUEL: u64 = 300_000;
/// Tokens that a grammar is followed for before its answer begins: what is too costly most often shows at once.
const PROBE: usize = 8;

/// Marks a token that is no text: the library's own mark.
const NO_TEXT: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The library with one model's tokens.
pub(crate) struct Library {
    factory: ParserFactory,
}

impl Library {
    /// Takes a model's tokens, and the one that ends an answer.
    pub(crate) fn new(vocabulary: Vocabulary, end: u32) -> Result<Self, GrammarRefusal> {
        let tokenizer = Tokenizer::new(vocabulary).map_err(|error| GrammarRefusal(error.to_string()))?;
        let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(&tokenizer, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let tokens: TokEnv = Arc::new(ModelTokens { tokenizer, trie });
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
            .map_err(|error| GrammarRefusal::of(&error))?;
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

    /// Reads a grammar and follows it for a few tokens.
    pub(crate) fn read(&self, form: &Form) -> Result<Followed, GrammarRefusal> {
        let grammar = match form {
            Form::JsonObject => self::schema(&json!({ "type": "object" })),
            Form::JsonSchema(schema) => self::schema(schema),
            Form::Lark(grammar) => lark(grammar),
            Form::Regex(regex) => {
                // The library drops a backslash at the end.
                pattern::parse(regex)?;
                Ok(TopLevelGrammar::from_regex(regex))
            }
        }?;
        let end = self.factory.tok_env().tok_trie().eos_token();
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        probe(matcher.deep_clone(), end)?;
        Ok(Followed::new(matcher, end))
    }
}

/// A model's tokens as the library wants them. Texts are tokenized as the model's own are, so that forced texts become the
/// tokens that the model has learned.
struct ModelTokens {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl TokenizerEnv for ModelTokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenizer.encode(text))
    }
}

/// A token as the library wants it: special ones are marked, so that no text is mistaken for them.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    // A token that begins with the mark is no text either.
    if tokenizer.is_special(id) || bytes.first() == Some(&NO_TEXT) {
        let name =
            if tokenizer.is_special(id) { bytes.to_vec() } else { format!("<token {id}>").into_bytes() };
        return [&[NO_TEXT], name.as_slice()].concat();
    }
    bytes.to_vec()
}

/// JSON on one line, with a space after each comma and colon: a model that may put as much space as it likes between two
/// values may never come to the second.
fn schema(schema: &Value) -> Result<TopLevelGrammar, GrammarRefusal> {
    let mut schema = schema::prepare(schema)?;
    schema[schema::OPTIONS] =
        json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    Ok(TopLevelGrammar::from_json_schema(schema))
}

fn lark(grammar: &str) -> Result<TopLevelGrammar, GrammarRefusal> {
    // It would be read without the checks of a schema.
    if grammar.contains("%json") {
        return Err(GrammarRefusal(
            "%json is not supported in a grammar; ask for a schema by response_format".to_owned(),
        ));
    }
    Ok(TopLevelGrammar::from_lark(grammar.to_owned()))
}

fn probe(mut matcher: Matcher, end: u32) -> Result<(), GrammarRefusal> {
    for _ in 0..PROBE {
        let mask = matcher.compute_mask_or_eos().map_err(|error| GrammarRefusal::of(&error))?;
        let Some(token) = mask.iter().find(|&token| token != end) else { break };
        matcher.consume_token(token).map_err(|error| GrammarRefusal::of(&error))?;
    }
    Ok(())
}
