//! The files that git would commit, in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::shell;

/// Above this a file is data: its path counts, its text is not read.
const TEXT_BYTES: u64 = 1 << 20;

/// Paths relative to the root with `/` between their parts; the text is absent where a file is no text.
#[derive(Default)]
pub(crate) struct FileTree {
    files: BTreeMap<String, Option<String>>,
}

impl FileTree {
    /// What is committed or could be: tracked files and untracked ones that are not ignored.
    pub(crate) fn of_repository(root: &Path) -> anyhow::Result<Self> {
        let listed = shell::output("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A file deleted since the last commit is still listed.
            let Ok(meta) = fs::metadata(root.join(path)) else { continue };
            let text = match meta.len() {
                0..=TEXT_BYTES => String::from_utf8(fs::read(root.join(path))?).ok(),
                _ => None,
            };
            files.insert(path.to_owned(), text);
        }
        Ok(Self { files })
    }

    /// A made-up tree.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), Some((*text).to_owned()));
        Self { files: files.iter().map(own).collect() }
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Paths and texts of the files that are text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether a file or a folder of this path exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.paths().any(|file| file.starts_with(&folder))
    }
}
