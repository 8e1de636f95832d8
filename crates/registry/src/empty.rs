//! Why there is no model in the storage: what was found there all the same, and what keeps each from being served.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::file_names::file_name;
use crate::layout::walk::{self, DirectoryFault, MAX_DEPTH, Walked};
use crate::{Catalog, Entry, Error, Location, Source, builtin};

/// Checkpoints that are named.
const MAX_NAMED: usize = 5;

/// A storage without a model, in a sentence: it displays as `PATH does not exist`, or `PATH holds no model` and what was
/// found. Paths are for the log and the terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Empty {
    root: PathBuf,
    exists: bool,
    /// What is in the storage, and why it is not served.
    found: Vec<String>,
    /// What is found beyond that.
    more: usize,
}

impl Catalog {
    /// Why there is no model but the built-in one, if that is so: none in the storage, none that `models.toml` or the
    /// settings name and that can be fetched. `is_off` says of which sources nothing may be fetched. `None` without a storage, for then none was to be expected.
    ///
    /// # Errors
    /// `Io` where the storage cannot be read, and what is wrong with `models.toml` where that could name a model.
    pub fn empty(&self, is_off: impl Fn(&Source) -> bool) -> Result<Option<Empty>, Error> {
        let Some(root) = self.root() else { return Ok(None) };
        let mut found: Vec<String> = Vec::new();
        for Entry { tag, location, source, .. } in self.list()? {
            match location {
                Location::Builtin => {}
                Location::Absent if is_off(&source) => {
                    found.push(format!("`{tag}` comes from {source}, and HF_HUB_OFFLINE is true"));
                }
                _ => return Ok(None),
            }
        }
        self.models_file()?;
        for (path, error) in self.partial_places()? {
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            found.push(format!("{place}{error}"));
        }
        if root.is_dir() {
            found.extend(walk::all(root).iter().filter_map(|walked| out_of_sight(root, walked)));
        }
        let more = found.len().saturating_sub(MAX_NAMED);
        found.truncate(MAX_NAMED);
        Ok(Some(Empty { root: root.to_owned(), exists: root.exists(), found, more }))
    }
}

/// Why a directory is not searched or has no model; `None` for one that is, whose own error stands among the incomplete models.
fn out_of_sight(root: &Path, walked: &Walked) -> Option<String> {
    let Walked { path, depth, is_hidden, fault } = walked;
    let below = path.strip_prefix(root).unwrap_or(path);
    let place = if below.as_os_str().is_empty() { ".".to_owned() } else { below.display().to_string() };
    match fault {
        Some(DirectoryFault::OddFile(file)) => {
            return Some(format!(
                "{place} has {file}, which is no name of weights (model_<step>.pt, model.pt, model.safetensors, \
                 pytorch_model.bin)"
            ));
        }
        Some(DirectoryFault::Unreadable(error)) => return Some(format!("{place} cannot be read: {error}")),
        None => {}
    }
    if *depth == 1 && file_name(path) == builtin::TAG {
        return Some(format!("{place} has the name of the built-in model, which no other may have"));
    }
    if *is_hidden {
        return Some(format!("{place} is hidden: its path has a name that begins with a dot"));
    }
    (*depth > MAX_DEPTH)
        .then(|| format!("{place} is {depth} directories down, of which {MAX_DEPTH} are searched"))
}

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.root.display();
        if !self.exists {
            return write!(f, "{root} does not exist or cannot be entered");
        }
        write!(f, "{root} holds no model")?;
        if !self.found.is_empty() {
            write!(f, ": {}", self.found.join("; "))?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}
