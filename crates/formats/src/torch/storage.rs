//! From the tree of a checkpoint's pickle to tensors: which dictionary, which entries, which storages.
//!
//! The containers differ only in how a storage key leads to bytes; they say so through [`Storages`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::error::{Error, TorchFault};
use crate::reader::widen;
use crate::table::TensorTable;
use crate::tensor::{DType, Layout, Tensor, TensorStorage, check_name};
use crate::torch::pickle::{Global, PickleTree, PickleValue};

/// Keys under which a training script may nest the model's state dict.
const WRAPPERS: [&str; 3] = ["model", "state_dict", "model_state_dict"];

/// A parameter wraps a tensor; wrapping it again is possible and pointless.
const MAX_WRAPPINGS: usize = 2;

/// A storage as a pickle names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StorageKey<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: DType,
    /// Elements of `dtype`, as announced.
    pub(crate) elements: u64,
}

/// How a container finds the bytes of a storage.
pub(crate) trait Storages {
    /// The storage, or `StorageMissing`.
    fn find(&mut self, key: &StorageKey<'_>) -> Result<TensorStorage, Error>;
}

/// Every tensor of the state dict in the tree.
pub(crate) fn tensors(
    tree: &PickleTree<'_>,
    file: &Arc<str>,
    storages: &mut dyn Storages,
) -> Result<TensorTable, Error> {
    let mut table = TensorTable::default();
    for (key, value) in state_dict(tree)? {
        let Some(description) = describe(tree, *value) else {
            continue;
        };
        let name = tree.text(*key)?.ok_or(TorchFault::Name)?;
        check_name(name)?;
        let tensor = description.and_then(|found| tensor(name, file, found, storages));
        table.insert(tensor.map_err(|error| error.on(name))?)?;
    }
    if table.is_empty() {
        return Err(TorchFault::NotAStateDict.into());
    }
    Ok(table)
}

/// The element size of each storage in the tree, which a legacy file does not write beside it.
pub(crate) fn element_sizes<'a>(tree: &PickleTree<'a>) -> Result<BTreeMap<&'a str, usize>, Error> {
    let mut sizes = BTreeMap::new();
    for id in tree.persistent_ids() {
        let (key, _) = storage_key(tree, id)?;
        let size = key.dtype.size_bytes();
        match sizes.entry(key.name) {
            Entry::Vacant(entry) => _ = entry.insert(size),
            Entry::Occupied(entry) if *entry.get() == size => {}
            Entry::Occupied(_) => return Err(TorchFault::StorageType.into()),
        }
    }
    Ok(sizes)
}

/// The top dictionary, or the one nested in it under a known key.
fn state_dict<'t>(tree: &'t PickleTree<'_>) -> Result<&'t [(PickleValue, PickleValue)], Error> {
    let top = tree.dictionary(tree.root()).ok_or(TorchFault::NotAStateDict)?;
    let under = |name: &str| top.iter().find(|(key, _)| tree.is_text(*key, name)).map(|(_, value)| *value);
    for wrapper in WRAPPERS {
        if let Some(nested) = under(wrapper).and_then(|value| tree.dictionary(value)) {
            return Ok(nested);
        }
    }
    if under("param_groups").is_some() {
        return Err(TorchFault::OptimiserState.into());
    }
    Ok(top)
}

/// A tensor as the pickle describes it.
struct Description<'a> {
    storage: StorageKey<'a>,
    layout: Layout,
}

