//! Why the files of a model could not be fetched. Hosts are named, and nothing that a URL carries beside them.

use std::path::Path;
use std::sync::Arc;

use registry::Category;

/// What went wrong, and what to do about it where that is known.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source is on this machine already. A mistake of the caller.
    #[error("{source_name} is no remote source")]
    NotRemote {
        /// The source.
        source_name: String,
    },
    /// Downloads from the Hub are switched off.
    #[error("{source_name} is not here and HF_HUB_OFFLINE is set, so it is not fetched")]
    Offline {
        /// The source.
        source_name: String,
    },
    /// A setting cannot be used.
    #[error("{name}: {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// TLS cannot be set up on this machine.
    #[error("no TLS connection can be made: {reason}; is the package ca-certificates installed?")]
    Tls {
        /// Why.
        reason: String,
    },
    /// The directory of this tag is not ours.
    #[error("there is a directory `{tag}` that was not downloaded; it is not replaced, move it away first")]
    Occupied {
        /// The tag.
        tag: String,
    },
    /// A host cannot be reached, or gives up again and again.
    #[error("{host} failed {attempts} times, at last: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Requests in a row that brought nothing.
        attempts: u32,
        /// What the last one said.
        reason: String,
    },
    /// A host refuses.
    #[error("{host} answered {status}{detail}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// What else it said, after a colon, or nothing.
        detail: String,
    },
    /// A repository whose terms have to be accepted.
    #[error(
        "{repository} is gated: accept its terms on the Hub with your account and set HF_TOKEN to a token of it"
    )]
    Gated {
        /// `OWNER/NAME`.
        repository: String,
    },
    /// The token is not taken.
    #[error("{repository} refuses the token: HF_TOKEN is not valid, or may not read it")]
    Token {
        /// `OWNER/NAME`.
        repository: String,
    },
    /// No such repository, or a private one.
    #[error("{repository} does not exist on the Hub, or is private: check the name, or set HF_TOKEN")]
    RepositoryNotFound {
        /// `OWNER/NAME`.
        repository: String,
    },
    /// No such branch, tag or commit.
    #[error("{repository} has no revision {revision}")]
    RevisionNotFound {
        /// `OWNER/NAME`.
        repository: String,
        /// What was asked for.
        revision: String,
    },
    /// A file that was listed is not there.
    #[error("{source_name} has no file {file}")]
    FileNotFound {
        /// The source.
        source_name: String,
        /// Its name.
        file: String,
    },
    /// A redirect to a host that is not allowed.
    #[error(
        "{from} redirects to {to}, which is not allowed; if it should be, add it to DOWNLOAD_REDIRECT_HOSTS"
    )]
    Redirect {
        /// Who redirects.
        from: String,
        /// Scheme and host it redirects to.
        to: String,
    },
    /// What a source lists cannot be understood or is too much.
    #[error("the files of {source_name} cannot be listed: {reason}")]
    Listing {
        /// The source.
        source_name: String,
        /// Why.
        reason: String,
    },
    /// A directory of a web server without a list of its files.
    #[error(
        "{url} needs a file SHA256SUMS that lists the model's files; make one there with: \
         sha256sum model_* meta_* tokenizer.* > SHA256SUMS"
    )]
    NoSums {
        /// The directory.
        url: String,
    },
    /// The source has no model.
    #[error("{source_name} has {missing}")]
    NoModel {
        /// The source.
        source_name: String,
        /// What it lacks, as the object of the sentence.
        missing: String,
    },
    /// A name that is not taken from strangers.
    #[error("{source_name} has a file whose name is not used here: {name:?}")]
    FileName {
        /// The source.
        source_name: String,
        /// The name, shortened.
        name: String,
    },
    /// Two files that would overwrite each other.
    #[error("{source_name} has two files for the model that are both called {name}")]
    Duplicate {
        /// The source.
        source_name: String,
        /// The name.
        name: String,
    },
    /// More than is taken.
    #[error("{what} has {bytes} bytes, but at most {limit} are fetched{hint}")]
    TooLarge {
        /// A file or the model.
        what: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The setting that moves the limit, after a comma, or nothing.
        hint: &'static str,
    },
    /// A file that is another one each time it is asked for.
    #[error("{file} changed at the source while it was fetched")]
    Changed {
        /// Its name.
        file: String,
    },
    /// A file that is not what the source says it is.
    #[error("digest mismatch: {file} should have sha256 {expected}, but what arrived has {found}")]
    DigestMismatch {
        /// Its name.
        file: String,
        /// What the source says.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// A file or model that is not what `models.toml` says it is.
    #[error("digest mismatch: models.toml pins {what} to sha256 {expected}, but the source has {found}")]
    PinMismatch {
        /// A file, or the model.
        what: String,
        /// What is pinned.
        expected: String,
        /// What there is.
        found: String,
    },
    /// The disk took no more.
    #[error("the disk is full: {free_mb} MB are free")]
    DiskFull {
        /// Megabytes there are.
        free_mb: u64,
    },
    /// The disk is too small.
    #[error("the download needs {needed_mb} MB of disk space, and {free_mb} MB are free")]
    StorageFull {
        /// Megabytes that are missing on the disk, the reserve included.
        needed_mb: u64,
        /// Megabytes there are.
        free_mb: u64,
    },
    /// The storage directory or what is in it is at fault.
    #[error(transparent)]
    Registry(Arc<registry::Error>),
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Arc::new(error))
    }
}

impl Error {
    /// Its kind.
    pub fn category(&self) -> Category {
        match self {
            Self::Registry(error) => error.category(),
            Self::Occupied { .. } => Category::Storage,
            Self::StorageFull { .. } | Self::DiskFull { .. } => Category::StorageFull,
            Self::NoModel { .. } => Category::BadCheckpoint,
            _ => Category::SourceFailed,
        }
    }

    /// The sentence for callers: no path leaves the server.
    pub fn public(&self) -> String {
        match self {
            Self::Registry(error) => error.public(),
            other => other.to_string(),
        }
    }

    /// Whether the file it names has to be fetched anew.
    pub(crate) fn spoiled_file(&self) -> Option<&str> {
        match self {
            Self::Changed { file } | Self::DigestMismatch { file, .. } => Some(file),
            _ => None,
        }
    }

    /// An error of the operating system at a path.
    pub(crate) fn io(path: &Path, cause: std::io::Error) -> Self {
        registry::Error::io(path, cause).into()
    }

    /// A failure to write.
    pub(crate) fn disk(path: &Path, cause: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(cause.kind(), StorageFull | QuotaExceeded) {
            let free_mb = registry::storage::free_bytes(path).unwrap_or(0) >> 20;
            return Self::DiskFull { free_mb };
        }
        Self::io(path, cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let of = |kind: std::io::ErrorKind| Error::disk(Path::new("/"), kind.into());
        assert_eq!(of(std::io::ErrorKind::StorageFull).category(), Category::StorageFull);
        assert_eq!(of(std::io::ErrorKind::QuotaExceeded).category(), Category::StorageFull);
        assert_eq!(of(std::io::ErrorKind::PermissionDenied).category(), Category::Storage);
        // What could not be made is on a disk with free space, too.
        let path = std::env::temp_dir().join("not there/yet");
        let error = Error::disk(&path, std::io::ErrorKind::StorageFull.into());
        assert!(matches!(error, Error::DiskFull { free_mb: 1.. }), "{error}");
    }
}
