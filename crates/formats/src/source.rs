//! Where bytes come from: random access to something the caller already opened.
//!
//! This crate never opens a path; the registry does, and hands over a file or a buffer. Files are read, not
//! mapped, so a file that shrinks while it is read is an error and not a signal.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;

/// Random access to bytes somebody else gave us.
pub trait ByteSource: Send + Sync {
    /// The length in bytes.
    fn len(&self) -> Result<u64>;

    /// Fills `buffer` with the bytes from `offset`; fails with `UnexpectedEof` if there are too few.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl ByteSource for File {
    fn len(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ByteSource for &'static [u8] {
    fn len(&self) -> Result<u64> {
        slice_len(self)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        copy_from(self, offset, buffer)
    }
}

impl ByteSource for Vec<u8> {
    fn len(&self) -> Result<u64> {
        slice_len(self)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        copy_from(self, offset, buffer)
    }
}

fn slice_len(bytes: &[u8]) -> Result<u64> {
    u64::try_from(bytes.len()).map_err(Error::other)
}

fn copy_from(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> Result<()> {
    let start = usize::try_from(offset).ok();
    let range = start.and_then(|start| Some(start..start.checked_add(buffer.len())?));
    let found = range.and_then(|range| bytes.get(range)).ok_or(ErrorKind::UnexpectedEof)?;
    buffer.copy_from_slice(found);
    Ok(())
}
