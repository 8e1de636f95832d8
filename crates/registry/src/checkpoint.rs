//! Which files make a model: chosen by name from a listing, of a directory here or of a repository elsewhere.
//!
//! nanochat writes `model_<step>.pt` and then `meta_<step>.json`; exporters write safetensors (also sharded)
//! beside a `config.json`, or in a directory `hf_<step>`; some rename the pair to `model.pt` and `meta.json`.
//! The tokenizer lies beside them, in `tokenizer/`, in the directory above, or in the base directory one to three
//! levels up.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::file_names::{
    PLAIN_WEIGHTS, exported_step, file_name, has_extension, is_export, is_plain_name, is_weights, number,
    step_of,
};
use crate::{Error, Tag, completeness};

/// Entries of one directory that are looked at; more is no checkpoint directory.
const MAX_ENTRIES: usize = 10_000;
/// Largest metadata, tokenizer or index that is read, in bytes.
const MAX_SMALL_FILE: u64 = 64 << 20;
/// How far above the model's directory its base directory may be.
const LEVELS_UP: usize = 3;
/// Names of tokenizers, the best first.
const TOKENIZERS: [&str; 2] = ["tokenizer.pkl", "tokenizer.json"];
/// Metadata of exporters.
const CONFIG: &str = "config.json";

/// The files of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointFiles {
    /// One file, or an index that names several in the same directory.
    pub weights: PathBuf,
    /// Sizes of the model.
    pub meta: PathBuf,
    /// The other file that describes these weights, where there is one: `config.json` beside `meta_<step>.json`, or
    /// the one `meta_<step>.json` beside `config.json`.
    pub companion: Option<PathBuf>,
    /// A pickled or JSON tokenizer.
    pub tokenizer: PathBuf,
    /// The training step in the file's name.
    pub step: Option<u64>,
}

/// How a model's files are chosen, as `models.toml` and the settings ask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileOptions {
    /// The training step, instead of the latest that is complete.
    pub step: Option<u64>,
    /// A tokenizer elsewhere on this machine, instead of the model's own.
    pub tokenizer: Option<PathBuf>,
    /// Whether `models.toml` has the longest sequence, so that the metadata need not.
    pub has_length: bool,
}

/// Names of files relative to one root, with `/` between directories.
#[derive(Clone, Default, Debug)]
pub struct Listing(BTreeSet<String>);

/// The files of a model by their names in a [`Listing`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// One file, or an index that names several in the same directory.
    pub weights: String,
    /// Sizes of the model.
    pub meta: String,
    /// The other file that describes these weights.
    pub companion: Option<String>,
    /// A pickled or JSON tokenizer; `None` where one elsewhere is named.
    pub tokenizer: Option<String>,
    /// The training step in a name.
    pub step: Option<u64>,
}

/// Weights that were found, before the rest is.
struct Candidate {
    weights: String,
    step: Option<u64>,
    /// Among weights of one step, the lowest is taken.
    rank: usize,
}

impl Listing {
    /// Of these names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// What a directory and its base directory hold of models, as names relative to the highest level that is
    /// looked at, and the directory's own name there.
    fn local(directory: &Path, tag: &Tag) -> Result<(PathBuf, String, Self), Error> {
        let root = directory.ancestors().nth(LEVELS_UP).or(directory.ancestors().last()).unwrap_or(directory);
        let mut names = BTreeSet::new();
        let mut add = |directory: &Path| -> Result<Vec<PathBuf>, Error> {
            let (files, directories) = entries(directory)?;
            names.extend(files.iter().filter_map(|path| name_below(root, path)));
            Ok(directories)
        };
        for below in add(directory)? {
            let name = file_name(&below);
            if name == "tokenizer" || is_export(name) {
                add(&below)?;
            }
        }
        if is_export(file_name(directory)) {
            directory.parent().map(&mut add).transpose()?;
        }
        for base in directory.ancestors().skip(1).take(LEVELS_UP) {
            for name in tokenizer_directories(file_name(directory), tag) {
                let place = base.join(name);
                if place.is_dir() {
                    add(&place)?;
                }
            }
        }
        for above in directory.ancestors().skip(1).take(levels_of_files(file_name(directory))) {
            let files = TOKENIZERS.map(|name| above.join(name)).into_iter().filter(|path| path.is_file());
            names.extend(files.filter_map(|path| name_below(root, &path)));
        }
        Ok((root.to_owned(), name_below(root, directory).unwrap_or_default(), Self(names)))
    }

