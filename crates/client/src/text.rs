//! Text for people: as wide as their terminal.

use std::io::IsTerminal;

/// Columns where there is no terminal.
const USUAL_WIDTH: usize = 100;
/// Fewer would be unreadable.
const LEAST_WIDTH: usize = 40;

/// Columns of standard output.
pub(crate) fn width() -> usize {
    let known = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    known.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0).clamp(LEAST_WIDTH, USUAL_WIDTH + 20))
}

/// The lines of a text that are no longer than `width` columns; longer words stand alone.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
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
pub(crate) fn harmless(text: &str) -> String {
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
    use super::{harmless, wrap};

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
}
