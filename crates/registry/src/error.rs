//! Why a model could not be listed or loaded.

use std::path::PathBuf;

use crate::Tag;

/// What went wrong, and where. Paths are for the log; callers over HTTP get [`Error::public`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model has this tag.
    #[error("no model is called `{tag}`")]
    UnknownTag {
        /// The tag asked for.
        tag: Tag,
    },
    /// A directory without the files of a model.
    #[error("`{tag}` has {missing}")]
    Incomplete {
        /// The model.
        tag: Tag,
        /// What it lacks, as the object of the sentence.
        missing: String,
    },
    /// A model that is offered, but not on this machine yet.
    #[error("`{tag}` has not been fetched; `samosa pull {tag}` does that, and so does a swap to it")]
    NotFetched {
        /// The model.
        tag: Tag,
    },
    /// A file is not the one that was pinned or fetched.
    #[error("`{tag}`: the sha256 of {file} must be {expected}, but is {found}")]
    DigestMismatch {
        /// The model.
        tag: Tag,
        /// The file's name.
        file: String,
        /// In hexadecimal.
        expected: String,
        /// In hexadecimal, or `missing`.
        found: String,
    },
    /// A file is not what it was when the reading began.
    #[error("{file} changed while it was being read")]
    Changed {
        /// The file's name.
        file: String,
    },
    /// A file or directory could not be read.
    #[error("{path} could not be read: {cause}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why; it is part of the sentence, and so no source of this error.
        cause: std::io::Error,
    },
    /// There is nothing where `models.toml` says that a model is.
    #[error("`{tag}`: {path} {reason}")]
    Elsewhere {
        /// The model.
        tag: Tag,
        /// Where it should be.
        path: PathBuf,
        /// What is wrong there, as the rest of the sentence.
        reason: String,
    },
    /// `models.toml` does not say what it should.
    #[error("{path}: {reason}")]
    ModelsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A file beside the weights is damaged.
    #[error(transparent)]
    Format(#[from] formats::Error),
    /// The weights are not a model this server runs.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// The tokenizer belongs to another model.
    #[error("the tokenizer knows {tokenizer} token ids, but the model {model}")]
    VocabularyMismatch {
        /// Ids of the tokenizer.
        tokenizer: usize,
        /// Ids of the model.
        model: usize,
    },
    /// Not enough memory for the weights beside what runs now.
    #[error("`{tag}` needs {needed} MB of memory, and {available} MB are available")]
    OutOfMemory {
        /// The model.
        tag: Tag,
        /// Megabytes the weights take.
        needed: u64,
        /// Megabytes there are.
        available: u64,
    },
    /// The loaded model does not work.
    #[error("`{tag}` failed its self-test: {reason}")]
    SelfTest {
        /// The model.
        tag: Tag,
        /// What it did.
        reason: &'static str,
    },
}

/// What kind of failure a caller sees, of this crate's errors and of those of downloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Category {
    /// There is no such model.
    NotFound,
    /// The model's files are at fault.
    BadCheckpoint,
    /// The machine is too small.
    OutOfMemory,
    /// The storage is at fault.
    Storage,
    /// Where the files are downloaded from is at fault.
    SourceFailed,
    /// The disk is too full for a download.
    StorageFull,
}

impl Error {
    /// An error of the operating system at a path.
    pub fn io(path: &std::path::Path, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }

    /// Its kind.
    pub fn category(&self) -> Category {
        match self {
            Self::UnknownTag { .. } | Self::NotFetched { .. } => Category::NotFound,
            Self::OutOfMemory { .. } => Category::OutOfMemory,
            Self::Io { .. } | Self::ModelsFile { .. } => Category::Storage,
            _ => Category::BadCheckpoint,
        }
    }

    /// The sentence for callers: no path leaves the server.
    pub fn public(&self) -> String {
        match self {
            Self::Io { cause, .. } => format!("the model's files could not be read: {}", cause.kind()),
            Self::Elsewhere { tag, .. } => format!("`{tag}` is not where models.toml says"),
            Self::ModelsFile { reason, .. } => format!("in models.toml, {reason}"),
            // These begin with the name of a file, which is no way to begin a sentence.
            Self::Format(error) | Self::Model(model::Error::Format(error)) => format!("in {error}"),
            Self::Changed { file } => format!("the file {file} changed while it was being read"),
            other => other.to_string(),
        }
    }
}
