//! A cursor over bytes in memory that can only shrink, and the one way to get such bytes out of a source.
//!
//! Every read checks the rest first, so a parser built on it cannot read out of range; every buffer is
//! allocated only after its length was compared with the length of the source.

use crate::error::{Error, ErrorKind};
use crate::source::ByteSource;

/// What is left to parse, and where in the file it starts.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Offset in the file of the first byte of `rest`; none for bytes that were inflated.
    offset: Option<u64>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], offset: Option<u64>) -> Self {
        Reader { rest: bytes, offset }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The offset in the file of the next byte, for messages.
    pub(crate) fn offset(&self) -> Option<u64> {
        self.offset
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left, without taking it.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((head, tail)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(count));
        };
        self.rest = tail;
        self.offset = self.offset.map(|offset| offset.saturating_add(widen(count)));
        Ok(head)
    }

    /// Takes `count` bytes where `count` was itself read from the file.
    pub(crate) fn take_long(&mut self, count: u64) -> Result<&'a [u8], Error> {
        match usize::try_from(count) {
            Ok(count) => self.take(count),
            Err(_) => Err(self.truncated(usize::MAX)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(N));
        };
        self.rest = tail;
        self.offset = self.offset.map(|offset| offset.saturating_add(widen(N)));
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64_big_endian(&mut self) -> Result<f64, Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// The bytes up to the next newline, which is consumed and not returned; at most `limit` of them.
    pub(crate) fn line(&mut self, limit: usize) -> Result<&'a [u8], Error> {
        let end = self.rest.iter().take(limit.saturating_add(1)).position(|byte| *byte == b'\n');
        let line = self.take(end.unwrap_or(limit.saturating_add(1)))?;
        if line.len() > limit {
            return Err(ErrorKind::too_large("pickle_text_bytes", widen(line.len()), widen(limit)).into());
        }
        self.u8()?;
        Ok(line)
    }

    fn truncated(&self, needed: usize) -> Error {
        let kind = ErrorKind::Truncated { needed: widen(needed), available: widen(self.rest.len()) };
        Error::from(kind).at(self.offset)
    }
}

/// Reads `count` bytes at `offset`, after checking that the source has them: `length` is the source's.
pub(crate) fn read_range(
    source: &dyn ByteSource,
    offset: u64,
    count: u64,
    length: u64,
) -> Result<Vec<u8>, Error> {
    let available = length.saturating_sub(offset);
    let truncated = || Error::from(ErrorKind::Truncated { needed: count, available }).at(Some(offset));
    if count > available {
        return Err(truncated());
    }
    let mut buffer = vec![0; usize::try_from(count).map_err(|_| truncated())?];
    source.read_exact_at(offset, &mut buffer).map_err(|error| Error::from(error).at(Some(offset)))?;
    Ok(buffer)
}

/// Lossless on every platform this builds for; saturates rather than wraps anywhere else.
pub(crate) fn widen(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Saturates on a 32-bit machine, where the later comparison with a real length then fails.
pub(crate) fn narrow(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
