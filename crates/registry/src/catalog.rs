//! The models there are: those on disk (see [`layout`]), those that `models.toml` or settings offer from elsewhere,
//! and the one inside the binary. Looked up anew for every question, so that a model put there is offered
//! without a restart.
//!
//! Who has a claim to a tag, the strongest first: the built-in model to its own; a `source = "local:/…"` of
//! `models.toml`, which is named on purpose; a directory that is there, be it fetched or put there by a person;
//! a source that `models.toml` names; an offer of the settings.
//!
//! A `models.toml` with a mistake hides nothing that is on disk: [`Catalog::list`] and [`Catalog::default_tag`]
//! pass over it and log what is wrong with it. But only the built-in model can be found and loaded until it is
//! mended, since the file may say how to compute with a model, and a model computed wrongly is worse than an
//! error with a line number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::checkpoint::{self, CheckpointFiles, FileOptions};
use crate::layout::{self, Location, ModelCandidate};
use crate::models_file::{ModelEntry, ModelsFile};
use crate::provenance::Provenance;
use crate::{Error, Source, Tag, builtin};

/// Models that are listed.
const MAX_MODELS: usize = 1000;
/// Warnings that are remembered, so that each is given once.
const MAX_WARNINGS: usize = 1000;

/// Where models are looked for.
#[derive(Clone, Debug)]
pub struct Catalog {
    root: Option<PathBuf>,
    offers: Vec<Offer>,
}

/// A model that settings offer from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Its name.
    pub tag: Tag,
    /// Where it is fetched from.
    pub source: Source,
}

/// One model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub tag: Tag,
    /// Where it is.
    pub location: Location,
    /// Where it came from, or will come from.
    pub source: Source,
    /// Where it is relative to the storage root, as callers see it: empty for the built-in model and those
    /// elsewhere on this machine, the tag for one that is not fetched yet.
    pub path: String,
}

/// What was found on disk and in `models.toml`.
#[derive(Default)]
struct FoundModels {
    whole: BTreeMap<Tag, Entry>,
    /// Models that are there in part, with where they are and what is wrong with them.
    partial: BTreeMap<Tag, (String, Error)>,
    /// What is wrong with `models.toml`.
    mistake: Option<Error>,
}

impl Location {
    /// The model's files, at the step asked for or the latest that is whole; none of the built-in model.
    pub(crate) fn files(&self, tag: &Tag, options: &FileOptions) -> Result<Option<CheckpointFiles>, Error> {
        match self {
            Self::Builtin => Ok(None),
            Self::Directory(directory) => checkpoint::find(tag, directory, options).map(Some),
            Self::File(file) => checkpoint::find_file(tag, file, options).map(Some),
            Self::Absent => Err(Error::NotFetched { tag: tag.clone() }),
        }
    }

    /// Where its files say that they came from, where a fetch left that.
    pub(crate) fn fetched(&self) -> Result<Option<Provenance>, Error> {
        if let Self::Directory(directory) = self { Provenance::read(directory) } else { Ok(None) }
    }
}

