//! An answer as a person reads it: words are not cut at the edge, calls of the calculator are short and dim, and no
//! control character reaches the terminal. Where there is no terminal it is written as it came.

use std::io::{Result, Write};

use unicode_width::UnicodeWidthChar;

use super::say::{DIM, NORMAL};
use crate::text::{Palette, harmless};

/// What surrounds a call of the calculator and its result, and how each is shown.
const MARKERS: [(&str, Marker); 4] = [
    ("<|python_start|>", Marker::Call),
    ("<|python_end|>", Marker::Between),
    ("<|output_start|>", Marker::Result),
    ("<|output_end|>", Marker::End),
];
/// Columns of a tab.
const TAB: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Marker {
    Call,
    Between,
    Result,
    End,
}

/// Writes an answer as it comes.
pub(super) struct Writer<W> {
    out: W,
    /// Absent where the text is written as it is.
    screen: Option<ScreenWriter>,
}

struct ScreenWriter {
    width: usize,
    palette: Palette,
    /// What may be the beginning of a marker.
    held: String,
    /// The word that is not over yet, with its columns.
    word: (String, usize),
    /// Spaces before it.
    spaces: usize,
    /// Columns of the line before them.
    column: usize,
    /// A call has just ended: what follows begins with a space.
    after_call: bool,
}

impl<W: Write> Writer<W> {
    /// Writes the text as it is.
    pub(super) fn raw(out: W) -> Self {
        Self { out, screen: None }
    }

    /// Writes for a terminal with so many columns.
    pub(super) fn screen(out: W, width: usize, palette: Palette) -> Self {
        let (held, word, spaces, column) = (String::new(), (String::new(), 0), 0, 0);
        let screen = ScreenWriter { width, palette, held, word, spaces, column, after_call: false };
        Self { out, screen: Some(screen) }
    }

    /// Text that follows.
    pub(super) fn push(&mut self, text: &str) -> Result<()> {
        match &mut self.screen {
            None => self.out.write_all(text.as_bytes())?,
            Some(screen) => screen.take(&mut self.out, text)?,
        }
        self.out.flush()
    }

