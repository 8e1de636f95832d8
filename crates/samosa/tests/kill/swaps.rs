//! SIGKILL of a server that swaps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hub::Hub;
use crate::model;
use crate::running::{Answer, Running};
use crate::wide;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_micros(100);
/// Tries to kill within one phase, which may be over before the kill comes.
const TRIES: usize = 10;
/// Phases that last as long as a handful of instructions and a write to the disk.
const SHORT: [&str; 4] = ["resolve", "download", "cutover", "free"];
/// Streams of the model that goes: they are what its drain waits for.
const STREAMS: usize = 4;

/// Two models of some size, one that fails its self-test, and a server that begins with the one that served last.
struct Bench {
    root: TempDir,
    mode: &'static str,
    server: Running,
    /// What each model says alone.
    solo: BTreeMap<&'static str, String>,
    /// By phase, how often a kill came within it.
    hits: BTreeMap<String, usize>,
    kills: usize,
}

impl Bench {
    fn new(mode: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (tag, seed) in [("a", 1), ("b", 2), ("broken", 3)] {
            wide::write(&root.path().join(tag), 3, seed);
        }
        break_weights(&root.path().join("broken/model.safetensors"));
        let server = start(root.path(), mode, &[]);
        let (solo, hits) = (BTreeMap::new(), BTreeMap::new());
        let mut bench = Self { root, mode, server, solo, hits, kills: 0 };
        assert_eq!(bench.serving(), "a", "the default one");
        for tag in ["b", "a"] {
            assert_eq!(swap(&bench.server, tag, "")["status"], "ok");
            bench.solo.insert(tag, answer(&bench.server));
        }
        assert_ne!(bench.solo["a"], bench.solo["b"]);
        bench
    }

    fn serving(&self) -> String {
        serving(&self.server)
    }

    /// The good model that does not serve.
    fn other(&self) -> &'static str {
        if self.serving() == "a" { "b" } else { "a" }
    }

    /// Kills servers in this phase of a swap until two have died within it, or often enough.
    fn kill_in(&mut self, phase: &str, target: impl Fn(&Self) -> &'static str) {
        for tries in 1..=TRIES {
            let target = target(self);
            let died_in = self.kill(phase, target);
            *self.hits.entry(died_in).or_insert(0) += 1;
            let hits = self.hits.get(phase).copied().unwrap_or(0);
            if hits >= 2 || SHORT.contains(&phase) && tries >= 3 {
                return;
            }
        }
        assert!(self.hits.contains_key(phase), "no kill came within {phase}: {:?}", self.hits);
    }

    /// Kills the server where a swap comes to this phase, and starts it again. Returns where it died.
    fn kill(&mut self, phase: &str, target: &str) -> String {
        let old = self.serving();
        // The model that was loaded is hashed anew, else its verification would be over at once.
        let _not_yet_written = std::fs::remove_file(self.root.path().join(".samosa/identities.json"));
        let streams: Vec<Answer> =
            if phase == "drain" { (0..STREAMS).map(|_| long(&self.server)).collect() } else { Vec::new() };
        let before = self.server.stdout().len();
        assert_eq!(swap(&self.server, target, "Prefer: wait=0\r\n")["status"], "swapping");
        let log = |server: &Running| server.stdout().split_off(before);
        let end = if self.mode == "serial" { "swap is live" } else { "\"free\"" };
        let is_over = |log: &str| log.contains("swap failed") || log.contains(end);
        for look in 0.. {
            let log = log(&self.server);
            if phases(&log).iter().any(|entered| entered == phase) || is_over(&log) {
                break;
            }
            sleep(LOOK);
            assert!(look < 300_000, "never came to {phase}: {log}");
        }
        self.server.kill();
        drop(streams);
        self.kills += 1;
        let log = log(&self.server);
        let (died_in, is_live) = (phases(&log).pop().unwrap(), log.contains("swap is live"));
        self.server = start(self.root.path(), self.mode, &[]);
        let serving = self.serving();
        let case = format!("killed in {died_in} of the swap from {old} to {target}: {serving} serves\n{log}");
        if is_live {
            assert_eq!(serving, target, "{case}");
        } else if died_in == "cutover" {
            assert!(serving == old || serving == target, "{case}");
        } else {
            assert_eq!(serving, old, "{case}");
        }
        self.assert_sound(&case);
        died_in
    }

    /// Asserts that what serves answers as it always did, that nothing else lies in the storage, and that swaps go on.
    fn assert_sound(&self, case: &str) {
        let serving = self.serving();
        assert_eq!(answer(&self.server), self.solo[serving.as_str()], "{case}");
        assert_eq!(listed(&self.server), ["a", "b", "broken", "samosa-mini"], "{case}");
        let kept = std::fs::read_dir(self.root.path().join(".samosa")).unwrap();
        let kept: BTreeSet<String> =
            kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(kept.contains("last_model.json"), "{case}: {kept:?}");
        let target = self.other();
        let (status, said) = ask(&self.server, target, "");
        assert_eq!((status, &said["status"]), (202, &json!("ok")), "{case}: {said}");
        assert_eq!(answer(&self.server), self.solo[target], "{case}");
    }
}

