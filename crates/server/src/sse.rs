//! Server-sent events as bytes: one line of JSON each.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Keeps a silent stream alive.
pub(crate) const COMMENT: &[u8] = b": waiting\n\n";

/// Writes one event of data: one line, also by Unicode's rules.
pub(crate) fn data(out: &mut Vec<u8>, frame: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    // Writing strings and numbers to a vector cannot fail.
    let _ = frame.serialize(&mut Serializer::with_formatter(&mut *out, OneLine));
    out.extend_from_slice(b"\n\n");
}

/// Formats JSON on one line by Unicode's rules.
///
/// Server-sent events end lines at CR and LF only, but Python's `str.splitlines`, and with it httpx's `aiter_lines`, splits
/// at more characters. JSON escapes those below U+0020 anyway; [`LINE_BREAKS`] are the others.
struct OneLine;

const LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

impl Formatter for OneLine {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| LINE_BREAKS.contains(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(found))?;
            rest = &rest[at + found.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::problem::{Code, ErrorShape, Problem};

    /// Characters at which Python's `str.splitlines` ends a line.
    const PYTHON_BREAKS: &str = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";

    /// The JSON of an event, after checking that it is one line to every client.
    fn read(event: &[u8]) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        let line = text.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        assert!(!line.contains(|c| PYTHON_BREAKS.contains(c)), "{line:?}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_line_break_of_any_kind_is_escaped_and_reads_as_itself() {
        let texts = PYTHON_BREAKS.chars().flat_map(|c| {
            [
                format!("{c}"),
                format!("{c}{c}"),
                format!("a{c}"),
                format!("{c}b"),
                format!("समोसा{c}🥟\"\\{c}"),
            ]
        });
        for text in texts.chain([String::new(), "plain é\u{84}\u{86}\u{2027}\u{202a}".to_owned()]) {
            let mut out = Vec::new();
            data(&mut out, &json!({ "token": text, text.clone(): [text] }));
            assert_eq!(read(&out), json!({ "token": text, text.clone(): [text] }));
        }
        let mut out = Vec::new();
        data(&mut out, &"\u{85}\u{2028}\u{2029}");
        assert_eq!(out, b"data: \"\\u0085\\u2028\\u2029\"\n\n");
    }

    #[test]
    fn errors_of_both_shapes_are_one_line() {
        for shape in [ErrorShape::Details, ErrorShape::OpenAi] {
            let (mut out, detail) = (Vec::new(), format!("The name is {PYTHON_BREAKS}."));
            Problem::new(Code::InvalidValue, detail.clone()).frame(shape, &mut out);
            assert_eq!(read(&out)["error"]["message"], detail);
        }
    }
}
