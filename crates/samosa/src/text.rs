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

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_are_filled_but_not_overfilled() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("déjà vu", 7), ["déjà vu"]);
        assert_eq!(wrap("a Donaudampfschiff b", 4), ["a", "Donaudampfschiff", "b"]);
        assert!(wrap(" ", 4).is_empty());
    }
}
