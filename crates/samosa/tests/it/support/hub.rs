//! A Hub on a socket of its own: repositories whose main branch moves, and answers that are held back where a test
//! wants them to be. It knows to the byte what it sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, sleep};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Files of this size and more have their hash in the list, as those that the Hub keeps elsewhere do.
const LARGE: usize = 1000;
/// Bytes that are sent at once.
const PIECE: usize = 256 << 10;
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Files by name.
pub(crate) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Where answers stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Before the commit of a branch is said.
    Commit,
    /// In the middle of the list of files.
    List,
    /// Where these places of files are reached, after the head of the answer.
    At(Vec<(String, u64)>),
    /// Where this place of any file is reached.
    AtAny(u64),
}

/// A part of a file that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Served {
    pub(crate) commit: String,
    pub(crate) file: String,
    /// The bytes that went out.
    pub(crate) sent: Range<u64>,
}

/// A part of a file on its way; the last number is where it has come to.
type Sending = (String, String, u64, Arc<AtomicU64>);

/// A running Hub. It ends with the test's process.
pub(crate) struct Hub {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Vec<Commit>>,
    /// Requests for anything but files.
    questions: usize,
    served: Vec<Sending>,
    hold: Option<Hold>,
    /// Answers that are held back now.
    held: usize,
    /// How long sending a piece takes.
    pace: Duration,
}

#[derive(Clone)]
struct Commit {
    sha: String,
    files: Files,
    hashes: BTreeMap<String, String>,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared: Arc<Shared> = Arc::default();
        let serving = Arc::clone(&shared);
        let accept = move || {
            for socket in listener.incoming() {
                let (socket, serving) = (socket.unwrap(), Arc::clone(&serving));
                Builder::new().spawn(move || serving.serve(&socket)).unwrap();
            }
        };
        Builder::new().spawn(accept).unwrap();
        Self { url, shared }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// The main branch of `owner/NAME` has these files from now on. Returns the commit.
    pub(crate) fn publish(&self, name: &str, files: &Files) -> String {
        let hashes = files.iter().map(|(name, bytes)| (name.clone(), sha256(bytes))).collect();
        let mut state = self.state();
        let commits = state.repositories.entry(name.to_owned()).or_default();
        let sha = sha256(format!("{name} {}", commits.len()).as_bytes())[..40].to_owned();
        commits.push(Commit { sha: sha.clone(), files: files.clone(), hashes });
        sha
    }

    /// Answers with these files stop at these places from now on.
    pub(crate) fn hold_files(&self, places: &[(&str, u64)]) {
        let places = places.iter().map(|(file, place)| ((*file).to_owned(), *place)).collect();
        self.hold(Some(Hold::At(places)));
    }

    /// Answers stop here from now on, and those that were held back go on.
    pub(crate) fn hold(&self, hold: Option<Hold>) {
        self.state().hold = hold;
        self.shared.changed.notify_all();
    }

    /// So long for each piece of a file.
    pub(crate) fn pace(&self, pace: Duration) {
        self.state().pace = pace;
    }

    /// Waits until so many answers are held back.
    pub(crate) fn wait_held(&self, count: usize) {
        let waiting = |state: &mut State| state.held < count;
        let (state, out) = self.shared.changed.wait_timeout_while(self.state(), PATIENCE, waiting).unwrap();
        assert!(!out.timed_out(), "never came to {:?}: {:?}", state.hold, state.served);
    }

    /// Parts of files that were sent since the last time, and the count of other questions.
    pub(crate) fn take_served(&self) -> (Vec<Served>, usize) {
        let mut state = self.state();
        let served = std::mem::take(&mut state.served).into_iter().map(|(commit, file, from, to)| {
            let sent = from..to.load(Ordering::Relaxed);
            Served { commit, file, sent }
        });
        (served.collect(), std::mem::take(&mut state.questions))
    }
}

