//! Text into pieces that are merged on their own: no token crosses the border of two pieces.
//!
//! The nanochat pattern has a hand-written scanner in `split/scanner.rs`; any other pattern runs on
//! `fancy-regex`, the engine that tiktoken uses. Not the merging itself: see `merge`.

mod classes;
mod scanner;

use crate::Error;
use fancy_regex::{Regex, RegexBuilder};
use scanner::Scanner;

/// The split pattern of every upstream nanochat tokenizer, unchanged since its first commit.
///
/// A vocabulary with exactly this pattern is split by a linear hand-written scanner.
pub const NANOCHAT_PATTERN: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// The longest pattern that is compiled.
const MAX_PATTERN_BYTES: usize = 4096;

/// Backtracking steps for one piece before the regex gives up on the text.
const MAX_BACKTRACKS: usize = 1_000_000;

/// Compiled size of one part of a pattern.
const MAX_COMPILED_BYTES: usize = 10 << 20;

/// Cuts text into pieces that, joined, are the text again.
#[derive(Debug)]
pub(crate) enum Splitter {
    Nanochat(Scanner),
    Regex(Box<Regex>),
}

impl Splitter {
    pub(crate) fn new(pattern: &str) -> Result<Splitter, Error> {
        if pattern == NANOCHAT_PATTERN {
            return Ok(Splitter::Nanochat(Scanner::new()));
        }
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(Error::PatternTooLong { bytes: pattern.len(), limit: MAX_PATTERN_BYTES });
        }
        let regex = RegexBuilder::new(pattern)
            .backtrack_limit(MAX_BACKTRACKS)
            .delegate_size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| Error::Pattern(Box::new(error)))?;
        Ok(Splitter::Regex(Box::new(regex)))
    }

    /// Calls `emit` with each piece in order; none is empty.
    pub(crate) fn split<'t>(&self, text: &'t str, mut emit: impl FnMut(&'t str)) {
        match self {
            Splitter::Nanochat(scanner) => {
                let mut rest = text;
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(scanner.piece_len(rest));
                    emit(piece);
                    rest = after;
                }
            }
            Splitter::Regex(regex) => split_by_regex(regex, text, emit),
        }
    }
}

/// Splits by the matches of a regex, and keeps what no match covers as pieces of their own.
///
/// tiktoken drops uncovered text and fails at the backtracking limit. Here nothing of a prompt is ever lost:
/// at the limit the rest of the text becomes one piece, which still encodes, only with other merges than a
/// patient engine would find. Patterns in use cover all text and stay far from the limit.
fn split_by_regex<'t>(regex: &Regex, text: &'t str, mut emit: impl FnMut(&'t str)) {
    let mut done = 0;
    for found in regex.find_iter(text) {
        let Ok(found) = found else { break };
        if found.range().is_empty() || found.end() <= done {
            continue;
        }
        let start = found.start().max(done);
        if start > done {
            emit(&text[done..start]);
        }
        emit(&text[start..found.end()]);
        done = found.end();
    }
    if done < text.len() {
        emit(&text[done..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces<'t>(splitter: &Splitter, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        splitter.split(text, |piece| pieces.push(piece));
        pieces
    }

    fn nanochat_regex() -> Splitter {
        Splitter::Regex(Box::new(Regex::new(NANOCHAT_PATTERN).unwrap()))
    }

    #[test]
    fn fixed_texts_split_as_the_pattern_says() {
        let splitter = Splitter::new(NANOCHAT_PATTERN).unwrap();
        assert!(matches!(splitter, Splitter::Nanochat(_)));
        let cases: [(&str, &[&str]); 14] = [
            ("", &[]),
            ("Hello, world!", &["Hello", ",", " world", "!"]),
            ("it's we'LL 'ſo", &["it", "'s", " we", "'LL", " '", "ſo"]),
            ("'ſo 'xy", &["'ſ", "o", " '", "xy"]),
            ("12345", &["12", "34", "5"]),
            (" 1", &[" ", "1"]),
            ("a  b", &["a", " ", " b"]),
            ("a   ", &["a", "   "]),
            (" \n \n  x", &[" \n \n", " ", " x"]),
            ("\r\n\r\nx", &["\r\n\r\n", "x"]),
            (" ...\n\n x", &[" ...\n\n", " x"]),
            ("\u{a0}\u{a0}!", &["\u{a0}", "\u{a0}", "!"]),
            ("\tdef", &["\tdef"]),
            ("e\u{301}\u{301}a", &["e", "\u{301}\u{301}", "a"]),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(&splitter, text), expected, "{text:?}");
            assert_eq!(pieces(&nanochat_regex(), text), expected, "{text:?} by regex");
        }
    }

    #[test]
    fn pairs_and_triples_of_telling_characters_split_as_by_regex() {
        let (scanner, regex) = (Splitter::new(NANOCHAT_PATTERN).unwrap(), nanochat_regex());
        let telling: Vec<char> =
            "'sSſLlvEe1½ \t\u{a0}\u{85}\u{2028}\r\n!_é中\u{301}👍\0\u{200d}".chars().collect();
        for a in &telling {
            for b in &telling {
                for c in &telling {
                    for text in [String::from_iter([a, b, c]), String::from_iter([a, a, b, b, c])] {
                        assert_eq!(pieces(&scanner, &text), pieces(&regex, &text), "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn another_pattern_keeps_what_it_does_not_match() {
        let splitter = Splitter::new(r"\p{L}+(?=\s)|x*").unwrap();
        assert_eq!(pieces(&splitter, "ab cd, exx"), ["ab", " cd, e", "xx"]);
    }

    #[test]
    fn a_pattern_that_backtracks_forever_leaves_one_piece() {
        let splitter = Splitter::new(r"x|(?:a|aa)+(?=b)").unwrap();
        let text = format!("x{}x", "a".repeat(80));
        let Splitter::Regex(regex) = &splitter else { panic!("this is not the nanochat pattern") };
        assert!(regex.find_iter(&text).any(|found| found.is_err()));
        assert_eq!(pieces(&splitter, &text), ["x", &text[1..]]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert!(matches!(Splitter::new("("), Err(Error::Pattern(_))));
        assert!(matches!(Splitter::new(&"(".repeat(3000)), Err(Error::Pattern(_))));
        assert!(matches!(Splitter::new(r"\p{L}{1000}{1000}"), Err(Error::Pattern(_))));
        assert!(matches!(Splitter::new(&"a".repeat(5000)), Err(Error::PatternTooLong { bytes: 5000, .. })));
    }

    fn nasty_text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            3 => proptest::sample::select(vec![
                " ", "  ", "\t", "\n", "\r", "\r\n", "\u{a0}", "\u{85}", "\u{2028}", "\u{3000}", "'", "'s", "'LL",
                "'Ve", "'ſ", "'r", "a", "Z", "é", "中", "ſ", "1", "½", "७", "Ⅷ", "!", "_", "\u{301}", "\u{200d}",
                "👩", "\u{1f3fd}", "ั", "ि", "ǅ", "ª", "\0", "\u{10ffff}", "\u{e000}",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_scanner_splits_as_the_regex(text in nasty_text()) {
            let scanner = Splitter::new(NANOCHAT_PATTERN).unwrap();
            prop_assert_eq!(pieces(&scanner, &text), pieces(&nanochat_regex(), &text));
            prop_assert_eq!(pieces(&scanner, &text).concat(), text);
        }
    }
}
