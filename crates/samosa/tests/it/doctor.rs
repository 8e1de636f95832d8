//! `samosa doctor` of the built binary: on models, settings, addresses and sources that are well, and on such that are not.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::hub::{Files, Hub};
use crate::support::running::Running;

const COLUMNS: usize = 80;

/// What a run found.
struct Found {
    code: i32,
    text: String,
    document: Value,
}

/// Runs it twice in an empty directory, for people and for programs. No secret may be in either.
fn doctor(arguments: &[&str], environment: &[(&str, &str)]) -> Found {
    let directory = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_samosa"))
            .arg("doctor")
            .args(arguments)
            .args(more)
            .env_clear()
            .env("PORT", "0")
            .envs(environment.iter().copied())
            .current_dir(directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(err, "", "{text}");
        assert!(!text.contains("hush"), "{text}");
        (output.status.code().unwrap(), text)
    };
    let ((code, text), (same, json)) = (run(&[]), run(&["--json"]));
    assert_eq!(code, same);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    Found { code, text, document: serde_json::from_str(&json).unwrap() }
}

impl Found {
    fn all(&self, section: &str, id: &str) -> Vec<&Value> {
        let findings = self.document["sections"][section].as_array().unwrap();
        findings.iter().filter(|finding| finding["id"] == id).collect()
    }

    fn one(&self, section: &str, id: &str) -> &Value {
        let all = self.all(section, id);
        assert_eq!(all.len(), 1, "{section} {id}: {:#}", self.document);
        all[0]
    }

    /// A finding with this mark that says this.
    fn says(&self, (section, id): (&str, &str), mark: &str, text: &str) {
        let finding = self.one(section, id);
        assert_eq!(finding["mark"], mark, "{finding}");
        assert!(finding["text"].as_str().unwrap().contains(text), "{finding}");
        assert_eq!(finding["advice"].is_null(), mark == "ok", "{finding}");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name)
}

/// A golden model with its tokenizer, by name of the file.
fn files(case: &str) -> Files {
    let mut files = BTreeMap::new();
    for from in [case, "tokenizer"] {
        for entry in std::fs::read_dir(golden(from)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.insert(name, Arc::new(std::fs::read(path).unwrap()));
        }
    }
    files
}

fn storage(models: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (tag, case) in models {
        let directory = root.path().join(tag);
        std::fs::create_dir(&directory).unwrap();
        for (name, bytes) in files(case) {
            std::fs::write(directory.join(name), &bytes[..]).unwrap();
        }
    }
    root
}

/// Every file below a directory, and its size.
fn listing(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            found.insert(path.clone(), path.metadata().unwrap().len());
        }
    }
    found
}

#[test]
fn without_any_setting_nothing_is_wrong_and_all_fits_80_columns() {
    let found = doctor(&[], &[]);
    assert_eq!(found.code, 0, "{}", found.text);
    for title in ["Machine", "Model", "Settings", "Storage and sources", "What will be slow, and why"] {
        assert!(found.text.lines().any(|line| line == title), "{}", found.text);
    }
    for line in found.text.lines() {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    assert!(found.text.contains("Nothing is wrong: "), "{}", found.text);
    found.says(("model", "model"), "ok", "samosa-mini");
    found.says(("model", "identity"), "ok", "identity ");
    found.says(("sources", "storage"), "note", "only the built-in model");
    let figure = |section, id: &str, name: &str| found.one(section, id)["figures"][name].as_f64().unwrap();
    let (rate, bytes) =
        (figure("machine", "memory_speed", "bytes_per_second"), figure("model", "one_stream", "token_bytes"));
    assert!(rate > 1e8 && bytes > 1e6 && figure("machine", "int8_speed", "operations_per_second") > 1e8);
    let per_token = figure("model", "one_stream", "bytes_per_second") / bytes;
    assert!((figure("model", "one_stream", "tokens_per_second") / per_token - 1.0).abs() < 1e-9);
    assert!(
        figure("model", "memory_plan", "weights_bytes") > 1e6 && figure("model", "chats", "chats") >= 1.0
    );
}

#[test]
fn a_storage_without_a_model_is_wrong() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().to_str().unwrap();
    let nowhere = root.path().join("nowhere");
    let missing = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", nowhere.to_str().unwrap())]);
    assert_eq!(missing.code, 1, "{}", missing.text);
    missing.says(("sources", "storage"), "wrong", "nowhere is not there");
    std::fs::create_dir(root.path().join("d2")).unwrap();
    std::fs::write(root.path().join("d2/model_000001.pt"), b"").unwrap();
    let empty = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", at)]);
    assert_eq!(empty.code, 1, "{}", empty.text);
    empty.says(("sources", "no_model"), "wrong", "holds no model: d2: `d2` has no metadata");
    empty.says(("model", "model"), "note", "a start has no model to load");
    assert!(empty.all("settings", "setting").is_empty(), "it is reported once");
    let named = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", at), ("DEFAULT_MODEL_TAG", "samosa-mini")]);
    assert_eq!(named.code, 0, "{}", named.text);
}

