//! A download in progress, `<root>/.staging/<tag>/`, laid out so that whatever ends it, the next one goes on:
//!
//! ```text
//! manifest.json        the plan it belongs to
//! <name>.part          the bytes there are, each at its place
//! <name>.journal       "first end" lines of the ranges that are surely on the disk
//! ready/<name>         files that are whole; becomes the model's directory
//! ```

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use registry::identity::{hash_file, hex};
use registry::provenance::Provenance;
use registry::storage::{STAGING, free_bytes};
use registry::{Tag, atomic_file};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::disk::{allocated_bytes, remove_file, remove_tree};
use crate::plan::{DownloadPlan, PlannedFile};
use crate::ranges::Ranges;

/// The plan.
const MANIFEST: &str = "manifest.json";
/// Files that are whole.
const READY: &str = "ready";
/// Largest manifest or journal that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The directory of one download.
#[derive(Clone, Debug)]
pub(crate) struct Staging {
    pub(crate) directory: PathBuf,
}

/// A file on its way.
pub(crate) struct PartialFile {
    pub(crate) planned: PlannedFile,
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    journal: Arc<File>,
    done: Mutex<Ranges>,
    /// Bytes that an earlier download left.
    pub(crate) resumed: u64,
}

/// The hash of a file's beginning.
pub(crate) struct Hashing {
    pub(crate) position: u64,
    sha256: Sha256,
}

impl Staging {
    pub(crate) fn new(root: &Path, tag: &Tag) -> Self {
        Self { directory: root.join(STAGING).join(tag.as_str()) }
    }

    /// The directory that becomes the model's.
    pub(crate) fn ready(&self) -> PathBuf {
        self.directory.join(READY)
    }

    /// Keeps what belongs to the plan, drops everything else, and checks that the rest fits on the disk.
    pub(crate) fn prepare(&self, plan: &DownloadPlan, reserve: u64) -> Result<(), Error> {
        let kept = self.kept(plan);
        if kept.is_empty() {
            remove_tree(&self.directory).map_err(|error| self.io(error))?;
        } else {
            self.sweep(&kept).map_err(|error| self.io(error))?;
        }
        self.check_space(plan, reserve)?;
        std::fs::create_dir_all(self.ready()).map_err(|error| self.io(error))?;
        let json = serde_json::to_vec_pretty(plan).map_err(|error| self.io(error.into()))?;
        write_whole(&self.directory, MANIFEST, &json)
    }

    /// Copies files of the model that is to be replaced that its successor has too, unless they are not what they
    /// were any more.
    pub(crate) fn reuse(&self, plan: &DownloadPlan, model: &Path, old: &Provenance) -> Result<(), Error> {
        let same =
            |file: &&PlannedFile| file.sha256.is_some() && file.sha256.as_deref() == old.sha256(&file.name);
        for file in plan.files.iter().filter(same) {
            let (here, ready) = (model.join(&file.name), self.ready().join(&file.name));
            if ready.exists() || self.path(&file.name, "part").exists() {
                continue;
            }
            let copy = || -> io::Result<()> {
                let whole = Some(hash_file(&mut File::open(&here)?)?) == file.sha256;
                if whole { std::fs::copy(&here, &ready).map(drop) } else { Ok(()) }
            };
            // What cannot be copied is fetched.
            if let Err(error) = copy() {
                tracing::debug!(file = file.name, "a file that is here is not copied: {error}");
                remove_file(&ready).map_err(|error| self.io(error))?;
            }
        }
        Ok(())
    }

    /// Names of files whose bytes can be used again.
    fn kept(&self, plan: &DownloadPlan) -> BTreeSet<String> {
        let nothing = BTreeSet::new();
        let Some(old) = read_bounded(&self.directory.join(MANIFEST)) else { return nothing };
        let Ok(old) = serde_json::from_slice::<DownloadPlan>(&old) else { return nothing };
        if old.source != plan.source {
            return nothing;
        }
        // After an exchange that a crash cut short, what lies here is the model that was replaced.
        match Provenance::read(&self.ready()) {
            Ok(None) => {}
            Ok(Some(provenance)) if provenance.plan == plan.id() => {}
            _ => return nothing,
        }
        let is_same = |file: &&PlannedFile| {
            let by_hash = file.sha256.is_some();
            old.files.contains(file) && (by_hash || old.commit == plan.commit && file.is_identified(plan))
        };
        plan.files.iter().filter(is_same).map(|file| file.name.clone()).collect()
    }

