//! From a staging directory with whole files to the model's directory, in steps between which a crash leaves
//! the old model, the new one, or a staging directory that the next download goes on with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use registry::provenance::Provenance;
use registry::storage::STAGING;
use registry::{Tag, atomic_file};

use crate::Error;
use crate::disk::{exchange, remove_tree, rename_new};
use crate::staging::{Staging, write_whole};

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
    let occupied = || Error::Occupied { tag: tag.to_string() };
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
        Present::Ours(_) => {
            step("exchange")?;
            match exchange(&ready, &target) {
                Ok(true) if is_ours(&ready) => Ok(()),
                // Somebody put a directory there since it was looked at.
                Ok(true) => exchange(&ready, &target).and(Err(io::ErrorKind::AlreadyExists.into())),
                Ok(false) => return replace(root, tag, staging, step),
                Err(error) => Err(error),
            }
        }
    };
    match moved {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Occupied { tag: tag.to_string() });
        }
        moved => moved.map_err(|error| Error::disk(&target, error))?,
    }
    finish(root, staging, step)
}

fn is_ours(directory: &Path) -> bool {
    matches!(Provenance::read(directory), Ok(Some(_)))
}

/// Two renames instead of one exchange.
fn replace(root: &Path, tag: &Tag, staging: &Staging, step: Step<'_>) -> Result<(), Error> {
    let (target, aside) = (root.join(tag.as_str()), aside(root, tag));
    let io = |error| Error::disk(&target, error);
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
    atomic_file::sync_directory(root).map_err(|error| Error::io(root, error))?;
    step("remove the staging directory")?;
    remove_tree(&staging.directory).map_err(|error| Error::io(&staging.directory, error))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;
    use registry::provenance::{FileRecord, Selection};

    fn provenance(step: u64) -> Provenance {
        let record = FileRecord { size: 1, sha256: String::new() };
        Provenance {
            source: "huggingface:a/b".to_owned(),
            revision: None,
            commit: None,
            directory: None,
            step: Some(step),
            asked: Selection::default(),
            plan: step.to_string(),
            files: BTreeMap::from([(format!("model_{step:06}.pt"), record)]),
        }
    }

    fn make_ready(staging: &Staging, step: u64) {
        fs::create_dir_all(staging.ready()).unwrap();
        fs::write(staging.ready().join(format!("model_{step:06}.pt")), b"x").unwrap();
    }

    /// Stops before the step numbered `at`, as a crash would: nothing runs after it.
    fn crash_at(at: usize) -> impl Fn(&'static str) -> Result<(), Error> {
        let left = Cell::new(at);
        move |step| {
            if left.get() == 0 {
                return Err(Error::io(Path::new(step), io::ErrorKind::Interrupted.into()));
            }
            left.set(left.get() - 1);
            Ok(())
        }
    }

    /// The step of the model that is installed, which must be whole.
    fn step_of(root: &Path, tag: &Tag) -> Option<u64> {
        match present(root, tag).unwrap() {
            Present::Nothing => None,
            Present::Ours(found) => {
                assert!(found.is_complete(&root.join(tag.as_str())), "what is installed is whole");
                found.step
            }
        }
    }

    /// Goes on after a crash, as the next download does.
    fn go_on(root: &Path, tag: &Tag, staging: &Staging) {
        recover(root, tag).unwrap();
        if step_of(root, tag) == Some(2) {
            remove_tree(&staging.directory).unwrap();
            return;
        }
        let ready = Provenance::read(&staging.ready()).unwrap();
        assert!(ready.is_none_or(|ready| ready.plan == "2"), "the old model is not taken for the new one");
        assert!(staging.ready().join("model_000002.pt").exists(), "nothing has to be fetched again");
        install(root, tag, staging, &provenance(2), &|_| Ok(())).unwrap();
    }

    type Install = fn(&Path, &Tag, &Staging, Step<'_>) -> Result<(), Error>;

    fn by_exchange(root: &Path, tag: &Tag, staging: &Staging, step: Step<'_>) -> Result<(), Error> {
        install(root, tag, staging, &provenance(2), step)
    }

    fn by_two_renames(root: &Path, tag: &Tag, staging: &Staging, step: Step<'_>) -> Result<(), Error> {
        let json = serde_json::to_vec(&provenance(2)).unwrap();
        write_whole(&staging.ready(), Provenance::FILE_NAME, &json)?;
        replace(root, tag, staging, step)
    }

    fn crash_everywhere(install_new: Install, old: Option<u64>) {
        let tag = Tag::new("d20").unwrap();
        for at in 0.. {
            let root = tempfile::tempdir().unwrap();
            let (root, staging) = (root.path(), Staging::new(root.path(), &tag));
            if let Some(old) = old {
                make_ready(&staging, old);
                install(root, &tag, &staging, &provenance(old), &|_| Ok(())).unwrap();
            }
            make_ready(&staging, 2);
            let finished = install_new(root, &tag, &staging, &crash_at(at)).is_ok();
            assert!(matches!(step_of(root, &tag), None | Some(1 | 2)));
            go_on(root, &tag, &staging);
            assert_eq!(step_of(root, &tag), Some(2), "after a crash at step {at}");
            let left: Vec<_> = fs::read_dir(root.join(STAGING)).unwrap().collect();
            assert!(left.is_empty(), "{left:?} is left after a crash at step {at}");
            if finished {
                assert!(at > 2, "there were steps to crash at");
                return;
            }
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_model_or_the_new_one() {
        crash_everywhere(by_exchange, None);
        crash_everywhere(by_exchange, Some(1));
        crash_everywhere(by_two_renames, Some(1));
    }

    #[test]
    fn what_appears_meanwhile_is_not_replaced() {
        let tag = Tag::new("d20").unwrap();
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::new(root.path(), &tag);
        make_ready(&staging, 2);
        let target = root.path().join("d20");
        let appears = |step: &'static str| {
            if step == "rename" {
                fs::create_dir(&target).unwrap();
            }
            Ok(())
        };
        let error = install(root.path(), &tag, &staging, &provenance(2), &appears).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(fs::read_dir(target).unwrap().count(), 0);
    }

    #[test]
    fn what_takes_the_place_of_the_old_model_meanwhile_is_not_replaced() {
        let tag = Tag::new("d20").unwrap();
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::new(root.path(), &tag);
        make_ready(&staging, 1);
        install(root.path(), &tag, &staging, &provenance(1), &|_| Ok(())).unwrap();
        make_ready(&staging, 2);
        let target = root.path().join("d20");
        let appears = |step: &'static str| {
            if step == "exchange" {
                remove_tree(&target).unwrap();
                fs::create_dir(&target).unwrap();
                fs::write(target.join("model.pt"), b"mine").unwrap();
            }
            Ok(())
        };
        let error = install(root.path(), &tag, &staging, &provenance(2), &appears).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(fs::read(target.join("model.pt")).unwrap(), b"mine");
        assert!(staging.ready().join("model_000002.pt").exists(), "what was fetched is kept");
    }

    #[test]
    fn two_directories_change_their_names_at_once() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (root.path().join("one"), root.path().join("other"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(one.join("of one"), b"").unwrap();
        assert!(exchange(&one, &other).unwrap(), "this file system can");
        assert!(other.join("of one").exists() && !one.join("of one").exists());
        assert_eq!(rename_new(&one, &other).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
