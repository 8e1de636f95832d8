//! Files that are read again when they change: keys and certificates are exchanged without a restart.
//!
//! They are small, so each is read every two seconds and compared by its contents: no time of change has to be believed,
//! and links that are pointed elsewhere, as Kubernetes does with `..data`, are nothing special. What is new counts once
//! two looks agree on it, since a look may come in the middle of a write, or between a certificate and its key.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::sleep;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How soon they are looked at once more after they changed.
const SECOND_LOOK: Duration = Duration::from_millis(150);
/// Largest file that is read: far more than keys or certificates take.
const MAX_BYTES: u64 = 1 << 20;

/// What the files of one setting hold, in their order; or why that is not known.
type Contents = Result<Vec<Vec<u8>>, String>;
/// Puts contents in force. Returns what is in force then, or why the old ones stay.
type Apply = Box<dyn Fn(&[Vec<u8>]) -> Result<String, String> + Send>;

/// The files of one setting, or of two that belong together, as they were at the start.
pub(crate) struct Files {
    /// The settings' names.
    names: String,
    paths: Vec<PathBuf>,
    /// What they hold, in their order.
    pub(crate) contents: Vec<Vec<u8>>,
}

impl Files {
    /// Reads them; the error is a reason in words.
    pub(crate) fn read(names: String, paths: Vec<PathBuf>) -> Result<Self, String> {
        let contents = paths.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        Ok(Self { names, paths, contents })
    }

    /// The same to be followed. What is no plain file, such as a pipe that a shell made, was read once and for all.
    pub(crate) fn follow(self, apply: Apply) -> Option<Watched> {
        let Self { names, paths, contents } = self;
        let (last, settled) = (Ok(contents.clone()), Ok(contents));
        let is_plain = paths.iter().all(|path| path.is_file());
        is_plain.then_some(Watched { names, paths, apply, last, settled, refused: None })
    }
}

/// Files that may change.
pub(crate) struct Watched {
    names: String,
    paths: Vec<PathBuf>,
    apply: Apply,
    /// What the last look saw.
    last: Contents,
    /// What two looks agreed on.
    settled: Contents,
    /// Why that is not in force.
    refused: Option<String>,
}

/// What a look made of the files.
#[derive(PartialEq, Eq, Debug)]
enum FileChange {
    None,
    /// Something that one more look has to confirm.
    Unconfirmed,
    Applied(String),
    Refused(String),
}

impl Watched {
    /// Lets the next look put the contents in force, or refuse them, whether they changed or not.
    fn forget(&mut self) {
        self.settled = Err(String::new());
        self.refused = None;
    }

    fn look(&mut self) -> FileChange {
        let now: Contents = self.paths.iter().map(|path| read_plain(path)).collect();
        let is_confirmed = now == self.last;
        self.last = now;
        // What was refused is tried again: another file may have been what was wrong with it.
        if self.last == self.settled && self.refused.is_none() {
            return FileChange::None;
        }
        if !is_confirmed {
            return FileChange::Unconfirmed;
        }
        self.settled = self.last.clone();
        match self.last.as_deref().map_err(Clone::clone).and_then(|contents| (self.apply)(contents)) {
            Ok(in_force) => {
                self.refused = None;
                FileChange::Applied(in_force)
            }
            Err(why) if self.refused.as_ref() == Some(&why) => FileChange::None,
            Err(why) => {
                self.refused = Some(why.clone());
                FileChange::Refused(why)
            }
        }
    }
}

/// A file's bytes, unless it has become something that may never end or never begin.
fn read_plain(path: &Path) -> Result<Vec<u8>, String> {
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(format!("{} is no file any more", path.display())),
        _ => read(path),
    }
}

/// A file's bytes, or why there are none, in words that hold nothing of them.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{} could not be read ({error})", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{} is larger than {MAX_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

/// Looks at the files for as long as the process lives: every two seconds, and at once when SIGHUP asks for it.
pub(crate) async fn follow(mut all: Vec<Watched>, mut hangup: Signal) {
    loop {
        tokio::select! {
            () = sleep(LOOK), if !all.is_empty() => {}
            asked = hangup.recv() => match asked {
                Some(()) if all.is_empty() => {
                    tracing::info!(signal = "SIGHUP", "signal ignored: no file of keys or certificates is followed");
                    continue;
                }
                Some(()) => {
                    tracing::info!(signal = "SIGHUP", "keys and certificates are read again");
                    all.iter_mut().for_each(Watched::forget);
                }
                None => return,
            },
        }
        let mut is_settled = false;
        while !is_settled {
            // Disks may be slow, and those of a network may hang.
            let looked = tokio::task::spawn_blocking(move || {
                let seen: Vec<_> =
                    all.iter_mut().map(|watched| (watched.names.clone(), watched.look())).collect();
                (all, seen)
            });
            let Ok((back, seen)) = looked.await else { return };
            all = back;
            is_settled = seen.iter().all(|(_, seen)| *seen != FileChange::Unconfirmed);
            for (names, seen) in seen {
                log(&names, seen);
            }
            if !is_settled {
                sleep(SECOND_LOOK).await;
            }
        }
    }
}

