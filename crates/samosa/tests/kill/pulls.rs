//! SIGKILL of `samosa pull`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use registry::{Catalog, Location};
use serde_json::Value;
use tempfile::TempDir;

use crate::hub::{Files, Hold, Hub, Served, total};
use crate::model::{FIRST, REQUEST, SECOND};
use crate::{Random, model, wait_for};

const TAG: &str = "d20";
/// How often the disk is looked at.
const LOOK: Duration = Duration::from_micros(50);

/// A Hub with one repository, and a storage directory that offers it.
struct Bench {
    hub: Hub,
    root: TempDir,
    /// What is there before the pull, and what shall be afterwards.
    old: Option<Files>,
    new: Files,
}

impl Bench {
    fn new(files: &Files) -> Self {
        let (hub, root) = (Hub::start(), tempfile::tempdir().unwrap());
        let models = format!("[[model]]\ntag = \"{TAG}\"\nsource = \"huggingface:owner/{TAG}\"\n");
        std::fs::write(root.path().join("models.toml"), models).unwrap();
        hub.publish(TAG, files);
        Self { hub, root, old: None, new: files.clone() }
    }

    /// What was pulled is old now, and these files are new.
    fn publish(&mut self, files: &Files) {
        self.hub.publish(TAG, files);
        self.old = Some(std::mem::replace(&mut self.new, files.clone()));
    }

    fn target(&self) -> PathBuf {
        self.root.path().join(TAG)
    }

    fn staging(&self) -> PathBuf {
        self.root.path().join(".staging").join(TAG)
    }

