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
    /// The commit of the new one.
    commit: String,
}

impl Bench {
    fn new(files: &Files) -> Self {
        let (hub, root) = (Hub::start(), tempfile::tempdir().unwrap());
        let models = format!("[[model]]\ntag = \"{TAG}\"\nsource = \"huggingface:owner/{TAG}\"\n");
        std::fs::write(root.path().join("models.toml"), models).unwrap();
        let commit = hub.publish(TAG, files);
        Self { hub, root, old: None, new: files.clone(), commit }
    }

    /// What was pulled is old now, and these files are new.
    fn publish(&mut self, files: &Files) {
        self.commit = self.hub.publish(TAG, files);
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
        assert_eq!(left, [format!(".{TAG}.lock")]);
        self.sent()
    }

    /// What was sent since the last time.
    fn sent(&self) -> Vec<Served> {
        let (mut served, _) = self.hub.take_served();
        // What the weights are in is read each time to know what there is.
        served.retain(|served| !served.file.ends_with(".index.json"));
        served
    }

    /// Pulls to the end after a kill: what the journals had is not sent again. Returns how many bytes were.
    fn go_on(&self) -> u64 {
        let before = self.before();
        let sent = self.finish();
        before.assert_kept(&sent);
        total(&sent)
    }

    /// What there is before a pull.
    fn before(&self) -> Before {
        Before { is_new: self.is_new(), safe: self.safe() }
    }

    /// What a later pull can build on: ranges in journals, and whole files.
    fn safe(&self) -> BTreeMap<String, Vec<Range<u64>>> {
        let mut safe: BTreeMap<String, Vec<Range<u64>>> = BTreeMap::new();
        let ready = self.staging().join("ready");
        let is_wanted = |path: PathBuf| {
            let text = std::fs::read(path).ok()?;
            Some(serde_json::from_slice::<Value>(&text).unwrap()["commit"] == *self.commit)
        };
        // A download that is no longer wanted, the model that was replaced, or what is left while one of them is removed.
        if is_wanted(self.staging().join("manifest.json")) != Some(true)
            || is_wanted(ready.join(".samosa.json")) == Some(false)
        {
            return safe;
        }
        for (name, bytes) in &self.new {
            let journal = self.staging().join(format!("{name}.journal"));
            let text = std::fs::read_to_string(journal).unwrap_or_default();
            let lines =
                text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '));
            let ranges = lines.map(|(first, end)| first.parse().unwrap()..end.parse().unwrap());
            safe.entry(name.clone()).or_default().extend(ranges);
            let size = std::fs::metadata(ready.join(name)).map_or(0, |metadata| metadata.len());
            if size == bytes.len() as u64 {
                let ranges = safe.entry(name.clone()).or_default();
                ranges.clear();
                ranges.push(0..size);
            }
        }
        safe
    }

