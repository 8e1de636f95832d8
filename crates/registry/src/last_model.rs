//! The model that served last, remembered in the storage directory for the next start.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Tag, atomic_file};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Remembered {
    model_tag: String,
}

fn path(root: &Path) -> PathBuf {
    root.join(".samosa").join("last_model.json")
}

/// Remembers a model.
pub fn remember(root: &Path, tag: &Tag) -> io::Result<()> {
    let text = serde_json::to_vec(&Remembered { model_tag: tag.to_string() })?;
    atomic_file::write(&path(root), &text)
}

/// The model that was remembered, if one was and the file is as it should be.
pub fn recall(root: &Path) -> Option<Tag> {
    let path = path(root);
    let small = std::fs::metadata(&path).ok()?.len() <= MAX_BYTES;
    let text = small.then(|| std::fs::read(&path).ok()).flatten()?;
    let remembered: Remembered = serde_json::from_slice(&text).ok()?;
    Tag::new(&remembered.model_tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_recalled_and_a_damaged_file_is_no_model() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(recall(root.path()), None);
        for name in ["d12", "d20"] {
            remember(root.path(), &Tag::new(name).unwrap()).unwrap();
        }
        assert_eq!(recall(root.path()), Tag::new("d20"));
        for damaged in ["", "{", "{\"model_tag\":\"../x\"}", "[]"] {
            std::fs::write(path(root.path()), damaged).unwrap();
            assert_eq!(recall(root.path()), None, "{damaged}");
        }
    }
}
