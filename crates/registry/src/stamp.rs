//! What tells a file from a changed one without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Age of a change after which any later one is sure to have another time.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// A file as the file system describes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    /// When its contents changed, in nanoseconds since 1970.
    mtime_ns: i64,
    /// When anything about it changed: no program can set this one back.
    ctime_ns: i64,
}

impl Stamp {
    /// Of the file at this path, links followed.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        Ok(Self::new(&std::fs::metadata(path).map_err(|error| Error::io(path, error))?))
    }

    /// Of an open file.
    pub(crate) fn new(metadata: &std::fs::Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it was last changed longer ago than `age`.
    pub(crate) fn settled(&self, age: Duration) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit = now.saturating_sub(age).as_nanos() as i64;
        self.mtime_ns.max(self.ctime_ns) < limit
    }
}
