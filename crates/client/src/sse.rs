//! The lines of an event stream. Every server that we know of writes an event's data on one line, so a line is given out once
//! its end has come and no empty line is waited for: its time is that of the last bytes before it.

/// Longest line: whatever is longer is no event.
const MAX_LINE: usize = 1 << 20;

/// Bytes of a stream to its fields.
#[derive(Default)]
pub(crate) struct SseReader {
    bytes: Vec<u8>,
    /// How many of them have been given out.
    taken: usize,
}

/// One line: what is before the colon, and what is after it. A comment has no name, and neither has an empty line.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct SseField<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl SseReader {
    /// Adds bytes that came; the error is a clause.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let begun = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let first = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
        if begun + first > MAX_LINE {
            return Err(format!("a line of more than {MAX_LINE} bytes"));
        }
        Ok(())
    }

    /// The next line that is whole. All are to be taken before more bytes are added.
    pub(crate) fn next_field(&mut self) -> Option<SseField<'_>> {
        let rest = &self.bytes[self.taken..];
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        self.taken += end + 1;
        let line = rest[..end].trim_ascii_end();
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = colon.map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
        Some(SseField { name, value: value.trim_ascii_start() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let stream = b": waiting\n\ndata: {\"token\":\"a\"}\r\n\r\nevent: x\ndata:[DONE]\n<html>\ndata: cut";
        let expected = [":waiting", ":", "data:{\"token\":\"a\"}", ":", "event:x", "data:[DONE]", "<html>:"];
        for size in 1..stream.len() {
            let (mut reader, mut lines) = (SseReader::default(), Vec::new());
            for part in stream.chunks(size) {
                reader.push(part).unwrap();
                while let Some(SseField { name, value }) = reader.next_field() {
                    lines.push(String::from_utf8([name, b":", value].concat()).unwrap());
                }
            }
            assert_eq!(lines, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_has_a_bound() {
        let mut reader = SseReader::default();
        assert_eq!(reader.push(&vec![b'x'; MAX_LINE]), Ok(()));
        assert!(reader.push(b"x").is_err());
        let mut reader = SseReader::default();
        assert_eq!(reader.push(&vec![b'\n'; 2 * MAX_LINE]), Ok(()));
    }
}
