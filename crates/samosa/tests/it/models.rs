//! `samosa models` on real directories: what it prints for people and for programs, and its exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(path)
}

/// Golden models and their tokenizer, as a person lays them out.
fn storage(cases: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for case in cases.iter().chain(&["tokenizer"]) {
        let to = root.path().join(case);
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(golden(case)).unwrap() {
            let path = file.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    root
}

fn says(root: &Path, text: &str) {
    std::fs::write(root.join("models.toml"), text).unwrap();
}

fn models(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().current_dir(root).env("MODEL_STORAGE_PATH", root).arg("models").args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed when all went well.
fn done(root: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = models(root, arguments);
    assert_eq!((status.code(), text(&stderr).as_str()), (Some(0), ""), "{arguments:?}");
    text(&stdout)
}

/// What it printed, and the one line that says why it failed.
fn failed(root: &Path, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = models(root, arguments);
    let line = text(&stderr);
    assert_eq!((status.code(), line.lines().count()), (Some(1), 1), "{arguments:?}: {line}");
    (text(&stdout), line)
}

fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The words of the line that begins with `first`.
fn line<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|words| words.first() == Some(&first)).unwrap_or_else(|| panic!("no {first} in {text}"))
}

fn sha256(root: &Path, tag: &str, file: &str) -> String {
    let shown = document(&done(root, &["show", tag, "--json"]));
    shown["files"][file]["sha256"].as_str().unwrap().to_owned()
}

#[test]
fn list_has_a_line_for_each_model_in_each_state() {
    let root = storage(&["g0", "g7"]);
    says(root.path(), "[[model]]\ntag = \"far\"\nsource = \"huggingface:o/far\"\nrevision = \"v2\"\n");
    std::fs::remove_file(root.path().join("g0/meta_000106.json")).unwrap();
    let table = done(root.path(), &["list"]);
    let size = std::fs::read_dir(root.path().join("g7")).unwrap().map(|file| file.unwrap());
    let size: u64 =
        size.filter(|f| f.file_name() != "expected.json").map(|f| f.metadata().unwrap().len()).sum();
    let size = size + root.path().join("tokenizer/tokenizer.pkl").metadata().unwrap().len();
    let megabytes = format!("{:.1}", size as f64 / 1e6);
    assert_eq!(line(&table, "tag"), ["tag", "source", "step", "size", "state"]);
    assert_eq!(line(&table, "far"), ["far", "huggingface:o/far@v2", "-", "-", "not", "fetched"]);
    assert_eq!(line(&table, "g0")[..6], ["g0", "-", "-", "-", "incomplete:", "`g0`"], "{table}");
    assert_eq!(line(&table, "g7"), ["g7", "(default)", "local", "100", &megabytes, "MB", "complete"]);
    assert_eq!(line(&table, "samosa-mini")[..3], ["samosa-mini", "builtin", "2384"]);
    let states = ["state", "not fetched", "incomplete", "complete", "complete"];
    let columns: Vec<usize> =
        table.lines().zip(states).map(|(line, state)| line.find(state).unwrap()).collect();
    assert!(columns.iter().all(|column| *column == columns[0]), "{table}");
    let listed = document(&done(root.path(), &["list", "--json"]));
    assert_eq!(listed["default"], "g7");
    let g7 = json!({
        "tag": "g7", "source": "local", "path": "g7", "step": 100, "bytes": size, "state": "complete", "reason": null,
    });
    assert_eq!(listed["models"][2], g7);
    assert_eq!(listed["models"][1]["state"], "incomplete");
    assert!(listed["models"][1]["reason"].as_str().unwrap().contains("no metadata"));
    assert_eq!(listed["models"][0]["state"], "not fetched");
}

#[test]
fn no_model_is_the_default_where_a_start_would_load_none() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("deep");
    std::fs::create_dir_all(deep.join("a/b/c/d")).unwrap();
    for file in ["model_000100.pt", "meta_000100.json"] {
        std::fs::copy(golden("g7").join(file), deep.join("a/b/c/d").join(file)).unwrap();
    }
    std::fs::create_dir(root.path().join("empty")).unwrap();
    for storage in ["deep", "empty", "missing"] {
        let mut list = Command::new(env!("CARGO_BIN_EXE_samosa"));
        list.env_clear().current_dir(root.path()).env("MODEL_STORAGE_PATH", storage).args(["models", "list"]);
        let Output { stdout, stderr, .. } = list.output().unwrap();
        let (table, why) = (text(&stdout), text(&stderr));
        assert_eq!(line(&table, "samosa-mini")[..2], ["samosa-mini", "builtin"], "{storage}");
        assert!(!table.contains("(default)") && why.starts_with("samosa: "), "{storage}: {table}{why}");
        assert_eq!(document(&text(&list.arg("--json").output().unwrap().stdout))["default"], Value::Null);
        let named = list.env("DEFAULT_MODEL_TAG", "samosa-mini").output().unwrap();
        assert_eq!(document(&text(&named.stdout))["default"], "samosa-mini", "{storage}");
    }
    let mut list = Command::new(env!("CARGO_BIN_EXE_samosa"));
    let unset = list.env_clear().args(["models", "list"]).output().unwrap();
    assert_eq!(line(&text(&unset.stdout), "samosa-mini")[1], "(default)", "no storage is set");
}

