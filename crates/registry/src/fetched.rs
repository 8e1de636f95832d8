//! What a directory that was fetched says of itself: `.samosa.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::read_small;
use crate::{Error, Source};

/// Name of the file.
pub(crate) const FILE_NAME: &str = ".samosa.json";

/// Where a directory was fetched from, and what it held then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// The place, without a revision.
    pub source: String,
    /// Branch, tag or commit that was asked for.
    pub revision: Option<String>,
    /// The commit that it was.
    pub commit: Option<String>,
    /// Directory of the source.
    pub directory: Option<String>,
    /// The training step in the weights' name.
    pub step: Option<u64>,
    /// The files by name.
    pub files: BTreeMap<String, FetchedFile>,
}

/// A file that was fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchedFile {
    /// Bytes.
    pub size: u64,
    /// Hash, in hexadecimal.
    pub sha256: String,
}

impl Fetched {
    /// Reads it, where a directory has one: otherwise a person put the directory there.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(FILE_NAME);
        if !path.is_file() {
            return Ok(None);
        }
        let damaged = |error: serde_json::Error| {
            Error::io(&path, std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))
        };
        serde_json::from_slice(&read_small(&path)?).map(Some).map_err(damaged)
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
}
