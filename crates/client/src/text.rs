//! Text for people: as wide as their terminal, and sizes, counts and sentences written in one way.

use std::fmt;
use std::io::IsTerminal;

/// Columns where there is no terminal.
const USUAL_WIDTH: usize = 100;
/// Fewer would be unreadable.
const LEAST_WIDTH: usize = 40;

/// What the terminal may get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// Nothing but lines of text.
    Dumb,
    /// No colours.
    Plain,
    /// Everything.
    Coloured,
}

/// What text is drawn with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Palette {
    Coloured,
    Monochrome,
}

/// Bytes, in decimal units: `512 B`, `4.2 MB`, `180 MB`, `1.1 GB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
        // What would be rounded up to the next unit is written in it.
        match units.iter().find(|(_, size)| bytes >= 0.9995 * size) {
            Some((unit, size)) if bytes < 99.95 * size => f.pad(&format!("{:.1} {unit}", bytes / size)),
            Some((unit, size)) => f.pad(&format!("{:.0} {unit}", bytes / size)),
            None => f.pad(&format!("{} B", self.0)),
        }
    }
}

/// `1 file`, `3 files`.
pub fn counted(count: impl Into<u64>, one: &str, many: &str) -> String {
    let count = count.into();
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Words with a full stop.
pub fn sentence(text: &str) -> String {
    let stop = if text.ends_with(['.', '…', '!', '?']) { "" } else { "." };
    format!("{text}{stop}")
}

/// Columns of standard output.
pub fn width() -> usize {
    let known = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    known.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0).clamp(LEAST_WIDTH, USUAL_WIDTH + 20))
}

/// The lines of a text that are no longer than `width` columns; longer words stand alone.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut columns = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if columns + 1 + length <= width => {
                line.push(' ');
                line.push_str(word);
                columns += 1 + length;
            }
            _ => {
                lines.push(word.to_owned());
                columns = length;
            }
        }
    }
    lines
}

/// A text that a terminal shows and does not obey: line feeds and tabs are all that is left of its control characters,
/// and none of those that turn the direction of what follows.
pub fn harmless(text: &str) -> String {
    text.chars().map(shown).collect()
}

fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // Unicode has a picture for each.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '␡',
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_a_terminal() {
        assert_eq!(harmless("a\x1b[31mb\r\x07\x7f"), "a␛[31mb␍␇␡");
        assert_eq!(harmless("\u{9b}2J \u{202e}x"), "\u{fffd}2J \u{fffd}x");
        assert_eq!(harmless("é\tnaïve\nनमस्ते 👩‍🍳"), "é\tnaïve\nनमस्ते 👩‍🍳");
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        assert!(harmless(&all).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
    }

    #[test]
    fn lines_are_filled_but_not_overfilled() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("déjà vu", 7), ["déjà vu"]);
        assert_eq!(wrap("a Donaudampfschiff b", 4), ["a", "Donaudampfschiff", "b"]);
        assert!(wrap(" ", 4).is_empty());
    }

    #[test]
    fn sizes_are_decimal_and_short() {
        let sizes =
            [12, 999, 5_541_888, 1_072_889_856, 99_949_999, 150_000_000, 999_600_000, 2_400_000_000_000];
        let shown = sizes.map(|size| ByteSize(size).to_string());
        assert_eq!(shown, ["12 B", "999 B", "5.5 MB", "1.1 GB", "99.9 MB", "150 MB", "1.0 GB", "2.4 TB"]);
    }

    #[test]
    fn counts_and_sentences() {
        assert_eq!(
            [0u64, 1, 2].map(|n| counted(n, "retry", "retries")),
            ["0 retries", "1 retry", "2 retries"]
        );
        assert_eq!(["No", "No.", "Why?"].map(sentence), ["No.", "No.", "Why?"]);
    }
}
