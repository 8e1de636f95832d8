//! `samosa doctor` of the built binary: on models, settings, addresses and sources that are well, and on such that are not.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
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

    /// The only finding of this name has this mark.
    fn has(&self, section: &str, id: &str, mark: &str) {
        let finding = self.one(section, id);
        assert_eq!(finding["mark"], mark, "{finding}");
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
fn defaults_are_ok_and_fit_80_columns_in_order_of_severity() {
    let found = doctor(&[], &[]);
    assert_eq!(found.code, 0, "{}", found.text);
    let marks = ["WRONG", "warning", "note", "ok"];
    let shown: Vec<usize> = found
        .text
        .lines()
        .filter_map(|line| marks.iter().position(|mark| line.split_whitespace().next() == Some(mark)))
        .collect();
    assert!(shown.is_sorted() && shown.len() > 15, "{}", found.text);
    assert!(found.text.lines().all(|line| line.chars().count() <= COLUMNS), "{}", found.text);
    found.has("model", "model", "ok");
    found.has("model", "identity", "ok");
    found.has("sources", "storage", "note");
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
    missing.has("sources", "storage", "wrong");
    std::fs::create_dir(root.path().join("d2")).unwrap();
    std::fs::write(root.path().join("d2/model_000001.pt"), b"").unwrap();
    let empty = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", at)]);
    assert_eq!(empty.code, 1, "{}", empty.text);
    empty.has("sources", "no_model", "wrong");
    empty.has("model", "model", "note");
    assert!(empty.all("settings", "setting").is_empty(), "it is reported once");
    let named = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", at), ("DEFAULT_MODEL_TAG", "samosa-mini")]);
    assert_eq!(named.code, 0, "{}", named.text);
}

#[test]
fn a_model_says_where_it_is() {
    let root = storage(&[("d2", "g7")]);
    let own = root.path().join("d2");
    let elsewhere = tempfile::tempdir().unwrap();
    let said = format!("[[model]]\ntag = \"d2\"\nsource = \"local:{}\"\n", own.display());
    std::fs::write(elsewhere.path().join("models.toml"), said).unwrap();
    for storage in [root.path(), &own, &own.join("model_000100.pt"), elsewhere.path()] {
        let found = doctor(&["--offline"], &[("MODEL_STORAGE_PATH", storage.to_str().unwrap())]);
        found.has("model", "model", "ok");
        let figures = &found.one("model", "model")["figures"];
        assert_eq!((&figures["tag"], &figures["step"]), (&json!("d2"), &json!(100)));
    }
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
    found.has("model", "model", "ok");
    assert_eq!(found.one("model", "sizes")["figures"]["generation"], "g7");
    found.has("model", "format", "note");
    found.has("sources", "unfinished", "note");
    for tag in ["broken", "d9"] {
        let bad = doctor(&[tag], &[("MODEL_STORAGE_PATH", at)]);
        assert_eq!(bad.code, 1, "{}", bad.text);
        bad.has("model", "model", "wrong");
    }
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
    for expected in ["PORT", "HF_ENDPOINT", "ADMIN_API_KEY"] {
        assert!(said.iter().any(|said| said.contains(expected)), "{expected}: {said:?}");
    }
    let set = found.all("settings", "set");
    let key = json!({ "setting": "INTERNAL_API_KEY", "origin": "environment" });
    assert!(set.iter().any(|found| found["figures"] == key), "{set:?}");
    assert!(!found.all("machine", "memory_speed").is_empty());
    found.has("model", "model", "note");
    let public = doctor(&[], &[("HOST", "0.0.0.0")]);
    assert_eq!(public.code, 1, "{}", public.text);
    public.has("settings", "setting", "wrong");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush = = 1").unwrap();
    let broken = doctor(&["--config", file.path().to_str().unwrap()], &[]);
    assert_eq!(broken.code, 1, "{}", broken.text);
}

#[test]
fn settings_that_contradict_others_are_noted() {
    let found = doctor(
        &["--offline"],
        &[
            ("STARTUP_LOAD_ENABLED", "false"),
            ("DEFAULT_MODEL_TAG", "d20"),
            ("RESTORE_LAST_MODEL", "true"),
            ("HF_REPO_OWNER", "owner"),
            ("HF_TAGS", "d20"),
            ("HF_HUB_OFFLINE", "true"),
            ("QUEUE_TIMEOUT", "600"),
            ("PREFIX_CACHE", "no"),
            ("SPECULATION_TOKENS", "0"),
            ("LOG_LEVEL", "debug"),
            ("HOST", "0.0.0.0"),
            ("INTERNAL_API_KEY", "key"),
            ("MAX_CONNECTIONS", "1000000"),
        ],
    );
    for id in [
        "not_loaded",
        "nothing_to_restore",
        "restored_first",
        "hub_is_off",
        "nowhere_to_fetch",
        "queue_timeout",
        "prefix_cache",
        "speculation",
        "log_level",
        "plain_http",
    ] {
        found.has("settings", id, "note");
    }
    found.has("settings", "admin_keys", "warning");
}

#[test]
fn a_certificate_is_good_or_cannot_be_read() {
    let at = |name: &str| format!("{}/../server/tests/tls/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let environment = [("TLS_CERT", &*at("one.cert")), ("TLS_KEY", &*at("one.key"))];
    let found = doctor(&["--offline"], &environment);
    assert_eq!(found.code, 0, "{}", found.text);
    assert!(found.one("settings", "certificate")["figures"]["days_left"].as_i64().unwrap() > 0);
    let unreadable = doctor(&["--offline"], &[("TLS_CERT", "/dev/null"), ("TLS_KEY", "/dev/null")]);
    assert_eq!(unreadable.code, 1, "{}", unreadable.text);
    unreadable.has("settings", "certificate", "note");
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
    taken.has("settings", "port", "wrong");
    let free = doctor(&["--offline"], &[("PORT", &port)]);
    assert_eq!(free.code, 0, "{}", free.text);
    free.has("settings", "port", "ok");
    let server = Running::start(&[]);
    let (_, port) = server.address.rsplit_once(':').unwrap();
    let ours = doctor(&["--offline"], &[("PORT", port)]);
    assert_eq!(ours.code, 0, "{}", ours.text);
    ours.has("settings", "port", "note");
    drop(server);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("not/there");
    let handover = doctor(&["--offline"], &[("HANDOVER_SOCKET", socket.to_str().unwrap())]);
    assert_eq!(handover.code, 0, "{}", handover.text);
    handover.has("settings", "handover", "warning");
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
    found.has("model", "model", "note");
    let source = |name: &str| {
        let all = found.all("sources", "source");
        all.into_iter().find(|found| found["figures"]["source"] == name).cloned().unwrap()
    };
    let listed = source("huggingface:owner/d20");
    assert_eq!(listed["mark"], "ok", "{listed}");
    assert!(listed["figures"]["seconds"]["list"].as_f64().unwrap() > 0.0, "{listed}");
    for failing in ["huggingface:owner/d21", &format!("http://{dead}/d32")] {
        assert_eq!(source(failing)["mark"], "warning", "{failing}");
    }
    let (served, questions) = hub.take_served();
    assert!(served.is_empty() && questions > 0, "{served:?}");
    // The model that is asked about is nowhere else.
    assert_eq!(doctor(&["d32"], &environment).code, 1);
    hub.take_served();
    let offline = doctor(&["d20", "--offline"], &environment);
    assert_eq!((offline.code, hub.take_served().1), (0, 0), "{}", offline.text);
    assert!(offline.all("sources", "source").iter().all(|found| found["mark"] == "ok"), "{}", offline.text);
    assert_eq!(listing(root.path()), before);
}
