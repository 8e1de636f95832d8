//! What is to be downloaded, and where a downloaded model came from: `.samosa.json` in its directory. A directory without it was put there
//! by a person, and is never replaced or deleted.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::models_file::Pins;
use crate::{Error, Source, Tag};

/// Largest `.samosa.json` that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// What files of weights end in.
const WEIGHTS: [&str; 3] = [".pt", ".safetensors", ".bin"];

/// What to download.
#[derive(Clone, PartialEq, Debug)]
pub struct DownloadRequest {
    /// The name it gets.
    pub tag: Tag,
    /// Where it is.
    pub source: Source,
    /// Branch, tag or commit, over the one in the source.
    pub revision: Option<String>,
    /// Directory of the source that holds the weights; otherwise the most finished model is chosen.
    pub directory: Option<String>,
    /// Training step, otherwise the latest.
    pub step: Option<u64>,
    /// What the files must hash to.
    pub sha256: Option<Pins>,
    /// Whether there is a tokenizer on this machine, so that the source need not have one.
    pub has_tokenizer: bool,
}

impl DownloadRequest {
    /// The directory that was asked for, as listings write it.
    pub fn directory(&self) -> Option<&str> {
        self.directory.as_deref().map(|directory| directory.trim_matches('/'))
    }

    /// The source without a revision, and the revision.
    pub fn source_and_revision(&self) -> (String, Option<String>) {
        match &self.source {
            Source::HuggingFace { repository, revision } => {
                let bare = Source::HuggingFace { repository: repository.clone(), revision: None };
                (bare.to_string(), self.revision.clone().or_else(|| revision.clone()))
            }
            other => (other.to_string(), None),
        }
    }
}

/// The contents of `.samosa.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// The source, as [`crate::Source`] writes it, without a revision.
    pub source: String,
    /// Branch, tag or commit that was asked for.
    pub revision: Option<String>,
    /// The commit that was, in hexadecimal.
    pub commit: Option<String>,
    /// The directory of the source that the weights were in, if that is not its root.
    pub directory: Option<String>,
    /// The training step in the weights' name.
    pub step: Option<u64>,
    /// What of directory and step was asked for, and not chosen.
    #[serde(default)]
    pub asked: Selection,
    /// The download it belongs to, so that what was replaced is not taken for it after a crash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// The files by name.
    pub files: BTreeMap<String, FileRecord>,
}

/// What an operator asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Selection {
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
    pub fn matches(&self, wanted: &DownloadRequest) -> bool {
        let (source, revision) = wanted.source_and_revision();
        let pinned_commit = revision.is_some() && revision == self.commit;
        self.source == source
            && (self.revision == revision || pinned_commit)
            && (self.asked.directory.as_deref() == wanted.directory()
                || wanted.directory() == Some(self.directory.as_deref().unwrap_or_default()))
            && (self.asked.step == wanted.step || wanted.step.is_some() && wanted.step == self.step)
            && wanted.sha256.as_ref().is_none_or(|pins| self.broken_pin(pins).is_none())
    }

    /// The first pin that the files do not keep, as (what, pinned, found).
    pub fn broken_pin(&self, pins: &Pins) -> Option<(String, String, String)> {
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
    pub fn sha256(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|file| file.sha256.as_str())
    }

    /// Hashes by name.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        self.files.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect()
    }

    /// Whether the directory has all files in their sizes.
    pub fn is_complete(&self, directory: &Path) -> bool {
        self.files.iter().all(|(name, file)| {
            let metadata = std::fs::symlink_metadata(directory.join(name));
            metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.size)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance() -> Provenance {
        let json = r#"{
            "source": "huggingface:o/n", "revision": "main", "commit": "abc0123", "directory": "d20", "step": 650,
            "files": {
                "meta_000650.json": {"size": 1, "sha256": "aa"},
                "model_000650.pt": {"size": 2, "sha256": "bb"}
            }
        }"#;
        serde_json::from_str(json).unwrap()
    }

    fn wanted(source: &str) -> DownloadRequest {
        DownloadRequest {
            tag: Tag::new("d20").unwrap(),
            source: source.parse().unwrap(),
            revision: None,
            directory: None,
            step: None,
            sha256: None,
            has_tokenizer: false,
        }
    }

    #[test]
    fn what_is_asked_for_is_compared() {
        let found = provenance();
        assert!(found.matches(&wanted("huggingface:o/n@main")));
        assert!(found.matches(&wanted("huggingface:o/n@abc0123")), "the commit that it is");
        assert!(!found.matches(&wanted("huggingface:o/n")), "another revision is named by naming none");
        assert!(!found.matches(&wanted("huggingface:o/other@main")));
        assert!(!found.matches(&wanted("s3://o/n")));
        let main = wanted("huggingface:o/n@main");
        let over = DownloadRequest { revision: Some("main".to_owned()), ..wanted("huggingface:o/n@v1") };
        assert!(found.matches(&over), "the revision beside the source outranks the one in it");
        assert!(
            found.matches(&DownloadRequest { step: Some(650), ..main.clone() }),
            "named or chosen is the same"
        );
        assert!(!found.matches(&DownloadRequest { step: Some(1), ..main.clone() }));
        assert!(found.matches(&DownloadRequest { directory: Some("/d20/".to_owned()), ..main.clone() }));
        assert!(!found.matches(&DownloadRequest { directory: Some("d8".to_owned()), ..main }));
    }

    #[test]
    fn a_step_that_was_asked_for_is_not_the_latest() {
        let mut found = provenance();
        found.asked.step = Some(650);
        assert!(!found.matches(&wanted("huggingface:o/n@main")), "there may be a later one");
    }

    #[test]
    fn pins_are_of_weights_of_files_or_of_the_whole() {
        let found = provenance();
        let kept = |pins: Pins| found.broken_pin(&pins).is_none();
        assert!(kept(Pins::Weights("BB".to_owned())));
        assert!(!kept(Pins::Weights("aa".to_owned())), "the metadata is no weights");
        assert!(kept(Pins::Weights(Identity::of(&found.hashes()).to_string())));
        let files = |name: &str, hash: &str| Pins::Files([(name.to_owned(), hash.to_owned())].into());
        assert!(kept(files("meta_000650.json", "AA")));
        assert!(!kept(files("meta_000650.json", "bb")));
        assert!(!kept(files("tokenizer.pkl", "aa")));
        let pinned = DownloadRequest {
            sha256: Some(files("model_000650.pt", "cc")),
            ..wanted("huggingface:o/n@main")
        };
        assert!(!found.matches(&pinned));
    }

    #[test]
    fn the_identity_is_what_sha256sum_gives() {
        // Of: printf 'aa  a\nbb  b\n' | sha256sum
        let hashes = [("b", "bb"), ("a", "aa")].map(|(name, hash)| (name.to_owned(), hash.to_owned())).into();
        let expected = "b862e08ce447fbc39d7546008cf8c0f7ea41b449df79d6e395abad7626f0d1b2";
        assert_eq!(Identity::of(&hashes).as_str(), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Provenance::read(directory.path()).unwrap(), None);
        let path = directory.path().join(Provenance::FILE_NAME);
        std::fs::write(&path, serde_json::to_vec(&provenance()).unwrap()).unwrap();
        assert_eq!(Provenance::read(directory.path()).unwrap(), Some(provenance()));
        std::fs::write(&path, "{").unwrap();
        assert!(Provenance::read(directory.path()).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Provenance::read(directory.path()).is_err());
    }
}