    /// Whether a file has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Directories that hold weights directly or in a `hf_<step>` of theirs, the root being "".
    pub fn directories(&self) -> BTreeSet<&str> {
        let with_weights = self.0.iter().filter(|name| is_weights(last_part(name)));
        with_weights
            .map(|name| {
                let directory = parent(name).unwrap_or_default();
                if is_export(last_part(directory)) {
                    parent(directory).unwrap_or_default()
                } else {
                    directory
                }
            })
            .collect()
    }

    /// The files of the model in `directory`: of the step asked for, else of the highest step that is complete.
    /// The error says what is missing, as the object of a sentence.
    pub fn choose(&self, directory: &str, tag: &Tag, options: &FileOptions) -> Result<Chosen, String> {
        let step = options.step;
        let mut candidates = self.candidates(directory);
        candidates.retain(|candidate| step.is_none() || candidate.step == step);
        candidates.sort_by_key(|candidate| (Reverse(candidate.step), candidate.rank));
        let mut found = candidates.iter().map(|candidate| self.complete(candidate, directory, tag, options));
        match (found.next(), step) {
            (Some(Ok(best)), _) => Ok(best),
            // What the best lacks is what is said.
            (Some(Err(missing)), _) => found.find_map(Result::ok).ok_or(missing),
            (None, Some(step)) => {
                Err(format!("no weights of step {step} (model_{step:06}.pt or .safetensors)"))
            }
            (None, None) => Err("no weights (model_<step>.pt, model.pt or .safetensors)".to_owned()),
        }
    }

    /// The files of the model whose weights are this file.
    pub fn choose_file(&self, weights: &str, tag: &Tag, options: &FileOptions) -> Result<Chosen, String> {
        let step = step_of(last_part(weights));
        let candidate = Candidate { weights: weights.to_owned(), step, rank: 0 };
        self.complete(&candidate, parent(weights).unwrap_or_default(), tag, options)
    }

    fn candidates(&self, directory: &str) -> Vec<Candidate> {
        let mut found = Vec::new();
        for name in self.files_in(directory) {
            let (file, rank) = (last_part(name), usize::from(has_extension(name, "pt")));
            if let Some(step) = step_of(file) {
                found.push(Candidate { weights: name.to_owned(), step: Some(step), rank });
            } else if let Some(rank) = PLAIN_WEIGHTS.iter().position(|plain| *plain == file) {
                let step = exported_step(last_part(directory));
                found.push(Candidate { weights: name.to_owned(), step, rank });
            }
        }
        // An exporter may have left out what it did not know, so nanochat's own file of the same step is better.
        for place in self.exports(directory) {
            let plain = PLAIN_WEIGHTS.iter().enumerate().map(|(rank, name)| (rank, join(place, name)));
            found.extend(plain.filter(|(_, name)| self.contains(name)).map(|(rank, weights)| Candidate {
                weights,
                step: exported_step(last_part(place)),
                rank: 2 + rank,
            }));
        }
        found
    }

