//! The zip container of `torch.save`, and as much of zip as that needs.
//!
//! The central directory is the only authority: sizes in local headers, data descriptors and CRCs are not
//! used (torch may leave them empty). Everything it says is checked against the length of the file before it
//! is used: entries lie before the directory, do not overlap, and are not encrypted. Stored entries stay in
//! the file; deflated ones (a re-zipped checkpoint) are inflated into memory, at most `LIMITS.inflate_ratio`
//! times the length of the file in all.
//!
//! Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (ends),
//! 4.5.3 (ZIP64 extra field).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use crate::error::{Error, ErrorKind, TorchFault, ZipFault, short};
use crate::limits::LIMITS;
use crate::reader::{Reader, narrow, read_range, widen};
use crate::table::{Input, TensorTable};
use crate::tensor::TensorStorage;
use crate::torch::pickle::{self, PickleDialect};
use crate::torch::storage::{self, StorageKey, Storages};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;

const LOCAL_HEADER_BYTES: u64 = 30;
const END_BYTES: u64 = 22;
const END_64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;

/// Encrypted, strongly encrypted, and local headers masked.
const ENCRYPTION_FLAGS: u16 = 1 | 1 << 6 | 1 << 13;

/// Compressed bytes read at once while inflating.
const INFLATE_CHUNK_BYTES: u64 = 64 << 10;

/// Reads a checkpoint in a zip container.
pub(crate) fn read_zip(input: &Input) -> Result<TensorTable, Error> {
    let mut archive = ZipArchive::open(input)?;
    let folder = archive.folder()?;
    if let Some(order) = archive.small(&format!("{folder}byteorder"), 16)?
        && order.trim_ascii() != b"little"
    {
        return Err(TorchFault::BigEndian.into());
    }
    let name = format!("{folder}data.pkl");
    let (bytes, offset) = archive.contents(&name, "pickle_bytes", LIMITS.pickle_bytes)?;
    let tree = pickle::parse(&mut Reader::new(&bytes, offset), PickleDialect::Checkpoint)?;
    storage::tensors(&tree, &input.file, &mut ZipStorages { archive, folder, found: BTreeMap::new() })
}

/// Storages by key, each located (and inflated, if need be) once however many tensors share it.
struct ZipStorages<'a> {
    archive: ZipArchive<'a>,
    folder: String,
    found: BTreeMap<Box<str>, TensorStorage>,
}

impl Storages for ZipStorages<'_> {
    fn find(&mut self, key: &StorageKey<'_>) -> Result<TensorStorage, Error> {
        if let Some(storage) = self.found.get(key.name) {
            return Ok(storage.clone());
        }
        let name = format!("{}data/{}", self.folder, key.name);
        let storage =
            self.archive.storage(&name)?.ok_or_else(|| TorchFault::StorageMissing(short(key.name)))?;
        self.found.insert(key.name.into(), storage.clone());
        Ok(storage)
    }
}

/// A directory entry, checked against the file and its neighbours.
#[derive(Clone, Copy, Debug)]
struct ZipEntry {
    header: u64,
    /// Where its bytes start: known once the local header was read.
    data: u64,
    compressed: u64,
    size: u64,
    deflated: bool,
}

impl ZipEntry {
    fn end(&self) -> Option<u64> {
        self.data.checked_add(self.compressed)
    }
}

struct ZipArchive<'a> {
    input: &'a Input,
    entries: BTreeMap<Vec<u8>, ZipEntry>,
    /// Bytes that may still be inflated.
    inflatable: u64,
}

impl<'a> ZipArchive<'a> {
    fn open(input: &'a Input) -> Result<Self, Error> {
        let end = EndRecord::find(input)?;
        let bytes = read_range(&*input.source, end.directory, end.directory_bytes, input.length)?;
        let mut reader = Reader::new(&bytes, Some(end.directory));
        let mut entries = BTreeMap::new();
        let mut count = 0_u64;
        while !reader.is_empty() {
            let at = reader.offset();
            let (name, mut entry) = directory_entry(&mut reader).map_err(|error| error.at(at))?;
            locate(input, &name, &mut entry, end.directory)?;
            match entries.entry(name) {
                MapEntry::Occupied(_) => return Err(Error::from(ZipFault::DuplicateEntry).at(at)),
                MapEntry::Vacant(vacant) => vacant.insert(entry),
            };
            count = count.saturating_add(1);
        }
        if count != end.entries {
            return Err(ZipFault::EntryCount.into());
        }
        refuse_overlaps(entries.values())?;
        let inflatable = input.length.saturating_mul(LIMITS.inflate_ratio);
        Ok(ZipArchive { input, entries, inflatable })
    }

