//! `tokenizer.json`: three incompatible files of one name.
//!
//! (a) A Hugging Face `tokenizers` BPE; (b) a dictionary of ranks with hexadecimal keys (nanochat PR 659);
//! (c) the same with base64 keys (autoresearch forks). Of (a) only byte-level BPE with one split pattern is
//! accepted, because only that has a meaning in nanochat.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};

use crate::error::{Error, TokenizerFault};
use crate::json::{Pairs, without_mark};
use crate::limits::LIMITS;
use crate::table::check_small;
use crate::tokenizer_pickle::{TokenizerFile, check_tokens, unique};

/// What the `ByteLevel` step of Hugging Face splits by when it is the only step.
const GPT2_PATTERN: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Reads a `tokenizer.json` of any of the three kinds.
///
/// # Errors
/// `Json` for what is not one of them, `Tokenizer` with `Unsupported` for a Hugging Face tokenizer that does
/// more than byte-level BPE, `TooLarge`.
pub fn read_tokenizer_json(file_name: &str, bytes: &[u8]) -> Result<TokenizerFile, Error> {
    read(without_mark(bytes)).map_err(|error| error.in_file(file_name))
}

fn read(bytes: &[u8]) -> Result<TokenizerFile, Error> {
    check_small(bytes, "tokenizer_bytes", LIMITS.tokenizer_bytes)?;
    let file: TokenizerJson = serde_json::from_slice(bytes)?;
    match (file.model.is_some(), file.mergeable_ranks.is_some()) {
        (true, false) => hugging_face(file),
        (false, true) => ranked(file),
        _ => Err(TokenizerFault::NotATokenizer.into()),
    }
}

/// The union of the three kinds; unknown fields are skipped.
#[derive(Deserialize)]
struct TokenizerJson {
    model: Option<BpeModel>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<IgnoredAny>,
    pre_tokenizer: Option<PreTokenizer<PreTokenizer<IgnoredAny>>>,
    #[serde(alias = "pat_str")]
    pattern: Option<String>,
    mergeable_ranks: Option<Pairs<u32>>,
    special_tokens: Option<Pairs<u32>>,
}

#[derive(Deserialize)]
struct BpeModel {
    #[serde(rename = "type", default)]
    kind: String,
    vocab: Pairs<u32>,
    merges: Vec<Merge>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    dropout: Option<f64>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// One step of splitting, or a sequence of them; not a sequence of sequences, which nobody writes.
#[derive(Deserialize)]
struct PreTokenizer<Inner> {
    #[serde(rename = "type")]
    kind: String,
    pattern: Option<SplitPattern>,
    behavior: Option<String>,
    #[serde(default)]
    invert: bool,
    #[serde(default)]
    add_prefix_space: bool,
    use_regex: Option<bool>,
    #[serde(default = "Vec::new")]
    pretokenizers: Vec<Inner>,
}

#[derive(Deserialize)]
struct SplitPattern {
    #[serde(rename = "Regex")]
    regex: Option<String>,
}

fn ranked(file: TokenizerJson) -> Result<TokenizerFile, Error> {
    let Pairs(ranks) = file.mergeable_ranks.ok_or(TokenizerFault::Missing("mergeable_ranks"))?;
    let Pairs(special) = file.special_tokens.ok_or(TokenizerFault::Missing("special_tokens"))?;
    let pattern = file.pattern.ok_or(TokenizerFault::Missing("pattern"))?;
    // Every tokenizer has a token of one byte, whose base64 form ends with "=".
    let decode = if ranks.iter().all(|(key, _)| is_hex(key)) { from_hex } else { from_base64 };
    let ranks = ranks.into_iter().map(|(key, rank)| match decode(&key) {
        Some(token) if !token.is_empty() => Ok((token, rank)),
        _ => Err(TokenizerFault::Token.into()),
    });
    let ranks = unique(ranks.collect::<Result<Vec<_>, Error>>()?)?;
    Ok(TokenizerFile { pattern: Some(pattern), ranks, special: unique(special)?, merges: None })
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Standard base64; padding may be left out.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte.checked_sub(b'A'),
        b'a'..=b'z' => byte.checked_sub(b'a' - 26),
        b'0'..=b'9' => byte.checked_add(52 - b'0'),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len());
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            bits = bits << 6 | group.get(place).map_or(Some(0), |byte| digit(*byte)).map(u32::from)?;
        }
        let [_, first, second, third] = bits.to_be_bytes();
        match group.len() {
            4 => bytes.extend([first, second, third]),
            3 if third == 0 => bytes.extend([first, second]),
            2 if second == 0 && third == 0 => bytes.push(first),
            _ => return None,
        }
    }
    Some(bytes)
}

fn hugging_face(file: TokenizerJson) -> Result<TokenizerFile, Error> {
    let model = file.model.ok_or(TokenizerFault::Missing("model"))?;
    refuse_other_models(&model)?;
    if file.normalizer.is_some() {
        return Err(TokenizerFault::Unsupported("normalizer").into());
    }
    let pattern = split_pattern(&file.pre_tokenizer.ok_or(TokenizerFault::Missing("pre_tokenizer"))?)?;
    let special: Vec<_> = file.added_tokens.into_iter().map(|token| (token.content, token.id)).collect();
    let special = unique(special)?;
    let Pairs(vocab) = model.vocab;
    let vocab = unique(vocab)?;
    let merges = merge_ids(&vocab, &model.merges)?;
    let names: HashMap<&str, u32> = special.iter().map(|(name, id)| (name.as_str(), *id)).collect();
    let bytes_of = byte_alphabet();
    let ordinary = vocab.iter().filter(|(token, id)| names.get(token.as_str()) != Some(id));
    let ranks = ordinary.map(|(token, id)| {
        let bytes: Option<Vec<u8>> = token.chars().map(|c| bytes_of.get(&c).copied()).collect();
        Ok((bytes.filter(|bytes| !bytes.is_empty()).ok_or(TokenizerFault::Token)?, *id))
    });
    let ranks = unique(ranks.collect::<Result<Vec<_>, Error>>()?)?;
    Ok(TokenizerFile { pattern: Some(pattern), ranks, special, merges: Some(merges) })
}

