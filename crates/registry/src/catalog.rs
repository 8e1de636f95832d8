//! The models there are: directories under the storage root, and the one inside the binary. Looked up anew
//! for every question, so that a model put there is offered without a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint;
use crate::models_file::ModelsFile;
use crate::{Error, Tag, builtin};

/// Directories of nanochat's own layout that hold tags, the most finished model first.
const STAGES: [&str; 4] =
    ["chatrl_checkpoints", "chatsft_checkpoints", "mid_checkpoints", "base_checkpoints"];
/// How finished a model in a directory of its own counts as: what an operator put there is meant to be served.
const OWN_DIRECTORY: usize = 0;
/// Models that are listed.
const MAX_MODELS: usize = 1000;

/// Where models are looked for.
#[derive(Clone, Debug)]
pub struct Catalog {
    root: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Offer;
/// One model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub tag: Tag,
    /// Where it is.
    pub location: Location,
    /// The same relative to the storage root, as callers see it.
    pub path: String,
    pub source: crate::Source,
}

/// Where a model's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// Inside the binary.
    Builtin,
    /// A directory.
    Local(PathBuf),
}

impl Location {
    /// The `source` of a ModelInfo.
    pub fn source(&self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Local(_) => "local",
        }
    }
}

impl Catalog {
    /// A catalog of the models under `root`, and of the built-in one.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    pub fn offering(self, _o: Vec<Offer>) -> Self {
        self
    }

    /// All models in order of tag. A storage root that does not exist yet is an empty one.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut models = self.local()?;
        models.entry(builtin::tag()).or_insert_with(|| (Location::Builtin, String::new()));
        let entry = |(tag, (location, path))| Entry { tag, location, path, source: crate::Source::Local };
        Ok(models.into_iter().map(entry).take(MAX_MODELS).collect())
    }

    /// The model called `tag`.
    pub fn find(&self, tag: &Tag) -> Result<Entry, Error> {
        let found = self.list()?.into_iter().find(|entry| entry.tag == *tag);
        found.ok_or_else(|| Error::UnknownTag { tag: tag.clone() })
    }

    /// What `models.toml` says.
    pub fn models_file(&self) -> Result<ModelsFile, Error> {
        self.root.as_deref().map_or_else(|| Ok(ModelsFile::default()), ModelsFile::read)
    }

    /// The model to serve when none is named: of the most finished stage the deepest `d<depth>`, else the
    /// newest; the built-in one if there is no other.
    pub fn default_tag(&self) -> Result<Tag, Error> {
        let modified =
            |path: &Path| path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let rank = |(tag, (location, _)): &(Tag, (Location, String))| match location {
            Location::Builtin => (std::cmp::Reverse(usize::MAX), None, SystemTime::UNIX_EPOCH),
            Location::Local(path) => (std::cmp::Reverse(stage(path)), depth(tag), modified(path)),
        };
        let best = self.local()?.into_iter().max_by_key(rank);
        Ok(best.map_or_else(builtin::tag, |(tag, _)| tag))
    }

    fn local(&self) -> Result<BTreeMap<Tag, (Location, String)>, Error> {
        let mut models = BTreeMap::new();
        let Some(root) = &self.root else { return Ok(models) };
        let mut add = |tag: Option<Tag>, directory: &Path, other_name: Option<String>| {
            let Some(tag) = tag.filter(|tag| checkpoint::looks_like_model(directory, tag)) else { return };
            let taken = models.contains_key(&tag);
            let tag = if taken { other_name.as_deref().and_then(Tag::new) } else { Some(tag) };
            let relative = directory.strip_prefix(root).unwrap_or(directory);
            if let Some(tag) = tag {
                models.insert(tag, (Location::Local(directory.to_owned()), relative.display().to_string()));
            }
        };
        // A flat directory: the root is the model.
        let own_name = root.file_name().and_then(|name| Tag::new(name.to_str()?));
        if root.is_dir() {
            add(own_name, root, None);
        }
        for (name, directory) in directories(root)? {
            add(Tag::new(&name), &directory, None);
        }
        for stage in STAGES {
            for (name, directory) in directories(&root.join(stage))? {
                let short = stage.trim_end_matches("_checkpoints");
                add(Tag::new(&name), &directory, Some(format!("{short}.{name}")));
            }
        }
        Ok(models)
    }
}

/// The directories in a directory, by name.
fn directories(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path, error)),
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .take(10 * MAX_MODELS)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            entry.path().is_dir().then(|| (name, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// How finished the model of a directory is, the most finished at 0.
fn stage(directory: &Path) -> usize {
    let parent = directory.parent().and_then(Path::file_name);
    STAGES.iter().position(|stage| parent == Some(stage.as_ref())).map_or(OWN_DIRECTORY, |i| i + 1)
}

/// The depth in names such as `d20` and `d24-sft`.
fn depth(tag: &Tag) -> Option<u32> {
    let digits: String = tag.as_str().strip_prefix('d')?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
    }

    fn tags(catalog: &Catalog) -> Vec<(String, String)> {
        catalog.list().unwrap().into_iter().map(|e| (e.tag.to_string(), e.path)).collect()
    }

    #[test]
    fn base_directories_and_plain_ones_are_listed_and_hidden_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        touch(
            root.path(),
            &["base_checkpoints/d20/model_000001.pt", "chatsft_checkpoints/d20/model_000002.pt"],
        );
        touch(root.path(), &["mine/model.safetensors", ".staging/model.pt", "notes/readme.txt"]);
        let listed = tags(&Catalog::new(Some(root.path().to_owned())));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            listed,
            [
                pair("base.d20", "base_checkpoints/d20"),
                pair("d20", "chatsft_checkpoints/d20"),
                pair("mine", "mine"),
                pair("samosa-mini", "")
            ]
        );
    }

    #[test]
    fn the_default_is_the_deepest_then_the_built_in_one() {
        let root = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(Some(root.path().join("later")));
        assert_eq!(catalog.default_tag().unwrap(), builtin::tag());
        touch(
            root.path(),
            &["later/d8/model_000001.pt", "later/d24-sft/model_000001.pt", "later/z/model.pt"],
        );
        assert_eq!(catalog.default_tag().unwrap().as_str(), "d24-sft");
        let root = tempfile::tempdir().unwrap();
        touch(
            root.path(),
            &["base_checkpoints/d34/model_000001.pt", "chatsft_checkpoints/d20/model_000002.pt"],
        );
        let catalog = Catalog::new(Some(root.path().to_owned()));
        assert_eq!(catalog.default_tag().unwrap().as_str(), "d20", "a chat model before a deeper base model");
    }

    #[test]
    fn an_unknown_tag_is_named() {
        let error = Catalog::new(None).find(&Tag::new("d99").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "no model is called `d99`");
    }
}
