//! Whether a model's files are all there and came to their end: a few small reads for each, no more.
//!
//! A copy or a download that runs, or was cut short, is no model yet and is not listed; nor is one whose metadata
//! cannot be read or lack sizes. What is wrong in other ways is listed and says so when it is loaded.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use formats::{ErrorKind, JsonFault, TensorTable, ZipFault};

use crate::checkpoint::{CheckpointFiles, FileOptions, read_small};
use crate::file_names::file_name;
use crate::identity::{SETTLED, Stamp};
use crate::{Error, Tag};

/// Files found whole that are remembered.
const REMEMBERED: usize = 10_000;
/// How a zip archive begins, and how the record at its end does.
const ZIP: &[u8] = b"PK\x03\x04";
const END_OF_ZIP: &[u8] = b"PK\x05\x06";
/// Bytes of the record at the end of an archive, and of the longest comment after it.
const END_BYTES: u64 = 22;
const COMMENT_BYTES: u64 = 65_535;

/// Files found whole, as they were then.
static WHOLE: Mutex<BTreeSet<Stamp>> = Mutex::new(BTreeSet::new());

/// Fails with what is missing or cut short.
pub(crate) fn check(tag: &Tag, files: &CheckpointFiles, options: &FileOptions) -> Result<(), Error> {
    if options.has_length {
        // It is not remembered as whole: that holds only as long as models.toml has it.
        metadata(tag, &files.meta, &["n_head"])?;
    } else {
        once(&files.meta, |path| metadata(tag, path, &["n_head", "sequence_len"]))?;
    }
    if let Some(companion) = &files.companion {
        once(companion, |path| metadata(tag, path, &[]))?;
    }
    once(&files.tokenizer, tokenizer)?;
    let Some(shards) = files.shards()? else { return once(&files.weights, weights) };
    for shard in shards {
        if !shard.is_file() {
            let missing = format!("no file {}, which {} names", file_name(&shard), file_name(&files.weights));
            return Err(Error::Incomplete { tag: tag.clone(), missing });
        }
        once(&shard, weights)?;
    }
    Ok(())
}

/// Checks a file unless it is the same as when it was found whole.
fn once(path: &Path, check: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let stamp = Stamp::of(path)?;
    if WHOLE.lock().unwrap_or_else(PoisonError::into_inner).contains(&stamp) {
        return Ok(());
    }
    check(path)?;
    if !stamp.settled(SETTLED) {
        return Ok(());
    }
    let mut whole = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
    if whole.len() >= REMEMBERED {
        whole.clear();
    }
    whole.insert(stamp);
    Ok(())
}

/// Checks that a file can be read and has the sizes that cannot be read off tensors.
fn metadata(tag: &Tag, path: &Path, needed: &[&str]) -> Result<(), Error> {
    let name = file_name(path);
    let meta = formats::read_meta(name, &read_small(path)?)?;
    let is_there = |field: &str| match field {
        "n_head" => meta.n_head.is_some(),
        _ => meta.sequence_len.is_some(),
    };
    match needed.iter().find(|field| !is_there(field)) {
        Some(field) => Err(Error::Incomplete { tag: tag.clone(), missing: format!("no {field} in {name}") }),
        None => Ok(()),
    }
}

/// Archives end with a record of their own, which is written last. The other formats say at their head how
/// long they are.
fn weights(path: &Path) -> Result<(), Error> {
    let unreadable = |error| Error::io(path, error);
    let mut file = File::open(path).map_err(unreadable)?;
    if is_zip(&mut file).map_err(unreadable)? && has_end_of_zip(&mut file).map_err(unreadable)? {
        return Ok(());
    }
    TensorTable::read(file_name(path), Arc::new(file)).map(drop).or_else(unless_cut_short)
}

fn is_zip(file: &mut File) -> std::io::Result<bool> {
    let mut head = Vec::new();
    file.take(ZIP.len() as u64).read_to_end(&mut head)?;
    Ok(head == ZIP)
}

fn has_end_of_zip(file: &mut File) -> std::io::Result<bool> {
    let length = file.metadata()?.len();
    // Almost no archive has a comment.
    for tail in [END_BYTES, END_BYTES + COMMENT_BYTES] {
        file.seek(SeekFrom::Start(length.saturating_sub(tail)))?;
        let mut end = Vec::new();
        file.take(tail).read_to_end(&mut end)?;
        if end.windows(END_OF_ZIP.len()).any(|window| window == END_OF_ZIP) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A pickle ends with a full stop and JSON with a brace; what does not is read to say what is wrong.
fn tokenizer(path: &Path) -> Result<(), Error> {
    let json = path.extension().is_some_and(|extension| extension == "json");
    let last = if json { b'}' } else { b'.' };
    let (name, bytes) = (file_name(path), read_small(path)?);
    if bytes.trim_ascii_end().last() == Some(&last) {
        return Ok(());
    }
    let read = if json { formats::read_tokenizer_json } else { formats::read_tokenizer_pickle };
    Ok(read(name, &bytes).map(drop)?)
}

/// What is wrong but came to its end passes.
fn unless_cut_short(error: formats::Error) -> Result<(), Error> {
    let cut_short = matches!(
        error.kind(),
        ErrorKind::Empty
            | ErrorKind::Truncated { .. }
            | ErrorKind::GitLfsPointer
            | ErrorKind::HtmlPage
            | ErrorKind::Zip(ZipFault::NoDirectory)
            | ErrorKind::Safetensors(formats::SafetensorsFault::Hole)
            | ErrorKind::Json { fault: JsonFault::Eof, .. }
    );
    if cut_short { Err(error.into()) } else { Ok(()) }
}
