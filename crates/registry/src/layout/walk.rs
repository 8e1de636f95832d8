//! The search for directories with weights, level by level, bounded in depth, directories and entries. It reads no
//! file. Directories below one with weights are not searched: what is in there belongs to that model.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{SNAPSHOTS, is_repository};
use crate::file_names::{has_extension, is_export, is_weights};

/// Directories between the root and a model, the model's included. A revision in the Hub's cache counts as one.
pub(crate) const MAX_DEPTH: usize = 4;
/// The same for a search that only reports.
const MAX_DEPTH_SEEN: usize = 8;
/// Directories that are looked into.
const MAX_DIRECTORIES: usize = 2000;
/// Entries of one directory.
const MAX_ENTRIES: usize = 10_000;
/// What files of weights end in, whatever they are called. Files that end in `bin` are often something else.
const EXTENSIONS: [&str; 5] = ["pt", "pth", "safetensors", "ckpt", "gguf"];
/// What the file system keeps for itself.
const LOST: &str = "lost+found";

/// A directory with weights or with what may be some, or one that cannot be read.
pub(crate) struct Walked {
    pub(crate) path: PathBuf,
    /// Directories from the root to it, itself included.
    pub(crate) depth: usize,
    /// Whether it is hidden, or below a hidden directory.
    pub(crate) is_hidden: bool,
    /// Why there is no model in it, where that is known.
    pub(crate) fault: Option<DirectoryFault>,
}

/// What is wrong with a directory.
pub(crate) enum DirectoryFault {
    /// A file that may be weights, where none has a name of weights.
    OddFile(String),
    /// It cannot be read.
    Unreadable(std::io::Error),
}

/// A directory that is to be looked into.
struct Pending {
    path: PathBuf,
    depth: usize,
    is_hidden: bool,
}

/// What is in a directory.
#[derive(Default)]
struct Entries {
    directories: Vec<(String, PathBuf)>,
    has_weights: bool,
    odd_file: Option<String>,
}

/// Directories with weights that can be served.
pub(crate) fn models(root: &Path) -> Vec<Walked> {
    let mut found = walk(root, MAX_DEPTH, |name| !name.starts_with('.'));
    found.retain(|walked| walked.fault.is_none() && walked.depth > 0);
    found
}

/// The same and those that cannot be, for what they lack or where they are; what we keep there ourselves is not shown.
pub(crate) fn all(root: &Path) -> Vec<Walked> {
    walk(root, MAX_DEPTH_SEEN, |name| name != ".staging" && name != ".samosa")
}

fn walk(root: &Path, depth: usize, enter: fn(&str) -> bool) -> Vec<Walked> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut next = VecDeque::from([Pending { path: root.to_owned(), depth: 0, is_hidden: false }]);
    while let Some(Pending { path, depth: here, is_hidden }) = next.pop_front() {
        let looked = path.metadata().and_then(|metadata| {
            // A link may lead where the search was before.
            let is_new = seen.len() < MAX_DIRECTORIES && seen.insert((metadata.dev(), metadata.ino()));
            is_new.then(|| entries(&path)).transpose()
        });
        let entries = match looked {
            Ok(Some(entries)) => entries,
            Ok(None) => continue,
            Err(error) => {
                found.push(Walked {
                    path,
                    depth: here,
                    is_hidden,
                    fault: Some(DirectoryFault::Unreadable(error)),
                });
                continue;
            }
        };
        let is_root = here == 0;
        if entries.has_weights || entries.odd_file.is_some() {
            let fault = entries.odd_file.filter(|_| !entries.has_weights).map(DirectoryFault::OddFile);
            let is_model = fault.is_none();
            found.push(Walked { path: path.clone(), depth: here, is_hidden, fault });
            if is_model && !is_root {
                continue;
            }
        }
        let own_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        for (name, path) in entries.directories {
            let in_cache = is_repository(own_name) && name != SNAPSHOTS;
            if in_cache || name == LOST || is_export(&name) || !enter(&name) {
                continue;
            }
            let is_of_cache = is_repository(own_name) || own_name == SNAPSHOTS;
            let depth_there = if is_of_cache && !is_root { here } else { here + 1 };
            if depth_there <= depth {
                let is_hidden = is_hidden || name.starts_with('.');
                next.push_back(Pending { path, depth: depth_there, is_hidden });
            }
        }
    }
    found
}

/// What is in a directory.
fn entries(path: &Path) -> std::io::Result<Entries> {
    let mut found = Entries::default();
    for entry in std::fs::read_dir(path)?.take(MAX_ENTRIES).filter_map(Result::ok) {
        let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else { continue };
        // Only links are followed: most entries need no further look. One that leads nowhere may be a directory's.
        let leads_to_directory =
            || entry.path().metadata().map_or_else(|_| !name.contains('.'), |metadata| metadata.is_dir());
        let is_directory = kind.is_dir() || kind.is_symlink() && leads_to_directory();
        if is_directory {
            found.has_weights |= is_export(&name);
            found.directories.push((name, entry.path()));
        } else if is_weights(&name) {
            found.has_weights = true;
        } else if found.odd_file.is_none() && is_odd(&name) {
            found.odd_file = Some(name);
        }
    }
    found.directories.sort();
    Ok(found)
}

/// Whether a file may be weights under a name that is not looked for.
fn is_odd(name: &str) -> bool {
    let name = &name.to_ascii_lowercase();
    let other = name.starts_with("optim") || name == "token_bytes.pt";
    let is_model = name.contains("model") && has_extension(name, "bin");
    !other && (is_model || EXTENSIONS.iter().any(|extension| has_extension(name, extension)))
}
