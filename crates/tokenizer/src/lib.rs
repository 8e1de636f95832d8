//! Text to token ids and back, and how conversations are written as tokens.
//!
//! Pure: no files, no clock, no state after construction. It does not read tokenizer files; `formats`
//! turns a `tokenizer.pkl` or `tokenizer.json` into the parts of a [`Vocabulary`].
//!
//! Where to look next, in the order that text flows:
//! - `vocabulary`: what a model file must hold before anything is encoded with it
//! - `split`: text into pieces, by the hand-written scanner or by the file's own regex
//! - `merge`: one piece into ids, by byte-pair merges
//! - `chat`: messages into a prompt, with truncation by whole turns
//! - `stream`: token bytes back into whole UTF-8 characters

#![forbid(unsafe_code)]

mod vocabulary;

mod split;

mod merge;

mod chat;

mod stream;

mod error;

pub use chat::{CalculatorTokens, ChatError, ChatFormat, Message, MessageTokens, RenderedChat, Role};
pub use error::Error;
pub use split::NANOCHAT_PATTERN;
pub use stream::StreamDecoder;
pub use vocabulary::{MAX_TOKEN_BYTES, MAX_VOCAB_SIZE, Vocabulary};

use std::collections::BTreeMap;

use merge::{MergeScratch, Merger};
use split::Splitter;
use vocabulary::TokenTable;

/// An immutable tokenizer; share it between threads by reference or `Arc`.
#[derive(Debug)]
pub struct Tokenizer {
    tokens: TokenTable,
    pattern: String,
    /// The merges of Hugging Face's kind.
    merges: Option<Vec<(u32, u32)>>,
    /// The special tokens by id.
    special: BTreeMap<u32, String>,
    splitter: Splitter,
    merger: Merger,
}

impl Tokenizer {
    /// Checks a vocabulary and builds the tables to encode and decode with it.
    pub fn new(vocabulary: Vocabulary) -> Result<Tokenizer, Error> {
        let splitter = Splitter::new(&vocabulary.pattern)?;
        let tokens = TokenTable::new(&vocabulary)?;
        let special = vocabulary.special.iter().map(|(name, id)| (*id, name.clone())).collect();
        let merger = match &vocabulary.merges {
            None => Merger::from_ranks(vocabulary.ranks)?,
            Some(merges) => Merger::from_merges(&vocabulary.ranks, merges)?,
        };
        Ok(Tokenizer {
            tokens,
            pattern: vocabulary.pattern,
            merges: vocabulary.merges,
            special,
            splitter,
            merger,
        })
    }

    /// The highest token id plus one. Ids may have gaps, so not every id below it need exist.
    pub fn vocab_size(&self) -> usize {
        self.tokens.vocab_size()
    }

    /// The ids of `text` as ordinary text: never a special id, whatever the text spells.
    ///
    /// Cannot fail, and takes time near linear in the length of `text` for the nanochat pattern.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        // English text has about four bytes to a token; a wrong guess costs one reallocation.
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        let mut scratch = MergeScratch::default();
        self.splitter.split(text, |piece| self.merger.encode(piece.as_bytes(), &mut scratch, &mut ids));
        ids
    }

    /// The bytes that a token stands for, the literal text for a special token; `None` for an id that
    /// does not exist.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokens.bytes(id)
    }

    /// The text of `ids`, with U+FFFD for what is not UTF-8. Ids that do not exist add nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(ids.len().saturating_mul(4));
        for id in ids {
            bytes.extend_from_slice(self.token_bytes(*id).unwrap_or_default());
        }
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The parts that it was made from, so that another process can make the same.
    pub fn vocabulary(&self) -> Vocabulary {
        let ids = (0..self.vocab_size() as u32).filter(|id| !self.is_special(*id));
        let ranks = ids.filter_map(|id| Some((self.token_bytes(id)?.to_vec(), id))).collect();
        let special = self.special.iter().map(|(id, name)| (name.clone(), *id)).collect();
        Vocabulary { pattern: self.pattern.clone(), ranks, special, merges: self.merges.clone() }
    }

    /// The id of the special token that is spelled `name`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.special.iter().find(|(_, special)| *special == name).map(|(id, _)| *id)
    }

    /// Whether a token is special: no text becomes it.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains_key(&id)
    }
}
