//! The storage directory as a place: whether it can be read and written, how much fits, and what downloads have left in
//! it. Nothing is changed.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

/// Directory under the storage root in which downloads are made.
pub const STAGING: &str = ".staging";
/// Downloads that are listed.
const MAX_UNFINISHED: usize = 100;
/// Files of one download that are counted.
const MAX_FILES: usize = 1000;

/// What is known of a storage directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Storage {
    /// Whether there is such a directory, or a file of weights.
    pub exists: bool,
    /// Whether its entries can be listed.
    pub readable: bool,
    /// Whether a download could be put there; of one that is not there, whether it could be made.
    pub writable: bool,
    /// Bytes that may still be written, if the system tells.
    pub free_bytes: Option<u64>,
    /// Downloads that did not come to their end.
    pub unfinished: Vec<Unfinished>,
}

/// A download that did not come to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfinished {
    /// The model's name.
    pub tag: String,
    /// Bytes that its files take.
    pub bytes: u64,
}

/// Looks at a storage directory, or at the one of a file.
pub fn look(root: &Path) -> Storage {
    let exists = root.exists();
    let directory = if root.is_file() { root.parent().unwrap_or(root) } else { root };
    let above = directory.ancestors().find(|path| path.exists());
    let may = |path: &Path, how| access(path, how).is_ok();
    Storage {
        exists,
        readable: exists && may(directory, Access::READ_OK | Access::EXEC_OK),
        writable: above.is_some_and(|path| may(path, Access::WRITE_OK | Access::EXEC_OK)),
        free_bytes: free_bytes(directory).ok(),
        unfinished: unfinished(&directory.join(STAGING)),
    }
}

/// Bytes that this process may still write to the file system of a path, which need not be there yet.
pub fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let above = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let file_system = statvfs(above)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

/// Every download has a directory of its name; what begins with a dot is a lock.
fn unfinished(staging: &Path) -> Vec<Unfinished> {
    let entries = std::fs::read_dir(staging).into_iter().flatten().filter_map(Result::ok);
    let tags = entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)));
    let downloads = tags.filter(|(path, tag)| !tag.starts_with('.') && path.is_dir());
    let mut found: Vec<Unfinished> = downloads
        .take(MAX_UNFINISHED)
        .map(|(path, tag)| Unfinished { tag, bytes: bytes_of(&path) + bytes_of(&path.join("ready")) })
        .collect();
    found.sort_by(|a, b| a.tag.cmp(&b.tag));
    found
}

/// What a directory's own files take on the disk.
fn bytes_of(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(directory).into_iter().flatten().take(MAX_FILES);
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(std::fs::Metadata::is_file);
    files.map(|file| file.blocks().saturating_mul(512)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_downloads_left_is_found_and_nothing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let staging = root.path().join(STAGING);
        std::fs::create_dir_all(staging.join("d20/ready")).unwrap();
        std::fs::write(staging.join("d20/model.pt.part"), vec![1; 10_000]).unwrap();
        std::fs::write(staging.join("d20/ready/meta.json"), vec![1; 10_000]).unwrap();
        std::fs::write(staging.join(".d20.lock"), "").unwrap();
        let found = look(root.path());
        assert!(found.exists && found.readable && found.writable && found.free_bytes > Some(0), "{found:?}");
        assert!(found.unfinished.len() == 1 && found.unfinished[0].tag == "d20", "{found:?}");
        assert!((20_000..200_000).contains(&found.unfinished[0].bytes), "{found:?}");
        let absent = root.path().join("not/there");
        let found = look(&absent);
        assert!(
            !found.exists && !found.readable && found.writable && found.free_bytes > Some(0),
            "{found:?}"
        );
        assert!(!absent.exists());
    }
}
