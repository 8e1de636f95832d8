//! Which weights a model has, to the last bit: hashes of its files, and one hash over them.
//!
//! Hashing reads every byte, so what was hashed is remembered: in this process, and for large files in
//! `.samosa/identities.json` below the storage root, so that a start need not read all weights twice. A file
//! counts as the same only if device, inode, size and both times of change are, and what changed just before
//! it was hashed is not remembered at all. Where the root cannot be written, the memory is the process's own.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::file_names::file_name;
use crate::{Error, atomic_file, builtin};

/// Where hashes are kept, below the storage root.
const DIRECTORY: &str = ".samosa";
const FILE_NAME: &str = "identities.json";
/// Hashes that are kept, on disk and in memory.
const MAX_KEPT: usize = 1000;
/// Smallest file whose hash is kept on disk; a smaller one is hashed in a few milliseconds.
const MIN_KEPT_BYTES: u64 = 16 << 20;
/// Largest file of hashes that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Files that are hashed at once.
const MAX_THREADS: usize = 4;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Age of a change after which any later one is sure to have another time.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// The names and hashes of a model's files, in hexadecimal.
pub type Hashes = BTreeMap<String, String>;

/// The hash of all of a model's files: of the lines that `sha256sum` prints for them, in order of name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity(String);

impl Identity {
    /// Of a model with these files.
    pub fn of(hashes: &Hashes) -> Self {
        let lines: Vec<String> = hashes.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
        Self(sha256(lines.concat().as_bytes()))
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The hash of bytes, in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// The hashes of the model in the binary.
pub fn builtin() -> &'static Hashes {
    static HASHES: LazyLock<Hashes> = LazyLock::new(|| {
        let files = builtin::files().map(|(name, bytes)| (name.to_owned(), sha256(bytes)));
        files.into_iter().collect()
    });
    &HASHES
}

/// Hashes of files, several at a time. Names are those without their directories.
pub fn hashes(files: &[PathBuf], cache: &HashCache) -> Result<Hashes, Error> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(String, String)>, Error> {
        let mut done = Vec::new();
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((file_name(path).to_owned(), cache.hash(path)?));
        }
        Ok(done)
    };
    let threads = files.len().min(MAX_THREADS);
    let parts = std::thread::scope(|scope| {
        // Where no thread can be had, this one does it all.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| {
                std::thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, work).ok()
            })
            .collect();
        let own = work();
        let others = others.into_iter().map(|other| other.join().expect("hashing does not panic"));
        std::iter::once(own).chain(others).collect::<Result<Vec<_>, Error>>()
    })?;
    cache.keep();
    Ok(parts.into_iter().flatten().collect())
}

/// What tells a file from a changed one without reading it: the file as the file system describes it.
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

/// What was hashed before.
pub struct HashCache {
    /// What this process hashed; none where nothing is to be remembered.
    hashed: Option<&'static Mutex<BTreeMap<Stamp, String>>>,
    /// The file of hashes, where there is a storage root.
    path: Option<PathBuf>,
    /// What it held, and what is new.
    kept: Mutex<Kept>,
    /// How long ago a file must have changed for its hash to be remembered.
    settled: Duration,
}

#[derive(Default)]
struct Kept {
    hashes: Vec<Known>,
    changed: bool,
}

/// A file and its hash.
#[derive(Clone, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    sha256: String,
}

impl HashCache {
    /// The one of a storage root.
    pub fn of(root: Option<&Path>) -> Self {
        static HASHED: Mutex<BTreeMap<Stamp, String>> = Mutex::new(BTreeMap::new());
        let path = root.map(|root| root.join(DIRECTORY).join(FILE_NAME));
        let hashes = path.as_deref().map(read).unwrap_or_default();
        let kept = Mutex::new(Kept { hashes, changed: false });
        Self { hashed: Some(&HASHED), path, kept, settled: SETTLED }
    }

    /// One that knows nothing and learns nothing: every file is read.
    pub fn none() -> Self {
        Self { hashed: None, path: None, kept: Mutex::default(), settled: SETTLED }
    }