/// None for a value that is no tensor at all; an error for a tensor that is described wrongly.
fn describe<'a>(tree: &PickleTree<'a>, mut value: PickleValue) -> Option<Result<Description<'a>, Error>> {
    tree.call(value)?;
    for _ in 0..=MAX_WRAPPINGS {
        match tree.call(value) {
            Some((
                Global::RebuildParameter | Global::RebuildParameterWithState | Global::Parameter,
                [inner, ..],
            )) => value = *inner,
            Some((Global::RebuildTensorV2, [id, offset, sizes, strides, ..])) => {
                return Some(description(tree, *id, [*offset, *sizes, *strides], None));
            }
            Some((
                Global::RebuildTensorV3,
                [id, offset, sizes, strides, _, _, PickleValue::Global(Global::DType(dtype)), ..],
            )) => return Some(description(tree, *id, [*offset, *sizes, *strides], Some(*dtype))),
            _ => break,
        }
    }
    Some(Err(TorchFault::Description.into()))
}

/// `shape` is the offset, the sizes and the strides; `dtype` overrides that of the storage.
fn description<'a>(
    tree: &PickleTree<'a>,
    id: PickleValue,
    shape: [PickleValue; 3],
    dtype: Option<DType>,
) -> Result<Description<'a>, Error> {
    let id = tree.persistent(id).ok_or(TorchFault::Description)?;
    let (storage, untyped) = storage_key(tree, id)?;
    if dtype.is_some_and(|dtype| !untyped && dtype != storage.dtype) {
        return Err(TorchFault::StorageType.into());
    }
    let [offset, sizes, strides] = shape;
    let layout = Layout {
        dtype: dtype.unwrap_or(storage.dtype),
        shape: integers(tree, sizes)?,
        strides: integers(tree, strides)?,
        offset: integer(offset)?,
    };
    Ok(Description { storage, layout })
}

/// `('storage', class, key, location, elements)`, in a legacy file with a sixth part that must be none.
/// Also says whether the storage is untyped, which is one of bytes.
fn storage_key<'a>(tree: &PickleTree<'a>, id: PickleValue) -> Result<(StorageKey<'a>, bool), Error> {
    let fail = || Error::from(TorchFault::Description);
    let (kind, class, key, elements) = match tree.tuple(id).ok_or_else(fail)? {
        [kind, class, key, _, elements] | [kind, class, key, _, elements, PickleValue::None] => {
            (*kind, *class, *key, *elements)
        }
        [_, _, _, _, _, _] => return Err(TorchFault::StorageView.into()),
        _ => return Err(fail()),
    };
    let (dtype, untyped) = match class {
        PickleValue::Global(Global::TensorStorage(dtype)) => (dtype, false),
        PickleValue::Global(Global::UntypedStorage) => (DType::U8, true),
        _ => return Err(fail()),
    };
    let (true, Some(name)) = (tree.is_text(kind, "storage"), tree.text(key)?) else {
        return Err(fail());
    };
    check_name(name)?;
    Ok((StorageKey { name, dtype, elements: widen(integer(elements)?) }, untyped))
}

fn tensor(
    name: &str,
    file: &Arc<str>,
    found: Description<'_>,
    storages: &mut dyn Storages,
) -> Result<Tensor, Error> {
    let mut storage = storages.find(&found.storage)?;
    let announced = found.storage.elements.saturating_mul(widen(found.storage.dtype.size_bytes()));
    if announced > storage.bytes {
        return Err(TorchFault::StorageSize { announced, found: storage.bytes }.into());
    }
    // A container may pad a storage; what the pickle does not claim is not the tensor's to read.
    storage.bytes = announced;
    Tensor::new(name, file, found.layout, storage)
}

fn integers(tree: &PickleTree<'_>, value: PickleValue) -> Result<Vec<usize>, Error> {
    let items = tree.tuple(value).ok_or(TorchFault::Description)?;
    crate::tensor::check_dimensions(items.len())?;
    items.iter().map(|item| integer(*item)).collect()
}

fn integer(value: PickleValue) -> Result<usize, Error> {
    match value {
        PickleValue::Integer(value) => usize::try_from(value).map_err(|_| TorchFault::OutOfRange.into()),
        PickleValue::LongInteger(_) => Err(TorchFault::OutOfRange.into()),
        _ => Err(TorchFault::Description.into()),
    }
}