impl Catalog {
    /// A catalog of the models under `root`, and of the built-in one.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root: root.map(absolute), offers: Vec::new() }
    }

    /// The same with models that can be fetched though `models.toml` does not name them.
    #[must_use]
    pub fn offering(self, offers: Vec<Offer>) -> Self {
        Self { offers, ..self }
    }

    /// Where the settings offer a model from.
    pub(crate) fn offer(&self, tag: &Tag) -> Option<Source> {
        self.offers.iter().find(|offer| offer.tag == *tag).map(|offer| offer.source.clone())
    }

    /// Where models are looked for.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The directory of `models.toml`, of fetched models and of what is remembered of files: the root, or where
    /// it is if it is a file.
    pub fn directory(&self) -> Option<&Path> {
        let root = self.root.as_deref()?;
        if root.is_file() { root.parent() } else { Some(root) }
    }

    /// All whole models in order of tag, and those that can be fetched. A storage root that does not exist yet
    /// is an empty one.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut found = self.look()?;
        let builtin = Entry {
            tag: builtin::tag(),
            location: Location::Builtin,
            source: Source::Builtin,
            path: String::new(),
        };
        found.whole.insert(builtin.tag.clone(), builtin);
        Ok(found.whole.into_values().take(MAX_MODELS).collect())
    }

    /// Models that are there in part, with what is wrong with each.
    pub fn partial(&self) -> Result<Vec<(Tag, Error)>, Error> {
        Ok(self.look()?.partial.into_iter().map(|(tag, (_, error))| (tag, error)).take(MAX_MODELS).collect())
    }

    /// Where they are, as callers see it, and what is wrong with each.
    pub(crate) fn partial_places(&self) -> Result<Vec<(String, Error)>, Error> {
        Ok(self.look()?.partial.into_values().collect())
    }

    /// The model called `tag`. A directory of this name that has weights, but not all of a model, is an error
    /// that says what it lacks.
    pub fn find(&self, tag: &Tag) -> Result<Entry, Error> {
        if *tag == builtin::tag() {
            let (location, source) = (Location::Builtin, Source::Builtin);
            return Ok(Entry { tag: tag.clone(), location, source, path: String::new() });
        }
        let mut found = self.look()?;
        if let Some(mistake) = found.mistake {
            return Err(mistake);
        }
        let unknown = || Error::UnknownTag { tag: tag.clone() };
        let partial = |found: &mut FoundModels| found.partial.remove(tag).map(|(_, error)| error);
        found.whole.remove(tag).ok_or_else(|| partial(&mut found).unwrap_or_else(unknown))
    }

    /// What `models.toml` says.
    pub fn models_file(&self) -> Result<ModelsFile, Error> {
        self.directory().map_or_else(|| Ok(ModelsFile::default()), ModelsFile::read)
    }

    /// The model to serve when none is named: of the most finished stage the deepest `d<depth>`, else the newest; the
    /// built-in one if no other is on this machine. Of the revisions in the Hub's cache, the main branch's goes first.
    /// What is not fetched yet is never chosen.
    pub fn default_tag(&self) -> Result<Tag, Error> {
        let modified = |entry: &Entry| {
            let path = entry.location.path();
            path.and_then(|path| path.metadata().ok()?.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let rank = |entry: &Entry| {
            let is_other = layout::is_other_revision(&entry.location);
            // A revision's tag is a hash, in which `d1…` is no depth.
            let depth = depth(entry.tag.as_str()).filter(|_| !is_other);
            (Reverse(layout::stage(&entry.location)), !is_other, depth, modified(entry))
        };
        let here = self.look()?.whole.into_values().filter(|entry| entry.location != Location::Absent);
        Ok(here.max_by_key(rank).map_or_else(builtin::tag, |entry| entry.tag))
    }

    /// Everything but the built-in model.
    fn look(&self) -> Result<FoundModels, Error> {
        let mut found = FoundModels::default();
        match self.models_file() {
            Ok(models) => {
                self.add_paths(&mut found, &models);
                self.add_places(&mut found, &models)?;
                self.add_absent(&mut found, &models);
            }
            Err(mistake) => {
                warn_once(&mistake.to_string());
                found.mistake = Some(mistake);
                self.add_places(&mut found, &ModelsFile::default())?;
            }
        }
        Ok(found)
    }

    /// Models that `models.toml` names elsewhere on this machine.
    fn add_paths(&self, found: &mut FoundModels, models: &ModelsFile) {
        for said in &models.models {
            let Some(Source::Path(path)) = &said.source else { continue };
            let path = said.directory.as_ref().map_or_else(|| path.clone(), |below| path.join(below));
            let added = location_at(&said.tag, path)
                .and_then(|location| self.add(found, models, &said.tag, location));
            if let Err(error) = added {
                found.partial.entry(said.tag.clone()).or_insert((String::new(), error));
            }
        }
    }

    /// Models below the root, each under the first of its names that is free.
    fn add_places(&self, found: &mut FoundModels, models: &ModelsFile) -> Result<(), Error> {
        for place in self.root.as_deref().map_or_else(|| Ok(Vec::new()), layout::below)? {
            let ModelCandidate { names, location } = place;
            let free = |tag: &&Tag| !found.whole.contains_key(*tag) && **tag != builtin::tag();
            let Some(tag) = names.iter().find(free) else {
                if names.contains(&builtin::tag()) {
                    warn_once("a model in the storage has the built-in model's name and is passed over");
                }
                continue;
            };
            let directory = location.path().filter(|path| path.is_dir()).map(Path::to_owned);
            let path = self.relative(&location);
            let Err(error) = self.add(found, models, tag, location) else { continue };
            if directory.is_none_or(|directory| checkpoint::has_weights(tag, &directory)) {
                found.partial.entry(tag.clone()).or_insert((path, error));
            }
        }
        Ok(())
    }

    /// Adds the model in a place, if there is a whole one; else says what is wrong with it.
    fn add(
        &self,
        found: &mut FoundModels,
        models: &ModelsFile,
        tag: &Tag,
        location: Location,
    ) -> Result<(), Error> {
        let entry = models.entry(tag.as_str());
        let options = entry
            .zip(self.directory())
            .map(|(entry, directory)| entry.file_options(directory))
            .transpose()?;
        // Whether there is any step will do here.
        location.files(tag, &FileOptions { step: None, ..options.unwrap_or_default() })?;
        found.partial.remove(tag);
        let (source, path) = (source(&location), self.relative(&location));
        found.whole.insert(tag.clone(), Entry { tag: tag.clone(), location, source, path });
        Ok(())
    }

    /// Models that `models.toml` and settings offer and that are not here.
    fn add_absent(&self, found: &mut FoundModels, models: &ModelsFile) {
        let said = |entry: &ModelEntry| Some((entry.tag.clone(), entry.shown_source()?));
        let offers = self.offers.iter().map(|offer| (offer.tag.clone(), offer.source.clone()));
        for (tag, source) in models.models.iter().filter_map(said).chain(offers) {
            if !source.is_remote() || tag == builtin::tag() || self.is_here(found, &tag, &source) {
                continue;
            }
            found.partial.remove(&tag);
            let entry = Entry { tag: tag.clone(), location: Location::Absent, source, path: tag.to_string() };
            found.whole.entry(tag).or_insert(entry);
        }
    }

    /// Whether a tag's files are on disk, where a person's are preferred to any that could be fetched.
    fn is_here(&self, found: &FoundModels, tag: &Tag, remote: &Source) -> bool {
        if let Some(entry) = found.whole.get(tag) {
            if entry.source == Source::Local {
                warn_once(&format!("`{tag}` is on disk and is not fetched from {remote}"));
            }
            return true;
        }
        // A directory that was fetched and lost something is fetched again; a person's is not replaced.
        let fetched = self.directory().is_some_and(|root| {
            Provenance::read(&root.join(tag.as_str())).is_ok_and(|fetched| fetched.is_some())
        });
        found.partial.contains_key(tag) && !fetched
    }

    /// A place below the root as callers see it.
    fn relative(&self, location: &Location) -> String {
        let (root, path) = (self.directory(), location.path());
        let relative = root.zip(path).and_then(|(root, path)| path.strip_prefix(root).ok());
        relative.map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// The directory or file at a path that `models.toml` names.
fn location_at(tag: &Tag, path: PathBuf) -> Result<Location, Error> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(Location::Directory(path)),
        Ok(_) => Ok(Location::File(path)),
        Err(error) => {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            Err(Error::Elsewhere { tag: tag.clone(), path, reason })
        }
    }
}

/// What ModelInfo shows of a model on disk.
fn source(location: &Location) -> Source {
    match location.fetched() {
        Ok(fetched) => fetched.map_or(Source::Local, |fetched| fetched.source()),
        Err(error) => {
            warn_once(&error.to_string());
            Source::Local
        }
    }
}

/// A root that keeps its name and its parents wherever it was named from.
fn absolute(root: PathBuf) -> PathBuf {
    let winding = root.components().any(|part| part == Component::ParentDir);
    let absolute = if winding { root.canonicalize() } else { std::path::absolute(&root) };
    absolute.unwrap_or(root)
}

/// Logs a warning, unless it was logged before: models are looked up often.
fn warn_once(what: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.len() >= MAX_WARNINGS {
        said.clear();
    }
    if said.insert(what.to_owned()) {
        tracing::warn!("{what}");
    }
}

/// The depth in names such as `d20`, `d24-sft` and `base.d20`.
pub fn depth(name: &str) -> Option<u32> {
    let own = name.rsplit_once('.').map_or(name, |(_, own)| own);
    let digits: String = own.strip_prefix('d')?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_names::file_name;

    /// Files with the least contents that pass for whole ones.
    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let json = path.extension().is_some_and(|extension| extension == "json");
            std::fs::write(path, if json { r#"{"n_head": 2, "sequence_len": 64}"# } else { "." }).unwrap();
        }
    }

    /// A model of one step in each directory.
    fn models(root: &Path, directories: &[&str]) {
        for directory in directories {
            let files = ["model_000001.pt", "meta_000001.json", "tokenizer.pkl"];
            touch(&root.join(directory), &files);
        }
    }

    fn catalog(root: &Path) -> Catalog {
        Catalog::new(Some(root.to_owned()))
    }

    fn tag(name: &str) -> Tag {
        Tag::new(name).unwrap()
    }

    /// Tags and paths of all but the built-in model.
    fn listed(catalog: &Catalog) -> Vec<(String, String)> {
        let mut all = catalog.list().unwrap();
        assert_eq!(all.iter().filter(|entry| entry.location == Location::Builtin).count(), 1);
        all.retain(|entry| entry.location != Location::Builtin);
        all.into_iter().map(|entry| (entry.tag.to_string(), entry.path)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(tag, path)| ((*tag).to_owned(), (*path).to_owned())).collect()
    }

    fn says(root: &Path, text: &str) {
        std::fs::write(root.join("models.toml"), text).unwrap();
    }

    #[test]
    fn stages_copies_and_plain_directories_are_listed_and_hidden_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        models(root.path(), &["base_checkpoints/d20", "chatsft_checkpoints/d20", "mid_checkpoints/d12"]);
        models(
            root.path(),
            &["native_checkpoints/base/d20", "native_checkpoints/rl/d20", "native_checkpoints/x/d9"],
        );
        models(root.path(), &["mine", ".staging/d30", ".d31", "native_checkpoints/.x/d32", "lost+found"]);
        touch(root.path(), &["notes/readme.txt", "tokenizer/tokenizer.pkl"]);
        let expected = pairs(&[
            ("base.d20", "base_checkpoints/d20"),
            ("d12", "mid_checkpoints/d12"),
            ("d20", "chatsft_checkpoints/d20"),
            ("d9", "native_checkpoints/x/d9"),
            ("mine", "mine"),
            ("native.base.d20", "native_checkpoints/base/d20"),
            ("rl.d20", "native_checkpoints/rl/d20"),
        ]);
        assert_eq!(listed(&catalog(root.path())), expected);
    }

    #[test]
    fn the_root_may_be_a_stage_a_tag_an_export_or_a_file() {
        let base = tempfile::tempdir().unwrap();
        let stage = base.path().join("chatsft_checkpoints");
        touch(base.path(), &["tokenizer/tokenizer.pkl"]);
        touch(
            &stage,
            &["d20/model_000001.pt", "d20/meta_000001.json", "d20/model_000002.pt", "d20/meta_000002.json"],
        );
        touch(&stage, &["d20/hf_000001/model.safetensors", "d20/hf_000001/config.json", "odd one/model.bin"]);
        touch(
            &stage,
            &["d24/model_000003.pt", "d24/meta_000003.json", "odd one/model.pt", "odd one/meta.json"],
        );
        touch(base.path(), &["flat/pytorch_model.bin", "flat/config.json", "flat/tokenizer.json"]);
        for (root, expected) in [
            (stage.clone(), pairs(&[("d20", "d20"), ("d24", "d24"), ("odd-one", "odd one")])),
            (stage.join("d20"), pairs(&[("d20", "")])),
            (stage.join("d20/hf_000001"), pairs(&[("d20", "")])),
            (stage.join("d20/model_000001.pt"), pairs(&[("d20", "model_000001.pt")])),
            (stage.join("odd one/model.pt"), pairs(&[("model", "model.pt")])),
            (stage.join("odd one"), pairs(&[("odd-one", "")])),
            (base.path().join("flat/../flat"), pairs(&[("flat", "")])),
            (base.path().join("flat/pytorch_model.bin"), pairs(&[("pytorch_model", "pytorch_model.bin")])),
        ] {
            let catalog = catalog(&root);
            assert_eq!(listed(&catalog), expected, "{}", root.display());
            let found = &catalog.list().unwrap()[0];
            assert_eq!(catalog.find(&found.tag).unwrap(), *found);
            let files = found.location.files(&found.tag, &FileOptions::default()).unwrap().unwrap();
            let step = match root.file_name().unwrap().to_str().unwrap() {
                "d20" | "chatsft_checkpoints" => Some(2),
                "hf_000001" | "model_000001.pt" => Some(1),
                _ => None,
            };
            assert_eq!(files.step, step, "{}", root.display());
        }
    }

    #[test]
    fn models_further_down_are_listed_by_the_names_that_say_something() {
        let root = tempfile::tempdir().unwrap();
        let hub = "hub/models--you--swe/snapshots/0123456789abcdef0123456789abcdef01234567";
        models(root.path(), &["d20/pt", "checkpoints/d12", "my model", "my-model", "release-1/d8", hub]);
        models(
            root.path(),
            &["sft_checkpoints/d26", "base_checkpoints/d26", "runs/base_checkpoints/d4/ckpt"],
        );
        models(
            root.path(),
            &["a/b/c/d", "a/b/c/e/f", ".cache/d30", "d20/pt/older", "hub/models--you--swe/blobs/x"],
        );
        let expected = pairs(&[
            ("base.d26", "base_checkpoints/d26"),
            ("d", "a/b/c/d"),
            ("d12", "checkpoints/d12"),
            ("d20", "d20/pt"),
            ("d26", "sft_checkpoints/d26"),
            ("d4", "runs/base_checkpoints/d4/ckpt"),
            ("d8", "release-1/d8"),
            ("my-model", "my-model"),
            ("my-model-76eeb0", "my model"),
            ("swe", hub),
        ]);
        let here = catalog(root.path());
        assert_eq!(listed(&here), expected);
        // With a second release the short name belongs to neither.
        models(root.path(), &["release-2/d8"]);
        let both: Vec<(String, String)> =
            listed(&here).into_iter().filter(|(_, path)| path.starts_with("release")).collect();
        assert_eq!(both, pairs(&[("release-1.d8", "release-1/d8"), ("release-2.d8", "release-2/d8")]));
        assert_eq!(here.find(&tag("d8")).unwrap_err().to_string(), "no model is called `d8`");
    }

    #[test]
    fn revisions_in_the_cache_of_the_hub_are_links_and_have_the_name_of_the_repository() {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("models--you--d20-chat");
        let (old, new) = ("a".repeat(40), "b".repeat(40));
        models(root.path(), &["models--you--d20-chat/blobs"]);
        for revision in [&old, &new] {
            let snapshot = repository.join("snapshots").join(revision);
            std::fs::create_dir_all(&snapshot).unwrap();
            for name in ["model_000001.pt", "meta_000001.json", "tokenizer.pkl"] {
                std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
            }
        }
        let path = |revision: &str| format!("models--you--d20-chat/snapshots/{revision}");
        std::fs::create_dir(repository.join("refs")).unwrap();
        std::fs::write(repository.join("refs/main"), &new).unwrap();
        let expected = [("aaaaaaaa".to_owned(), path(&old)), ("d20-chat".to_owned(), path(&new))];
        assert_eq!(listed(&catalog(root.path())), expected);
        assert_eq!(catalog(root.path()).default_tag().unwrap(), tag("d20-chat"));
        for at in [repository.clone(), repository.join("snapshots").join(&new)] {
            let own = listed(&catalog(&at));
            assert!(own.iter().any(|(_, path)| path.is_empty() || path.ends_with(&new)), "{own:?}");
        }
        // The newer revision is not that of the main branch, and its tag looks like a depth.
        std::fs::rename(
            repository.join("snapshots").join(&old),
            repository.join(format!("snapshots/d9{}", "0".repeat(38))),
        )
        .unwrap();
        let later = repository.join("snapshots").join(format!("d9{}", "0".repeat(38)));
        std::fs::write(later.join("new"), "").unwrap();
        for at in [root.path(), &repository, &repository.join("snapshots")] {
            let first = catalog(at).find(&catalog(at).default_tag().unwrap()).unwrap();
            assert!(first.path.ends_with(&new), "{}: {}", at.display(), first.path);
        }
        std::fs::write(repository.join("refs/main"), file_name(&later)).unwrap();
        let tags: Vec<String> = listed(&catalog(root.path())).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["bbbbbbbb", "d20-chat"]);
        assert_eq!(catalog(root.path()).find(&tag("d20-chat")).unwrap().path, path(file_name(&later)));
        assert_eq!(catalog(root.path()).default_tag().unwrap(), tag("d20-chat"));
        std::fs::write(repository.join("refs/main"), &new).unwrap();
        std::fs::remove_dir_all(later).unwrap();
        std::fs::remove_file(repository.join("refs/main")).unwrap();
        assert_eq!(
            listed(&catalog(root.path())),
            [("d20-chat".to_owned(), path(&new))],
            "it is the only one"
        );
    }

    #[test]
    fn a_storage_without_a_model_says_what_is_there_instead() {
        let root = tempfile::tempdir().unwrap();
        let online = |_: &Source| false;
        let why = |root: &Path| catalog(root).empty(online).unwrap().map(|empty| empty.to_string());
        let at = root.path().display().to_string();
        assert_eq!(why(root.path()), Some(format!("{at} holds no model")));
        let nowhere = root.path().join("nowhere");
        assert_eq!(why(&nowhere), Some(format!("{at}/nowhere does not exist or cannot be entered")));
        touch(root.path(), &["a/b/model_000001.pt", "notes.txt", ".staging/d1/model_000001.pt"]);
        models(root.path(), &["v/w/x/y/z", ".cache/d20", "late/ckpt"]);
        std::fs::rename(root.path().join("late/ckpt/model_000001.pt"), root.path().join("late/ckpt/last.pt"))
            .unwrap();
        let expected = format!(
            "{at} holds no model: a/b: `b` has no metadata (meta_<step>.json, meta.json or config.json); .cache/d20 \
             is hidden: its path has a name that begins with a dot; late/ckpt has last.pt, which is no name of \
             weights (model_<step>.pt, model.pt, model.safetensors, pytorch_model.bin); v/w/x/y/z is 5 directories \
             down, of which 4 are searched"
        );
        assert_eq!(why(root.path()), Some(expected));
        let file = root.path().join("notes.txt");
        let metadata = "`notes` has no metadata (meta_<step>.json, meta.json or config.json)";
        assert_eq!(why(&file), Some(format!("{at}/notes.txt holds no model: notes.txt: {metadata}")));
        let named = tempfile::tempdir().unwrap();
        models(named.path(), &["samosa-mini"]);
        assert!(why(named.path()).unwrap().contains("samosa-mini has the name of the built-in model"));
        let loud = tempfile::tempdir().unwrap();
        touch(
            loud.path(),
            &["a/MODEL_000106.PT", "a/META_000106.JSON", "b/Model.SafeTensors", "c/OPTIM_1.PT"],
        );
        let odd = why(loud.path()).unwrap();
        for named in ["a has MODEL_000106.PT, which is no name", "b has Model.SafeTensors, which is no name"]
        {
            assert!(odd.contains(named), "{odd}");
        }
        assert!(!odd.contains("OPTIM"), "{odd}");
        for i in 0..10 {
            touch(root.path(), &[&format!("n{i}/model_000001.pt")]);
        }
        assert!(why(root.path()).unwrap().ends_with("; and 9 more"), "{:?}", why(root.path()));
        says(root.path(), "[[model]]\ntag = \"far\"\nsource = \"huggingface:o/far\"\n");
        assert_eq!(why(root.path()), None, "one is named that can be fetched");
        let alone = tempfile::tempdir().unwrap();
        let offline = |source: &Source| matches!(source, Source::HuggingFace { .. });
        let why_offline = || catalog(alone.path()).empty(offline).unwrap().map(|empty| empty.to_string());
        says(alone.path(), "[[model]]\ntag = \"far\"\nsource = \"huggingface:o/far\"\n");
        let off = "`far` comes from huggingface:o/far, and HF_HUB_OFFLINE is true";
        assert_eq!(why_offline(), Some(format!("{} holds no model: {off}", alone.path().display())));
        says(alone.path(), "[[model]]\ntag = \"far\"\nsource = \"s3://b/far\"\n");
        assert_eq!(why_offline(), None, "that is not the Hub");
        says(root.path(), "[[model]]\ntag = 5\n");
        assert!(catalog(root.path()).empty(online).unwrap_err().to_string().contains("line 2"));
        models(root.path(), &["d20"]);
        assert_eq!(why(root.path()), None);
        assert_eq!(Catalog::new(None).empty(online).unwrap(), None, "none was to be expected");
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_named_and_hides_no_other() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let why = || catalog(root.path()).empty(|_| false).unwrap().map(|empty| empty.to_string());
        std::os::unix::fs::symlink("d1", root.path().join("d1")).unwrap();
        std::os::unix::fs::symlink("/nowhere/d3", root.path().join("d3")).unwrap();
        let links = format!(
            "{} holds no model: d1 cannot be read: Too many levels of symbolic links (os error 40); d3 cannot be read: \
             No such file or directory (os error 2)",
            root.path().display()
        );
        assert_eq!(why(), Some(links.clone()));
        models(root.path(), &["runs/d2", "chatsft_checkpoints/d4"]);
        let closed = ["runs/d2", "chatsft_checkpoints"].map(|name| root.path().join(name));
        let permit = |mode| {
            for path in &closed {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        permit(0o000);
        // The administrator may read everything.
        if std::fs::read_dir(&closed[0]).is_err() {
            let both = why().unwrap();
            for name in ["runs/d2", "chatsft_checkpoints"] {
                let expected = format!("{name} cannot be read: Permission denied (os error 13)");
                assert!(both.contains(&expected), "{both}");
            }
            models(root.path(), &["d5"]);
            assert_eq!(listed(&catalog(root.path())), pairs(&[("d5", "d5")]));
        }
        permit(0o700);
    }

    #[test]
    fn a_tokenizer_that_models_toml_names_makes_a_model_whole() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["d20/model_000001.pt", "d20/meta_000001.json", "d12/model_000001.pt"]);
        touch(root.path(), &["d12/meta_000001.json", "shared/tokenizer.pkl"]);
        let catalog = catalog(root.path());
        assert_eq!(listed(&catalog), []);
        let text = |path: &str| format!("[[model]]\ntag = \"d20\"\ntokenizer = \"{path}\"\n");
        says(root.path(), &text("shared"));
        assert_eq!(listed(&catalog), pairs(&[("d20", "d20")]), "d12 is another model");
        says(root.path(), &text("shred"));
        let error = catalog.find(&tag("d20")).unwrap_err().to_string();
        assert!(error.contains("models.toml: line 3: tokenizer is \"shred\", but no such file"), "{error}");
        assert!(
            catalog.find(&tag("d12")).unwrap_err().to_string().contains("no tokenizer"),
            "nor hides it that"
        );
    }

    #[test]
    fn what_is_there_in_part_is_not_listed_and_says_what_it_lacks() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["a/model_000001.pt", "b/model_000001.pt", "b/meta_000001.json", "c/readme.md"]);
        touch(root.path(), &["d/model.safetensors.index.json", "d/config.json", "d/tokenizer.json"]);
        let index = r#"{"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}}"#;
        std::fs::write(root.path().join("d/model.safetensors.index.json"), index).unwrap();
        models(root.path(), &["e", "f", "g", "h"]);
        touch(root.path(), &["d/one.safetensors", "h/model_000002.pt", "h/meta_000002.json"]);
        let write = |name: &str, bytes: &[u8]| std::fs::write(root.path().join(name), bytes).unwrap();
        write("e/model_000001.pt", b"");
        write("f/meta_000001.json", b"{\"step\": 1, ");
        write("g/model_000001.pt", b"PK\x03\x04 and so on, but not to the end");
        write("h/model_000002.pt", &[&200_u64.to_le_bytes()[..], b"{\"x\": "].concat());
        let catalog = catalog(root.path());
        assert_eq!(listed(&catalog), pairs(&[("h", "h")]), "of which the step before is whole");
        assert_eq!(
            catalog
                .find(&tag("h"))
                .unwrap()
                .location
                .files(&tag("h"), &FileOptions::default())
                .unwrap()
                .unwrap()
                .step,
            Some(1)
        );
        for (name, expected) in [
            ("a", "`a` has no metadata"),
            ("b", "`b` has no tokenizer"),
            ("d", "`d` has no file two.safetensors, which model.safetensors.index.json names"),
            ("e", "model_000001.pt: the file is empty"),
            ("f", "meta_000001.json: the JSON is not valid at line 1, column 12: it ends early"),
            ("g", "model_000001.pt: the zip archive is not valid: its directory is missing"),
            ("c", "no model is called `c`"),
            ("z", "no model is called `z`"),
        ] {
            let error = catalog.find(&tag(name)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}, and not {expected}");
        }
        let error = catalog
            .find(&tag("h"))
            .unwrap()
            .location
            .files(&tag("h"), &FileOptions { step: Some(2), ..FileOptions::default() })
            .unwrap_err()
            .to_string();
        assert!(error.contains("the file ends early"), "{error}");
        let partial: Vec<String> =
            catalog.partial().unwrap().iter().map(|(tag, _)| tag.to_string()).collect();
        assert_eq!(partial, ["a", "b", "d", "e", "f", "g"]);
    }

    #[test]
    fn models_that_can_be_fetched_are_listed_unless_they_are_here() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        models(root.path(), &["here", "named", "got"]);
        models(elsewhere.path(), &["x/y"]);
        touch(root.path(), &["lost/model_000001.pt", "broken/model_000001.pt"]);
        let provenance =
            r#"{"source": "huggingface:o/got", "revision": "main", "commit": null, "files": {}}"#;
        for directory in ["got", "lost"] {
            std::fs::write(root.path().join(directory).join(".samosa.json"), provenance).unwrap();
        }
        let entry = |tag: &str, source: &str| format!("[[model]]\ntag = \"{tag}\"\nsource = \"{source}\"\n");
        let text = [
            entry("here", "huggingface:o/here"),
            entry("got", "huggingface:o/other"),
            entry("far", "huggingface:o/far") + "revision = \"v1\"\n",
            entry("lost", "s3://b/lost"),
            entry("broken", "https://example.org/broken"),
            entry("named", &format!("local:{}", elsewhere.path().display())) + "directory = \"x/y\"\n",
            entry("gone", "local:/nowhere/x") + "directory = \"y\"\n",
        ];
        says(root.path(), &text.concat());
        let offer =
            |tag_: &str| Offer { tag: tag(tag_), source: format!("huggingface:o/{tag_}").parse().unwrap() };
        let offers = ["here", "far", "offered", "samosa-mini"].map(offer).to_vec();
        let catalog = catalog(root.path()).offering(offers);
        let all: Vec<String> = catalog
            .list()
            .unwrap()
            .iter()
            .map(|e| format!("{} {} {:?} {}", e.tag, e.source, e.location == Location::Absent, e.path))
            .collect();
        let expected = [
            "far huggingface:o/far@v1 true far",
            "got huggingface:o/got@main false got",
            "here local false here",
            "lost s3://b/lost true lost",
            "named local false ",
            "offered huggingface:o/offered true offered",
            "samosa-mini builtin false ",
        ];
        assert_eq!(all, expected);
        let named = catalog.find(&tag("named")).unwrap();
        assert_eq!(named.location, Location::Directory(elsewhere.path().join("x/y")));
        let broken = catalog.find(&tag("broken")).unwrap_err().to_string();
        assert_eq!(broken, "`broken` has no metadata (meta_<step>.json, meta.json or config.json)");
        let gone = catalog.find(&tag("gone")).unwrap_err();
        assert_eq!(gone.to_string(), "`gone`: /nowhere/x/y does not exist");
        assert_eq!(gone.public(), "`gone` is not where models.toml says", "no path leaves the server");
        let absent = catalog.find(&tag("far")).unwrap();
        assert!(matches!(
            absent.location.files(&tag("far"), &FileOptions::default()),
            Err(Error::NotFetched { .. })
        ));
    }

    #[test]
    fn a_mistake_in_models_toml_hides_nothing_and_lets_only_the_built_in_model_load() {
        let root = tempfile::tempdir().unwrap();
        models(root.path(), &["d20", "samosa-mini"]);
        says(root.path(), "[[model]]\ntag = 5\n");
        let catalog = catalog(root.path());
        assert_eq!(listed(&catalog), pairs(&[("d20", "d20")]));
        assert_eq!(catalog.default_tag().unwrap(), tag("d20"));
        let error = catalog.find(&tag("d20")).unwrap_err().to_string();
        assert!(error.contains("models.toml: line 2"), "{error}");
        assert_eq!(catalog.find(&builtin::tag()).unwrap().location, Location::Builtin);
    }

    #[test]
    fn the_default_is_the_deepest_then_the_built_in_one() {
        let root = tempfile::tempdir().unwrap();
        let later = root.path().join("later");
        let catalog = Catalog::new(Some(later.clone()));
        assert_eq!(catalog.default_tag().unwrap(), builtin::tag());
        std::fs::create_dir(&later).unwrap();
        says(&later, "[[model]]\ntag = \"d99\"\nsource = \"huggingface:o/d99\"\n");
        assert_eq!(
            catalog.default_tag().unwrap(),
            builtin::tag(),
            "nothing is fetched that nobody asked for"
        );
        models(&later, &["d8", "d24-sft", "z"]);
        assert_eq!(catalog.default_tag().unwrap(), tag("d24-sft"));
        models(root.path(), &["elsewhere/d26"]);
        let path = root.path().join("elsewhere/d26");
        says(&later, &format!("[[model]]\ntag = \"d26\"\nsource = \"local:{}\"\n", path.display()));
        assert_eq!(catalog.default_tag().unwrap(), tag("d26"), "a model that is named counts like any other");
        let root = tempfile::tempdir().unwrap();
        models(
            root.path(),
            &["base_checkpoints/d34", "native_checkpoints/mid/d35", "chatsft_checkpoints/d20"],
        );
        let catalog = Catalog::new(Some(root.path().to_owned()));
        assert_eq!(catalog.default_tag().unwrap(), tag("d20"), "a chat model before a deeper base model");
    }

    #[test]
    fn an_unknown_tag_is_named() {
        let error = Catalog::new(None).find(&tag("d99")).unwrap_err();
        assert_eq!(error.to_string(), "no model is called `d99`");
    }
}
