//! Every place below a storage root that may be a model: nanochat's own directories and the ways people lay
//! models out. Whether there is a whole model in a place is not decided here.
//!
//! The root may be nanochat's base directory (`chatsft_checkpoints/<tag>` and so on, or what a synchroniser of
//! such directories writes, `native_checkpoints/<stage>/<tag>`), one of its stages, a directory of models, or
//! itself a model: flat, exported, a tag of a stage, or a file of weights. What is none of these is searched for
//! in the directories further down ([`walk`]): `<tag>/pt`, `checkpoints/<tag>`, `<release>/<tag>`, the Hub's cache.

pub(crate) mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::file_names::{COPIES, PLAIN_NAMES, file_name, is_export, is_plain_name, step_of};
use crate::identity::hex;
use crate::{Error, Tag, builtin};
use walk::Walked;

/// Models that are looked at.
const MAX_MODELS: usize = 1000;
/// Stages of training, the most finished first: its directories, and what a stage is called elsewhere.
const STAGES: [([&str; 2], [&str; 2]); 4] = [
    (["chatrl_checkpoints", "rl_checkpoints"], ["chatrl", "rl"]),
    (["chatsft_checkpoints", "sft_checkpoints"], ["chatsft", "sft"]),
    (["mid_checkpoints", "mid_train_checkpoints"], ["mid", "mid_train"]),
    (["base_checkpoints", "base_train_checkpoints"], ["base", "base_train"]),
];
/// How finished a model in a directory of its own counts as: what an operator put there is meant to be served.
const OWN_DIRECTORY: usize = 0;
/// How the Hub's cache calls the directory of a repository, `models--OWNER--NAME`.
const HUB: &str = "models--";
/// Where it keeps revisions.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// Characters of a revision in a tag.
const REVISION_CHARS: usize = 8;

/// Where a model's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// Inside the binary.
    Builtin,
    /// In a directory.
    Directory(PathBuf),
    /// A file of weights that is named itself, with the rest around it.
    File(PathBuf),
    /// Not on this machine until it is fetched.
    Absent,
}

impl Location {
    /// The directory or file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) | Self::File(path) => Some(path),
            Self::Builtin | Self::Absent => None,
        }
    }
}

/// A directory or file that may be a model.
pub(crate) struct ModelCandidate {
    /// Names it may have; the first that is free is its tag.
    pub(crate) names: Vec<Tag>,
    /// Where it is.
    pub(crate) location: Location,
}

/// All of them; of two with one name, the one that has the better claim to it comes first.
pub(crate) fn below(root: &Path) -> Result<Vec<ModelCandidate>, Error> {
    if root.is_file() {
        return Ok(vec![of_file(root)]);
    }
    let mut places = laid_out(root)?;
    let path = |place: &ModelCandidate| place.location.path().map(Path::to_owned);
    let known: BTreeSet<PathBuf> = places.iter().skip(1).filter_map(path).collect();
    let mut found = walk::models(root);
    found.retain(|walked| !known.contains(&walked.path));
    places.extend(named(root, &found));
    Ok(places)
}

/// Those whose names follow from the layout: the root itself, directories in it, and stages.
fn laid_out(root: &Path) -> Result<Vec<ModelCandidate>, Error> {
    let mut places = Vec::new();
    if root.is_dir() {
        places.push(of_root(root));
    }
    let mut add = |directory: PathBuf, names: &[String]| {
        // What cannot be a tag is given one by `named`.
        let names: Vec<Tag> = names.iter().map_while(|name| Tag::new(name)).collect();
        if !names.is_empty() && !is_export(file_name(&directory)) {
            places.push(ModelCandidate { names, location: Location::Directory(directory) });
        }
    };
    for (name, directory) in directories(root)? {
        add(directory, &[name]);
    }
    for (places, short) in STAGES {
        for (stage, short) in places.into_iter().zip(short) {
            for (name, directory) in readable(&root.join(stage))? {
                let long = format!("{short}.{name}");
                add(directory, &[name, long]);
            }
        }
    }
    let mut copies = readable(&root.join(COPIES))?;
    copies.retain(|(name, _)| Tag::new(name).is_some());
    copies.sort_by_key(|(name, _)| stage_called(name));
    for (stage, copy) in copies {
        for (name, directory) in readable(&copy)? {
            let (long, longer) = (format!("{stage}.{name}"), format!("native.{stage}.{name}"));
            add(directory, &[name, long, longer]);
        }
    }
    Ok(places)
}