#[test]
fn a_model_that_is_not_where_models_toml_says_is_named_once_with_its_path() {
    let root = storage(&["g7"]);
    let says_source = |tag: &str, path: &str| {
        says(root.path(), &format!("[[model]]\ntag = \"{tag}\"\nsource = \"local:{path}\"\n"));
    };
    says_source("d32", "/nonexistent/x");
    let expected = "samosa: `d32`: /nonexistent/x does not exist\n";
    for command in ["show", "verify"] {
        assert_eq!(failed(root.path(), &[command, "d32"]), (String::new(), expected.to_owned()));
    }
    let listed = done(root.path(), &["list"]);
    assert!(listed.contains("incomplete: `d32`: /nonexistent/x does not exist"), "{listed}");
    let link = root.path().join("loop");
    std::os::unix::fs::symlink("loop", &link).unwrap();
    says_source("d32", link.to_str().unwrap());
    let (_, why) = failed(root.path(), &["verify", "d32"]);
    let reason = "cannot be read: Too many levels of symbolic links (os error 40)";
    assert_eq!(why, format!("samosa: `d32`: {} {reason}\n", link.display()));
}

#[test]
fn a_model_that_does_not_load_says_why_in_the_list() {
    let root = storage(&["g7-constants"]);
    let meta = root.path().join("g7-constants/meta_000107.json");
    let text_of_meta = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text_of_meta.replace("\"n_layer\"", "\"n_experts\": 4, \"n_layer\"")).unwrap();
    let table = done(root.path(), &["list"]);
    let reason = "refused: the metadata's `n_experts` is 4, but only off: null, false or 0 is supported";
    assert!(table.contains(reason), "{table}");
    let listed = document(&done(root.path(), &["list", "--json"]));
    assert_eq!(listed["models"][0]["state"], "refused");
    assert_eq!(listed["models"][0]["step"], 107);
}

#[test]
fn a_mistake_in_models_toml_is_one_line_after_what_is_on_disk() {
    let root = storage(&["g7"]);
    says(root.path(), "[[model]]\ntag = \"g7\"\nstep = \"x\"\n");
    let (table, why) = failed(root.path(), &["list"]);
    assert!(table.contains("g7 (default)") && why.contains("models.toml: line 3: step"), "{table}{why}");
    let (nothing, why) = failed(root.path(), &["show", "g7"]);
    assert!(nothing.is_empty() && why.contains("line 3"), "{why}");
    assert!(done(root.path(), &["show", "samosa-mini"]).contains("builtin"));
}