    fn sweep(&self, kept: &BTreeSet<String>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let (path, name) = { entry.map(|entry| (entry.path(), entry.file_name()))? };
            let name = name.to_string_lossy();
            let of = name.strip_suffix(".part").or_else(|| name.strip_suffix(".journal"));
            if name == READY || name == MANIFEST || of.is_some_and(|of| kept.contains(of)) {
                continue;
            }
            remove_file(&path).or_else(|_| remove_tree(&path))?;
        }
        let ready = match std::fs::read_dir(self.ready()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in ready {
            let entry = entry?;
            if !kept.contains(entry.file_name().to_string_lossy().as_ref()) {
                remove_file(&entry.path()).or_else(|_| remove_tree(&entry.path()))?;
            }
        }
        Ok(())
    }

    fn check_space(&self, plan: &DownloadPlan, reserve: u64) -> Result<(), Error> {
        let staged = |file: &PlannedFile| {
            let part = allocated_bytes(&self.directory.join(format!("{}.part", file.name)));
            part.max(allocated_bytes(&self.ready().join(&file.name))).min(file.size)
        };
        let needed = plan.files.iter().map(|file| file.size - staged(file)).sum::<u64>();
        let needed = needed.saturating_add(reserve);
        let free = free_bytes(&self.directory).map_err(|error| self.io(error))?;
        if needed > free {
            return Err(Error::StorageFull { needed_mb: needed.div_ceil(1 << 20), free_mb: free >> 20 });
        }
        Ok(())
    }

    /// Drops what there is of one file.
    pub(crate) fn discard(&self, name: &str) -> Result<(), Error> {
        for path in [self.ready().join(name), self.path(name, "journal"), self.path(name, "part")] {
            remove_file(&path).map_err(|error| Error::io(&path, error))?;
        }
        Ok(())
    }

    /// A whole file moves to where it is installed from.
    pub(crate) fn promote(&self, part: &PartialFile) -> Result<(), Error> {
        let ready = self.ready().join(&part.planned.name);
        let done = || -> io::Result<()> {
            part.file.sync_all()?;
            if part.path != ready {
                std::fs::rename(&part.path, &ready)?;
                remove_file(&self.path(&part.planned.name, "journal"))?;
            }
            Ok(())
        };
        done().map_err(|error| Error::disk(&ready, error))
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.join(format!("{name}.{kind}"))
    }

    fn io(&self, error: io::Error) -> Error {
        Error::disk(&self.directory, error)
    }
}

impl PlannedFile {
    /// Whether something of one plan beside its name and size says which file it is.
    fn is_identified(&self, plan: &DownloadPlan) -> bool {
        plan.commit.is_some() || self.remote().version.is_known()
    }
}