    fn pull(&self) -> Pull {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
        command.env_clear().env("HF_ENDPOINT", &self.hub.url).env("MODEL_STORAGE_PATH", self.root.path());
        command.args(["pull", TAG, "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Pull(command.spawn().unwrap())
    }

    /// Pulls to the end. Returns what was sent for it.
    fn finish(&self) -> Vec<Served> {
        self.hub.hold(None);
        self.hub.take_served();
        self.pull().done();
        self.assert_whole(&self.new);
        let left: Vec<_> = names(&self.root.path().join(".staging"));
        assert_eq!(left, [format!("{TAG}.lock")]);
        let (mut served, _) = self.hub.take_served();
        // What the weights are in is read each time to know what there is.
        served.retain(|served| !served.file.ends_with(".index.json"));
        served
    }

    /// Pulls to the end after a kill: what the journals had is not sent again.
    fn go_on(&self) -> u64 {
        let (is_new, safe) = (self.is_new(), self.safe());
        let sent = self.finish();
        for served in &sent {
            assert!(!is_new, "all of it was there: {served:?}");
            let ranges = safe.get(&served.file).into_iter().flatten();
            for range in ranges {
                let apart = served.sent.end <= range.start || range.end <= served.sent.start;
                assert!(apart || served.sent.is_empty(), "{served:?} was on the disk: {range:?}");
            }
        }
        total(&sent)
    }

    /// What a later pull can build on: ranges in journals, and whole files.
    fn safe(&self) -> BTreeMap<String, Vec<Range<u64>>> {
        let mut safe: BTreeMap<String, Vec<Range<u64>>> = BTreeMap::new();
        let ready = self.staging().join("ready");
        for (name, bytes) in &self.new {
            let journal = self.staging().join(format!("{name}.journal"));
            let text = std::fs::read_to_string(journal).unwrap_or_default();
            let lines =
                text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '));
            let ranges = lines.map(|(first, end)| first.parse().unwrap()..end.parse().unwrap());
            safe.entry(name.clone()).or_default().extend(ranges);
            let size = std::fs::metadata(ready.join(name)).map_or(0, |metadata| metadata.len());
            if size == bytes.len() as u64 && !self.is_new() {
                safe.insert(name.clone(), vec![0..size]);
            }
        }
        safe
    }

    fn is_new(&self) -> bool {
        let provenance = std::fs::read(self.target().join(".samosa.json"));
        provenance.is_ok_and(|text| {
            let found: Value = serde_json::from_slice(&text).unwrap();
            let weights = |name: &&String| name.starts_with("model") && !name.ends_with("json");
            let name = self.new.keys().find(weights).unwrap();
            found["files"][name]["sha256"] == crate::hub::sha256(&self.new[name])
        })
    }

    /// Asserts that there is nothing, the old model or the new one, and that the catalog sees it so.
    fn assert_sound(&self) {
        let catalog = Catalog::new(Some(self.root.path().to_owned()));
        assert!(catalog.partial().unwrap().is_empty(), "half of a model is there");
        let entries = catalog.list().unwrap();
        let entry = entries.iter().find(|entry| entry.tag.as_str() == TAG).unwrap();
        assert_eq!(entries.len(), 2, "and the built-in one: {entries:?}");
        if entry.location == Location::Absent {
            assert!(!self.target().exists() && self.old.is_none(), "the old model is gone");
            return;
        }
        let is_new = self.is_new();
        assert!(is_new || self.old.is_some());
        self.assert_whole(if is_new { &self.new } else { self.old.as_ref().unwrap() });
    }

    fn assert_whole(&self, files: &Files) {
        let mut expected: Vec<&str> = files.keys().map(String::as_str).chain([".samosa.json"]).collect();
        expected.sort_unstable();
        assert_eq!(names(&self.target()), expected);
        for (name, bytes) in files {
            assert!(std::fs::read(self.target().join(name)).unwrap() == **bytes, "{name} differs");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A running `samosa pull`.
struct Pull(Child);

impl Pull {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// What it says in the end.
    fn done(mut self) -> Value {
        let mut looks = 0;
        while !self.is_over() {
            sleep(Duration::from_millis(2));
            looks += 1;
            assert!(looks < 30_000, "it never ends");
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut text).unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut said).unwrap();
        assert!(self.0.wait().unwrap().success(), "{said}");
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills one pull in each phase, each going on where the one before was killed.
fn kill_in_each_phase(bench: &Bench) {
    let hub = &bench.hub;
    let kill = |pull: Pull| {
        pull.kill();
        hub.hold(None);
        bench.assert_sound();
        assert!(!bench.is_new());
    };
    for hold in [Hold::Commit, Hold::List, Hold::AtAny(0)] {
        hub.hold(Some(hold));
        let pull = bench.pull();
        hub.wait_held(1);
        kill(pull);
    }
    const MB: u64 = 1_000_000;
    for (places, pieces) in
        [(&[(FIRST, 2 * REQUEST + MB), (SECOND, MB)][..], 2), (&[(SECOND, REQUEST + MB)][..], 3)]
    {
        hub.hold_files(places);
        let pull = bench.pull();
        hub.wait_held(places.len());
        wait_for("pieces in the journal", LOOK, || bench.safe()[FIRST].len() == pieces);
        kill(pull);
    }
    // All bytes are there, and the provenance cannot be written: nobody reads the pipe in its place.
    hub.hold_files(&[(SECOND, bench.new[SECOND].len() as u64 - 1)]);
    let pull = bench.pull();
    hub.wait_held(1);
    let pipe = bench.staging().join("ready/.samosa.json.new");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    hub.hold(None);
    wait_for("all files to be ready", LOOK, || bench.staging().join("ready").join(SECOND).exists());
    kill(pull);
    assert_eq!(bench.go_on(), 0, "all bytes were there");
}

#[test]
fn a_pull_that_is_killed_in_any_phase_leaves_all_or_nothing_and_the_next_goes_on() {
    let (one, other) = (model::large(1), model::large(2));
    let mut bench = Bench::new(&one);
    kill_in_each_phase(&bench);
    bench.publish(&other);
    kill_in_each_phase(&bench);
}