    /// The name of the folder that has `data.pkl`, with its slash; empty if it is at the top.
    fn folder(&self) -> Result<String, Error> {
        let mut folders = self.entries.keys().filter_map(|name| {
            let folder = name.strip_suffix(b"data.pkl")?;
            (folder.is_empty() || folder.ends_with(b"/")).then_some(folder)
        });
        let folder = folders.next().ok_or(TorchFault::NoDataPickle)?;
        if folders.next().is_some() {
            return Err(TorchFault::SeveralDataPickles.into());
        }
        String::from_utf8(folder.to_vec()).map_err(|_| TorchFault::NoDataPickle.into())
    }

    /// The contents of an entry that is tiny in every real file; none if there is no such entry.
    fn small(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if !self.entries.contains_key(name.as_bytes()) {
            return Ok(None);
        }
        Ok(Some(self.contents(name, "name_bytes", limit)?.0))
    }

    /// The contents of an entry and its offset in the file, if it is stored there as it is.
    fn contents(
        &mut self,
        name: &str,
        what: &'static str,
        limit: u64,
    ) -> Result<(Vec<u8>, Option<u64>), Error> {
        let entry = *self.entries.get(name.as_bytes()).ok_or(TorchFault::NoDataPickle)?;
        if entry.size > limit {
            return Err(ErrorKind::too_large(what, entry.size, limit).into());
        }
        if entry.deflated {
            return Ok((self.inflate(&entry)?, None));
        }
        Ok((read_range(&*self.input.source, entry.data, entry.size, self.input.length)?, Some(entry.data)))
    }

    fn storage(&mut self, name: &str) -> Result<Option<TensorStorage>, Error> {
        let Some(entry) = self.entries.get(name.as_bytes()).copied() else {
            return Ok(None);
        };
        if entry.deflated {
            let bytes = self.inflate(&entry)?;
            return Ok(Some(TensorStorage { source: Arc::new(bytes), start: 0, bytes: entry.size }));
        }
        Ok(Some(TensorStorage {
            source: Arc::clone(&self.input.source),
            start: entry.data,
            bytes: entry.size,
        }))
    }

    fn inflate(&mut self, entry: &ZipEntry) -> Result<Vec<u8>, Error> {
        self.inflatable = self.inflatable.checked_sub(entry.size).ok_or_else(|| {
            ErrorKind::too_large(
                "inflate_ratio",
                LIMITS.inflate_ratio.saturating_add(1),
                LIMITS.inflate_ratio,
            )
        })?;
        inflated(self.input, entry).map_err(|error| error.at(Some(entry.data)))
    }
}

/// The whole of a deflated entry. The caller has checked that its size may be allocated.
fn inflated(input: &Input, entry: &ZipEntry) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; narrow(entry.size)];
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let (mut read, mut written) = (0_u64, 0_usize);
    while read < entry.compressed {
        let count = INFLATE_CHUNK_BYTES.min(entry.compressed.saturating_sub(read));
        let chunk = read_range(&*input.source, entry.data.saturating_add(read), count, input.length)?;
        read = read.saturating_add(count);
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let target = out.get_mut(written..).unwrap_or_default();
            let step = inflate(&mut state, rest, target, MZFlush::None);
            rest = rest.get(step.bytes_consumed..).unwrap_or_default();
            written = written.saturating_add(step.bytes_written);
            match step.status {
                Ok(MZStatus::StreamEnd) if written == out.len() => return Ok(out),
                Ok(MZStatus::Ok) if step.bytes_consumed > 0 || step.bytes_written > 0 => {}
                _ => return Err(ZipFault::Inflate.into()),
            }
        }
    }
    // All input is consumed: the stream may still hold its end marker, and nothing else.
    let step = inflate(&mut state, &[], out.get_mut(written..).unwrap_or_default(), MZFlush::Finish);
    if step.status == Ok(MZStatus::StreamEnd) && written.saturating_add(step.bytes_written) == out.len() {
        return Ok(out);
    }
    Err(ZipFault::Inflate.into())
}

/// What the end of the archive says about the directory.
struct EndRecord {
    directory: u64,
    directory_bytes: u64,
    entries: u64,
}

