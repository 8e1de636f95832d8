//! Every place below a storage root that may be a model: nanochat's own directories and the ways people lay
//! models out. Whether there is a whole model in a place is not decided here.
//!
//! The root may be nanochat's base directory (`chatsft_checkpoints/<tag>` and so on, or what a synchroniser of
//! such directories writes, `native_checkpoints/<stage>/<tag>`), one of its stages, a directory of models, or
//! itself a model: flat, exported, a tag of a stage, or a file of weights.

use std::path::{Path, PathBuf};

use crate::catalog::Location;
use crate::checkpoint::{file_name, is_export, step_of};
use crate::{Error, Tag};

/// Models that are looked at.
const MAX_MODELS: usize = 1000;
/// Stages of training, the most finished first: the directory, and what a stage is called elsewhere.
const STAGES: [(&str, [&str; 2]); 4] = [
    ("chatrl_checkpoints", ["chatrl", "rl"]),
    ("chatsft_checkpoints", ["chatsft", "sft"]),
    ("mid_checkpoints", ["mid", "mid_train"]),
    ("base_checkpoints", ["base", "base_train"]),
];
/// How finished a model in a directory of its own counts as: what an operator put there is meant to be served.
const OWN_DIRECTORY: usize = 0;
/// Directory of copies of stages.
const COPIES: &str = "native_checkpoints";

/// A directory or file that may be a model.
pub(crate) struct Place {
    /// Names it may have; the first that is free is its tag.
    pub(crate) names: Vec<Tag>,
    /// Where it is.
    pub(crate) location: Location,
}

/// All of them; of two with one name, the one that has the better claim to it comes first.
pub(crate) fn below(root: &Path) -> Result<Vec<Place>, Error> {
    if root.is_file() {
        return Ok(vec![of_file(root)]);
    }
    let mut places = Vec::new();
    if root.is_dir() {
        places.push(of_root(root));
    }
    let mut add = |directory: PathBuf, names: &[String]| {
        let names: Vec<Tag> = names.iter().filter_map(|name| Tag::new(name)).collect();
        if !names.is_empty() && !is_export(file_name(&directory)) {
            places.push(Place { names, location: Location::Directory(directory) });
        }
    };
    for (name, directory) in directories(root)? {
        add(directory, &[name]);
    }
    for (stage, [short, _]) in STAGES {
        for (name, directory) in directories(&root.join(stage))? {
            let long = format!("{short}.{name}");
            add(directory, &[name, long]);
        }
    }
    let mut copies = directories(&root.join(COPIES))?;
    copies.retain(|(name, _)| Tag::new(name).is_some());
    copies.sort_by_key(|(name, _)| stage_called(name));
    for (stage, copy) in copies {
        for (name, directory) in directories(&copy)? {
            let (long, longer) = (format!("{stage}.{name}"), format!("native.{stage}.{name}"));
            add(directory, &[name, long, longer]);
        }
    }
    Ok(places)
}

/// How finished the model in a place is, the most finished at 0.
pub(crate) fn stage(location: &Location) -> usize {
    home(location).map_or(OWN_DIRECTORY, stage_of)
}

/// The same of a model's directory, here or in a listing from elsewhere.
pub(crate) fn stage_of(directory: &Path) -> usize {
    let Some(parent) = directory.parent() else { return OWN_DIRECTORY };
    if let Some(stage) = STAGES.iter().position(|(stage, _)| *stage == file_name(parent)) {
        return stage + 1;
    }
    let copied = parent.parent().is_some_and(|above| file_name(above) == COPIES);
    if copied { stage_called(file_name(parent)) } else { OWN_DIRECTORY }
}

/// A stage by any of its names, counted from 1; others come last.
fn stage_called(name: &str) -> usize {
    let found = STAGES.iter().position(|(stage, short)| *stage == name || short.contains(&name));
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
fn of_file(file: &Path) -> Place {
    let location = Location::File(file.to_owned());
    let own = home(&location).map(file_name).and_then(Tag::new);
    let own = own.filter(|_| step_of(file_name(file)).is_some());
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    Place { names: vec![own.unwrap_or_else(|| nearest_tag(stem))], location }
}

fn of_root(root: &Path) -> Place {
    let location = Location::Directory(root.to_owned());
    let name = home(&location).map(file_name).unwrap_or_default();
    Place { names: vec![nearest_tag(name)], location }
}

/// The tag that looks most like a name: a model that is named by a setting is not lost for a space.
fn nearest_tag(name: &str) -> Tag {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).take(100).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    Tag::new(name).or_else(|| Tag::new("model")).expect("`model` is a tag")
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
