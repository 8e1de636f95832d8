//! Words beside the answers. What was asked for goes to standard output, what is said besides to standard error.

use std::io::{IsTerminal, Write};

use anyhow::Result;

use super::writer::Writer;
use crate::text::{Palette, harmless, width, wrap};

/// Who reads along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audience {
    /// A person, who types too.
    Person,
    /// A program or a file, perhaps.
    Anything,
}

pub(super) const DIM: &str = "\x1b[2m";
pub(super) const YELLOW: &str = "\x1b[33m";
pub(super) const NORMAL: &str = "\x1b[0m";

/// How words are shown.
pub(super) struct Say {
    palette: Palette,
    audience: Audience,
}

impl Say {
    pub(super) fn new(palette: Palette, audience: Audience) -> Self {
        Self { palette, audience }
    }

    /// For an answer.
    pub(super) fn writer(&self) -> Writer<std::io::Stdout> {
        let out = std::io::stdout();
        if !out.is_terminal() {
            return Writer::raw(out);
        }
        Writer::screen(out, width(), self.palette)
    }

    /// What a command was asked for.
    pub(super) fn tell(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", harmless(text))?;
        if self.audience == Audience::Person {
            writeln!(out)?;
        }
        Ok(out.flush()?)
    }

    /// What is worth knowing; in a file it would be in the way.
    pub(super) fn note(&self, text: &str) {
        if self.audience == Audience::Person {
            self.line(DIM, &wrap(&harmless(text), width()).join("\n"));
        }
    }

    /// The same in items, none of which is cut unless it has to be.
    pub(super) fn items(&self, items: &[String]) {
        if self.audience == Audience::Person {
            self.line(DIM, &joined(items, width()));
        }
    }

    /// What went wrong.
    pub(super) fn warn(&self, text: &str) {
        if self.audience == Audience::Person {
            self.line(YELLOW, &wrap(&harmless(text), width()).join("\n"));
            self.gap();
        } else {
            // Nobody who could be told is there if this fails.
            let _ = writeln!(std::io::stderr(), "samosa: {}", harmless(text));
        }
    }

    /// An empty line between what was said and the prompt.
    pub(super) fn gap(&self) {
        if self.audience == Audience::Person {
            let _ = writeln!(std::io::stderr());
        }
    }

    fn line(&self, style: &str, text: &str) {
        let is_coloured = self.palette == Palette::Coloured && std::io::stderr().is_terminal();
        let (style, normal) = if is_coloured { (style, NORMAL) } else { ("", "") };
        let _ = writeln!(std::io::stderr(), "{style}{text}{normal}");
    }
}

/// Items with dots between them, on lines of up to `width` columns.
fn joined(items: &[String], width: usize) -> String {
    const DOT: &str = " · ";
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let item = harmless(item);
        match lines.last_mut() {
            Some(line) if line.chars().count() + DOT.chars().count() + item.chars().count() <= width => {
                line.push_str(DOT);
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn items_stay_whole_on_narrow_terminals() {
        let items = ["one two", "three", "four"].map(str::to_owned);
        assert_eq!(joined(&items, 80), "one two · three · four");
        assert_eq!(joined(&items, 16), "one two · three\nfour");
        assert_eq!(joined(&items, 3), "one two\nthree\nfour");
    }
}