    /// The hash of a file, known or computed.
    fn hash(&self, path: &Path) -> Result<String, Error> {
        let unreadable = |error| Error::io(path, error);
        let mut file = File::open(path).map_err(unreadable)?;
        let stamp = Stamp::new(&file.metadata().map_err(unreadable)?);
        if let Some(known) = self.known(&stamp) {
            return Ok(known);
        }
        let hash = hash_file(&mut file).map_err(unreadable)?;
        if Stamp::new(&file.metadata().map_err(unreadable)?) != stamp {
            return Err(Error::Changed { file: file_name(path).to_owned() });
        }
        if stamp.settled(self.settled) {
            self.remember(stamp, &hash);
        }
        Ok(hash)
    }

    /// Whether the hash of a file can be had without reading a large file.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let stamp = Stamp::of(path);
        stamp.is_ok_and(|stamp| stamp.size < MIN_KEPT_BYTES || self.known(&stamp).is_some())
    }

    fn known(&self, stamp: &Stamp) -> Option<String> {
        let hashed = self.hashed?.lock().unwrap_or_else(PoisonError::into_inner).get(stamp).cloned();
        hashed.or_else(|| {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.hashes.iter().find(|known| known.stamp == *stamp).map(|known| known.sha256.clone())
        })
    }

    fn remember(&self, stamp: Stamp, hash: &str) {
        let Some(hashed) = self.hashed else { return };
        let mut hashed = hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if hashed.len() >= MAX_KEPT {
            hashed.clear();
        }
        hashed.insert(stamp, hash.to_owned());
        if stamp.size >= MIN_KEPT_BYTES {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.hashes.push(Known { stamp, sha256: hash.to_owned() });
            kept.changed = true;
        }
    }

    /// Writes what is new to disk; a root that cannot be written is no failure.
    fn keep(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = self.path.as_deref().filter(|_| kept.changed) else { return };
        let surplus = kept.hashes.len().saturating_sub(MAX_KEPT);
        kept.hashes.drain(..surplus);
        kept.changed = false;
        let text = serde_json::to_vec(&kept.hashes).unwrap_or_default();
        if let Err(error) = atomic_file::write(path, &text) {
            tracing::debug!(%error, "hashes are not kept");
        }
    }
}