fn log(names: &str, seen: FileChange) {
    match seen {
        FileChange::None | FileChange::Unconfirmed => {}
        FileChange::Applied(what) => tracing::info!(setting = names, "read again: {what}"),
        FileChange::Refused(why) => {
            tracing::warn!(setting = names, error = why, "changed, but what was in force stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes what begins with "good".
    fn watched(paths: &[PathBuf]) -> (Watched, Arc<Mutex<Vec<u8>>>) {
        let in_force = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&in_force);
        let apply = move |contents: &[Vec<u8>]| {
            let whole = contents.concat();
            if !whole.starts_with(b"good") {
                return Err("not good".to_owned());
            }
            *told.lock().unwrap() = whole;
            Ok("the good one".to_owned())
        };
        let files = Files::read("FILE".to_owned(), paths.to_vec()).unwrap();
        apply(&files.contents).unwrap();
        (files.follow(Box::new(apply)).unwrap(), in_force)
    }

    fn confirmed(watched: &mut Watched) -> FileChange {
        assert_eq!(watched.look(), FileChange::Unconfirmed, "one look is not enough");
        let seen = watched.look();
        assert_eq!(watched.look(), FileChange::None, "and it is said once");
        seen
    }

    #[test]
    fn a_change_counts_when_it_was_seen_twice_and_a_bad_one_leaves_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "good 1").unwrap();
        let (mut watched, in_force) = watched(std::slice::from_ref(&path));
        assert_eq!((watched.look(), in_force.lock().unwrap().as_slice()), (FileChange::None, &b"good 1"[..]));
        // The same length, at the same moment.
        fs::write(&path, "good 2").unwrap();
        assert_eq!(confirmed(&mut watched), FileChange::Applied("the good one".to_owned()));
        fs::write(&path, "bad").unwrap();
        assert_eq!(confirmed(&mut watched), FileChange::Refused("not good".to_owned()));
        fs::remove_file(&path).unwrap();
        let FileChange::Refused(why) = confirmed(&mut watched) else { panic!("it is gone") };
        assert!(why.contains("could not be read"), "{why}");
        assert_eq!(in_force.lock().unwrap().as_slice(), b"good 2");
        fs::write(&path, "good 2").unwrap();
        assert_eq!(confirmed(&mut watched), FileChange::Applied("the good one".to_owned()), "it is back");
        fs::write(&path, "go").unwrap();
        assert_eq!(watched.look(), FileChange::Unconfirmed);
        fs::write(&path, "good 3").unwrap();
        assert_eq!(watched.look(), FileChange::Unconfirmed, "that was half of a write");
        assert_eq!(watched.look(), FileChange::Applied("the good one".to_owned()));
    }

    #[test]
    fn contents_that_are_forgotten_are_applied_again_changed_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "good 1").unwrap();
        let (mut watched, in_force) = watched(std::slice::from_ref(&path));
        watched.forget();
        assert_eq!(watched.look(), FileChange::Applied("the good one".to_owned()));
        assert_eq!(watched.look(), FileChange::None);
        fs::write(&path, "good 2").unwrap();
        watched.forget();
        assert_eq!(confirmed(&mut watched), FileChange::Applied("the good one".to_owned()));
        assert_eq!(in_force.lock().unwrap().as_slice(), b"good 2");
        fs::write(&path, "bad").unwrap();
        for _ in 0..2 {
            watched.forget();
            while watched.last != Ok(vec![b"bad".to_vec()]) {
                assert_eq!(watched.look(), FileChange::Unconfirmed);
            }
            assert_eq!(
                watched.look(),
                FileChange::Refused("not good".to_owned()),
                "each time it is asked for"
            );
        }
    }

    #[test]
    fn a_link_that_is_pointed_elsewhere_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("..1", "good 1"), ("..2", "good 2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("keys"), text).unwrap();
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        link("..1", "..data");
        link("..data/keys", "keys");
        let (mut watched, in_force) = watched(&[at("keys")]);
        link("..2", "..data_tmp");
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(confirmed(&mut watched), FileChange::Applied("the good one".to_owned()));
        assert_eq!(in_force.lock().unwrap().as_slice(), b"good 2");
    }

    #[test]
    fn what_is_huge_or_no_plain_file_is_not_read_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(read(&path).unwrap_err().contains("larger than"));
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("larger than"));
        assert!(read(directory.path()).is_err());
        assert!(read_plain(Path::new("/dev/zero")).unwrap_err().contains("no file"));
        let device =
            Files { names: "FILE".to_owned(), paths: vec!["/dev/null".into()], contents: vec![Vec::new()] };
        assert!(device.follow(Box::new(|_| Ok(String::new()))).is_none());
    }
}
