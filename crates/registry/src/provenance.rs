//! Where a downloaded model came from: `.samosa.json` in its directory. A directory without it was put there
//! by a person, and is never replaced or deleted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::fetch::Wanted;
use crate::identity::Identity;
use crate::models_file::Pins;
use crate::{Error, Source};

/// Largest `.samosa.json` that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// What files of weights end in.
const WEIGHTS: [&str; 3] = [".pt", ".safetensors", ".bin"];

/// The contents of `.samosa.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// The source, as [`crate::Source`] writes it, without a revision.
    pub source: String,
    /// Branch, tag or commit that was asked for.
    pub revision: Option<String>,
    /// The commit that was, in hexadecimal.
    pub commit: Option<String>,
    /// The directory of the source that the weights were in, "" being its root.
    pub directory: Option<String>,
    /// The training step in the weights' name.
    pub step: Option<u64>,
    /// What of directory and step was asked for, and not chosen.
    #[serde(default)]
    pub asked: Asked,
    /// The download it belongs to, so that what was replaced is not taken for it after a crash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// The files by name.
    pub files: BTreeMap<String, FileRecord>,
}

/// What an operator asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Asked {
    /// Directory of the source.
    pub directory: Option<String>,
    /// Training step.
    pub step: Option<u64>,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its size in bytes.
    pub size: u64,
    /// Its hash, 64 hexadecimal digits.
    pub sha256: String,
}

impl Provenance {
    /// Name of the file.
    pub const FILE_NAME: &str = ".samosa.json";

    /// Of the model in a directory; `None` if nobody downloaded it.
    pub fn read(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(Self::FILE_NAME);
        let invalid =
            |reason: String| Error::io(&path, std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, error)),
            Ok(metadata) if !metadata.is_file() => return Err(invalid("not a file".to_owned())),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(invalid(format!("{} bytes, but at most {MAX_BYTES} are read", metadata.len())));
            }
            Ok(_) => {}
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| invalid(error.to_string()))
    }

    /// Whether this is what is wanted: from the same source and revision, the directory and step that were
    /// asked for, and of the pinned hashes.
    pub fn matches(&self, wanted: &Wanted) -> bool {
        let (source, revision) = wanted.source_and_revision();
        let pinned_commit = revision.is_some() && revision == self.commit;
        self.source == source
            && (self.revision == revision || pinned_commit)
            && (self.asked.directory == wanted.directory
                || wanted.directory.is_some() && wanted.directory == self.directory)
            && (self.asked.step == wanted.step || wanted.step.is_some() && wanted.step == self.step)
            && wanted.sha256.as_ref().is_none_or(|pins| self.broken_pin(pins).is_none())
    }

    /// The first pin that the files do not keep, as (what, pinned, found).
    pub(crate) fn broken_pin(&self, pins: &Pins) -> Option<(String, String, String)> {
        match pins {
            Pins::Files(pins) => pins.iter().find_map(|(name, pinned)| {
                let found = self.files.get(name).map_or("no such file", |file| file.sha256.as_str());
                let kept = found.eq_ignore_ascii_case(pinned);
                (!kept).then(|| (name.clone(), pinned.clone(), found.to_owned()))
            }),
            Pins::Weights(pinned) => {
                let identity = Identity::of(&self.hashes());
                let is_weights = |name: &str| WEIGHTS.iter().any(|end| name.ends_with(end));
                let weights: Vec<&FileRecord> =
                    self.files.iter().filter(|(name, _)| is_weights(name)).map(|(_, file)| file).collect();
                let kept = identity.as_str().eq_ignore_ascii_case(pinned)
                    || matches!(weights[..], [file] if file.sha256.eq_ignore_ascii_case(pinned));
                (!kept).then(|| ("the model".to_owned(), pinned.clone(), identity.to_string()))
            }
        }
    }

    /// The place, as a ModelInfo shows it.
    pub(crate) fn source(&self) -> Source {
        let source: Result<Source, _> = self.source.parse();
        source.map_or(Source::Local, |source| source.at_revision(self.revision.as_deref()))
    }

    /// The hash of a file when it was fetched.
    pub(crate) fn sha256(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|file| file.sha256.as_str())
    }

    /// Hashes by name.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        self.files.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect()
    }

    /// Whether the directory has all files in their sizes.
    pub(crate) fn is_complete(&self, directory: &Path) -> bool {
        self.files.iter().all(|(name, file)| {
            let metadata = std::fs::symlink_metadata(directory.join(name));
            metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size)
        })
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
