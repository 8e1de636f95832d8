//! Text to token ids and back, and the chat template, for nanochat models.
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

pub use chat::{ChatError, Message, RenderedChat, Role};
pub use error::Error;
pub use split::NANOCHAT_PATTERN;
pub use stream::StreamDecoder;
pub use vocabulary::{MAX_TOKEN_BYTES, MAX_VOCAB_SIZE, NO_TOKEN, SpecialTokens, Vocabulary};

use merge::{MergeScratch, Merger};
use split::Splitter;
use vocabulary::TokenTable;

/// An immutable tokenizer; share it between threads by reference or `Arc`.
#[derive(Debug)]
pub struct Tokenizer {
    tokens: TokenTable,
    special: SpecialTokens,
    /// The ids of all special tokens, in order.
    special_ids: Vec<u32>,
    splitter: Splitter,
    merger: Merger,
}

impl Tokenizer {
    /// Checks a vocabulary and builds the tables to encode and decode with it.
    pub fn new(vocabulary: Vocabulary) -> Result<Tokenizer, Error> {
        let splitter = Splitter::new(&vocabulary.pattern)?;
        let tokens = TokenTable::new(&vocabulary)?;
        let special = SpecialTokens::find(&vocabulary.special)?;
        let mut special_ids: Vec<u32> = vocabulary.special.iter().map(|(_, id)| *id).collect();
        special_ids.sort_unstable();
        let merger = match &vocabulary.merges {
            None => Merger::from_ranks(vocabulary.ranks)?,
            Some(merges) => Merger::from_merges(&vocabulary.ranks, merges)?,
        };
        Ok(Tokenizer { tokens, special, special_ids, splitter, merger })
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

    /// The ids of the tokens of the chat template, or of `bos` alone.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Whether a token is special: no text becomes it.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// Renders a conversation as a prompt that ends where the assistant's reply begins.
    ///
    /// The ids are BOS, the messages each between their start and end tokens, then `assistant_start`.
    /// Roles need not alternate: messages are rendered in the order given. A leading system message
    /// must be followed by a user message and becomes the head of its text, with a blank line between.
    ///
    /// A tokenizer that has `bos` alone gives [`ChatError::NoChatTokens`].
    ///
    /// With a `prompt_budget` in tokens the oldest turns are left out until the prompt fits. A turn is a
    /// user message and everything up to the next user message; what comes before the first user message
    /// is a turn of its own. Decided here:
    /// - BOS and the last turn always stay; if they alone are over the budget, the result is
    ///   [`ChatError::TooLong`].
    /// - The system text outranks old turns. It moves to the first user message that is kept, and is left
    ///   out only when it does not fit beside the last turn; then as many turns as fit are kept without it.
    pub fn render_chat(
        &self,
        messages: &[Message<'_>],
        prompt_budget: Option<usize>,
    ) -> Result<RenderedChat, ChatError> {
        chat::render(self, messages, prompt_budget)
    }
}