    /// The end of the text, and of its line.
    pub(super) fn end(mut self) -> Result<W> {
        if let Some(screen) = &mut self.screen {
            let held = std::mem::take(&mut screen.held);
            screen.text(&mut self.out, &held)?;
            screen.end_word(&mut self.out)?;
            if screen.palette == Palette::Coloured {
                // A call may have been cut.
                self.out.write_all(NORMAL.as_bytes())?;
            }
        }
        self.out.write_all(b"\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl ScreenWriter {
    fn take(&mut self, out: &mut impl Write, text: &str) -> Result<()> {
        let text = std::mem::take(&mut self.held) + text;
        let mut rest = text.as_str();
        while let Some(at) = rest.find('<') {
            self.text(out, &rest[..at])?;
            rest = &rest[at..];
            if let Some((marker, mark)) = MARKERS.iter().find(|(marker, _)| rest.starts_with(marker)) {
                self.mark(out, *mark)?;
                rest = &rest[marker.len()..];
            } else if MARKERS.iter().any(|(marker, _)| marker.starts_with(rest)) {
                self.held.push_str(rest);
                return Ok(());
            } else {
                self.text(out, "<")?;
                rest = &rest[1..];
            }
        }
        self.text(out, rest)
    }

    /// Shows `[12*7 = 84]` for a call and its result.
    fn mark(&mut self, out: &mut impl Write, mark: Marker) -> Result<()> {
        let is_coloured = self.palette == Palette::Coloured;
        match mark {
            Marker::Call => {
                self.text(out, "")?;
                self.word.0.push_str(if is_coloured { DIM } else { "" });
                self.text(out, "[")
            }
            Marker::Between => Ok(()),
            Marker::Result => self.text(out, " = "),
            Marker::End => {
                self.text(out, "]")?;
                self.word.0.push_str(if is_coloured { NORMAL } else { "" });
                self.after_call = true;
                Ok(())
            }
        }
    }

    fn text(&mut self, out: &mut impl Write, text: &str) -> Result<()> {
        for c in harmless(text).chars() {
            if std::mem::take(&mut self.after_call) && !c.is_whitespace() && !c.is_ascii_punctuation() {
                self.end_word(out)?;
                self.spaces += 1;
            }
            match c {
                '\n' => {
                    self.end_word(out)?;
                    out.write_all(b"\n")?;
                    (self.column, self.spaces) = (0, 0);
                }
                ' ' | '\t' => {
                    self.end_word(out)?;
                    self.spaces += if c == '\t' { TAB } else { 1 };
                }
                _ => self.letter(out, c)?,
            }
        }
        Ok(())
    }

    fn letter(&mut self, out: &mut impl Write, c: char) -> Result<()> {
        let columns = c.width().unwrap_or(0);
        // Scripts with wide letters have no spaces to break lines at, and a long word has to be cut somewhere.
        if columns == 2 || self.word.1 + columns > self.width {
            self.end_word(out)?;
        }
        self.word.0.push(c);
        self.word.1 += columns;
        Ok(())
    }

    fn end_word(&mut self, out: &mut impl Write) -> Result<()> {
        if self.word.0.is_empty() {
            return Ok(());
        }
        let (word, columns) = std::mem::take(&mut self.word);
        if self.column > 0 && self.column + self.spaces + columns > self.width {
            out.write_all(b"\n")?;
            (self.column, self.spaces) = (0, 0);
        }
        write!(out, "{:1$}{word}", "", self.spaces)?;
        self.column += self.spaces + columns;
        self.spaces = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, width: usize, palette: Palette) -> String {
        let whole = |size: usize| {
            let mut writer = Writer::screen(Vec::new(), width, palette);
            let letters: Vec<char> = text.chars().collect();
            for part in letters.chunks(size) {
                writer.push(&part.iter().collect::<String>()).unwrap();
            }
            String::from_utf8(writer.end().unwrap()).unwrap()
        };
        let expected = whole(text.chars().count().max(1));
        for size in 1..=text.chars().count() {
            assert_eq!(whole(size), expected, "however it comes");
        }
        expected
    }

    #[test]
    fn words_are_not_cut_at_the_edge() {
        assert_eq!(shown("one two three", 7, Palette::Monochrome), "one two\nthree\n");
        assert_eq!(shown("  a\n\n    bc d", 7, Palette::Monochrome), "  a\n\n    bc\nd\n");
        assert_eq!(shown("abcdefghij k", 4, Palette::Monochrome), "abcd\nefgh\nij k\n");
        assert_eq!(shown("日本語です", 4, Palette::Monochrome), "日本\n語で\nす\n");
        assert_eq!(shown("", 4, Palette::Monochrome), "\n");
    }

    #[test]
    fn calls_are_short_and_dim() {
        let call = "<|python_start|>12*7<|python_end|><|output_start|>84<|output_end|>12 * 7 is 84.";
        assert_eq!(shown(call, 80, Palette::Monochrome), "[12*7 = 84] 12 * 7 is 84.\n");
        assert_eq!(
            shown(call, 80, Palette::Coloured),
            format!("{DIM}[12*7 = 84]{NORMAL} 12 * 7 is 84.{NORMAL}\n")
        );
        assert_eq!(shown("<|python_start|>1+", 80, Palette::Coloured), format!("{DIM}[1+{NORMAL}\n"));
    }

    #[test]
    fn what_only_looks_like_a_marker_is_text() {
        for text in ["a < b <| c", "<|python_", "<<|x|>", "<|python_begin|>"] {
            assert_eq!(shown(text, 80, Palette::Monochrome), format!("{text}\n"));
        }
    }

    #[test]
    fn no_escape_reaches_a_terminal() {
        assert_eq!(shown("\x1b]0;x\x07 \r\x1b[2J", 80, Palette::Monochrome), "␛]0;x␇ ␍␛[2J\n");
        let mut raw = Writer::raw(Vec::new());
        raw.push("\x1b[2J").unwrap();
        assert_eq!(raw.end().unwrap(), b"\x1b[2J\n");
    }
}
