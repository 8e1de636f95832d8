//! What was typed: where a text of several lines ends, and what it says.

use std::io::{BufRead, Read};

use anyhow::{Result, bail};

use crate::MAX_BODY_BYTES;

/// Opens and closes a text of several lines.
const QUOTES: &str = "\"\"\"";

/// Whether a text is whole, or goes on with the next line.
pub(super) fn is_whole(text: &str) -> bool {
    match quoted(text) {
        Some(rest) => rest.trim_end().ends_with(QUOTES),
        None => !goes_on(text),
    }
}

/// What is between quotes that may be open still.
fn quoted(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix(QUOTES)
}

/// Whether the last line ends with a backslash that stands for itself alone.
fn goes_on(text: &str) -> bool {
    (text.len() - text.trim_end_matches('\\').len()) % 2 == 1
}

/// What a whole text says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum InputText {
    Nothing,
    /// A command, without its slash.
    Command(String),
    Message(String),
}

impl InputText {
    /// Of a text as it was typed.
    pub(super) fn of(text: &str) -> Self {
        if let Some(rest) = quoted(text) {
            let inner = rest.trim_end();
            let inner = inner.strip_suffix(QUOTES).unwrap_or(inner);
            let inner = inner.strip_prefix('\n').unwrap_or(inner);
            return Self::message(inner.strip_suffix('\n').unwrap_or(inner));
        }
        let line =
            |line: &'_ str| if goes_on(line) { line[..line.len() - 1].to_owned() } else { line.to_owned() };
        let lines = text.split('\n').map(line).collect::<Vec<_>>().join("\n");
        let lines = lines.trim_end();
        match lines.strip_prefix('/') {
            // What begins with two slashes is a message that begins with one.
            Some(rest) if rest.starts_with('/') => Self::message(rest),
            Some(command) => Self::Command(command.to_owned()),
            None => Self::message(lines),
        }
    }

    fn message(text: &str) -> Self {
        if text.trim().is_empty() { Self::Nothing } else { Self::Message(text.to_owned()) }
    }
}

/// Texts from where nobody edits them.
pub(super) struct InputLines<R> {
    input: R,
    /// Lines that were read.
    count: usize,
}

impl<R: BufRead> InputLines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, count: 0 }
    }

    /// The next whole text; the last one may lack its end.
    pub(super) fn next(&mut self) -> Result<Option<String>> {
        let mut text = String::new();
        while let Some(line) = self.line(text.len())? {
            text.push_str(&line);
            if is_whole(&text) {
                return Ok(Some(text));
            }
            text.push('\n');
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// A line without its end; `taken` bytes of its text are there already.
    fn line(&mut self, taken: usize) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let most = (MAX_BODY_BYTES + 1).saturating_sub(taken);
        Read::by_ref(&mut self.input).take(most as u64).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.count += 1;
        if taken + bytes.len() > MAX_BODY_BYTES {
            bail!("the text at line {} of standard input has more than {MAX_BODY_BYTES} bytes", self.count);
        }
        match String::from_utf8(bytes) {
            Ok(line) => Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned())),
            Err(error) => {
                let at = error.utf8_error().valid_up_to() + 1;
                bail!("line {} of standard input is not UTF-8 at its byte {at}", self.count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_until_it_is_closed() {
        for whole in ["", "a", "a\\\\", "a\\\nb", "\"\"\"a\"\"\"", "\"\"\"\na\n\"\"\"", "x \"\"\" y", "/help"]
        {
            assert!(is_whole(whole), "{whole:?}");
        }
        for open in ["a\\", "a\\\nb\\", "a\\\\\\", "\"\"\"", "\"\"\"\na\\\\\nb", "\"\"\"a"] {
            assert!(!is_whole(open), "{open:?}");
        }
    }

    #[test]
    fn texts_say_what_they_say() {
        let message = |text: &str| InputText::Message(text.to_owned());
        assert_eq!(InputText::of("two\\\nlines\n"), message("two\nlines"));
        assert_eq!(
            InputText::of("\"\"\"\n/not a command\n\n  x \n\"\"\""),
            message("/not a command\n\n  x ")
        );
        assert_eq!(InputText::of("\"\"\"one\"\"\" "), message("one"));
        assert_eq!(InputText::of("C:\\\\\nnext\\\nlast"), message("C:\\\\\nnext\nlast"));
        assert_eq!(InputText::of("//etc"), message("/etc"));
        assert_eq!(InputText::of("/set seed 7"), InputText::Command("set seed 7".to_owned()));
        assert_eq!(
            [InputText::of(" \n"), InputText::of("\"\"\"\n\"\"\""), InputText::of("\\\n")],
            [(); 3].map(|()| InputText::Nothing)
        );
    }

    #[test]
    fn lines_become_texts_and_what_is_wrong_has_its_place() {
        let all = |bytes: &[u8]| {
            let mut lines = InputLines::new(bytes);
            std::iter::from_fn(move || lines.next().transpose()).collect::<Result<Vec<String>>>()
        };
        let texts = all(b"one\r\n\ntwo\\\nthree\n\"\"\"\nfour\n\nfive\n\"\"\"\nsix\\").unwrap();
        assert_eq!(texts, ["one", "", "two\\\nthree", "\"\"\"\nfour\n\nfive\n\"\"\"", "six\\\n"]);
        assert!(
            all(b"a\nb\xffc\n")
                .unwrap_err()
                .to_string()
                .contains("line 2 of standard input is not UTF-8 at its byte 2")
        );
        assert!(all(&vec![b'x'; (1 << 20) + 1]).unwrap_err().to_string().contains("more than 1048576 bytes"));
    }
}