impl EndRecord {
    fn find(input: &Input) -> Result<EndRecord, Error> {
        let tail_bytes = input.length.min(END_BYTES.saturating_add(u64::from(u16::MAX)));
        let tail_start = input.length.saturating_sub(tail_bytes);
        let tail = read_range(&*input.source, tail_start, tail_bytes, input.length)?;
        // The record ends the file, so its comment length must say exactly how many bytes follow it.
        let record = (0..tail.len()).rev().filter_map(|at| tail.get(at..)).find(|record| {
            record.starts_with(&END.to_le_bytes())
                && record.get(20..22).is_some_and(|comment| {
                    let comment =
                        comment.iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
                    comment.checked_add(22) == Some(record.len())
                })
        });
        let record = record.ok_or(ZipFault::NoDirectory)?;
        let at = input.length.saturating_sub(widen(record.len()));
        let mut reader = Reader::new(record, Some(at));
        reader.take(4)?;
        let (disk, directory_disk) = (reader.u16()?, reader.u16()?);
        let (entries_here, entries) = (reader.u16()?, reader.u16()?);
        let (directory_bytes, directory) = (reader.u32()?, reader.u32()?);
        let (end, limit) = if let Some(at_64) = locator(input, at)? {
            (Self::read_64(input, at_64)?, at_64)
        } else if disk != 0 || directory_disk != 0 || entries_here != entries {
            return Err(ZipFault::MultiDisk.into());
        } else {
            let (directory, directory_bytes) = (u64::from(directory), u64::from(directory_bytes));
            (EndRecord { directory, directory_bytes, entries: u64::from(entries) }, at)
        };
        end.check(limit).map_err(|error| error.at(Some(at)))?;
        Ok(end)
    }

    /// The ZIP64 record at `at`.
    fn read_64(input: &Input, at: u64) -> Result<EndRecord, Error> {
        let bytes = read_range(&*input.source, at, END_64_BYTES, input.length)?;
        let mut reader = Reader::new(&bytes, Some(at));
        if reader.u32()? != END_64 {
            return Err(Error::from(ZipFault::Zip64).at(Some(at)));
        }
        reader.take(12)?;
        let (disk, directory_disk) = (reader.u32()?, reader.u32()?);
        let (entries_here, entries) = (reader.u64()?, reader.u64()?);
        if disk != 0 || directory_disk != 0 || entries_here != entries {
            return Err(ZipFault::MultiDisk.into());
        }
        let (directory_bytes, directory) = (reader.u64()?, reader.u64()?);
        Ok(EndRecord { directory, directory_bytes, entries })
    }

    /// The directory must lie before the records that describe it.
    fn check(&self, limit: u64) -> Result<(), Error> {
        if self.directory_bytes > LIMITS.zip_directory_bytes {
            let kind =
                ErrorKind::too_large("zip_directory_bytes", self.directory_bytes, LIMITS.zip_directory_bytes);
            return Err(kind.into());
        }
        match self.directory.checked_add(self.directory_bytes) {
            Some(end) if end <= limit => Ok(()),
            _ => Err(ZipFault::DirectoryOutOfRange.into()),
        }
    }
}

/// The offset of the ZIP64 record, if a locator stands right before the end record at `end`.
fn locator(input: &Input, end: u64) -> Result<Option<u64>, Error> {
    let Some(at) = end.checked_sub(LOCATOR_BYTES) else {
        return Ok(None);
    };
    let bytes = read_range(&*input.source, at, LOCATOR_BYTES, input.length)?;
    let mut reader = Reader::new(&bytes, Some(at));
    if reader.u32()? != END_64_LOCATOR {
        return Ok(None);
    }
    let (disk, offset, disks) = (reader.u32()?, reader.u64()?, reader.u32()?);
    if disk != 0 || disks > 1 {
        return Err(Error::from(ZipFault::MultiDisk).at(Some(at)));
    }
    match offset.checked_add(END_64_BYTES) {
        Some(end) if end <= at => Ok(Some(offset)),
        _ => Err(Error::from(ZipFault::DirectoryOutOfRange).at(Some(at))),
    }
}