/// The hash of a file from where it stands to its end.
pub fn hash_file(file: &mut File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex(hasher.finalize().as_slice())),
            Ok(count) => hasher.update(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a file of hashes holds; nothing if it is damaged, for it will be written anew.
fn read(path: &Path) -> Vec<Known> {
    let small = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE_BYTES);
    let bytes = if small { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    let known: Vec<Known> = serde_json::from_slice(&bytes).unwrap_or_default();
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    known.into_iter().filter(|known| is_hash(&known.sha256)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with a memory of its own, as another process has it.
    fn fresh(root: &Path) -> HashCache {
        let hashed = Box::leak(Box::new(Mutex::new(BTreeMap::new())));
        HashCache { hashed: Some(hashed), settled: Duration::ZERO, ..HashCache::of(Some(root)) }
    }

    fn big_file(root: &Path) -> PathBuf {
        let path = root.join("big.pt");
        File::create(&path).unwrap().set_len(MIN_KEPT_BYTES).unwrap();
        path
    }

    /// Puts another hash into what is kept, so that one that is taken from there is told from one computed.
    fn forge(root: &Path) {
        let kept = root.join(DIRECTORY).join(FILE_NAME);
        let mut known: serde_json::Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
        known[0]["sha256"] = "f".repeat(64).into();
        std::fs::write(&kept, known.to_string()).unwrap();
    }

    #[test]
    fn an_identity_is_what_sha256sum_makes_of_the_files() {
        let root = tempfile::tempdir().unwrap();
        let paths = ["b.json", "a.pt"].map(|name| root.path().join(name));
        std::fs::write(&paths[0], b"abc").unwrap();
        std::fs::write(&paths[1], b"").unwrap();
        let found = hashes(&paths, &HashCache::of(None)).unwrap();
        // printf abc | sha256sum, and of nothing.
        assert_eq!(found["b.json"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(found["a.pt"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let lines = format!("{}  a.pt\n{}  b.json\n", found["a.pt"], found["b.json"]);
        assert_eq!(Identity::of(&found).as_str(), sha256(lines.as_bytes()));
        assert_eq!(builtin().len(), 3);
    }

    #[test]
    fn hashes_of_large_files_outlive_the_process_and_changes_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let path = big_file(root.path());
        let small = root.path().join("meta.json");
        std::fs::write(&small, b"{}").unwrap();
        let both = [path.clone(), small];
        let first = hashes(&both, &fresh(root.path())).unwrap();
        let kept = read(&root.path().join(DIRECTORY).join(FILE_NAME));
        assert_eq!(kept.len(), 1, "small files are hashed faster than looked up");
        assert_eq!(hashes(&both, &fresh(root.path())).unwrap(), first);
        forge(root.path());
        assert_eq!(
            hashes(&both, &fresh(root.path())).unwrap()["big.pt"],
            "f".repeat(64),
            "it is not read again"
        );
        std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(&path).unwrap(), b"x")
            .unwrap();
        let changed = hashes(&both, &fresh(root.path())).unwrap();
        assert!(changed["big.pt"] != first["big.pt"] && changed["big.pt"] != "f".repeat(64));
        // The same bytes, size and time of change, but another file.
        forge(root.path());
        let copy = root.path().join("copy.pt");
        std::fs::copy(&path, &copy).unwrap();
        let modified = path.metadata().unwrap().modified().unwrap();
        File::options().append(true).open(&copy).unwrap().set_modified(modified).unwrap();
        std::fs::rename(&copy, &path).unwrap();
        assert_eq!(hashes(&both, &fresh(root.path())).unwrap(), changed);
    }

    #[test]
    fn damaged_and_unwritable_memories_are_no_failure() {
        let root = tempfile::tempdir().unwrap();
        let path = [big_file(root.path())];
        let kept = root.path().join(DIRECTORY).join(FILE_NAME);
        let expected = hashes(&path, &fresh(root.path())).unwrap();
        for damage in [&b"[{"[..], b"", b"[{\"stamp\": 3}]", b"\xff"] {
            std::fs::write(&kept, damage).unwrap();
            assert_eq!(hashes(&path, &fresh(root.path())).unwrap(), expected);
            assert_eq!(read(&kept).len(), 1, "it is written anew");
        }
        std::fs::remove_dir_all(root.path().join(DIRECTORY)).unwrap();
        std::fs::write(root.path().join(DIRECTORY), b"a file in the way").unwrap();
        assert_eq!(hashes(&path, &fresh(root.path())).unwrap(), expected);
    }

    #[test]
    fn what_changed_just_now_is_not_remembered() {
        let root = tempfile::tempdir().unwrap();
        let path = [big_file(root.path())];
        let cache = HashCache { settled: SETTLED, ..fresh(root.path()) };
        hashes(&path, &cache).unwrap();
        assert!(cache.hashed.unwrap().lock().unwrap().is_empty() && !root.path().join(DIRECTORY).exists());
    }

    #[test]
    fn it_is_known_without_reading_whether_a_hash_has_to_be_computed() {
        let root = tempfile::tempdir().unwrap();
        let (large, small) = (root.path().join("weights"), root.path().join("meta"));
        File::create(&large).unwrap().set_len(MIN_KEPT_BYTES).unwrap();
        std::fs::write(&small, "{}").unwrap();
        let cache = fresh(root.path());
        assert!(!cache.has(&large) && cache.has(&small) && !cache.has(&root.path().join("none")));
        hashes(std::slice::from_ref(&large), &cache).unwrap();
        assert!(cache.has(&large) && fresh(root.path()).has(&large));
    }
}
