//! Log probabilities: one entry for each token whose text is part of the answer, given out together with that text.
//!
//! The engine holds back what may become a stop text, and characters wait for their last byte; so tokens wait here until
//! all that their bytes became was given out. What a stop text cut off, even in part, is never told of.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::{FinishReason, Logprobs};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tokenizer::{StreamDecoder, Tokenizer};

/// What clients read where nothing is possible: JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

/// A token of an answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct LogprobEntry {
    pub(super) token: u32,
    pub(super) logprob: f32,
    /// The likeliest tokens, the likeliest first.
    pub(super) top: Vec<(u32, f32)>,
    /// Characters of the answer before it; a character that it goes on with counts as after it.
    pub(super) offset: usize,
}

/// Tokens whose text was not given out yet.
pub(super) struct PendingLogprobs {
    tokenizer: Arc<Tokenizer>,
    decoder: StreamDecoder,
    entries: VecDeque<(LogprobEntry, TextEnd)>,
    /// Bytes and characters that the tokens became so far.
    decoded: DecodedLength,
    /// Bytes of text that were given out.
    given: usize,
}

#[derive(Clone, Copy, Default)]
struct DecodedLength {
    bytes: usize,
    chars: usize,
}

/// Where the text of a token ends, in bytes.
#[derive(Clone, Copy, PartialEq)]
enum TextEnd {
    At(usize),
    /// At the end of a character that is not complete.
    Open,
}

impl PendingLogprobs {
    pub(super) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let (decoder, decoded) = (StreamDecoder::new(), DecodedLength::default());
        Self { tokenizer, decoder, entries: VecDeque::new(), decoded, given: 0 }
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Takes a token and the text that was given out with it. Returns the entries that this text completes.
    pub(super) fn token(
        &mut self,
        token: u32,
        logprobs: Option<Box<Logprobs>>,
        text: &str,
    ) -> Vec<LogprobEntry> {
        let bytes = self.tokenizer.token_bytes(token).unwrap_or_default();
        let became = self.decoder.push(bytes);
        // What was open ends with the first character that came of it.
        if let Some(first) = became.chars().next() {
            self.close(self.decoded.bytes + first.len_utf8());
        }
        let offset = self.decoded.chars;
        self.decoded.bytes += became.len();
        self.decoded.chars += became.chars().count();
        let is_whole = self.decoder.clone().finish().is_empty();
        let end = if is_whole { TextEnd::At(self.decoded.bytes) } else { TextEnd::Open };
        if let Some(logprobs) = logprobs {
            let Logprobs { logprob, top } = *logprobs;
            self.entries.push_back((LogprobEntry { token, logprob, top, offset }, end));
        }
        self.give(text)
    }

    /// Takes text that was held back until the end.
    pub(super) fn held(&mut self, text: &str) -> Vec<LogprobEntry> {
        let rest = self.decoder.finish();
        self.close(self.decoded.bytes + rest.len());
        self.decoded.bytes += rest.len();
        self.give(text)
    }

    /// The answer is complete. Returns the entries that are left and part of it.
    pub(super) fn finish(&mut self, reason: FinishReason) -> Vec<LogprobEntry> {
        match reason {
            FinishReason::StopText => Vec::new(),
            FinishReason::Stop | FinishReason::Length => {
                self.entries.drain(..).map(|(entry, _)| entry).collect()
            }
        }
    }

    fn close(&mut self, at: usize) {
        for (_, end) in self.entries.iter_mut().rev().take_while(|(_, end)| *end == TextEnd::Open) {
            *end = TextEnd::At(at);
        }
    }

    fn give(&mut self, text: &str) -> Vec<LogprobEntry> {
        self.given += text.len();
        let given = self.given;
        let complete = |end: TextEnd| matches!(end, TextEnd::At(at) if at <= given);
        let count = self.entries.iter().take_while(|(_, end)| complete(*end)).count();
        self.entries.drain(..count).map(|(entry, _)| entry).collect()
    }
}

/// `logprobs` of a chat's choice.
#[derive(Serialize)]
pub(super) struct ChatLogprobs {
    content: Vec<ChatToken>,
    /// There is none.
    refusal: Option<()>,
}

#[derive(Serialize)]
struct ChatToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<ChatTop>,
}

#[derive(Serialize)]
struct ChatTop {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    pub(super) fn new(entries: &[LogprobEntry], tokenizer: &Tokenizer) -> Self {
        let top = |&(token, logprob): &(u32, f32)| ChatTop {
            token: tokenizer.decode(&[token]),
            logprob: finite(logprob),
            bytes: bytes(token, tokenizer),
        };
        let token = |entry: &LogprobEntry| ChatToken {
            token: tokenizer.decode(&[entry.token]),
            logprob: finite(entry.logprob),
            bytes: bytes(entry.token, tokenizer),
            top_logprobs: entry.top.iter().map(top).collect(),
        };
        Self { content: entries.iter().map(token).collect(), refusal: None }
    }
}

/// `logprobs` of a text completion's choice.
#[derive(Serialize)]
pub(super) struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<TopByText>,
    text_offset: Vec<usize>,
}

