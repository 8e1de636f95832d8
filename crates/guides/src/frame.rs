//! Frames on the sockets between the server and its grammar workers: a length of four bytes, then so many bytes. All
//! numbers are little endian.

use std::io::{self, Read, Write};

/// Bytes of the longest frame: a vocabulary.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Writes one frame.
pub(crate) fn write(to: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(4 + payload.len());
    push(&mut frame, payload.len() as u32);
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

/// Reads one frame.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = Vec::new();
    from.take(length as u64).read_to_end(&mut payload)?;
    if payload.len() == length { Ok(payload) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Takes the first whole frame off a buffer of bytes that have come so far.
pub(crate) fn take(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = buffer.split_first_chunk()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?.to_vec();
    buffer.drain(..4 + payload.len());
    Some(payload)
}

/// Appends a number.
pub(crate) fn push(payload: &mut Vec<u8>, number: u32) {
    payload.extend_from_slice(&number.to_le_bytes());
}

/// Appends numbers, their count first.
pub(crate) fn push_list(payload: &mut Vec<u8>, numbers: &[u32]) {
    push(payload, numbers.len() as u32);
    for &number in numbers {
        push(payload, number);
    }
}

/// Appends bytes, their count first.
pub(crate) fn push_bytes(payload: &mut Vec<u8>, bytes: &[u8]) {
    push(payload, bytes.len() as u32);
    payload.extend_from_slice(bytes);
}

/// Appends the count of things that are to be appended next.
pub(crate) fn push_count<'a, T>(payload: &mut Vec<u8>, things: &'a [T]) -> &'a [T] {
    push(payload, things.len() as u32);
    things
}

/// The numbers and bytes of a frame, in order; `None` where it is too short.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn numbers(&mut self, n: usize) -> Option<Vec<u32>> {
        let bytes = self.bytes(n.checked_mul(4)?)?;
        Some(bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)).collect())
    }

    pub(crate) fn list(&mut self) -> Option<Vec<u32>> {
        let n = self.number()?;
        self.numbers(n as usize)
    }

    pub(crate) fn byte_string(&mut self) -> Option<&'a [u8]> {
        let n = self.number()?;
        self.bytes(n as usize)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.byte_string()?.to_vec()).ok()
    }

    /// As many things as a count says, each as `read` reads it.
    pub(crate) fn each<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let n = self.number()?;
        (0..n).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole_and_one_by_one() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"one").unwrap();
        write(&mut bytes, b"").unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!((read(&mut reader).unwrap(), read(&mut reader).unwrap()), (b"one".to_vec(), vec![]));
        let mut buffer = bytes[..6].to_vec();
        assert_eq!(take(&mut buffer), None);
        buffer.extend_from_slice(&bytes[6..]);
        assert_eq!((take(&mut buffer).unwrap(), take(&mut buffer).unwrap()), (b"one".to_vec(), vec![]));
        assert!(take(&mut buffer).is_none() && buffer.is_empty());
    }

    #[test]
    fn frames_that_are_cut_short_or_too_long_are_errors() {
        assert!(read(&mut [3, 0, 0, 0, 1].as_slice()).is_err());
        assert!(read(&mut u32::MAX.to_le_bytes().as_slice()).is_err());
        assert_eq!(Fields(&[1, 0, 0, 0]).list(), None);
        assert_eq!(Fields(&u32::MAX.to_le_bytes()).list(), None);
    }
}