fn refuse_other_models(model: &BpeModel) -> Result<(), Error> {
    let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
    let unsupported = match model {
        BpeModel { kind, .. } if kind != "BPE" && !kind.is_empty() => "model type",
        BpeModel { dropout: Some(dropout), .. } if *dropout > 0.0 => "dropout",
        BpeModel { continuing_subword_prefix: prefix, .. } if affix(prefix) => "continuing_subword_prefix",
        BpeModel { end_of_word_suffix: suffix, .. } if affix(suffix) => "end_of_word_suffix",
        _ => return Ok(()),
    };
    Err(TokenizerFault::Unsupported(unsupported).into())
}

/// The one pattern of a `Split` followed by `ByteLevel`, or that of `ByteLevel` alone.
fn split_pattern(steps: &PreTokenizer<PreTokenizer<IgnoredAny>>) -> Result<String, Error> {
    let unsupported = || Error::from(TokenizerFault::Unsupported("pre_tokenizer"));
    let (split, bytes_only) = if steps.kind == "Sequence" {
        match steps.pretokenizers.as_slice() {
            [bytes] => (None, is_byte_level(bytes) && bytes.use_regex.unwrap_or(true)),
            [split, bytes] => (Some(split), is_byte_level(bytes) && bytes.use_regex == Some(false)),
            _ => return Err(unsupported()),
        }
    } else {
        (None, is_byte_level(steps) && steps.use_regex.unwrap_or(true))
    };
    if !bytes_only {
        return Err(unsupported());
    }
    let Some(split) = split else {
        return Ok(GPT2_PATTERN.to_owned());
    };
    let isolated =
        split.behavior.as_deref().is_some_and(|behavior| behavior.eq_ignore_ascii_case("isolated"));
    match &split.pattern {
        Some(SplitPattern { regex: Some(regex) }) if split.kind == "Split" && isolated && !split.invert => {
            Ok(regex.clone())
        }
        _ => Err(unsupported()),
    }
}

/// Whether a step writes bytes as characters. It also splits as GPT-2 does, unless `use_regex` is false.
fn is_byte_level<Inner>(step: &PreTokenizer<Inner>) -> bool {
    step.kind == "ByteLevel" && !step.add_prefix_space
}

fn merge_ids(vocab: &[(String, u32)], merges: &[Merge]) -> Result<Vec<(u32, u32)>, Error> {
    check_tokens(merges.len())?;
    let ids: HashMap<&str, u32> = vocab.iter().map(|(token, id)| (token.as_str(), *id)).collect();
    let mut joined = String::new();
    let pairs = merges.iter().map(|Merge(left, right)| {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let found = ids.get(left.as_str()).zip(ids.get(right.as_str()));
        let pair = found.filter(|_| ids.contains_key(joined.as_str()));
        pair.map(|(left, right)| (*left, *right)).ok_or_else(|| TokenizerFault::Merge.into())
    });
    pairs.collect()
}

/// A pair of tokens: `"a b"` in older files, `["a", "b"]` in newer ones.
struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
        let (left, right) = text.split_once(' ').ok_or_else(|| E::custom("two tokens"))?;
        Ok(Merge(left.to_owned(), right.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
        match (seq.next_element()?, seq.next_element()?, seq.next_element::<String>()?) {
            (Some(left), Some(right), None) => Ok(Merge(left, right)),
            _ => Err(A::Error::custom("two tokens")),
        }
    }
}

/// The characters that byte-level BPE writes for bytes: printable Latin-1 for itself, the other bytes in
/// order from U+0100. Source: `bytes_to_unicode` of GPT-2's encoder.py.
fn byte_alphabet() -> HashMap<char, u8> {
    let mut others = 0x100..;
    let of = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => others.next().and_then(char::from_u32),
    };
    let characters: Vec<_> = (0..=u8::MAX).map(of).collect();
    characters.into_iter().zip(0..=u8::MAX).filter_map(|(character, byte)| Some((character?, byte))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_base64_and_hex() {
        for (text, bytes) in
            [("AA==", &b"\0"[..]), ("aGVsbG8=", b"hello"), ("aGVsbG8", b"hello"), ("+/8A", &[251, 255, 0])]
        {
            assert_eq!(from_base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["A", "AB==", "A B=", "=AAA", "aGVsbG9"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
        assert_eq!(from_hex("00fFa1"), Some(vec![0, 255, 0xa1]));
        assert_eq!(from_hex("0g"), None);
    }

    #[test]
    fn the_byte_alphabet_is_that_of_gpt2() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet.len(), 256);
        for (character, byte) in
            [('Ġ', b' '), ('Ċ', b'\n'), ('A', b'A'), ('Ā', 0), ('ł', 0xa0), ('Ń', 0xad), ('ÿ', 0xff)]
        {
            assert_eq!(alphabet.get(&character), Some(&byte), "{character}");
        }
    }
}