/// Directories of models with names for them. A short name is used only where it is unique, so that a new directory never
/// takes over the tag of an old one; else the name has all directories above the model, and at last a hash of its path.
fn named(root: &Path, found: &[Walked]) -> Vec<ModelCandidate> {
    let names: Vec<TagCandidates> =
        found.iter().map(|walked| TagCandidates::of(root, &walked.path)).collect();
    let count = |name: fn(&TagCandidates) -> &Tag| {
        names.iter().fold(BTreeMap::<Tag, usize>::new(), |mut counts, names| {
            *counts.entry(name(names).clone()).or_default() += 1;
            counts
        })
    };
    let (short, long) = (count(|names| &names.short), count(|names| &names.long));
    let place = |(walked, names): (&Walked, &TagCandidates)| {
        let alone = |counts: &BTreeMap<Tag, usize>, name: &Tag| counts.get(name) == Some(&1);
        let mut all = Vec::new();
        all.extend(Some(&names.short).filter(|name| alone(&short, name)).cloned());
        all.extend(
            Some(&names.long).filter(|name| alone(&long, name) && !short.contains_key(*name)).cloned(),
        );
        all.push(names.hashed.clone());
        all.retain(|name| *name != builtin::tag());
        ModelCandidate { names: all, location: Location::Directory(walked.path.clone()) }
    };
    found.iter().zip(&names).map(place).collect()
}

/// What a model in a directory may be called.
struct TagCandidates {
    /// After the directory alone.
    short: Tag,
    /// After all directories that identify it, with dots between.
    long: Tag,
    /// The same with a hash of where it is.
    hashed: Tag,
}

impl TagCandidates {
    fn of(root: &Path, directory: &Path) -> Self {
        let below = directory.strip_prefix(root).unwrap_or(directory);
        let (mut parts, mut last, mut at) = (Vec::new(), None, root.to_owned());
        for part in below {
            at.push(part);
            let name = tag_part(&at);
            // A stage is a part of the long name, but no model is called after it.
            last = name.clone().filter(|_| stage_of_name(file_name(&at)).is_none()).or(last);
            parts.extend(name);
        }
        let own = last.or_else(|| tag_part(root)).unwrap_or_else(|| "model".to_owned());
        let long = if parts.is_empty() { own.clone() } else { parts.join(".") };
        let hash = &hex(&Sha256::digest(below.as_os_str().as_encoded_bytes()))[..6];
        let hashed = nearest_tag(&format!("{}-{hash}", long.chars().take(90).collect::<String>()));
        Self { short: nearest_tag(&own), long: nearest_tag(&long), hashed }
    }
}

/// What a directory adds to the tag of a model in it: its name; of a repository in the Hub's cache the repository's, of a
/// stage the stage's; nothing of a format, nor of the revision that the cache holds for `main`.
fn tag_part(directory: &Path) -> Option<String> {
    let name = file_name(directory);
    if PLAIN_NAMES.contains(&name) || name == SNAPSHOTS || is_export(name) {
        return None;
    }
    if let Some(repository) = name.strip_prefix(HUB) {
        return repository.split("--").last().map(str::to_owned);
    }
    if let Some(stage) = stage_of_name(name) {
        return Some(stage.to_owned());
    }
    match repository_of(directory) {
        Some(repository) if is_main(&repository, name) => None,
        Some(_) => Some(name.chars().take(REVISION_CHARS).collect()),
        None => Some(name.to_owned()),
    }
}

/// The repository's directory in the Hub's cache that a directory is a revision of.
fn repository_of(directory: &Path) -> Option<PathBuf> {
    let snapshots = directory.parent().filter(|parent| file_name(parent) == SNAPSHOTS)?;
    snapshots.parent().filter(|above| is_repository(file_name(above))).map(Path::to_owned)
}