fn start(root: &Path, mode: &str, more: &[(&str, &str)]) -> Running {
    let mut server = Running::start(
        &[
            &[
                ("MODEL_STORAGE_PATH", root.to_str().unwrap()),
                ("DEFAULT_MODEL_TAG", "a"),
                ("RESTORE_LAST_MODEL", "true"),
                ("NANOCHAT_DTYPE", "float32"),
                ("KV_CACHE_MB", "64"),
                ("SWAP_MODE", mode),
            ],
            more,
        ]
        .concat(),
    );
    server.wait_for("a model", |server| server.health()["ready"] == true);
    server
}

fn serving(server: &Running) -> String {
    server.health()["current_model"].as_str().unwrap().to_owned()
}

fn listed(server: &Running) -> Vec<String> {
    let (status, body) = server.ask("GET", "/models", ("", "")).whole();
    assert_eq!(status, 200, "{body}");
    let listed: Value = serde_json::from_str(&body).unwrap();
    listed["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["model_tag"].as_str().unwrap().to_owned())
        .collect()
}

fn ask(server: &Running, tag: &str, headers: &str) -> (u16, Value) {
    let (status, body) =
        server.ask("POST", "/models/swap", (headers, &json!({ "model_tag": tag }).to_string())).whole();
    (status, serde_json::from_str(&body).unwrap())
}

fn swap(server: &Running, tag: &str, headers: &str) -> Value {
    let (status, said) = ask(server, tag, headers);
    assert_eq!(status, 202, "{said}");
    said
}

/// The phases of swaps that a log tells of.
fn phases(log: &str) -> Vec<String> {
    // A last line may have been cut.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let phases = lines.filter(|line| line["message"] == "swap phase");
    phases.map(|line| line["phase"].as_str().unwrap().to_owned()).collect()
}

/// A question whose answer is always the same.
fn message(max_tokens: u32) -> String {
    let content = "What do you say about the weather, and about samosas?";
    json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": max_tokens, "temperature": 0 })
        .to_string()
}

/// What the model that serves says.
fn answer(server: &Running) -> String {
    server.ask("POST", "/generate", ("", &message(24))).told().0
}

/// A stream that goes on for a while.
fn long(server: &Running) -> Answer {
    let mut stream = server.ask("POST", "/generate", ("", &message(450)));
    stream.until("\"token\"");
    stream
}

/// Makes the first numbers of the file, which are embeddings, no numbers.
fn break_weights(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for number in bytes[data..data + (1 << 20)].chunks_exact_mut(2) {
        number.copy_from_slice(&0x7fc0_u16.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_server_that_is_killed_in_any_phase_of_a_swap_beside_the_old_model_starts_with_the_last_good_one() {
    let mut bench = Bench::new("overlap");
    for phase in ["resolve", "download", "verify", "load", "selftest", "cutover", "drain", "free"] {
        bench.kill_in(phase, Bench::other);
    }
    println!("overlap: {} kills, by the phase at death: {:?}", bench.kills, bench.hits);
}

#[test]
fn a_server_that_is_killed_in_any_phase_of_a_swap_in_place_starts_with_the_last_good_one() {
    let mut bench = Bench::new("serial");
    for phase in ["verify", "drain", "free", "load", "selftest", "cutover"] {
        bench.kill_in(phase, Bench::other);
    }
    bench.kill_in("restore", |_| "broken");
    println!("serial: {} kills, by the phase at death: {:?}", bench.kills, bench.hits);
}

#[test]
fn a_server_that_is_killed_while_it_downloads_goes_on_where_it_was() {
    let hub = Hub::start();
    let files = model::small("g7");
    hub.publish("far", &files);
    let root = tempfile::tempdir().unwrap();
    wide::write(&root.path().join("a"), 1, 1);
    let models = "[[model]]\ntag = \"far\"\nsource = \"huggingface:owner/far\"\n";
    std::fs::write(root.path().join("models.toml"), models).unwrap();
    let start = || start(root.path(), "auto", &[("HF_ENDPOINT", &hub.url)]);
    let mut server = start();
    let solo = answer(&server);
    hub.hold_files(&[("model_000100.pt", 1000)]);
    for _ in 0..3 {
        assert_eq!(swap(&server, "far", "Prefer: wait=0\r\n")["status"], "swapping");
        hub.wait_held(1);
        server.wait_for("the small files", |_| {
            ["tokenizer.pkl", "meta_000100.json"].iter().all(|name| {
                let journal = root.path().join(".staging/far").join(format!("{name}.journal"));
                std::fs::metadata(journal).is_ok_and(|journal| journal.len() > 0)
            })
        });
        assert_eq!(phases(&server.stdout()).pop().unwrap(), "download");
        server.kill();
        hub.hold(None);
        hub.hold_files(&[("model_000100.pt", 1000)]);
        assert!(!root.path().join("far").exists());
        server = start();
        assert_eq!((serving(&server), answer(&server)), ("a".to_owned(), solo.clone()));
        assert_eq!(listed(&server), ["a", "far", "samosa-mini"]);
    }
    hub.hold(None);
    hub.take_served();
    assert_eq!(swap(&server, "far", "")["status"], "ok");
    assert_eq!(serving(&server), "far");
    let sent = hub.take_served().0;
    assert!(sent.iter().all(|sent| sent.file == "model_000100.pt"), "{sent:?}");
    for (name, bytes) in &files {
        assert!(std::fs::read(root.path().join("far").join(name)).unwrap() == **Arc::clone(bytes), "{name}");
    }
}