/// Bytes of all parts.
pub(crate) fn total(served: &[Served]) -> u64 {
    served.iter().map(|served| served.sent.end - served.sent.start).sum()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A request: its target and its range.
struct Asked {
    target: String,
    range: Option<Range<u64>>,
}

impl Shared {
    /// Answers what comes on a connection until the other end is gone.
    fn serve(&self, socket: &TcpStream) {
        let mut lines = BufReader::new(socket);
        while let Some(asked) = read(&mut lines) {
            let path = asked.target.split('?').next().unwrap();
            let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
            let answered = match parts[..] {
                ["api", "models", "owner", name, "revision", revision] => self.commit(socket, name, revision),
                ["api", "models", "owner", name, "tree", commit] => self.list(socket, name, commit),
                ["owner", name, "resolve", commit, ..] => {
                    self.file(socket, (name, commit, &parts[4..].join("/")), asked.range)
                }
                _ => refuse(socket, "401 Unauthorized", "RepoNotFound"),
            };
            if answered.is_none() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn find(&self, name: &str, revision: &str) -> Option<Commit> {
        let state = self.lock();
        let commits = state.repositories.get(name)?;
        let found = commits.iter().rev().find(|commit| revision == "main" || revision == commit.sha);
        found.cloned()
    }

    /// Waits as long as answers stop at such a place.
    fn pass(&self, mut is_here: impl FnMut(&Hold) -> bool) {
        let mut state = self.lock();
        if state.hold.as_ref().is_some_and(&mut is_here) {
            state.held += 1;
            self.changed.notify_all();
            while state.hold.as_ref().is_some_and(&mut is_here) {
                state = self.changed.wait(state).unwrap();
            }
            state.held -= 1;
        }
    }

    fn commit(&self, socket: &TcpStream, name: &str, revision: &str) -> Option<()> {
        self.lock().questions += 1;
        self.pass(|hold| *hold == Hold::Commit);
        match self.find(name, revision) {
            Some(found) => send(socket, "200 OK", json!({ "sha": found.sha }).to_string().as_bytes()),
            None if self.lock().repositories.contains_key(name) => {
                refuse(socket, "404 Not Found", "RevisionNotFound")
            }
            None => refuse(socket, "401 Unauthorized", "RepoNotFound"),
        }
    }

    fn list(&self, socket: &TcpStream, name: &str, commit: &str) -> Option<()> {
        self.lock().questions += 1;
        let Some(found) = self.find(name, commit) else { return refuse(socket, "404 Not Found", "") };
        let entries = found.files.iter().map(|(path, bytes)| {
            let mut entry = json!({ "type": "file", "oid": &found.hashes[path][..40], "size": bytes.len(), "path": path });
            if bytes.len() >= LARGE {
                entry["lfs"] = json!({ "oid": found.hashes[path], "size": bytes.len() });
            }
            entry
        });
        let body = entries.collect::<serde_json::Value>().to_string();
        let (first, rest) = body.as_bytes().split_at(body.len() / 2);
        write(socket, head("200 OK", "", body.len()).as_bytes())?;
        write(socket, first)?;
        self.pass(|hold| *hold == Hold::List);
        write(socket, rest)
    }

    fn file(&self, socket: &TcpStream, place: (&str, &str, &str), range: Option<Range<u64>>) -> Option<()> {
        let (name, commit, path) = place;
        let found = self.find(name, commit).and_then(|commit| commit.files.get(path).cloned());
        let Some(bytes) = found else { return refuse(socket, "404 Not Found", "EntryNotFound") };
        let size = bytes.len() as u64;
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let range = range.map_or(0..size, |range| range.start.min(size)..range.end.min(size));
        let came_to = Arc::new(AtomicU64::new(range.start));
        let sending = (commit.to_owned(), path.to_owned(), range.start, Arc::clone(&came_to));
        self.lock().served.push(sending);
        let part = format!("Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end.saturating_sub(1));
        write(socket, head(status, &part, (range.end - range.start) as usize).as_bytes())?;
        let mut at = range.start;
        while at < range.end {
            let mut end = (at + PIECE as u64).min(range.end);
            let until = |hold: &Hold| match hold {
                Hold::At(places) => places.iter().find(|(file, _)| file == path).map(|(_, place)| *place),
                Hold::AtAny(place) => Some(*place),
                Hold::Commit | Hold::List => None,
            };
            // Nothing beyond the place is sent; what is asked for from there on waits.
            self.pass(|hold| until(hold).is_some_and(|place| place <= at));
            let (place, pace) = {
                let state = self.lock();
                (state.hold.as_ref().and_then(until), state.pace)
            };
            end = end.min(place.filter(|place| *place > at).unwrap_or(end));
            sleep(pace);
            write(socket, &bytes[at as usize..end as usize])?;
            at = end;
            came_to.store(at, Ordering::Relaxed);
        }
        Some(())
    }
}

fn read(lines: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    lines.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut range = None;
    loop {
        line.clear();
        lines.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Some(Asked { target, range });
        };
        if name.eq_ignore_ascii_case("range") {
            let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
            range = Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1);
        }
    }
}

fn head(status: &str, header: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\n\r\n")
}

fn send(socket: &TcpStream, status: &str, body: &[u8]) -> Option<()> {
    write(socket, head(status, "", body.len()).as_bytes())?;
    write(socket, body)
}

fn refuse(socket: &TcpStream, status: &str, code: &str) -> Option<()> {
    write(socket, head(status, &format!("X-Error-Code: {code}\r\n"), 0).as_bytes())
}

/// `None` if the other end is gone.
fn write(mut socket: &TcpStream, bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).ok()
}
