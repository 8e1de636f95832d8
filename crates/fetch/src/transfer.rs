//! Bytes from a source to their places in the staged files: pieces of all files, several at a time, each tried
//! again from where it stopped, and the hash of each file following behind.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::listing::RemoteFile;
use crate::lock::Lock;
use crate::plan::PlannedFile;
use crate::retry::{RequestFault, Retries};
use crate::staging::{Hashing, PartialFile, Staging};
use crate::store::{FileBody, Store};
use crate::web::OpenedFile;
use crate::{DownloadProgress, Error, FetchSettings};

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// How much of a request may be lost to a crash, as the time it took: on a slow line a request lasts minutes.
const RECORD_EVERY: Duration = Duration::from_secs(2);
/// How often the log hears of progress.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What one download works with.
pub(crate) struct TransferJob<'a> {
    pub(crate) store: &'a Store,
    pub(crate) settings: &'a FetchSettings,
    pub(crate) retries: &'a Retries<'a>,
    pub(crate) progress: &'a DownloadProgress,
    pub(crate) lock: &'a Lock,
}

/// One file of a download.
struct Transfer {
    part: Arc<PartialFile>,
    remote: RemoteFile,
    hash: Mutex<Option<Hashing>>,
    /// The server sends whole files only.
    whole_only: AtomicBool,
}

/// How receiving a body ended.
enum BodyEnd {
    Complete,
    Early(RequestFault),
}