    /// The rest of a model's files.
    fn complete(
        &self,
        candidate: &Candidate,
        directory: &str,
        tag: &Tag,
        options: &FileOptions,
    ) -> Result<Chosen, String> {
        let home = parent(&candidate.weights).unwrap_or_default();
        let of_step = candidate.step.map(|step| join(home, &format!("meta_{step:06}.json")));
        let metas = of_step.into_iter().chain(["meta.json", CONFIG].map(|name| join(home, name)));
        let meta = self
            .first(metas)
            .ok_or_else(|| "no metadata (meta_<step>.json, meta.json or config.json)".to_owned())?;
        let tokenizer = match options.tokenizer {
            Some(_) => None,
            None => Some(
                self.first(tokenizers(home, directory, tag).into_iter())
                    .ok_or_else(|| "no tokenizer (tokenizer.pkl or tokenizer.json)".to_owned())?,
            ),
        };
        let (companion, weights) = (self.companion(&meta, home), candidate.weights.clone());
        Ok(Chosen { weights, meta, companion, tokenizer, step: candidate.step })
    }

    /// The other file that describes the same weights. Which of several of nanochat's it would be is not known.
    fn companion(&self, meta: &str, home: &str) -> Option<String> {
        if last_part(meta) != CONFIG {
            return self.first(std::iter::once(join(home, CONFIG)));
        }
        let of_a_step = |name: &&str| {
            let step = last_part(name).strip_prefix("meta_").and_then(|rest| rest.strip_suffix(".json"));
            step.and_then(number).is_some()
        };
        let mut metas = self.files_in(home).filter(of_a_step);
        metas.next().filter(|_| metas.next().is_none()).map(str::to_owned)
    }

    fn first(&self, mut names: impl Iterator<Item = String>) -> Option<String> {
        names.find(|name| self.contains(name))
    }

    fn files_in<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(move |name| parent(name).unwrap_or_default() == directory)
    }

    /// Directories `hf_<step>` in a directory.
    fn exports(&self, directory: &str) -> BTreeSet<&str> {
        let homes = self.0.iter().filter_map(|name| parent(name));
        homes
            .filter(|home| is_export(last_part(home)))
            .filter(|home| parent(home).unwrap_or_default() == directory)
            .collect()
    }
}

/// Finds the files of the model in `directory`, at the step asked for or the latest that is whole.
pub fn find(tag: &Tag, directory: &Path, options: &FileOptions) -> Result<CheckpointFiles, Error> {
    let (root, name, mut listing) = Listing::local(directory, tag)?;
    let mut best = None;
    loop {
        let files = match listing.choose(&name, tag, options) {
            Ok(chosen) => located(&root, chosen, options),
            Err(missing) => return Err(best.unwrap_or(Error::Incomplete { tag: tag.clone(), missing })),
        };
        match completeness::check(tag, &files, options) {
            Ok(()) => return Ok(files),
            // What the best lacks is what is said.
            Err(error) => best.get_or_insert(error),
        };
        listing.0.retain(|other| root.join(other) != files.weights);
    }
}

/// Finds the rest of the model whose weights are this file.
pub fn find_file(tag: &Tag, weights: &Path, options: &FileOptions) -> Result<CheckpointFiles, Error> {
    let (root, name, listing) = Listing::local(weights.parent().unwrap_or(Path::new("/")), tag)?;
    let name = join(&name, file_name(weights));
    let there = listing.contains(&name);
    let chosen = if there {
        listing.choose_file(&name, tag, options)
    } else {
        Err("no file of weights there".to_owned())
    };
    let chosen = chosen.map_err(|missing| Error::Incomplete { tag: tag.clone(), missing })?;
    let files = located(&root, chosen, options);
    completeness::check(tag, &files, options).map(|()| files)
}

/// Whether a directory has files of weights, whatever else is missing there.
pub(crate) fn has_weights(tag: &Tag, directory: &Path) -> bool {
    Listing::local(directory, tag).is_ok_and(|(_, name, listing)| !listing.candidates(&name).is_empty())
}

fn located(root: &Path, chosen: Chosen, options: &FileOptions) -> CheckpointFiles {
    let own = chosen.tokenizer.map(|name| root.join(name));
    CheckpointFiles {
        weights: root.join(chosen.weights),
        meta: root.join(chosen.meta),
        companion: chosen.companion.map(|name| root.join(name)),
        tokenizer: own.or_else(|| options.tokenizer.clone()).unwrap_or_default(),
        step: chosen.step,
    }
}

