//! How far a download is, for whoever watches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that a download keeps. Clones are the same counts.
#[derive(Clone, Debug, Default)]
pub struct DownloadProgress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    files_done: AtomicU64,
    files_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_resumed: AtomicU64,
    retries: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProgressSnapshot {
    /// Files that are whole and checked.
    pub files_done: u64,
    /// Files of the model.
    pub files_total: u64,
    /// Bytes that are here, resumed ones included.
    pub bytes_done: u64,
    /// Bytes of the model; 0 until it is known.
    pub bytes_total: u64,
    /// Bytes that an earlier download left.
    pub bytes_resumed: u64,
    /// Requests that failed and were made again.
    pub retries: u64,
}

impl DownloadProgress {
    /// The counts now.
    pub fn snapshot(&self) -> ProgressSnapshot {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProgressSnapshot {
            files_done: get(&self.0.files_done),
            files_total: get(&self.0.files_total),
            bytes_done: get(&self.0.bytes_done),
            bytes_total: get(&self.0.bytes_total),
            bytes_resumed: get(&self.0.bytes_resumed),
            retries: get(&self.0.retries),
        }
    }

    /// A download of so much begins.
    pub(crate) fn start(&self, files: u64, bytes: u64) {
        self.0.files_done.store(0, Ordering::Relaxed);
        self.0.bytes_done.store(0, Ordering::Relaxed);
        self.0.bytes_resumed.store(0, Ordering::Relaxed);
        self.0.files_total.store(files, Ordering::Relaxed);
        self.0.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn resume(&self, bytes: u64) {
        self.0.bytes_resumed.fetch_add(bytes, Ordering::Relaxed);
        self.add(bytes);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that have to be fetched again.
    pub(crate) fn take_back(&self, bytes: u64) {
        let less = |done: u64| Some(done.saturating_sub(bytes));
        let _never_fails = self.0.bytes_done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(crate) fn finish_file(&self) {
        self.0.files_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retry(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }
}