impl TransferJob<'_> {
    /// Fetches the files and moves those that are right to where they are installed from. Their hashes, in order.
    pub(crate) async fn run(&self, staging: &Staging, files: &[PlannedFile]) -> Result<Vec<String>, Error> {
        let transfers = self.open(staging, files).await?;
        tokio::select! {
            hashes = self.transfer(staging, &transfers) => hashes,
            never = self.report() => match never {},
        }
    }

    async fn open(&self, staging: &Staging, files: &[PlannedFile]) -> Result<Vec<Transfer>, Error> {
        let mut transfers = Vec::new();
        for planned in files {
            let (staging, planned, remote) = (staging.clone(), planned.clone(), planned.remote());
            let part = self.lock.blocking(move || PartialFile::open(&staging, planned)).await?;
            self.progress.resume(part.resumed);
            transfers.push(Transfer {
                part: Arc::new(part),
                remote,
                hash: Mutex::new(Some(Hashing::new())),
                whole_only: AtomicBool::new(false),
            });
        }
        Ok(transfers)
    }

    async fn transfer(&self, staging: &Staging, transfers: &[Transfer]) -> Result<Vec<String>, Error> {
        let piece = self.settings.chunk_bytes.max(1);
        let mut pieces = transfers.iter().flat_map(|transfer| {
            transfer.part.missing(piece).into_iter().map(move |range| (transfer, range))
        });
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.settings.parallel.max(1)
                && let Some((transfer, range)) = pieces.next()
            {
                running.push(self.piece(transfer, range));
            }
            match running.next().await {
                Some(done) => done?,
                None => break,
            }
        }
        let mut hashes = Vec::new();
        for transfer in transfers {
            if transfer.whole_only.load(Ordering::Relaxed) {
                self.whole(transfer).await?;
            }
            hashes.push(self.finish(staging, transfer).await?);
            self.progress.finish_file();
        }
        Ok(hashes)
    }

    /// Fetches one range of a file.
    async fn piece(&self, transfer: &Transfer, range: Range<u64>) -> Result<(), Error> {
        let host = self.store.host();
        let mut attempts = self.retries.attempts(&host, &transfer.part.planned.name);
        let mut at = range.start;
        while at < range.end {
            attempts.ready().await;
            if transfer.whole_only.load(Ordering::Relaxed) {
                self.progress.take_back(at - range.start);
                return Ok(());
            }
            match self.store.open(&transfer.remote, Some(at..range.end)).await {
                Ok(OpenedFile::Whole(_)) => transfer.whole_only.store(true, Ordering::Relaxed),
                Ok(OpenedFile::Part(body)) => {
                    let before = at;
                    let ended = self.receive(transfer, body, &mut at, range.end).await?;
                    // Who trickles is no better than who is silent.
                    if at - before >= self.settings.stall_bytes.max(1) as u64 {
                        attempts.progress();
                    }
                    if let BodyEnd::Early(fault) = ended {
                        attempts.again(fault).await?;
                    }
                }
                Err(fault) => attempts.again(fault).await?,
            }
        }
        let part = transfer.part.clone();
        self.lock.blocking(move || part.finish_range(range)).await?;
        self.hash_ahead(transfer).await
    }

    /// Fetches a file from a server without ranges, which has to begin anew after each failure.
    async fn whole(&self, transfer: &Transfer) -> Result<(), Error> {
        let host = self.store.host();
        let size = transfer.part.planned.size;
        tracing::info!(host, file = transfer.part.planned.name, "the server knows no ranges");
        self.progress
            .take_back(size - transfer.part.missing(u64::MAX).iter().map(|r| r.end - r.start).sum::<u64>());
        let mut attempts = self.retries.attempts(&host, &transfer.part.planned.name);
        loop {
            attempts.ready().await;
            let mut at = 0;
            match self.store.open(&transfer.remote, None).await {
                Ok(OpenedFile::Whole(body) | OpenedFile::Part(body)) => {
                    match self.receive(transfer, body, &mut at, size).await? {
                        BodyEnd::Complete => break,
                        BodyEnd::Early(fault) => {
                            self.progress.take_back(at);
                            attempts.again(fault).await?;
                        }
                    }
                }
                Err(fault) => attempts.again(fault).await?,
            }
        }
        *transfer.hash.lock().await = Some(Hashing::new());
        let part = transfer.part.clone();
        self.lock.blocking(move || part.finish_range(0..size)).await
    }

    /// Writes a body to its place until `end`. `at` says how far it came.
    async fn receive(
        &self,
        transfer: &Transfer,
        mut body: FileBody,
        at: &mut u64,
        end: u64,
    ) -> Result<BodyEnd, Error> {
        let mut gathered: Vec<Bytes> = Vec::new();
        let mut pending = 0;
        let (mut recorded, mut since) = (*at, Instant::now());
        let ended = loop {
            let window = self.next(&mut body, &mut gathered, &mut pending).await;
            let excess = (*at + pending as u64).saturating_sub(end);
            let ended = match window {
                Err(fault) => Some(BodyEnd::Early(fault)),
                _ if excess > 0 => {
                    Some(BodyEnd::Early(RequestFault::passing("more bytes than were asked for")))
                }
                Ok(true) if *at + pending as u64 == end => Some(BodyEnd::Complete),
                Ok(true) => Some(BodyEnd::Early(RequestFault::passing("the body ended early"))),
                Ok(false) => None,
            };
            if excess > 0 {
                break ended.unwrap_or(BodyEnd::Complete);
            }
            self.write(transfer, *at, std::mem::take(&mut gathered)).await?;
            *at += pending as u64;
            self.progress.add(pending as u64);
            pending = 0;
            if let Some(ended) = ended {
                break ended;
            }
            if since.elapsed() >= RECORD_EVERY {
                let (part, range) = (transfer.part.clone(), recorded..*at);
                self.lock.blocking(move || part.finish_range(range)).await?;
                (recorded, since) = (*at, Instant::now());
            }
        };
        Ok(ended)
    }

    /// Gathers bytes to write; `true` at the end of the body. A body that brings too little for its time is cut.
    async fn next(
        &self,
        body: &mut FileBody,
        gathered: &mut Vec<Bytes>,
        pending: &mut usize,
    ) -> Result<bool, RequestFault> {
        let window = self.settings.stall_window;
        let mut deadline = Instant::now() + window;
        let mut received = 0;
        while *pending < WRITE_BYTES {
            match timeout_at(deadline, body.next()).await {
                Ok(Ok(Some(bytes))) => {
                    received += bytes.len();
                    *pending += bytes.len();
                    gathered.push(bytes);
                }
                Ok(Ok(None)) => return Ok(true),
                Ok(Err(fault)) => return Err(fault),
                Err(_) if received < self.settings.stall_bytes => {
                    let seconds = window.as_secs_f32();
                    return Err(RequestFault::passing(format!("only {received} bytes came in {seconds} s")));
                }
                Err(_) => (deadline, received) = (Instant::now() + window, 0),
            }
        }
        Ok(false)
    }

    async fn write(&self, transfer: &Transfer, at: u64, gathered: Vec<Bytes>) -> Result<(), Error> {
        use std::os::unix::fs::FileExt as _;
        if gathered.is_empty() {
            return Ok(());
        }
        let part = transfer.part.clone();
        let write = move || {
            let mut at = at;
            for bytes in gathered {
                part.file.write_all_at(&bytes, at).map_err(|error| Error::disk(&part.path, error))?;
                at += bytes.len() as u64;
            }
            Ok(())
        };
        self.lock.blocking(write).await
    }

    /// Hashes what has no gap before it, while it is still in memory. One caller does it for all.
    async fn hash_ahead(&self, transfer: &Transfer) -> Result<(), Error> {
        let Ok(mut slot) = transfer.hash.try_lock() else { return Ok(()) };
        while let Some(hashing) = slot.take() {
            let (part, end) = (transfer.part.clone(), transfer.part.prefix());
            if hashing.position >= end {
                *slot = Some(hashing);
                break;
            }
            *slot = Some(self.lock.blocking(move || hashing.advance(&part, end)).await?);
        }
        Ok(())
    }

    /// Checks the hash of a file that is whole, and moves it on.
    async fn finish(&self, staging: &Staging, transfer: &Transfer) -> Result<String, Error> {
        let hashing = transfer.hash.lock().await.take().unwrap_or_else(Hashing::new);
        let part = transfer.part.clone();
        let size = part.planned.size;
        let found = self.lock.blocking(move || hashing.advance(&part, size)).await?.finish();
        let planned = &transfer.part.planned;
        if let Some(expected) = planned.sha256.clone().filter(|expected| *expected != found) {
            return Err(Error::DigestMismatch { file: planned.name.clone(), expected, found });
        }
        let (staging, part) = (staging.clone(), transfer.part.clone());
        self.lock.blocking(move || staging.promote(&part)).await?;
        Ok(found)
    }

    /// Tells the log now and then how far it is.
    async fn report(&self) -> Infallible {
        let mut before = self.progress.snapshot().bytes_done;
        loop {
            tokio::time::sleep(LOG_EVERY).await;
            let now = self.progress.snapshot();
            let rate = now.bytes_done.saturating_sub(before) as f64 / LOG_EVERY.as_secs_f64() / 1e6;
            before = now.bytes_done;
            tracing::info!(
                source = self.store.name(),
                bytes_done = now.bytes_done,
                bytes_total = now.bytes_total,
                mb_per_s = (rate * 10.0).round() / 10.0,
                retries = now.retries,
                "downloading"
            );
        }
    }
}