/// The tokenizer at a path: that file, or the one in that directory.
pub(crate) fn tokenizer_at(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    TOKENIZERS.map(|name| path.join(name)).into_iter().find(|path| path.is_file())
}

impl CheckpointFiles {
    /// Every file of the model, an index and the shards that it names included.
    pub(crate) fn all(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = vec![self.weights.clone(), self.meta.clone(), self.tokenizer.clone()];
        files.extend(self.companion.clone());
        files.extend(self.shards()?.unwrap_or_default());
        Ok(files)
    }

    /// The files of weights that an index names; `None` where the weights are one file.
    pub(crate) fn shards(&self) -> Result<Option<Vec<PathBuf>>, Error> {
        let name = file_name(&self.weights);
        if !name.ends_with(".index.json") {
            return Ok(None);
        }
        let directory = self.weights.parent().unwrap_or(Path::new("."));
        let shards = formats::read_shard_index(name, &read_small(&self.weights)?)?;
        Ok(Some(shards.iter().map(|shard| directory.join(shard)).collect()))
    }
}

/// The contents of a file that describes a model.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    if length > MAX_SMALL_FILE {
        let message =
            format!("{} has {length} bytes, but at most {MAX_SMALL_FILE} are read", file_name(path));
        return Err(Error::io(path, std::io::Error::new(std::io::ErrorKind::FileTooLarge, message)));
    }
    std::fs::read(path).map_err(|error| Error::io(path, error))
}

/// Places of a tokenizer, the nearest first.
fn tokenizers(home: &str, directory: &str, tag: &Tag) -> Vec<String> {
    let mut places = vec![home.to_owned(), directory.to_owned(), join(directory, "tokenizer")];
    // What an export lacks is where it was exported from.
    places.extend(parent(home).filter(|_| is_export(last_part(home))).map(str::to_owned));
    let mut base = directory;
    for _ in 0..LEVELS_UP {
        let Some(above) = parent(base) else { break };
        places.extend(tokenizer_directories(last_part(directory), tag).iter().map(|name| join(above, name)));
        base = above;
    }
    let mut base = directory;
    for _ in 0..levels_of_files(last_part(directory)) {
        let Some(above) = parent(base) else { break };
        places.push(above.to_owned());
        base = above;
    }
    places.iter().flat_map(|place| TOKENIZERS.map(|name| join(place, name))).collect()
}

/// How far above a model's directory a file itself may be its tokenizer: beside the directory, or one more where the
/// directory is called after a format.
fn levels_of_files(name: &str) -> usize {
    if is_plain_name(name) { 2 } else { 1 }
}

/// Directories beside a model's that may hold its tokenizer. The model may be listed under another tag than its
/// directory's name.
fn tokenizer_directories(own_name: &str, tag: &Tag) -> [String; 3] {
    [format!("tokenizer_{tag}"), format!("tokenizer_{own_name}"), "tokenizer".to_owned()]
}