#[test]
fn a_model_says_where_it_is() {
    let root = storage(&[("d2", "g7")]);
    let own = root.path().join("d2");
    let weights = own.join("model_000100.pt");
    for (storage, expected) in [
        (root.path(), "d2, step 100: in d2 of the storage, put there by hand"),
        (&own, "d2, step 100: the storage itself, put there by hand"),
        (&weights, "d2, step 100: the storage itself, put there by hand"),
    ] {
        let found = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", storage.to_str().unwrap())]);
        found.says(("model", "model"), "ok", expected);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let said = format!("[[model]]\ntag = \"d2\"\nsource = \"local:{}\"\n", own.display());
    std::fs::write(elsewhere.path().join("models.toml"), said).unwrap();
    let found = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", elsewhere.path().to_str().unwrap())]);
    found.says(("model", "model"), "ok", "d2, step 100: where models.toml says");
}

#[test]
fn a_model_is_looked_at_and_nothing_in_the_storage_changes() {
    let root = storage(&[("d2", "g7"), ("broken", "g5")]);
    let weights = |name: &String| name.starts_with("model");
    let name = files("g5").into_keys().find(weights).unwrap();
    std::fs::write(root.path().join("broken").join(&name), b"no weights").unwrap();
    std::fs::create_dir_all(root.path().join(".staging/d32/ready")).unwrap();
    let before = listing(root.path());
    let at = root.path().to_str().unwrap();
    let found = doctor(&["d2"], &[("MODEL_STORAGE_PATH", at), ("NANOCHAT_DTYPE", "float32")]);
    assert_eq!(found.code, 0, "{}", found.text);
    found.says(("model", "model"), "ok", "d2");
    found.says(("model", "sizes"), "ok", "generation g7");
    found.says(("model", "format"), "note", "float32 (NANOCHAT_DTYPE=float32, environment)");
    // Little space, which a test cannot choose, is a warning.
    let storage = found.one("sources", "storage");
    assert!(storage["text"].as_str().unwrap().contains("can be read and written"), "{storage}");
    found.says(("sources", "unfinished"), "note", "a download of d32");
    let slow = found.document["slow"].as_array().unwrap();
    assert!(slow.iter().any(|cost| cost.as_str().unwrap().starts_with("NANOCHAT_DTYPE=float32")), "{slow:?}");
    let broken = doctor(&["broken"], &[("MODEL_STORAGE_PATH", at)]);
    assert_eq!(broken.code, 1, "{}", broken.text);
    broken.says(("model", "model"), "wrong", "broken cannot be loaded: ");
    let absent = doctor(&["d9"], &[("MODEL_STORAGE_PATH", at)]);
    assert_eq!(absent.code, 1, "{}", absent.text);
    absent.says(("model", "model"), "wrong", "no model is called `d9`");
    assert_eq!(listing(root.path()), before);
}

#[test]
fn wrong_settings_are_all_said_without_their_secrets_and_the_machine_all_the_same() {
    let wrong = [
        ("PORT", "many"),
        ("HF_TOKEN", "hush-token"),
        ("INTERNAL_API_KEY", "hush-key"),
        ("ADMIN_API_KEY", "hush-key"),
        ("HF_ENDPOINT", "https://me:hush@127.0.0.1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hush@127.0.0.1:9"),
    ];
    let found = doctor(&[], &wrong);
    assert_eq!(found.code, 1, "{}", found.text);
    let said: Vec<&str> =
        found.all("settings", "setting").iter().map(|f| f["text"].as_str().unwrap()).collect();
    for expected in ["PORT is \"many\"", "HF_ENDPOINT", "ADMIN_API_KEY is one of INTERNAL_API_KEY"] {
        assert!(said.iter().any(|said| said.contains(expected)), "{expected}: {said:?}");
    }
    let set = found.all("settings", "set");
    assert!(set.iter().any(|found| found["text"] == "INTERNAL_API_KEY is ******** (environment)"), "{set:?}");
    assert!(!found.all("machine", "memory_speed").is_empty());
    found.says(("model", "model"), "note", "not looked at");
    let public = doctor(&[], &[("HOST", "0.0.0.0")]);
    assert_eq!(public.code, 1, "{}", public.text);
    public.says(("settings", "setting"), "wrong", "INTERNAL_API_KEY must be set to listen on 0.0.0.0");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush = = 1").unwrap();
    let broken = doctor(&["--config", file.path().to_str().unwrap()], &[]);
    assert_eq!(broken.code, 1, "{}", broken.text);
}

#[test]
fn an_address_is_free_or_ours_or_taken() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    // Whoever asks is hung up on.
    let hang_up = std::thread::Builder::new().spawn(move || {
        let mut calls = 0;
        // Two runs, which ask by http and https.
        while calls < 4 && holder.accept().is_ok() {
            calls += 1;
        }
    });
    let taken = doctor(&["--offline"], &[("PORT", &port)]);
    hang_up.unwrap().join().unwrap();
    assert_eq!(taken.code, 1, "{}", taken.text);
    taken.says(("settings", "port"), "wrong", &format!("another program listens on 127.0.0.1:{port}"));
    let free = doctor(&["--offline"], &[("PORT", &port)]);
    assert_eq!(free.code, 0, "{}", free.text);
    free.says(("settings", "port"), "ok", "is free");
    let server = Running::start(&[]);
    let (_, port) = server.address.rsplit_once(':').unwrap();
    let ours = doctor(&["--offline"], &[("PORT", port)]);
    assert_eq!(ours.code, 0, "{}", ours.text);
    ours.says(("settings", "port"), "note", "a samosa server listens on");
    drop(server);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("not/there");
    let handover = doctor(&["--offline"], &[("HANDOVER_SOCKET", socket.to_str().unwrap())]);
    assert_eq!(handover.code, 0, "{}", handover.text);
    handover.says(("settings", "handover"), "warning", "cannot be written");
}

