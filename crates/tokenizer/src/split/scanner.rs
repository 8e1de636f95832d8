//! The nanochat split pattern as a scanner that reads each character at most a few times.
//!
//! `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`
//!
//! A regex tries its alternatives in order at each place, and so does this. What backtracking would do is
//! decided up front:
//! - `?+` keeps its character: a number, CR or LF before letters is not taken, anything else but a letter is.
//! - ` ?` need not give its space back: what follows it excludes spaces.
//! - `\s*[\r\n]` ends at the last CR or LF of the run of white space.
//! - `\s+(?!\S)` is the whole run at the end of text, else the run but for its last character, if that leaves any.
//!
//! A run of white space is scanned at most three times: up to its last newline, up to its last character,
//! and that character. Everything else is scanned once. It is checked against `fancy-regex` in the tests.

use super::classes::{CharClass, CharClasses};

/// Splits by the nanochat pattern.
#[derive(Debug)]
pub(crate) struct Scanner {
    classes: &'static CharClasses,
}

impl Scanner {
    pub(crate) fn new() -> Scanner {
        Scanner { classes: CharClasses::get() }
    }

    /// Length in bytes of the piece that `text` begins with; 0 only for empty text.
    pub(crate) fn piece_len(&self, text: &str) -> usize {
        let Some(first) = text.chars().next() else { return 0 };
        if first == '\''
            && let Some(len) = contraction_len(&text[1..])
        {
            return 1 + len;
        }
        let class = self.classes.class(first);
        let after_first = &text[first.len_utf8()..];
        match class {
            CharClass::Letter => return first.len_utf8() + self.run_len(after_first, CharClass::Letter),
            CharClass::Number => return first.len_utf8() + self.number_len(after_first),
            CharClass::Newline => return self.space_len(text),
            CharClass::Space | CharClass::Other => {}
        }
        let letters = self.run_len(after_first, CharClass::Letter);
        if letters > 0 {
            return first.len_utf8() + letters;
        }
        let marks_from = if first == ' ' { after_first } else { text };
        let marks = self.run_len(marks_from, CharClass::Other);
        if marks > 0 {
            let newlines = self.run_len(&marks_from[marks..], CharClass::Newline);
            return text.len() - marks_from.len() + marks + newlines;
        }
        self.space_len(text)
    }

    /// Length of the characters of `class` that `text` begins with.
    #[inline]
    fn run_len(&self, text: &str, class: CharClass) -> usize {
        text.char_indices()
            .find(|(_, character)| self.classes.class(*character) != class)
            .map_or(text.len(), |(at, _)| at)
    }

    /// Length of the second number of `\p{N}{1,2}`, 0 if there is none.
    fn number_len(&self, text: &str) -> usize {
        match text.chars().next() {
            Some(second) if self.classes.class(second) == CharClass::Number => second.len_utf8(),
            _ => 0,
        }
    }

    /// Length of the piece of white space that `text` begins with.
    fn space_len(&self, text: &str) -> usize {
        let mut run = 0;
        let mut last_char = 0;
        let mut after_newline = 0;
        for (at, character) in text.char_indices() {
            let class = self.classes.class(character);
            if !class.is_space() {
                break;
            }
            last_char = at;
            run = at + character.len_utf8();
            if class == CharClass::Newline {
                after_newline = run;
            }
        }
        if after_newline > 0 {
            after_newline
        } else if run < text.len() && last_char > 0 {
            last_char
        } else {
            run
        }
    }
}

/// Length of `(?i:[sdmt]|ll|ve|re)` at the start of `text`.
fn contraction_len(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let first = characters.next()?;
    match first {
        's' | 'S' | 'd' | 'D' | 'm' | 'M' | 't' | 'T' => return Some(1),
        // The long s folds to s, as the regex engines match it without case.
        'ſ' => return Some('ſ'.len_utf8()),
        _ => {}
    }
    let second = characters.next()?;
    matches!((first.to_ascii_lowercase(), second.to_ascii_lowercase()), ('l', 'l') | ('v' | 'r', 'e'))
        .then_some(2)
}
