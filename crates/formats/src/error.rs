//! Every way in which a file can fail us, as one closed set.
//!
//! An [`Error`] is a kind and a place: the file's base name, and where known the tensor and the byte offset.
//! The kinds hold numbers and short names, never a path and never more of the file than `LIMITS.name_bytes`.

use std::fmt;

use thiserror::Error;

use crate::limits::LIMITS;

/// What went wrong and where. Displays as one plain sentence.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    file: Box<str>,
    tensor: Option<Box<str>>,
    offset: Option<u64>,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The name of the file, as the caller gave it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The tensor it concerns, where it concerns one.
    pub fn tensor(&self) -> Option<&str> {
        self.tensor.as_deref()
    }

    /// The offset in the file in bytes, where it is known.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// Adds the file, at the public entry points.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        self.file = file.into();
        self
    }

    /// Adds the tensor, unless a deeper call already did.
    pub(crate) fn on(mut self, tensor: &str) -> Self {
        self.tensor.get_or_insert_with(|| short(tensor));
        self
    }

    /// Adds the offset, unless a deeper call already did.
    pub(crate) fn at(mut self, offset: Option<u64>) -> Self {
        self.offset = self.offset.or(offset);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if self.file.is_empty() { "the file" } else { &self.file };
        write!(f, "{file}")?;
        if let Some(tensor) = &self.tensor {
            write!(f, ", tensor {tensor:?}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

impl<K: Into<ErrorKind>> From<K> for Error {
    fn from(kind: K) -> Self {
        Error { kind: kind.into(), file: Box::default(), tensor: None, offset: None }
    }
}

/// The kinds of failure.
#[derive(Debug, Error)]
pub enum ErrorKind {
    /// The operating system could not read it.
    #[error("the file could not be read ({0})")]
    Io(#[from] std::io::Error),
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// It ends before something it announced.
    #[error(
        "the file ends early: {needed} bytes are needed here and {available} are left; the download or copy was \
         probably cut short"
    )]
    Truncated {
        /// Bytes that should follow.
        needed: u64,
        /// Bytes that do.
        available: u64,
    },
    /// A git-lfs pointer was saved in place of the file.
    #[error("this is a git-lfs pointer and not the file itself; fetch the file with `git lfs pull`")]
    GitLfsPointer,
    /// A web page was saved in place of the file.
    #[error("this is a web page and not the file itself; the download was probably refused or redirected")]
    HtmlPage,
    /// The format of torch before 0.1.
    #[error("this is a tar archive; load it with torch and save it again with a current torch")]
    TarArchive,
    /// A llama.cpp model.
    #[error("this is a GGUF file, which is not supported; use the .pt or .safetensors file it was made from")]
    Gguf,
    /// None of the known formats.
    #[error("this is neither a torch checkpoint nor a safetensors file")]
    UnknownFormat,
    /// A bound of [`LIMITS`] is exceeded.
    #[error("{found} exceeds the limit {limit} of {what}")]
    TooLarge {
        /// The field of [`crate::Limits`].
        what: &'static str,
        /// What the file asks for.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The zip container is wrong.
    #[error("the zip archive is not valid: {0}")]
    Zip(#[from] ZipFault),
    /// The pickle is wrong, or wants what is not allowed.
    #[error("the pickle is not acceptable: {0}")]
    Pickle(#[from] PickleFault),
    /// The torch checkpoint inside the container is wrong.
    #[error("the checkpoint is not acceptable: {0}")]
    Torch(#[from] TorchFault),
    /// The safetensors file is wrong.
    #[error("the safetensors file is not valid: {0}")]
    Safetensors(#[from] SafetensorsFault),
    /// The tokenizer file is wrong.
    #[error("the tokenizer is not acceptable: {0}")]
    Tokenizer(#[from] TokenizerFault),
    /// The JSON is wrong.
    #[error("the JSON is not valid at line {line}, column {column}: {fault}")]
    Json {
        /// One-based.
        line: usize,
        /// One-based.
        column: usize,
        /// In which way.
        fault: JsonFault,
    },
    /// A field of a JSON file has a value of another type, or out of range.
    #[error("the field {field:?} is not {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it should be, with its article.
        expected: &'static str,
    },
    /// Two tensors have one name, after prefixes are removed.
    #[error("the name occurs twice")]
    DuplicateTensor,
    /// An element type that is not supported.
    #[error("the element type {0:?} is not supported")]
    UnsupportedDType(Box<str>),
    /// A shard has a name that could leave the directory.
    #[error("{0:?} is not a plain file name")]
    ShardName(Box<str>),
    /// The caller asked for rows that the tensor does not have.
    #[error("rows {start}..{end} were asked for and there are {rows}")]
    Rows {
        /// First row asked for.
        start: usize,
        /// One past the last.
        end: usize,
        /// Rows of the tensor.
        rows: usize,
    },
    /// The caller's buffer has the wrong length.
    #[error("the output has {found} elements and needs {expected}")]
    OutputLength {
        /// Elements of the rows asked for.
        expected: usize,
        /// Elements of the buffer.
        found: usize,
    },
}

impl ErrorKind {
    pub(crate) fn too_large(what: &'static str, found: u64, limit: u64) -> Self {
        ErrorKind::TooLarge { what, found, limit }
    }
}

/// What is wrong with a zip archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ZipFault {
    /// No end-of-directory record.
    #[error("its directory is missing; the download or copy was probably cut short")]
    NoDirectory,
    /// The directory is not where the record says.
    #[error("its directory is out of range")]
    DirectoryOutOfRange,
    /// A directory entry does not start with its signature.
    #[error("a directory entry is damaged")]
    DirectoryEntry,
    /// The number of entries differs from the record's.
    #[error("its directory has another number of entries than announced")]
    EntryCount,
    /// ZIP64 fields are announced and missing.
    #[error("a ZIP64 field is missing")]
    Zip64,
    /// An entry is encrypted.
    #[error("an entry is encrypted")]
    Encrypted,
    /// The archive has several volumes.
    #[error("it is split over several disks")]
    MultiDisk,
    /// A compression method other than stored and deflate.
    #[error("compression method {0} is not supported")]
    Method(u16),
    /// A stored entry with two different sizes.
    #[error("a stored entry has two different sizes")]
    StoredSize,
    /// Entry bytes beyond the directory.
    #[error("an entry is out of range")]
    EntryOutOfRange,
    /// Two entries share bytes.
    #[error("two entries overlap")]
    Overlap,
    /// Two entries have one name.
    #[error("two entries have the same name")]
    DuplicateEntry,
    /// The header before an entry is missing or names another entry.
    #[error("the header before an entry does not match the directory")]
    LocalHeader,
    /// The deflate stream is broken or has another length than announced.
    #[error("an entry cannot be inflated to its announced size")]
    Inflate,
}

/// What is wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PickleFault {
    /// It does not start with a protocol from 2 to 5.
    #[error("it does not use pickle protocol 2 to 5")]
    Protocol,
    /// An opcode outside the closed list.
    #[error("opcode {0:#04x} is not allowed")]
    Opcode(u8),
    /// A global outside the closed list. Nothing is ever imported.
    #[error("it wants to use {0}, which is not allowed; save only the state dict")]
    Global(Box<str>),
    /// An opcode found too few values.
    #[error("its stack is empty")]
    StackEmpty,
    /// An opcode found no mark.
    #[error("a mark is missing")]
    NoMark,
    /// A remembered value that was never stored, or an index no pickler writes.
    #[error("it remembers no value {0}")]
    Memo(u32),
    /// An opcode found values of another type.
    #[error("an opcode got values of the wrong type")]
    Operand,
    /// A string that is not UTF-8.
    #[error("a string is not valid UTF-8")]
    Text,
}

/// What is wrong with a torch checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TorchFault {
    /// A zip archive without `data.pkl`.
    #[error("the archive has no data.pkl, so torch did not write it")]
    NoDataPickle,
    /// A zip archive with several.
    #[error("the archive has more than one data.pkl")]
    SeveralDataPickles,
    /// Written on a big-endian machine.
    #[error("it was written on a big-endian machine, which is not supported")]
    BigEndian,
    /// A pickle that is not a torch file.
    #[error("it is a pickle, but not one that torch.save wrote")]
    NotTorch,
    /// The object is not a dictionary of tensors.
    #[error("it does not hold a dictionary of tensors")]
    NotAStateDict,
    /// An `optim_*.pt` file.
    #[error("it holds the state of an optimiser and not a model")]
    OptimiserState,
    /// A tensor under a key that is not text.
    #[error("a tensor has a name that is not text")]
    Name,
    /// A tensor is described in a way torch does not.
    #[error("a tensor is not described in a known way")]
    Description,
    /// The storage of a tensor is not in the file.
    #[error("the storage {0:?} is not in the file")]
    StorageMissing(Box<str>),
    /// A storage announces another size than the file has.
    #[error("a storage announces {announced} bytes and has {found}")]
    StorageSize {
        /// By the pickle.
        announced: u64,
        /// By the container.
        found: u64,
    },
    /// One storage with two element types, in a legacy file.
    #[error("a storage has two element types")]
    StorageType,
    /// A view of a storage, in a legacy file.
    #[error("views of storages are not supported; save the file again with a current torch")]
    StorageView,
    /// Elements outside the storage, or more elements than the storage has.
    #[error("a tensor reaches beyond its storage")]
    OutOfRange,
}

/// What is wrong with a safetensors file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SafetensorsFault {
    /// `data_offsets` are not ascending or leave the file.
    #[error("a tensor's offsets are out of range")]
    OutOfRange,
    /// The offsets do not span what the shape needs.
    #[error("a tensor's offsets do not match its shape and element type")]
    Size,
    /// Two tensors share bytes.
    #[error("two tensors overlap")]
    Overlap,
    /// Bytes that belong to no tensor.
    #[error("there are bytes that belong to no tensor")]
    Hole,
    /// The header names no tensors.
    #[error("it has no tensors")]
    NoTensors,
}

/// What is wrong with a tokenizer file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenizerFault {
    /// The pickle refers to an encoding of the tiktoken package by its name.
    #[error("it only names the registered encoding {0:?}; save the encoding itself")]
    Registered(Box<str>),
    /// Not a tiktoken encoding, nor a dictionary of ranks.
    #[error("it holds neither a tiktoken encoding nor a dictionary of ranks")]
    NotATokenizer,
    /// A part is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A token is not bytes, or not written as this form writes bytes.
    #[error("a token is not written as bytes")]
    Token,
    /// An id is negative, too large or not a number.
    #[error("an id is not a number from 0 to 4294967295")]
    Id,
    /// A token occurs twice.
    #[error("a token occurs twice")]
    DuplicateToken,
    /// A merge of tokens that do not exist.
    #[error("a merge names a token that does not exist")]
    Merge,
    /// A Hugging Face tokenizer that does more than byte-level BPE.
    #[error("its {0} is not supported; only byte-level BPE with one split pattern is")]
    Unsupported(&'static str),
}

/// In which way JSON is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// Not JSON, or nested too deeply.
    #[error("it is not JSON")]
    Syntax,
    /// A value of another type than the format wants, a field missing or given twice.
    #[error("a value is missing, given twice or of another type than expected")]
    Data,
    /// It stops in the middle.
    #[error("it ends early")]
    Eof,
}

impl From<serde_json::Error> for ErrorKind {
    fn from(error: serde_json::Error) -> Self {
        // Its own message may quote the file at any length, so only the place and the category are kept.
        let fault = match error.classify() {
            serde_json::error::Category::Data => JsonFault::Data,
            serde_json::error::Category::Eof => JsonFault::Eof,
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => JsonFault::Syntax,
        };
        ErrorKind::Json { line: error.line(), column: error.column(), fault }
    }
}

/// At most `LIMITS.name_bytes` of a text that came from a file.
pub(crate) fn short(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(LIMITS.name_bytes)).unwrap_or_default().into()
}
