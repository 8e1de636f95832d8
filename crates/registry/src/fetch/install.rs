//! From a staging directory with whole files to the model's directory, in steps between which a crash leaves
//! the old model, the new one, or a staging directory that the next download goes on with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{exchange, remove_tree, rename_new, sync_directory};
use super::error::{self, Error as FetchError};
use super::staging::{STAGING, Staging, write_whole};
use crate::provenance::Provenance;
use crate::{Error, Tag};

/// What is told of each step that is about to be done; tests stop it there.
pub(crate) type Step<'a> = &'a dyn Fn(&'static str) -> Result<(), Error>;

/// What there is under a tag's name.
pub(crate) enum Present {
    Nothing,
    Ours(Box<Provenance>),
}

/// Looks at the directory of a tag. One that a person put there is an error.
pub(crate) fn present(root: &Path, tag: &Tag) -> Result<Present, Error> {
    let target = root.join(tag.as_str());
    let occupied = || FetchError::Occupied { tag: tag.to_string() }.into();
    match fs::symlink_metadata(&target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Present::Nothing),
        Err(error) => Err(Error::io(&target, error)),
        Ok(metadata) if !metadata.is_dir() => Err(occupied()),
        Ok(_) => Provenance::read(&target)?.map(|found| Present::Ours(Box::new(found))).ok_or_else(occupied),
    }
}

/// Where a model that is being replaced waits on file systems that cannot exchange names. No tag has a tilde.
fn aside(root: &Path, tag: &Tag) -> PathBuf {
    root.join(STAGING).join(format!("{tag}~old"))
}

/// Puts a model back that a crash left aside, or removes it if its successor is there.
pub(crate) fn recover(root: &Path, tag: &Tag) -> Result<(), Error> {
    let (target, aside) = (root.join(tag.as_str()), aside(root, tag));
    if fs::symlink_metadata(&aside).is_err() {
        return Ok(());
    }
    let done = if fs::symlink_metadata(&target).is_err() {
        rename_new(&aside, &target)
    } else {
        remove_tree(&aside)
    };
    done.map_err(|error| Error::io(&aside, error))
}

/// Installs the files that are ready.
pub(crate) fn install(
    root: &Path,
    tag: &Tag,
    staging: &Staging,
    provenance: &Provenance,
    step: Step<'_>,
) -> Result<(), Error> {
    let (target, ready) = (root.join(tag.as_str()), staging.ready());
    step("write the provenance")?;
    let json = serde_json::to_vec_pretty(provenance).map_err(|error| Error::io(&ready, error.into()))?;
    write_whole(&ready, Provenance::FILE_NAME, &json)?;
    step("rename")?;
    let moved = match present(root, tag)? {
        Present::Nothing => rename_new(&ready, &target),
        Present::Ours(_) => match exchange(&ready, &target) {
            Ok(true) => Ok(()),
            Ok(false) => return replace(root, tag, staging, step),
            Err(error) => Err(error),
        },
    };
    match moved {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(FetchError::Occupied { tag: tag.to_string() }.into());
        }
        moved => moved.map_err(|error| error::disk(&target, error))?,
    }
    finish(root, staging, step)
}

/// Two renames instead of one exchange.
fn replace(root: &Path, tag: &Tag, staging: &Staging, step: Step<'_>) -> Result<(), Error> {
    let (target, aside) = (root.join(tag.as_str()), aside(root, tag));
    let io = |error| error::disk(&target, error);
    remove_tree(&aside).map_err(io)?;
    fs::rename(&target, &aside).map_err(io)?;
    step("rename the new one")?;
    if let Err(error) = rename_new(&staging.ready(), &target) {
        fs::rename(&aside, &target).map_err(io)?;
        return Err(io(error));
    }
    finish(root, staging, step)?;
    remove_tree(&aside).map_err(io)
}

fn finish(root: &Path, staging: &Staging, step: Step<'_>) -> Result<(), Error> {
    step("sync the root")?;
    sync_directory(root).map_err(|error| Error::io(root, error))?;
    step("remove the staging directory")?;
    remove_tree(&staging.directory).map_err(|error| Error::io(&staging.directory, error))
}