/// Whether a name is that of a repository in the Hub's cache.
pub(crate) fn is_repository(name: &str) -> bool {
    name.starts_with(HUB)
}

/// Whether a revision is that of the main branch, or the only one.
fn is_main(repository: &Path, revision: &str) -> bool {
    let main = repository.join("refs/main");
    let small = main.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= 1000);
    let main = small.then(|| std::fs::read_to_string(main).ok()).flatten();
    let only = || directories(&repository.join(SNAPSHOTS)).is_ok_and(|all| all.len() == 1);
    main.is_some_and(|main| main.trim() == revision) || only()
}

/// Whether a place is a revision in the Hub's cache that is not that of the main branch.
pub(crate) fn is_other_revision(location: &Location) -> bool {
    let Some(directory) = home(location) else { return false };
    repository_of(directory).is_some_and(|repository| !is_main(&repository, file_name(directory)))
}

/// How finished the model in a place is, the most finished at 0.
pub(crate) fn stage(location: &Location) -> usize {
    home(location).map_or(OWN_DIRECTORY, stage_of)
}

/// How finished the model in a directory is, here or in a listing from elsewhere, the most finished at 0.
pub fn stage_of(directory: &Path) -> usize {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let tag =
        if is_plain_name(file_name(directory)) { parent(directory) } else { Some(directory.to_owned()) };
    let Some(above) = tag.as_deref().and_then(Path::parent) else { return OWN_DIRECTORY };
    if let Some(stage) = stage_of_directory(file_name(above)) {
        return stage + 1;
    }
    let copied = above.parent().is_some_and(|above| file_name(above) == COPIES);
    if copied { stage_called(file_name(above)) } else { OWN_DIRECTORY }
}

/// A stage by its directory's name, counted from 0.
fn stage_of_directory(name: &str) -> Option<usize> {
    STAGES.iter().position(|(directories, _)| directories.contains(&name))
}

/// What the stage of a directory's name is called.
fn stage_of_name(name: &str) -> Option<&'static str> {
    let (directories, short) = &STAGES[stage_of_directory(name)?];
    directories.iter().position(|directory| *directory == name).map(|at| short[at])
}

/// A stage by any of its names, counted from 1; others come last.
fn stage_called(name: &str) -> usize {
    let found = STAGES.iter().position(|(stage, short)| stage.contains(&name) || short.contains(&name));
    found.map_or(STAGES.len() + 1, |stage| stage + 1)
}

/// The directory of a model: that of its tag, where weights were exported into one of their own.
fn home(location: &Location) -> Option<&Path> {
    let directory = match location {
        Location::Directory(directory) => directory,
        Location::File(file) => file.parent()?,
        Location::Builtin | Location::Absent => return None,
    };
    if is_export(file_name(directory)) { directory.parent() } else { Some(directory) }
}

/// A file of weights is called like its directory if its own name only tells the step.
fn of_file(file: &Path) -> ModelCandidate {
    let location = Location::File(file.to_owned());
    let own = home(&location).map(file_name).and_then(Tag::new);
    let own = own.filter(|_| step_of(file_name(file)).is_some());
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    ModelCandidate { names: vec![own.unwrap_or_else(|| nearest_tag(stem))], location }
}

fn of_root(root: &Path) -> ModelCandidate {
    let location = Location::Directory(root.to_owned());
    let name = home(&location).map(file_name).unwrap_or_default();
    ModelCandidate { names: vec![nearest_tag(name)], location }
}

/// The tag that looks most like a name: a model is not lost for a space.
fn nearest_tag(name: &str) -> Tag {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).take(100).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    Tag::new(name).or_else(|| Tag::new("model")).expect("`model` is a tag")
}

/// The directories in a directory, by name; none where they may not be read: that hides no model beside them.
fn readable(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    match directories(path) {
        Err(Error::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// The directories in a directory, by name.
fn directories(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        // A file of a stage's name is none.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(Vec::new()),
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
