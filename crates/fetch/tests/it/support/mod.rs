//! Servers, models and settings for the tests of downloading.

mod hub;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use fetch::{DownloadProgress, Error, FetchSettings, Fetcher, RetryPolicy};
use registry::Tag;
use registry::provenance::{DownloadRequest, Provenance};
use sha2::{Digest, Sha256};

pub(crate) use hub::{COMMIT, Hub};
pub(crate) use server::{Manner, Reply, Request, Server};

/// Files by their names with directories.
pub(crate) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// What is asked of a server in one request.
pub(crate) const CHUNK: usize = 64 << 10;

pub(crate) fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

pub(crate) fn golden(name: &str) -> Arc<Vec<u8>> {
    Arc::new(std::fs::read(goldens().join(name)).unwrap())
}

/// Files that look like a model's and are quickly made; each seed has other bytes.
pub(crate) fn toy_model(seed: u8) -> Files {
    static MADE: Mutex<BTreeMap<u8, Files>> = Mutex::new(BTreeMap::new());
    MADE.lock().unwrap().entry(seed).or_insert_with(|| make_toy(seed)).clone()
}

fn make_toy(seed: u8) -> Files {
    let weights = (0..400_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8 ^ seed).collect();
    files([
        ("model_000007.pt", weights),
        ("meta_000007.json", format!("{{\"seed\":{seed}}}").into_bytes()),
        ("tokenizer.pkl", vec![seed; 5000]),
        ("README.md", b"not fetched".to_vec()),
        ("optim_000007_rank0.pt", vec![1; 1000]),
    ])
}

pub(crate) fn files<const N: usize>(files: [(&str, Vec<u8>); N]) -> Files {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), Arc::new(bytes))).collect()
}

/// The three files of a [`toy_model`] that make the model.
pub(crate) const TOY_FILES: [&str; 3] = ["meta_000007.json", "model_000007.pt", "tokenizer.pkl"];

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
    Sha256::digest(bytes).iter().fold(String::new(), digits)
}

pub(crate) fn tag(name: &str) -> Tag {
    Tag::new(name).unwrap()
}

pub(crate) fn wanted(source: &str) -> DownloadRequest {
    DownloadRequest {
        tag: tag("d20"),
        source: source.parse().unwrap(),
        revision: None,
        directory: None,
        step: None,
        sha256: None,
        has_tokenizer: false,
    }
}

/// Small pieces and short waits.
pub(crate) fn settings() -> FetchSettings {
    FetchSettings {
        chunk_bytes: CHUNK as u64,
        reserve_bytes: 0,
        stall_bytes: 1000,
        stall_window: Duration::from_millis(600),
        connect_timeout: Duration::from_millis(500),
        retry: RetryPolicy {
            attempts: 4,
            total: 100,
            base: Duration::from_millis(5),
            cap: Duration::from_millis(20),
            retry_after_cap: Duration::from_secs(2),
        },
        proxies: false,
        ..FetchSettings::default()
    }
}

static START_LOG: Once = Once::new();
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the lines that this crate logs in any of the tests.
struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if line.contains("fetch::") {
            LOGGED.lock().unwrap().push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was logged until now.
pub(crate) fn logged() -> Vec<String> {
    LOGGED.lock().unwrap().clone()
}

/// A storage root with a fetcher.
pub(crate) struct Bench {
    pub(crate) root: tempfile::TempDir,
    pub(crate) settings: FetchSettings,
    pub(crate) progress: DownloadProgress,
}

impl Bench {
    pub(crate) fn new(settings: FetchSettings) -> Self {
        // Before anything can be logged: what is passed over once may be passed over for ever.
        START_LOG.call_once(|| {
            let lines = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE);
            lines.with_writer(|| Log).init();
        });
        Self { root: tempfile::tempdir().unwrap(), settings, progress: DownloadProgress::default() }
    }

    pub(crate) fn of(hub: &Hub) -> Self {
        Self::new(hub.settings())
    }

    pub(crate) async fn fetch(&self, wanted: &DownloadRequest) -> Result<Provenance, Error> {
        let fetcher = Fetcher::new(self.settings.clone()).unwrap();
        fetcher.fetch(wanted, self.root.path(), &self.progress).await
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.root.path().join("d20")
    }

    /// Asserts that the model is there with these bytes, and that nothing else is.
    pub(crate) fn assert_installed(&self, files: &Files, names: &[&str]) {
        let mut found: Vec<String> = std::fs::read_dir(self.model())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut expected: Vec<String> = names.iter().map(|name| last_part(name).to_owned()).collect();
        expected.push(Provenance::FILE_NAME.to_owned());
        expected.sort();
        assert_eq!(found, expected);
        let provenance = Provenance::read(&self.model()).unwrap().unwrap();
        for name in names {
            let bytes = std::fs::read(self.model().join(last_part(name))).unwrap();
            assert!(bytes == **files[*name], "{name} has other bytes");
            let record = &provenance.files[last_part(name)];
            assert_eq!((record.size, &record.sha256), (bytes.len() as u64, &sha256(&bytes)), "{name}");
        }
        let staging = self.root.path().join(".staging");
        let left: Vec<_> = std::fs::read_dir(staging).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".d20.lock"], "nothing is left of the download but its lock");
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}
