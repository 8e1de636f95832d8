//! What a tokenizer is made from, and the checks that make it safe to use: every byte has a token, ids are
//! unique and bounded. Not the merge tables (`merge`), the tokens of conversations (`chat`), nor a file reader.

use crate::{Error, NANOCHAT_PATTERN};
use rustc_hash::FxHashSet;

/// Token ids are below this. Upstream vocabularies have 32,768 or 65,536 tokens.
pub const MAX_VOCAB_SIZE: usize = 1 << 20;

/// A token has at most this many bytes. It bounds the work to find the merges of a token.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// All tokens together have at most this many bytes.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// The parts of a tokenizer as a model file gives them, unchecked.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// The regular expression that splits text into pieces before merging.
    pub pattern: String,
    /// Ordinary tokens: their bytes and id. Special tokens must not be among them.
    pub ranks: Vec<(Vec<u8>, u32)>,
    /// Special tokens: their literal text and id.
    pub special: Vec<(String, u32)>,
    /// How pieces are merged.
    ///
    /// `None` is tiktoken's way: a piece that is a token is that token, any other piece starts as single
    /// bytes and the adjacent pair whose joined bytes have the lowest id is merged, the leftmost of equals.
    /// `Some` is the way of Hugging Face BPE: only these pairs of ids are merged, the earliest in the list
    /// first, the leftmost of equals, and a piece that is a token is not looked up whole.
    pub merges: Option<Vec<(u32, u32)>>,
}

/// nanochat's special tokens in the order of their ids.
pub(crate) const NANOCHAT_SPECIAL: [&str; 9] = [
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
];

impl Vocabulary {
    /// The vocabulary of a bare table of ranks: nanochat's pattern, and its special tokens after the highest rank.
    pub fn nanochat(ranks: Vec<(Vec<u8>, u32)>) -> Self {
        let first = ranks.iter().map(|(_, rank)| rank.saturating_add(1)).max().unwrap_or(0);
        let special = NANOCHAT_SPECIAL.into_iter().zip(0..);
        let special = special.map(|(name, at)| (name.to_owned(), first.saturating_add(at))).collect();
        Self { pattern: NANOCHAT_PATTERN.to_owned(), ranks, special, merges: None }
    }
}

/// The bytes of every token, by id.
#[derive(Debug)]
pub(crate) struct TokenTable {
    bytes: Vec<u8>,
    /// Start and length in `bytes` by id. No token is empty, so length 0 marks an id that does not exist.
    spans: Vec<(u32, u32)>,
}

impl TokenTable {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Result<TokenTable, Error> {
        let tokens = vocabulary.ranks.len().saturating_add(vocabulary.special.len());
        if tokens > MAX_VOCAB_SIZE {
            return Err(Error::TooManyTokens { tokens, limit: MAX_VOCAB_SIZE });
        }
        let mut table = TokenTable { bytes: Vec::new(), spans: Vec::new() };
        let mut texts = FxHashSet::default();
        for (bytes, id) in &vocabulary.ranks {
            table.insert(*id, bytes)?;
            if !texts.insert(bytes.as_slice()) {
                return Err(Error::DuplicateBytes { id: *id });
            }
        }
        if let Some(byte) = (0..=u8::MAX).find(|byte| !texts.contains([*byte].as_slice())) {
            return Err(Error::MissingByte { byte });
        }
        let mut names = FxHashSet::default();
        for (name, id) in &vocabulary.special {
            table.insert(*id, name.as_bytes())?;
            if !names.insert(name) {
                return Err(Error::DuplicateSpecial { id: *id });
            }
        }
        Ok(table)
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let (start, len) = *self.spans.get(id as usize)?;
        if len == 0 {
            return None;
        }
        self.bytes.get(start as usize..(start + len) as usize)
    }

    fn insert(&mut self, id: u32, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Err(Error::EmptyToken { id });
        }
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(Error::TokenTooLong { id, bytes: bytes.len(), limit: MAX_TOKEN_BYTES });
        }
        if id as usize >= MAX_VOCAB_SIZE {
            return Err(Error::IdTooLarge { id, limit: MAX_VOCAB_SIZE });
        }
        let start = self.bytes.len();
        if start + bytes.len() > MAX_TOTAL_BYTES {
            return Err(Error::TotalTooLong { bytes: start + bytes.len(), limit: MAX_TOTAL_BYTES });
        }
        if self.spans.len() <= id as usize {
            self.spans.resize(id as usize + 1, (0, 0));
        }
        let span = &mut self.spans[id as usize];
        if span.1 != 0 {
            return Err(Error::DuplicateId { id });
        }
        *span = (start as u32, bytes.len() as u32);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
