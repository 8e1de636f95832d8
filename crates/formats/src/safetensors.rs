//! Safetensors: a length, a JSON header, and the elements. Also the index of a checkpoint in several shards.
//!
//! The header is read through typed visitors, so it cannot ask for more than its own size. The tensors must
//! tile the rest of the file exactly: no overlap, no hole, nothing left over.
//!
//! Source: the format section of the safetensors README, and its `SafeTensors::read_metadata`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, ErrorKind, SafetensorsFault, short};
use crate::json::{Pairs, without_mark};
use crate::limits::LIMITS;
use crate::reader::{Reader, narrow, read_range, widen};
use crate::table::{Input, TensorTable, check_small};
use crate::tensor::{DType, Layout, Tensor, TensorStorage, check_dimensions, check_name};

/// Bytes of the length before the header.
const PREFIX_BYTES: u64 = 8;

/// Reads a checkpoint in one safetensors file.
pub(crate) fn read(input: &Input) -> Result<TensorTable, Error> {
    let prefix = read_range(&*input.source, 0, PREFIX_BYTES, input.length)?;
    let header_bytes = Reader::new(&prefix, Some(0)).u64()?;
    if header_bytes > LIMITS.safetensors_header_bytes {
        let limit = LIMITS.safetensors_header_bytes;
        let error = Error::from(ErrorKind::too_large("safetensors_header_bytes", header_bytes, limit));
        return Err(error.at(Some(0)));
    }
    let header = read_range(&*input.source, PREFIX_BYTES, header_bytes, input.length)?;
    let Header(entries) =
        serde_json::from_slice(&header).map_err(|error| Error::from(error).at(Some(PREFIX_BYTES)))?;
    let data = PREFIX_BYTES.saturating_add(header_bytes);
    refuse_gaps(&entries, input.length.saturating_sub(data))?;
    let mut table = TensorTable::default();
    for (name, entry) in entries {
        let tensor = tensor(&name, entry, input, data).map_err(|error| error.on(&name))?;
        table.insert(tensor)?;
    }
    if table.is_empty() {
        return Err(SafetensorsFault::NoTensors.into());
    }
    Ok(table)
}

/// The file names of the shards that `model.safetensors.index.json` (or the same for `.bin`) lists: sorted,
/// each once, each a plain name that cannot leave the directory.
///
/// # Errors
/// `ShardName` for any other name; `Json`, `TooLarge`.
pub fn read_shard_index(file_name: &str, bytes: &[u8]) -> Result<Vec<String>, Error> {
    shard_names(without_mark(bytes)).map_err(|error| error.in_file(file_name))
}

fn shard_names(bytes: &[u8]) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Pairs<String>,
    }
    check_small(bytes, "shard_index_bytes", LIMITS.shard_index_bytes)?;
    let Index { weight_map: Pairs(map) } = serde_json::from_slice(bytes)?;
    let names: BTreeSet<String> = map.into_iter().map(|(_, shard)| shard).collect();
    if names.len() > LIMITS.shards {
        return Err(ErrorKind::too_large("shards", widen(names.len()), widen(LIMITS.shards)).into());
    }
    if names.is_empty() {
        return Err(SafetensorsFault::NoTensors.into());
    }
    match names.iter().find(|name| !is_plain_name(name)) {
        Some(name) => Err(ErrorKind::ShardName(short(name)).into()),
        None => Ok(names.into_iter().collect()),
    }
}

/// A name that every file system takes as one visible file in the same directory.
fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() <= 255
        && !name.starts_with('.')
        && !name.starts_with('-')
        && name.chars().all(plain)
        && !name.is_empty()
}

/// The header's tensors in file order, without `__metadata__`.
struct Header(Vec<(String, TensorHeader)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorHeader {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header(entries))
    }
}

/// The tensors must tile `data_bytes` exactly.
fn refuse_gaps(entries: &[(String, TensorHeader)], data_bytes: u64) -> Result<(), Error> {
    let mut spans: Vec<_> = entries.iter().map(|(name, entry)| (entry.data_offsets, name)).collect();
    spans.sort_unstable();
    let mut free = 0;
    for ((start, end), name) in spans {
        let fault = if end < start || end > data_bytes {
            SafetensorsFault::OutOfRange
        } else if start < free {
            SafetensorsFault::Overlap
        } else if start > free {
            SafetensorsFault::Hole
        } else {
            free = end;
            continue;
        };
        return Err(truncated_or(fault, end, data_bytes).on(name));
    }
    if free != data_bytes {
        return Err(SafetensorsFault::Hole.into());
    }
    Ok(())
}

/// Offsets beyond the file mostly mean that the download was cut short, which has a message of its own.
fn truncated_or(fault: SafetensorsFault, end: u64, data_bytes: u64) -> Error {
    if fault == SafetensorsFault::OutOfRange && end > data_bytes {
        return ErrorKind::Truncated { needed: end, available: data_bytes }.into();
    }
    fault.into()
}

fn tensor(name: &str, entry: TensorHeader, input: &Input, data: u64) -> Result<Tensor, Error> {
    check_name(name)?;
    check_dimensions(entry.shape.len())?;
    let dtype = dtype(&entry.dtype)?;
    let (start, end) = entry.data_offsets;
    let bytes = end.saturating_sub(start);
    let count = if entry.shape.contains(&0) {
        Some(0)
    } else {
        entry.shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size))
    };
    if count.and_then(|count| count.checked_mul(dtype.size_bytes())) != Some(narrow(bytes)) {
        return Err(SafetensorsFault::Size.into());
    }
    let storage =
        TensorStorage { source: Arc::clone(&input.source), start: data.saturating_add(start), bytes };
    Tensor::new(name, &input.file, Layout::contiguous(dtype, entry.shape)?, storage)
}

fn dtype(name: &str) -> Result<DType, Error> {
    Ok(match name {
        "F64" => DType::F64,
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I16" => DType::I16,
        "I8" => DType::I8,
        "U8" => DType::U8,
        "BOOL" => DType::Bool,
        other => return Err(ErrorKind::UnsupportedDType(short(other)).into()),
    })
}