#[test]
fn show_tells_what_a_model_is() {
    let root = storage(&["g3", "g7"]);
    let hash = sha256(root.path(), "g7", "model_000100.pt");
    let said = format!(
        "[[model]]\ntag = \"g7\"\nsha256 = \"{hash}\"\n[model.overrides]\nsequence_len = 1024\nshort_window = \"half\"\n"
    );
    says(root.path(), &said);
    let shown = done(root.path(), &["show", "g7"]);
    for (name, value) in [
        ("tag", "g7"),
        ("source", "local"),
        ("generation", "g7"),
        ("layers", "5"),
        ("width", "64"),
        ("vocabulary", "701"),
        ("format", "int8"),
        ("fits", "yes"),
        ("sha256", &hash),
        ("softcap", "15"),
    ] {
        assert_eq!(line(&shown, name), [name, value]);
    }
    assert!(!shown.contains("unknown keys") && !shown.contains("value_gate_scale"), "{shown}");
    assert!(shown.contains("rope base       100000\nqk scale        1.2\n"), "{shown}");
    assert_eq!(line(&shown, "window"), ["window", "pattern", "SSSLL"]);
    assert_eq!(line(&shown, "model_000100.pt")[3], hash);
    let json = document(&done(root.path(), &["show", "g7", "--json"]));
    assert_eq!(json["overrides"], json!({ "short_window": "half", "sequence_len": 1024 }));
    assert_eq!(
        (&json["heads"], &json["kv_heads"], &json["short_window"]),
        (&json!(4), &json!(2), &json!(512))
    );
    assert!(json["memory_bytes"].as_u64().unwrap() > 0 && json["mismatches"] == json!([]));
    assert_eq!(json["identity"].as_str().unwrap().len(), 64);
    let notes = document(&done(root.path(), &["show", "g3", "--json"]))["notes"].clone();
    assert!(
        notes.to_string().contains("window_pattern") || notes.to_string().contains("15 or 20"),
        "{notes}"
    );
    assert!(
        document(&done(root.path(), &["show", "samosa-mini", "--json"]))["parameters"].as_u64()
            > Some(7_000_000)
    );
}

#[test]
fn show_of_what_is_not_there_is_one_line() {
    let root = storage(&["g7"]);
    says(root.path(), "[[model]]\ntag = \"far\"\nsource = \"s3://bucket/far\"\nstep = 7\n");
    let shown = done(root.path(), &["show", "far"]);
    assert_eq!(line(&shown, "state"), ["state", "not", "fetched"]);
    assert_eq!((line(&shown, "source")[1], line(&shown, "step")[1]), ("s3://bucket/far", "7"));
    assert!(failed(root.path(), &["show", "d99"]).1.contains("no model is called `d99`"));
    assert!(failed(root.path(), &["verify", "far"]).1.contains("far failed a check"));
    assert!(failed(root.path(), &["show", "../g7"]).1.contains("is not a model's tag"));
    assert_eq!(models(root.path(), &["show"]).status.code(), Some(2));
    assert_eq!(models(root.path(), &[]).status.code(), Some(2));
}

#[test]
fn verify_passes_sound_models() {
    let root = storage(&["g1", "g7"]);
    for tag in ["g1", "g7", "samosa-mini"] {
        let told = done(root.path(), &["verify", tag]);
        let names: Vec<&str> = told.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        let expected =
            ["files", "read", "sha256", "structure", "tokenizer", "tensors", "memory", "load", "self-test"];
        assert_eq!(names, expected, "{told}");
        assert!(told.lines().all(|line| line.starts_with("ok      ")), "{told}");
    }
    let json = document(&done(root.path(), &["verify", "g7", "--json"]));
    let shown = document(&done(root.path(), &["show", "g7", "--json"]));
    assert_eq!((&json["ok"], &json["identity"]), (&json!(true), &shown["identity"]));
    assert_eq!(json["checks"].as_array().unwrap().len(), 9);
}

