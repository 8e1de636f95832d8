//! What a source has: its files at one revision, under names that cannot lead anywhere else.

use crate::error::Error;
use crate::web::{Version, shown};

/// Files of one source that are looked at.
pub(crate) const MAX_ENTRIES: usize = 20_000;
/// Pages that a list may come in.
pub(crate) const MAX_PAGES: usize = 500;
/// Largest page, in bytes.
pub(crate) const MAX_PAGE: usize = 16 << 20;
/// Longest name with its directories, in bytes.
const MAX_PATH: usize = 1000;
/// Longest name of a file, in bytes: ours append to it.
const MAX_NAME: usize = 200;

/// A file of a source.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RemoteFile {
    /// Its name with its directories.
    pub(crate) path: String,
    /// Its size in bytes, if the list tells it.
    pub(crate) size: Option<u64>,
    /// Its hash, if the list tells it, in lower case.
    pub(crate) sha256: Option<String>,
    /// What changes when it does.
    pub(crate) version: Version,
}

/// All files of a source at one revision.
#[derive(Debug, Default)]
pub(crate) struct RemoteFiles {
    /// The commit, if the source has such.
    pub(crate) commit: Option<String>,
    files: Vec<RemoteFile>,
    /// Files that were left out.
    unusable: usize,
}

impl RemoteFiles {
    pub(crate) fn new(commit: Option<String>) -> Self {
        Self { commit, ..Self::default() }
    }

    /// Takes a file, unless its name has parts that mean something to a path: no model has such.
    pub(crate) fn add(&mut self, source: &str, file: RemoteFile) -> Result<(), Error> {
        if self.files.len() + self.unusable >= MAX_ENTRIES {
            return Err(too_many(source, &format!("more than {MAX_ENTRIES} files")));
        }
        if is_path(&file.path) {
            self.files.push(file);
        } else {
            self.unusable += 1;
            tracing::warn!(source, name = ?shown(&file.path), "a file whose name cannot be used is left out");
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.files.iter().map(|file| file.path.clone())
    }

    pub(crate) fn find(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut RemoteFile> {
        self.files.iter_mut()
    }
}

pub(crate) fn too_many(source: &str, what: &str) -> Error {
    Error::Listing { source_name: source.to_owned(), reason: what.to_owned() }
}

/// Whether a name is one of files below directories, none of them hidden or above.
fn is_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.chars().any(|c| c.is_control() || c == '\\')
    };
    path.len() <= MAX_PATH && path.split('/').all(part)
}

/// Whether a name can be a file's in a model's directory: plain characters, and visible.
pub(crate) fn is_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && name.len() <= MAX_NAME && name.bytes().all(plain)
}

/// A hash in hexadecimal, in lower case.
pub(crate) fn sha256_of(text: &str) -> Option<String> {
    let fine = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    fine.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> RemoteFile {
        RemoteFile { path: path.to_owned(), size: Some(1), sha256: None, version: Version::default() }
    }

    #[test]
    fn names_that_lead_elsewhere_are_left_out() {
        let mut files = RemoteFiles::new(None);
        for path in
            ["../x", "/etc/passwd", "a/../b", "a//b", "a/./b", "", "a\\b", "a\0b", "a/", &"x".repeat(2000)]
        {
            files.add("test", file(path)).unwrap();
        }
        files.add("test", file("base_checkpoints/d20/model_000001.pt")).unwrap();
        assert_eq!(files.names().collect::<Vec<_>>(), ["base_checkpoints/d20/model_000001.pt"]);
    }

    #[test]
    fn file_names_are_plain_and_visible() {
        for name in ["model_000650.pt", "model-00001-of-00002.safetensors", "config.json", "_x"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".samosa.json", "-rf", "a/b", "ä.pt", "a b", "..", &"x".repeat(201)] {
            assert!(!is_file_name(name), "{name}");
        }
    }

    #[test]
    fn a_list_is_bounded() {
        let mut files = RemoteFiles::new(None);
        for i in 0..MAX_ENTRIES {
            files.add("test", file(&i.to_string())).unwrap();
        }
        let error = files.add("test", file("x")).unwrap_err().to_string();
        assert!(error.contains("more than 20000 files"), "{error}");
        let mut files = RemoteFiles::new(None);
        let added = (0..=MAX_ENTRIES).try_for_each(|_| files.add("test", file("../x")));
        assert!(added.is_err(), "names that are left out count as well");
    }
}