/// The directory of a name; `None` of the root.
fn parent(name: &str) -> Option<&str> {
    match name.rsplit_once('/') {
        Some((directory, _)) => Some(directory),
        None => (!name.is_empty()).then_some(""),
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// Files and directories of a directory. Pipes and devices are neither: opening one would wait for ever.
fn entries(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let read = std::fs::read_dir(directory).map_err(|source| Error::io(directory, source))?;
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for entry in read.take(MAX_ENTRIES) {
        let path = entry.map_err(|source| Error::io(directory, source))?.path();
        if path.is_file() {
            files.push(path);
        } else if path.is_dir() {
            directories.push(path);
        }
    }
    Ok((files, directories))
}

/// A path as a name in a listing of `root`.
fn name_below(root: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.components();
    let parts: Option<Vec<&str>> = parts.map(|part| part.as_os_str().to_str()).collect();
    Some(parts?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least metadata that pass for whole.
    const SIZES: &[u8] = br#"{"n_head": 2, "sequence_len": 64}"#;

    fn at(step: u64) -> FileOptions {
        FileOptions { step: Some(step), ..FileOptions::default() }
    }

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let end_of_json_or_pickle: &[u8] = if has_extension(name, "json") { SIZES } else { b"." };
            std::fs::write(path, end_of_json_or_pickle).unwrap();
        }
    }

    fn tag() -> Tag {
        Tag::new("d20").unwrap()
    }

    #[test]
    fn the_highest_step_wins_by_number_not_by_text() {
        let root = tempfile::tempdir().unwrap();
        let files = ["model_000900.pt", "model_001000.pt", "model_1000000.pt", "optim_2000000_rank0.pt"];
        touch(root.path(), &files);
        touch(root.path(), &["meta_1000000.json", "meta_000900.json", "tokenizer.pkl"]);
        let found = find(&tag(), root.path(), &FileOptions::default()).unwrap();
        assert_eq!((found.step, found.weights), (Some(1_000_000), root.path().join("model_1000000.pt")));
        let found = find(&tag(), root.path(), &at(900)).unwrap();
        assert_eq!(found.meta, root.path().join("meta_000900.json"));
        let error = find(&tag(), root.path(), &at(7)).unwrap_err().to_string();
        assert_eq!(error, "`d20` has no weights of step 7 (model_000007.pt or .safetensors)");
    }

    #[test]
    fn the_tokenizer_of_the_base_directory_serves_a_tag_inside_it() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["tokenizer/tokenizer.pkl", "chatsft_checkpoints/d20/model_000001.pt"]);
        touch(root.path(), &["chatsft_checkpoints/d20/meta_000001.json"]);
        let directory = root.path().join("chatsft_checkpoints/d20");
        let found = find(&tag(), &directory, &FileOptions::default()).unwrap();
        assert_eq!(found.tokenizer, root.path().join("tokenizer/tokenizer.pkl"));
        touch(root.path(), &["tokenizer_d20/tokenizer.pkl"]);
        let found = find(&tag(), &directory, &FileOptions::default()).unwrap();
        assert_eq!(found.tokenizer, root.path().join("tokenizer_d20/tokenizer.pkl"));
    }

    #[test]
    fn a_step_that_is_still_being_written_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["model_000900.pt", "meta_000900.json", "model_001000.pt", "tokenizer.pkl"]);
        assert_eq!(find(&tag(), root.path(), &FileOptions::default()).unwrap().step, Some(900));
        let error = find(&tag(), root.path(), &at(1000)).unwrap_err().to_string();
        assert!(error.contains("no metadata"), "{error}");
    }

    #[test]
    fn an_export_counts_by_its_step_and_after_the_original() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["model_000900.pt", "meta_000900.json", "tokenizer.pkl"]);
        touch(root.path(), &["hf_000900/model.safetensors", "hf_000900/config.json"]);
        assert_eq!(
            find(&tag(), root.path(), &FileOptions::default()).unwrap().weights,
            root.path().join("model_000900.pt")
        );
        touch(
            root.path(),
            &["hf_001000/model.safetensors", "hf_001000/config.json", "hf_001000/tokenizer.json"],
        );
        let found = find(&tag(), root.path(), &FileOptions::default()).unwrap();
        assert_eq!(
            (found.step, found.weights),
            (Some(1000), root.path().join("hf_001000/model.safetensors"))
        );
        assert_eq!(found.tokenizer, root.path().join("hf_001000/tokenizer.json"));
    }

    #[test]
    fn a_file_can_be_named_itself() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["d20/model_000900.pt", "d20/model_000100.pt", "d20/meta_000100.json"]);
        touch(root.path(), &["tokenizer/tokenizer.pkl"]);
        let found =
            find_file(&tag(), &root.path().join("d20/model_000100.pt"), &FileOptions::default()).unwrap();
        assert_eq!((found.step, found.meta), (Some(100), root.path().join("d20/meta_000100.json")));
    }

    #[test]
    fn a_listing_knows_its_directories_of_weights() {
        let names = ["a/b/model_000001.pt", "c/hf_000002/model.safetensors", "model.pt", "d/optim_000001.pt"];
        let listing = Listing::new(names.map(str::to_owned));
        assert_eq!(listing.directories().into_iter().collect::<Vec<_>>(), ["", "a/b", "c"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = || find(&tag(), root.path(), &FileOptions::default()).unwrap_err().to_string();
        assert!(error().contains("no weights"), "{}", error());
        touch(root.path(), &["model.safetensors"]);
        assert!(error().contains("no metadata"), "{}", error());
        touch(root.path(), &["config.json"]);
        assert!(error().contains("no tokenizer"), "{}", error());
        touch(root.path(), &["tokenizer.json"]);
        assert_eq!(find(&tag(), root.path(), &FileOptions::default()).unwrap().step, None);
    }

    #[test]
    fn a_tokenizer_may_lie_above_the_directory_or_be_named() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["d20/pt/model_000001.pt", "d20/pt/meta_000001.json"]);
        let pt = root.path().join("d20/pt");
        let tokenizer = || find(&tag(), &pt, &FileOptions::default()).map(|files| files.tokenizer);
        assert!(tokenizer().unwrap_err().to_string().contains("no tokenizer"));
        touch(root.path(), &["tokenizer.json"]);
        assert_eq!(tokenizer().unwrap(), root.path().join("tokenizer.json"), "pt is a format and no tag");
        touch(root.path(), &["d20/tokenizer.pkl"]);
        assert_eq!(tokenizer().unwrap(), root.path().join("d20/tokenizer.pkl"));
        let options =
            FileOptions { tokenizer: Some(root.path().join("tokenizer.json")), ..FileOptions::default() };
        assert_eq!(find(&tag(), &pt, &options).unwrap().tokenizer, root.path().join("tokenizer.json"));
    }

    #[test]
    fn the_other_file_that_describes_the_weights_is_found() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["a/model_000001.pt", "a/meta_000001.json", "a/config.json", "a/tokenizer.pkl"]);
        touch(
            root.path(),
            &["b/model.safetensors", "b/meta_000001.json", "b/config.json", "b/tokenizer.pkl"],
        );
        touch(root.path(), &["c/model.pt", "c/meta.json", "c/tokenizer.pkl"]);
        let companion = |name: &str| {
            let files = find(&tag(), &root.path().join(name), &FileOptions::default()).unwrap();
            files.companion.as_deref().map(|path| file_name(path).to_owned())
        };
        assert_eq!(companion("a").as_deref(), Some("config.json"));
        assert_eq!(companion("b").as_deref(), Some("meta_000001.json"));
        assert_eq!(companion("c"), None);
        touch(root.path(), &["b/meta_000002.json"]);
        assert_eq!(companion("b"), None, "of two, neither is known to be it");
    }

    #[test]
    fn metadata_without_the_sizes_that_tensors_do_not_tell_are_not_whole() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["model_000001.pt", "tokenizer.pkl"]);
        let meta = root.path().join("meta_000001.json");
        for (text, error) in [
            ("{}", Some("`d20` has no n_head in meta_000001.json")),
            (r#"{"step": 1, "n_head": 4}"#, Some("`d20` has no sequence_len in meta_000001.json")),
            (
                r#"{"model_config": []}"#,
                Some("meta_000001.json: the field \"model_config\" is not an object"),
            ),
            ("\u{feff}{\"n_head\": 4, \"sequence_len\": 64}", None),
            (r#"{"model_config": null, "n_head": 4, "n_ctx": 64}"#, None),
        ] {
            std::fs::write(&meta, text).unwrap();
            let found = find(&tag(), root.path(), &FileOptions::default());
            assert_eq!(found.err().map(|error| error.to_string()).as_deref(), error, "{text}");
        }
        std::fs::write(&meta, r#"{"n_head": 4}"#).unwrap();
        let options = FileOptions { has_length: true, ..FileOptions::default() };
        assert!(find(&tag(), root.path(), &options).is_ok(), "an override has it");
    }
}