#[test]
fn verify_names_what_is_wrong_and_fails() {
    let root = storage(&["g5", "g6", "g7"]);
    says(root.path(), &format!("[[model]]\ntag = \"g7\"\nsha256 = \"{}\"\n", "0".repeat(64)));
    let (told, why) = failed(root.path(), &["verify", "g7"]);
    assert_eq!(line(&told, "FAILED")[1], "sha256");
    assert!(told.contains("model_000100.pt must be 0000") && told.contains("self-test"), "{told}");
    assert_eq!(why, "samosa: g7 failed a check\n");
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/samosa-mini/tokenizer/tokenizer.pkl");
    std::fs::copy(other, root.path().join("g6/tokenizer.pkl")).unwrap();
    let told = failed(root.path(), &["verify", "g6"]).0;
    assert_eq!(line(&told, "FAILED")[1], "tokenizer");
    let weights = std::fs::read_dir(root.path().join("g5")).unwrap().map(|file| file.unwrap().path());
    let weights = weights.into_iter().find(|path| path.extension().is_some_and(|e| e == "pt")).unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xff);
    std::fs::write(&weights, &bytes).unwrap();
    let json = failed(root.path(), &["verify", "g5", "--json"]).0;
    let json = document(&json);
    let checks = json["checks"].as_array().unwrap();
    let tensors = checks.iter().find(|check| check["check"] == "tensors").unwrap();
    assert_eq!((&json["ok"], &tensors["ok"]), (&json!(false), &json!(false)));
    assert!(tensors["detail"].as_str().unwrap().contains("not finite"), "{json}");
    std::fs::write(&weights, &bytes[..middle]).unwrap();
    let (told, why) = failed(root.path(), &["verify", "g5"]);
    assert!(told.is_empty() && why.contains("its directory is missing"), "{told}{why}");
}

#[test]
fn constants_that_the_metadata_states_and_keys_that_are_not_known_are_shown() {
    let root = storage(&["g7-constants"]);
    let meta = root.path().join("g7-constants/meta_000107.json");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text.replace("\"n_layer\"", "\"attn_probes\": 7, \"n_layer\"")).unwrap();
    let json = document(&done(root.path(), &["show", "g7-constants", "--json"]));
    assert_eq!(
        (&json["rope_base"], &json["qk_scale"], &json["softcap"]),
        (&json!(1_000_000), &json!(1.5), &json!("none"))
    );
    assert_eq!(json["unknown_keys"], json!(["attn_probes = 7"]));
    let shown = done(root.path(), &["show", "g7-constants"]);
    assert!(shown.contains("unknown keys\n  attn_probes = 7\n"), "{shown}");
    std::fs::write(&meta, text.replace("\"logit_softcap\": 0.0", "\"rope_scaling\": {\"type\": \"yarn\"}"))
        .unwrap();
    let (_, why) = failed(root.path(), &["show", "g7-constants"]);
    assert_eq!(
        why,
        "samosa: the metadata's `rope_scaling.type` is \"yarn\", but only default is supported\n"
    );
}

#[test]
fn metadata_without_sizes_have_one_verdict_everywhere() {
    let root = storage(&["g7"]);
    std::fs::write(root.path().join("g7/meta_000100.json"), "{\"step\": 100}").unwrap();
    let expected = "`g7` has no n_head in meta_000100.json";
    let Output { status, stdout, stderr } = models(root.path(), &["list"]);
    assert_eq!(status.code(), Some(0));
    assert!(text(&stdout).contains(&format!("incomplete: {expected}")), "{}", text(&stdout));
    assert!(text(&stderr).contains("holds no model: g7: "), "{}", text(&stderr));
    for command in ["show", "verify"] {
        assert_eq!(failed(root.path(), &[command, "g7"]).1, format!("samosa: {expected}\n"), "{command}");
    }
}
