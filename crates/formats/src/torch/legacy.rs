//! The legacy container of `torch.save`: five pickles back to back, then the storages.
//!
//! The pickles are a magic number, a protocol version, facts about the machine, the object, and the list of
//! storage keys; then for each key, in that order, the number of elements (i64) and the elements. Nothing says
//! how long a pickle is, so the head of the file is parsed up to `LIMITS.pickle_bytes`.
//!
//! Source: `torch/serialization.py`, `_legacy_save` and `_legacy_load`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, TorchFault, short};
use crate::limits::LIMITS;
use crate::reader::{Reader, read_range, widen};
use crate::table::{Input, TensorTable};
use crate::tensor::TensorStorage;
use crate::torch::pickle::{self, PickleDialect, PickleTree, PickleValue};
use crate::torch::storage::{self, StorageKey, Storages};

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

const PROTOCOL: i64 = 1001;

/// Reads a checkpoint in the legacy container.
pub(crate) fn read_legacy(input: &Input) -> Result<TensorTable, Error> {
    let head = read_range(&*input.source, 0, input.length.min(LIMITS.pickle_bytes), input.length)?;
    let mut reader = Reader::new(&head, Some(0));
    let parsed = parse_head(&mut reader);
    let head_is_all = widen(head.len()) == input.length;
    let (tree, keys) = parsed.map_err(|error| match error.kind() {
        // More file follows than was parsed, so it is not the file that ended early.
        ErrorKind::Truncated { .. } if !head_is_all => {
            let found = LIMITS.pickle_bytes.saturating_add(1);
            ErrorKind::too_large("pickle_bytes", found, LIMITS.pickle_bytes).into()
        }
        _ => error,
    })?;
    let start = widen(head.len().saturating_sub(reader.remaining()));
    let sizes = storage::element_sizes(&tree)?;
    let mut storages = locate(input, start, &key_list(&keys)?, &sizes)?;
    storage::tensors(&tree, &input.file, &mut storages)
}

/// The object and the list of keys.
fn parse_head<'a>(reader: &mut Reader<'a>) -> Result<(PickleTree<'a>, PickleTree<'a>), Error> {
    let not_torch = || Error::from(TorchFault::NotTorch);
    let magic = pickle::parse(reader, PickleDialect::Checkpoint)?;
    if magic.long_integer(magic.root()) != Some(&MAGIC) {
        return Err(not_torch());
    }
    let protocol = pickle::parse(reader, PickleDialect::Checkpoint)?;
    if !matches!(protocol.root(), PickleValue::Integer(PROTOCOL)) {
        return Err(not_torch());
    }
    let machine = pickle::parse(reader, PickleDialect::Checkpoint)?;
    let facts = machine.dictionary(machine.root()).ok_or_else(not_torch)?;
    let little = facts.iter().find(|(key, _)| machine.is_text(*key, "little_endian"));
    if !matches!(little, Some((_, PickleValue::Bool(true)))) {
        return Err(TorchFault::BigEndian.into());
    }
    let object = pickle::parse(reader, PickleDialect::Checkpoint)?;
    let keys = pickle::parse(reader, PickleDialect::Checkpoint)?;
    Ok((object, keys))
}

fn key_list<'t>(tree: &'t PickleTree<'_>) -> Result<Vec<&'t str>, Error> {
    let keys = tree.list(tree.root()).ok_or(TorchFault::NotTorch)?;
    keys.iter().map(|key| tree.text(*key)?.ok_or_else(|| TorchFault::NotTorch.into())).collect()
}

/// Storages by key, as `locate` found them.
struct LegacyStorages {
    found: BTreeMap<Box<str>, TensorStorage>,
}

impl Storages for LegacyStorages {
    fn find(&mut self, key: &StorageKey<'_>) -> Result<TensorStorage, Error> {
        let storage = self.found.get(key.name).ok_or_else(|| TorchFault::StorageMissing(short(key.name)))?;
        let announced = key.elements.saturating_mul(widen(key.dtype.size_bytes()));
        if announced != storage.bytes {
            return Err(TorchFault::StorageSize { announced, found: storage.bytes }.into());
        }
        Ok(storage.clone())
    }
}

/// Walks over the storages, which only the sizes of their elements make possible.
fn locate(
    input: &Input,
    start: u64,
    keys: &[&str],
    sizes: &BTreeMap<&str, usize>,
) -> Result<LegacyStorages, Error> {
    let mut found = BTreeMap::new();
    let mut at = start;
    for key in keys {
        let size = sizes.get(key).ok_or_else(|| TorchFault::StorageMissing(short(key)))?;
        let count = read_range(&*input.source, at, 8, input.length)?;
        // A negative count is a huge one here, and fails below.
        let count = Reader::new(&count, Some(at)).u64()?;
        at = at.saturating_add(8);
        let needed = count.saturating_mul(widen(*size));
        let available = input.length.saturating_sub(at);
        if needed > available {
            return Err(Error::from(ErrorKind::Truncated { needed, available }).at(Some(at)));
        }
        let storage = TensorStorage { source: Arc::clone(&input.source), start: at, bytes: needed };
        match found.entry(Box::from(*key)) {
            Entry::Occupied(_) => return Err(Error::from(TorchFault::NotTorch).at(Some(at))),
            Entry::Vacant(entry) => entry.insert(storage),
        };
        at = at.saturating_add(needed);
    }
    Ok(LegacyStorages { found })
}