#[test]
fn sources_are_asked_for_their_lists_alone_and_not_at_all_offline() {
    let hub = Hub::start();
    hub.publish("d20", &files("g7"));
    let root = tempfile::tempdir().unwrap();
    // Nobody listens there by now.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let models = format!("[[model]]\ntag = \"d32\"\nsource = \"http://{dead}/d32\"\n");
    std::fs::write(root.path().join("models.toml"), models).unwrap();
    let before = listing(root.path());
    let environment = [
        ("MODEL_STORAGE_PATH", root.path().to_str().unwrap()),
        ("HF_ENDPOINT", &hub.url),
        ("HF_REPO_OWNER", "owner"),
        ("HF_TAGS", "d20,d21"),
        ("HF_TOKEN", "hush-token"),
    ];
    let found = doctor(&["d20"], &environment);
    assert_eq!(found.code, 0, "{}", found.text);
    found.says(("model", "model"), "note", "d20 is not here; it comes from huggingface:owner/d20");
    let source = |name: &str| {
        let all = found.all("sources", "source");
        all.into_iter().find(|found| found["figures"]["source"] == name).cloned().unwrap()
    };
    let listed = source("huggingface:owner/d20");
    assert_eq!(listed["mark"], "ok", "{listed}");
    assert!(listed["figures"]["seconds"]["list"].as_f64().unwrap() > 0.0, "{listed}");
    let unknown = source("huggingface:owner/d21");
    assert!(
        unknown["mark"] == "warning"
            && unknown["text"].as_str().unwrap().contains("does not exist on the Hub"),
        "{unknown}"
    );
    let dead = source(&format!("http://{dead}/d32"));
    assert!(
        dead["mark"] == "warning" && dead["text"].as_str().unwrap().contains("fails at the connection"),
        "{dead}"
    );
    let (served, questions) = hub.take_served();
    assert!(served.is_empty() && questions > 0, "{served:?}");
    // The model that is asked about is nowhere else.
    assert_eq!(doctor(&["d32"], &environment).code, 1);
    hub.take_served();
    let offline = doctor(&["d20", "--offline"], &environment);
    assert_eq!((offline.code, hub.take_served().1), (0, 0), "{}", offline.text);
    assert!(offline.text.contains("was not asked"), "{}", offline.text);
    assert_eq!(listing(root.path()), before);
}