    fn is_new(&self) -> bool {
        let provenance = std::fs::read(self.target().join(".samosa.json"));
        provenance.is_ok_and(|text| serde_json::from_slice::<Value>(&text).unwrap()["commit"] == *self.commit)
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

/// What there was before a pull.
struct Before {
    is_new: bool,
    safe: BTreeMap<String, Vec<Range<u64>>>,
}

impl Before {
    /// Asserts that nothing of it was sent again.
    fn assert_kept(&self, sent: &[Served]) {
        for served in sent.iter().filter(|served| !served.sent.is_empty()) {
            assert!(!self.is_new, "all of it was there: {served:?}");
            for range in self.safe.get(&served.file).into_iter().flatten() {
                let apart = served.sent.end <= range.start || range.end <= served.sent.start;
                assert!(apart, "{served:?} was on the disk: {range:?}");
            }
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
    for (places, pieces) in
        [(&[(FIRST, 2 * REQUEST + 1000), (SECOND, 1000)][..], 2), (&[(SECOND, REQUEST + 1000)][..], 3)]
    {
        hub.hold_files(places);
        let pull = bench.pull();
        hub.wait_held(places.len());
        wait_for("pieces in the journal", LOOK, || {
            bench.safe().get(FIRST).is_some_and(|ranges| ranges.len() == pieces)
        });
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

#[test]
fn a_pull_that_is_killed_at_any_moment_leaves_all_or_nothing_and_the_next_goes_on() {
    const KILLS: usize = 20;
    let models = [model::large(3), model::large(4)];
    let mut bench = Bench::new(&models[0]);
    // A request takes 0.3 seconds so, and a pull at least twice that.
    bench.hub.pace(Duration::from_millis(2));
    let (mut random, mut kills, mut installed, mut resumed) = (Random(7), 0, 0, 0);
    while kills < KILLS {
        if bench.is_new() {
            installed += 1;
            bench.publish(&models[installed % 2]);
        }
        let before = bench.before();
        resumed += usize::from(before.safe.values().any(|ranges| !ranges.is_empty()));
        let mut pull = bench.pull();
        sleep(Duration::from_millis(random.below(800)));
        kills += usize::from(!pull.is_over());
        pull.kill();
        bench.assert_sound();
        before.assert_kept(&bench.sent());
    }
    bench.go_on();
    println!(
        "{KILLS} kills, {installed} models installed meanwhile, {resumed} pulls that went on with something"
    );
    assert!(resumed > 0, "there never was anything to go on with");
}

#[test]
fn on_a_slow_line_a_kill_costs_seconds_and_not_a_whole_request() {
    let bench = Bench::new(&model::large(8));
    // A request takes 13 seconds so.
    bench.hub.pace(Duration::from_millis(100));
    let pull = bench.pull();
    wait_for("a part of a request in the journal", Duration::from_millis(20), || {
        bench.safe().get(FIRST).is_some_and(|ranges| ranges.iter().any(|range| range.end < REQUEST))
    });
    pull.kill();
    bench.assert_sound();
    let safe: u64 = bench.safe().values().flatten().map(|range| range.end - range.start).sum();
    bench.hub.pace(Duration::ZERO);
    let sent = bench.go_on();
    let bytes: u64 = bench.new.values().map(|bytes| bytes.len() as u64).sum();
    assert!(sent + safe <= bytes && safe > 1_000_000, "{safe} of {bytes} bytes were there, {sent} were sent");
}

/// How far an installation was when it was killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Installation {
    NotBegun,
    /// The provenance is written.
    Written,
    /// The directories have changed their names; what was there before is not removed yet.
    Renamed,
    Done,
}

impl Bench {
    fn installation(&self) -> Installation {
        match (self.is_new(), self.staging().exists()) {
            (true, true) => Installation::Renamed,
            (true, false) => Installation::Done,
            (false, _) if self.staging().join("ready/.samosa.json").exists() => Installation::Written,
            (false, _) => Installation::NotBegun,
        }
    }
}

#[test]
fn a_pull_that_is_killed_while_it_installs_leaves_the_old_model_or_the_new_one() {
    let models = [model::small("g7"), model::small("g6")];
    let mut bench = Bench::new(&models[0]);
    let (mut random, mut killed) = (Random(9), BTreeMap::new());
    for kills in 1..=24 {
        let mut pull = bench.pull();
        let ready = bench.staging().join("ready");
        let until: &dyn Fn() -> bool = match kills % 3 {
            0 => &|| ready.join(".samosa.json.new").exists(),
            1 => &|| ready.join(".samosa.json").exists(),
            _ => &|| bench.is_new(),
        };
        while !until() && !pull.is_over() {
            std::hint::spin_loop();
        }
        // Nothing, or as long as it takes to come to the next step.
        sleep(Duration::from_micros(random.below(4) * random.below(500)));
        pull.kill();
        bench.assert_sound();
        *killed.entry(bench.installation()).or_insert(0) += 1;
        assert_eq!(bench.go_on(), 0, "all bytes were there");
        bench.publish(&models[kills % 2]);
    }
    println!("killed by how far the installation was: {killed:?}");
    assert!(
        killed.keys().any(|at| [Installation::Written, Installation::Renamed].contains(at)),
        "{killed:?}"
    );
}

#[test]
fn two_pulls_of_one_model_are_one_download_that_either_can_finish() {
    let models = [model::large(5), model::large(6)];
    let mut bench = Bench::new(&models[0]);
    let whole = |bench: &Bench| {
        let bytes = bench.new.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        bytes - bench.new["model.safetensors.index.json"].len() as u64
    };
    let begin = |bench: &Bench| {
        bench.hub.hold_files(&[(FIRST, 2 * REQUEST + 1000), (SECOND, 1000)]);
        let first = bench.pull();
        bench.hub.wait_held(2);
        wait_for("pieces in the journal", LOOK, || {
            bench.safe().get(FIRST).is_some_and(|ranges| ranges.len() == 2)
        });
        let second = bench.pull();
        // Long enough for it to have come to the lock.
        sleep(Duration::from_millis(300));
        (first, second)
    };
    let (first, second) = begin(&bench);
    bench.hub.hold(None);
    let outcomes = [first.done(), second.done()].map(|said| said["outcome"].clone());
    assert_eq!(outcomes, ["pulled", "up_to_date"]);
    assert_eq!(total(&bench.sent()), whole(&bench));
    bench.assert_sound();
    bench.publish(&models[1]);
    let (first, mut second) = begin(&bench);
    assert!(!second.is_over());
    let before = bench.before();
    bench.sent();
    first.kill();
    bench.hub.hold(None);
    let said = second.done();
    let here = 2 * REQUEST;
    assert!(said["outcome"] == "pulled" && said["bytes_resumed"].as_u64().unwrap() >= here, "{said}");
    bench.assert_sound();
    assert!(bench.is_new());
    before.assert_kept(&bench.sent());
}