/// Log probabilities by token.
struct TopByText(Vec<(String, f32)>);

impl Serialize for TopByText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, logprob) in &self.0 {
            map.serialize_entry(token, logprob)?;
        }
        map.end()
    }
}

impl TextLogprobs {
    pub(super) fn new(entries: &[LogprobEntry], tokenizer: &Tokenizer) -> Self {
        Self {
            tokens: entries.iter().map(|entry| name(entry.token, tokenizer)).collect(),
            token_logprobs: entries.iter().map(|entry| finite(entry.logprob)).collect(),
            top_logprobs: entries.iter().map(|entry| Self::top(entry, tokenizer)).collect(),
            text_offset: entries.iter().map(|entry| entry.offset).collect(),
        }
    }

    /// The likeliest, and the token itself if it is not among them.
    fn top(entry: &LogprobEntry, tokenizer: &Tokenizer) -> TopByText {
        let is_there = entry.top.iter().any(|(token, _)| *token == entry.token);
        let own = (!is_there).then_some((entry.token, entry.logprob));
        let named = |(token, logprob)| (name(token, tokenizer), finite(logprob));
        TopByText(entry.top.iter().copied().chain(own).map(named).collect())
    }
}

/// A name that no other token has: its text, or its bytes if they are none.
fn name(token: u32, tokenizer: &Tokenizer) -> String {
    let bytes = tokenizer.token_bytes(token).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}")),
    }
}

fn bytes(token: u32, tokenizer: &Tokenizer) -> Vec<u8> {
    tokenizer.token_bytes(token).unwrap_or_default().to_vec()
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}

#[cfg(test)]
mod tests {
    use cpu::{Compute, Isa, WeightFormat};
    use registry::{Catalog, builtin, open};
    use serving::LoadedModel;

    use super::*;

    fn tokenizer() -> Arc<Tokenizer> {
        let catalog = Catalog::new(None);
        let entry = catalog.find(&builtin::tag()).unwrap();
        let compute = Compute::new(Isa::SCALAR, 1);
        let verified = open::open(&catalog, &entry, None).unwrap();
        LoadedModel::load(verified, WeightFormat::Bf16, &compute).unwrap().tokenizer
    }

    /// Gives tokens with their texts, and returns how many entries each text completed.
    fn given(waiting: &mut PendingLogprobs, tokens: &[u32], texts: &[&str]) -> Vec<usize> {
        let likely = || Some(Box::new(Logprobs { logprob: -1.0, top: Vec::new() }));
        let pairs = tokens.iter().zip(texts);
        pairs.map(|(&token, text)| waiting.token(token, likely(), text).len()).collect()
    }

    #[test]
    fn tokens_of_one_character_are_told_of_together_and_after_it() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode("🥟");
        assert!(tokens.len() > 1, "one character of several tokens");
        let mut texts = vec![""; tokens.len()];
        *texts.last_mut().unwrap() = "🥟";
        let mut waiting = PendingLogprobs::new(Arc::clone(&tokenizer));
        let mut expected = vec![0; tokens.len()];
        *expected.last_mut().unwrap() = tokens.len();
        assert_eq!(given(&mut waiting, &tokens, &texts), expected);
        // What never became a character is part of the answer as its replacement.
        let mut waiting = PendingLogprobs::new(tokenizer);
        assert_eq!(given(&mut waiting, &tokens[..1], &[""]), [0]);
        assert_eq!(waiting.held("\u{fffd}").len(), 1);
        assert!(waiting.finish(FinishReason::Length).is_empty(), "each once");
    }

    #[test]
    fn what_a_stop_text_cut_off_is_not_told_of() {
        let tokenizer = tokenizer();
        let tokens: Vec<u32> =
            [" Hello", " there", "!"].iter().flat_map(|text| tokenizer.encode(text)).collect();
        let mut waiting = PendingLogprobs::new(tokenizer);
        let mut texts = vec![""; tokens.len()];
        texts[1] = " Hello th";
        let told: usize = given(&mut waiting, &tokens, &texts).iter().sum();
        assert!((1..tokens.len()).contains(&told), "the first is whole: {told}");
        assert!(waiting.finish(FinishReason::StopText).is_empty());
    }

    #[test]
    fn what_was_held_back_but_did_not_become_a_stop_text_is_told_of() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode(" there");
        let mut waiting = PendingLogprobs::new(tokenizer);
        let told: usize = given(&mut waiting, &tokens, &vec![""; tokens.len()]).iter().sum();
        assert_eq!((told, waiting.held(" there").len()), (0, tokens.len()));
    }

    #[test]
    fn names_differ_and_infinity_is_a_number() {
        let tokenizer = tokenizer();
        let byte = tokenizer.encode("🥟")[0];
        assert!(name(byte, &tokenizer).starts_with("bytes:\\x"), "{}", name(byte, &tokenizer));
        assert_eq!([finite(f32::NEG_INFINITY), finite(-1.5)], [IMPOSSIBLE, -1.5]);
    }
}