impl PartialFile {
    /// Opens what there is of a file, or makes it.
    pub(crate) fn open(staging: &Staging, planned: PlannedFile) -> Result<Self, Error> {
        let ready = staging.ready().join(&planned.name);
        let whole = std::fs::symlink_metadata(&ready)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == planned.size);
        let (part, journal) = (staging.path(&planned.name, "part"), staging.path(&planned.name, "journal"));
        let mut done = Ranges::default();
        let path = if whole { ready } else { part };
        if whole {
            done.insert(0..planned.size);
        } else {
            let length = std::fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
            for range in read_journal(&journal) {
                if range.end <= length.min(planned.size) {
                    done.insert(range);
                }
            }
            if done.total() == 0 {
                remove_file(&path).and_then(|()| remove_file(&journal)).map_err(|e| Error::io(&path, e))?;
            }
        }
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options
        };
        let file = options().open(&path).map_err(|error| Error::disk(&path, error))?;
        file.set_len(planned.size).map_err(|error| Error::disk(&path, error))?;
        let log = OpenOptions::new().append(true).create(true).open(&journal);
        let log = log.map_err(|error| Error::disk(&journal, error))?;
        let resumed = done.total();
        let (file, journal) = (Arc::new(file), Arc::new(log));
        Ok(Self { planned, file, path, journal, done: Mutex::new(done), resumed })
    }

    /// Notes that a range is on the disk: first it is made sure, then written down.
    pub(crate) fn finish_range(&self, range: std::ops::Range<u64>) -> Result<(), Error> {
        let line = format!("{} {}\n", range.start, range.end);
        let noted = self.file.sync_data().and_then(|()| (&*self.journal).write_all(line.as_bytes()));
        noted.map_err(|error| Error::disk(&self.path, error))?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(range);
        Ok(())
    }

    pub(crate) fn missing(&self, piece: u64) -> Vec<std::ops::Range<u64>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).missing(self.planned.size, piece)
    }

    pub(crate) fn prefix(&self) -> u64 {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).prefix()
    }
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Self { position: 0, sha256: Sha256::new() }
    }

    /// Reads on up to `end`.
    pub(crate) fn advance(mut self, part: &PartialFile, end: u64) -> Result<Self, Error> {
        use std::os::unix::fs::FileExt as _;
        let mut buffer = vec![0; 1 << 18];
        while self.position < end {
            let length = buffer.len().min((end - self.position) as usize);
            let read = part.file.read_at(&mut buffer[..length], self.position);
            let read = read.map_err(|error| Error::io(&part.path, error))?;
            if read == 0 {
                return Err(Error::io(&part.path, io::ErrorKind::UnexpectedEof.into()));
            }
            self.sha256.update(&buffer[..read]);
            self.position += read as u64;
        }
        Ok(self)
    }

    pub(crate) fn finish(self) -> String {
        hex(&self.sha256.finalize())
    }
}

/// The ranges of a journal. A last line without its end was being written when something stopped it.
fn read_journal(path: &Path) -> Vec<std::ops::Range<u64>> {
    let text = read_bounded(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .filter_map(|line| {
            let (first, end) = line.trim_end().split_once(' ')?;
            Some(first.parse().ok()?..end.parse().ok()?)
        })
        .collect()
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    atomic_file::replace(&path, &new, bytes).map_err(|error| Error::disk(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights whose hash is known and metadata of which only the commit tells what it is.
    fn plan(commit: &str, sha256: &str) -> DownloadPlan {
        let file = |name: &str, sha256: Option<&str>| serde_json::json!({ "name": name, "path": name, "size": 8, "sha256": sha256 });
        serde_json::from_value(serde_json::json!({
            "source": "huggingface:a/b", "commit": commit, "directory": "", "asked": {},
            "files": [file("model.pt", Some(sha256)), file("meta.json", None)],
        }))
        .unwrap()
    }

    /// Bytes that are there for each file of a plan.
    fn resumed(staging: &Staging, plan: &DownloadPlan) -> Vec<u64> {
        staging.prepare(plan, 0).unwrap();
        plan.files.iter().map(|file| PartialFile::open(staging, file.clone()).unwrap().resumed).collect()
    }

    #[test]
    fn bytes_of_another_commit_are_kept_where_the_hash_is_the_same() {
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::new(root.path(), &Tag::new("d20").unwrap());
        let first = plan("1", "aa");
        staging.prepare(&first, 0).unwrap();
        for file in &first.files {
            PartialFile::open(&staging, file.clone()).unwrap().finish_range(0..5).unwrap();
        }
        assert_eq!(resumed(&staging, &first), [5, 5]);
        assert_eq!(resumed(&staging, &plan("2", "aa")), [5, 0]);
        assert_eq!(resumed(&staging, &plan("2", "bb")), [0, 0]);
    }

    #[test]
    fn a_line_that_a_crash_cut_short_claims_nothing() {
        let root = tempfile::tempdir().unwrap();
        let journal = root.path().join("journal");
        for cut in ["6", "64", "64 ", "64 12", "64 128"] {
            // The next download goes on behind it.
            for text in [cut.to_owned(), format!("{cut}0 64\n"), format!("{cut}32 64\n")] {
                std::fs::write(&journal, &text).unwrap();
                let mut ranges = Ranges::default();
                for range in read_journal(&journal) {
                    ranges.insert(range);
                }
                assert!(ranges.missing(128, 128).contains(&(64..128)) || ranges.total() == 0, "{text:?}");
            }
        }
    }
}