/// The next directory entry and its name; `data` is not known yet.
fn directory_entry(reader: &mut Reader<'_>) -> Result<(Vec<u8>, ZipEntry), Error> {
    if reader.u32()? != DIRECTORY_ENTRY {
        return Err(ZipFault::DirectoryEntry.into());
    }
    reader.take(4)?; // versions
    let (flags, method) = (reader.u16()?, reader.u16()?);
    reader.take(8)?; // time, date, CRC
    let (compressed, size) = (reader.u32()?, reader.u32()?);
    let (name_bytes, extra_bytes, comment_bytes) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let disk = reader.u16()?;
    reader.take(6)?; // attributes
    let header = reader.u32()?;
    let name = reader.take(usize::from(name_bytes))?;
    let mut extra = Reader::new(reader.take(usize::from(extra_bytes))?, None);
    reader.take(usize::from(comment_bytes))?;
    if flags & ENCRYPTION_FLAGS != 0 {
        return Err(ZipFault::Encrypted.into());
    }
    if name.len() > LIMITS.name_bytes {
        let kind = ErrorKind::too_large("name_bytes", widen(name.len()), widen(LIMITS.name_bytes));
        return Err(kind.into());
    }
    let mut wide = zip64_fields(&mut extra)?;
    // The extra field holds only the fields that do not fit, in this order.
    let mut widened = |field: u32| if field == u32::MAX { wide.u64() } else { Ok(u64::from(field)) };
    let fields = (widened(size), widened(compressed), widened(header));
    let (Ok(size), Ok(compressed), Ok(header)) = fields else {
        return Err(ZipFault::Zip64.into());
    };
    if disk != 0 && (disk != u16::MAX || wide.u32().map_err(|_| ZipFault::Zip64)? != 0) {
        return Err(ZipFault::MultiDisk.into());
    }
    let deflated = match method {
        0 if size != compressed => return Err(ZipFault::StoredSize.into()),
        0 => false,
        8 => true,
        other => return Err(ZipFault::Method(other).into()),
    };
    Ok((name.to_vec(), ZipEntry { header, data: 0, compressed, size, deflated }))
}

/// The contents of the ZIP64 extra field (id 1); empty if there is none.
fn zip64_fields<'a>(extra: &mut Reader<'a>) -> Result<Reader<'a>, Error> {
    // Fewer than four bytes cannot be a field; some writers pad with them.
    while extra.remaining() >= 4 {
        let (id, bytes) = (extra.u16()?, extra.u16()?);
        let Ok(field) = extra.take(usize::from(bytes)) else {
            break;
        };
        if id == 1 {
            return Ok(Reader::new(field, None));
        }
    }
    Ok(Reader::new(&[], None))
}

/// Finds the bytes of an entry behind its local header, which must name the same entry.
fn locate(input: &Input, name: &[u8], entry: &mut ZipEntry, directory: u64) -> Result<(), Error> {
    let fail = |fault: ZipFault| Error::from(fault).at(Some(entry.header));
    let header_end =
        entry.header.checked_add(LOCAL_HEADER_BYTES).ok_or_else(|| fail(ZipFault::EntryOutOfRange))?;
    let name_end =
        header_end.checked_add(widen(name.len())).ok_or_else(|| fail(ZipFault::EntryOutOfRange))?;
    if name_end > directory {
        return Err(fail(ZipFault::EntryOutOfRange));
    }
    let bytes =
        read_range(&*input.source, entry.header, name_end.saturating_sub(entry.header), input.length)?;
    let mut reader = Reader::new(&bytes, Some(entry.header));
    let signature = reader.u32()?;
    reader.take(22)?;
    let (name_bytes, extra_bytes) = (reader.u16()?, reader.u16()?);
    if signature != LOCAL_HEADER || usize::from(name_bytes) != name.len() || reader.take(name.len())? != name
    {
        return Err(fail(ZipFault::LocalHeader));
    }
    entry.data = name_end.saturating_add(u64::from(extra_bytes));
    match entry.end() {
        Some(end) if end <= directory => Ok(()),
        _ => Err(Error::from(ZipFault::EntryOutOfRange).at(Some(entry.header))),
    }
}

fn refuse_overlaps<'e>(entries: impl Iterator<Item = &'e ZipEntry>) -> Result<(), Error> {
    let mut spans: Vec<_> = entries.map(|entry| (entry.header, entry.end().unwrap_or(u64::MAX))).collect();
    spans.sort_unstable();
    let mut free = 0;
    for (start, end) in spans {
        if start < free {
            return Err(Error::from(ZipFault::Overlap).at(Some(start)));
        }
        free = end;
    }
    Ok(())
}
