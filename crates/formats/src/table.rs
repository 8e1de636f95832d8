//! The tensors of a checkpoint by name, whatever format they came in.
//!
//! Formats are told apart by their first bytes, never by a file's name. What a tensor should be called, or
//! which ones a model needs, is not decided here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::limits::LIMITS;
use crate::reader::{narrow, read_range, widen};
use crate::source::ByteSource;
use crate::tensor::Tensor;
use crate::{safetensors, torch};

/// Wrappers around a model add these to every name; each is removed once, in this order. What a Hugging
/// Face file calls `model.layers.0.mlp.fc1.weight` is therefore `layers.0.mlp.fc1.weight` in the table.
const PREFIXES: [&str; 3] = ["_orig_mod.", "module.", "model."];

/// Bytes that tell every known format apart: a tar archive has its magic at 257.
const HEAD_BYTES: usize = 512;

/// The tensors of one checkpoint. Names are unique, and without the prefixes that wrappers add:
/// `_orig_mod.`, `module.` and `model.` are removed from each name, each once, in this order.
#[derive(Clone, Debug, Default)]
pub struct TensorTable {
    tensors: BTreeMap<Box<str>, Tensor>,
}

impl TensorTable {
    /// Reads the names, types and shapes of a zip or legacy torch file or a safetensors file; the format is
    /// told from the bytes. `file_name` is only for messages: a base name, not a path.
    ///
    /// Elements stay in `source` and are read by [`Tensor::read_rows`], but for deflated entries of a zip
    /// archive, which are inflated here: at most `LIMITS.inflate_ratio` times the length of the file.
    ///
    /// # Errors
    /// Every [`ErrorKind`] that does not concern tokenizers or meta files; the error names the file and,
    /// where known, the tensor and the offset.
    pub fn read(file_name: &str, source: Arc<dyn ByteSource>) -> Result<TensorTable, Error> {
        read(file_name, source).map_err(|error| error.in_file(file_name))
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(|name| &**name)
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Joins two shards of one checkpoint.
    ///
    /// # Errors
    /// `DuplicateTensor` if both have a tensor of one name, `TooLarge` for too many tensors.
    pub fn merge(mut self, other: TensorTable) -> Result<TensorTable, Error> {
        for tensor in other.tensors.into_values() {
            let file = Arc::clone(tensor.file());
            self.insert(tensor).map_err(|error| error.in_file(&file))?;
        }
        Ok(self)
    }

    /// Adds a tensor, whose name the caller has checked, under that name without prefixes.
    pub(crate) fn insert(&mut self, tensor: Tensor) -> Result<(), Error> {
        let name = stripped(tensor.name());
        if self.tensors.len() >= LIMITS.tensors {
            let limit = widen(LIMITS.tensors);
            return Err(ErrorKind::too_large("tensors", limit.saturating_add(1), limit).into());
        }
        let tensor = if name.len() == tensor.name().len() { tensor } else { tensor.renamed(name) };
        match self.tensors.entry(tensor.name().into()) {
            Entry::Occupied(_) => Err(Error::from(ErrorKind::DuplicateTensor).on(tensor.name())),
            Entry::Vacant(entry) => {
                entry.insert(tensor);
                Ok(())
            }
        }
    }
}

fn stripped(name: &str) -> &str {
    PREFIXES.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
}

fn read(file_name: &str, source: Arc<dyn ByteSource>) -> Result<TensorTable, Error> {
    let length = source.len()?;
    let head = read_range(&*source, 0, length.min(widen(HEAD_BYTES)), length)?;
    let input = Input { file: file_name.into(), source, length };
    match recognise(&head)? {
        CheckpointFormat::Zip => torch::read_zip(&input),
        CheckpointFormat::Legacy => torch::read_legacy(&input),
        CheckpointFormat::Safetensors => safetensors::read(&input),
    }
}

/// A checkpoint file, opened and measured.
pub(crate) struct Input {
    pub(crate) file: Arc<str>,
    pub(crate) source: Arc<dyn ByteSource>,
    pub(crate) length: u64,
}

enum CheckpointFormat {
    Zip,
    Legacy,
    Safetensors,
}

fn recognise(head: &[u8]) -> Result<CheckpointFormat, Error> {
    refuse_substitutes(head)?;
    match head {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Ok(CheckpointFormat::Zip),
        [0x80, 2..=5, ..] => Ok(CheckpointFormat::Legacy),
        [b'G', b'G', b'U', b'F', ..] => Err(ErrorKind::Gguf.into()),
        _ if head.get(257..262) == Some(b"ustar") => Err(ErrorKind::TarArchive.into()),
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(CheckpointFormat::Safetensors),
        _ => Err(ErrorKind::UnknownFormat.into()),
    }
}

/// Refuses what is often found in place of a file: nothing, a git-lfs pointer, a web page.
pub(crate) fn refuse_substitutes(head: &[u8]) -> Result<(), Error> {
    if head.is_empty() {
        return Err(ErrorKind::Empty.into());
    }
    if head.starts_with(b"version https://git-lfs") {
        return Err(ErrorKind::GitLfsPointer.into());
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let starts = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    if starts(b"<!doctype") || starts(b"<html") || starts(b"<?xml") {
        return Err(ErrorKind::HtmlPage.into());
    }
    Ok(())
}

/// The bytes of a small file, if there are at most `limit`; `what` is the limit's name.
pub(crate) fn check_small(bytes: &[u8], what: &'static str, limit: u64) -> Result<(), Error> {
    if bytes.len() > narrow(limit) {
        return Err(ErrorKind::too_large(what, widen(bytes.len()), limit).into());
    }
    refuse_substitutes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_removed_once_and_in_order() {
        for (name, expected) in [
            ("transformer.wte.weight", "transformer.wte.weight"),
            ("_orig_mod.lm_head.weight", "lm_head.weight"),
            ("_orig_mod.module.model.x", "x"),
            ("_orig_mod._orig_mod.x", "_orig_mod.x"),
            ("model.module.x", "module.x"),
            ("model.layers.0.mlp.fc1.weight", "layers.0.mlp.fc1.weight"),
            ("models.x", "models.x"),
        ] {
            assert_eq!(stripped(name), expected);
        }
    }

    #[test]
    fn substitutes_get_their_own_message() {
        let read = |bytes: &[u8]| TensorTable::read("model.pt", Arc::new(bytes.to_vec())).unwrap_err();
        assert!(matches!(read(b"").kind(), ErrorKind::Empty));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(matches!(read(pointer).kind(), ErrorKind::GitLfsPointer));
        let page = b"\n <!DOCTYPE html><title>Sign in</title>";
        assert!(matches!(read(page).kind(), ErrorKind::HtmlPage));
        assert!(matches!(read(b"GGUF\x03\0\0\0").kind(), ErrorKind::Gguf));
        assert!(matches!(read(b"hello").kind(), ErrorKind::UnknownFormat));
        let mut tar = vec![b'a'; 600];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(matches!(read(&tar).kind(), ErrorKind::TarArchive));
        assert_eq!(read(b"PK\x03\x04").file(), "model.pt");
    }
}
