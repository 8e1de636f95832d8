//! Storage directories as people name them: one level off, in the cache of the Hub, empty, not there. A model is served from
//! each that holds one, and a start without one is refused with what was found.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::support::running::Running;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(path)
}

/// A golden model with its tokenizer.
fn put(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for path in ["g7/model_000100.pt", "g7/meta_000100.json", "tokenizer/tokenizer.pkl"] {
        std::fs::copy(golden(path), directory.join(path.rsplit_once('/').unwrap().1)).unwrap();
    }
}

/// The golden tokenizer with `<|reserved_0|>` and its like alone, as autoresearch writes it.
fn base_tokenizer(path: &Path) {
    let bytes = std::fs::read(golden("tokenizer/tokenizer.pkl")).unwrap();
    let read = formats::read_tokenizer_pickle("tokenizer.pkl", &bytes).unwrap();
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap();
    let hex = |token: &[u8]| token.iter().flat_map(|b| [b >> 4, b & 15]).map(digit).collect::<String>();
    let ranks: Map<_, _> = read.ranks.iter().map(|(token, rank)| (hex(token), (*rank).into())).collect();
    let special: Map<_, _> = (0..9).map(|i| (format!("<|reserved_{i}|>"), (692 + i).into())).collect();
    let file = json!({ "pattern": read.pattern, "mergeable_ranks": ranks, "special_tokens": special });
    std::fs::write(path, file.to_string()).unwrap();
}

fn at<'a>(storage: &'a Path, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("MODEL_STORAGE_PATH", storage.to_str().unwrap())], more].concat()
}

fn serving(environment: &[(&str, &str)]) -> String {
    let mut server = Running::start(environment);
    server.wait_for("its model", |server| server.health()["ready"] == true);
    server.health()["current_model"].as_str().unwrap().to_owned()
}

#[test]
fn a_model_one_level_off_is_served_and_not_the_built_in_one() {
    let hub = "models--you--swe/snapshots/0123456789abcdef0123456789abcdef01234567";
    for (below, tag) in [
        ("d20/pt", "d20"),
        ("checkpoints/d20", "d20"),
        ("release-1/d20", "d20"),
        ("sft_checkpoints/d20", "d20"),
        ("my model", "my-model"),
        (hub, "swe"),
    ] {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join(below));
        assert_eq!(serving(&at(root.path(), &[])), tag, "{below}");
    }
}

#[test]
fn a_storage_without_a_model_stops_the_start_and_says_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().display();
    let refused = |storage: &Path, why: &str| {
        let (code, said) = Running::start_and_end(&at(storage, &[]));
        let advice = "put a model there, or set DEFAULT_MODEL_TAG=samosa-mini for the built-in one, or \
                      STARTUP_LOAD_ENABLED=false to wait for a swap";
        assert_eq!((code, said), (Some(2), format!("samosa: MODEL_STORAGE_PATH: {why}; {advice}\n")));
    };
    refused(root.path(), &format!("{path} holds no model"));
    let nowhere = root.path().join("nowhere");
    refused(&nowhere, &format!("{path}/nowhere does not exist or cannot be entered"));
    put(&root.path().join("a/b/c/d/e"));
    put(&root.path().join("x"));
    std::fs::remove_file(root.path().join("x/tokenizer.pkl")).unwrap();
    let found = "x: `x` has no tokenizer (tokenizer.pkl or tokenizer.json); a/b/c/d/e is 5 directories down, of which \
                 4 are searched";
    refused(root.path(), &format!("{path} holds no model: {found}"));
    let file = root.path().join("notes.txt");
    std::fs::write(&file, "hello").unwrap();
    let metadata = "notes.txt: `notes` has no metadata (meta_<step>.json, meta.json or config.json)";
    refused(&file, &format!("{path}/notes.txt holds no model: {metadata}"));
    let mut config = Command::new(env!("CARGO_BIN_EXE_samosa"));
    let config = config.arg("config").env_clear().env("MODEL_STORAGE_PATH", &nowhere).output().unwrap();
    assert_eq!(config.status.code(), Some(2), "it refuses what serve does");
    let mut asked = Command::new(env!("CARGO_BIN_EXE_samosa"));
    asked.args(["generate", "Hello!"]).env_clear().env("MODEL_STORAGE_PATH", &nowhere);
    let asked = asked.output().unwrap();
    assert!(
        asked.status.code() == Some(2) && asked.stdout.is_empty(),
        "nor does the built-in model answer here"
    );
}

#[test]
fn an_empty_storage_is_served_from_where_that_is_wanted() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(serving(&at(root.path(), &[("DEFAULT_MODEL_TAG", "samosa-mini")])), "samosa-mini");
    let hub = [("HF_REPO_OWNER", "you"), ("HF_TAGS", "d20")];
    assert_eq!(serving(&at(root.path(), &hub)), "samosa-mini", "one can be fetched by a swap");
    let waiting = Running::start(&at(root.path(), &[("STARTUP_LOAD_ENABLED", "false")]));
    assert_eq!(waiting.health()["ready"], false);
    std::fs::create_dir_all(root.path().join(".samosa")).unwrap();
    std::fs::write(root.path().join(".samosa/last_model.json"), r#"{"model_tag": "samosa-mini"}"#).unwrap();
    assert_eq!(serving(&at(root.path(), &[("RESTORE_LAST_MODEL", "true")])), "samosa-mini", "it served last");
}

#[test]
fn a_model_of_the_hub_is_none_where_the_hub_is_off() {
    let root = tempfile::tempdir().unwrap();
    let off = ("HF_HUB_OFFLINE", "true");
    let refused = |more: &[(&str, &str)], source: &str| {
        let (code, said) = Running::start_and_end(&at(root.path(), more));
        let why = format!("holds no model: `d32` comes from {source}, and HF_HUB_OFFLINE is true; put");
        assert!(code == Some(2) && said.contains(&why), "{code:?} {said}");
    };
    refused(&[off, ("HF_REPO_OWNER", "you"), ("HF_TAGS", "d32")], "huggingface:you/d32");
    std::fs::write(
        root.path().join("models.toml"),
        "[[model]]\ntag = \"d32\"\nsource = \"huggingface:a/b\"\n",
    )
    .unwrap();
    refused(&[off], "huggingface:a/b");
    assert_eq!(serving(&at(root.path(), &[])), "samosa-mini", "it can be fetched");
}

#[test]
fn a_storage_that_becomes_empty_ends_no_server() {
    let root = tempfile::tempdir().unwrap();
    put(&root.path().join("d20"));
    let mut server = Running::start(&at(root.path(), &[]));
    server.wait_for("its model", |server| server.health()["ready"] == true);
    std::fs::remove_dir_all(root.path()).unwrap();
    let swap = |tag: &str| {
        server.ask("POST", "/models/swap", ("", &format!("{{\"model_tag\": \"{tag}\"}}"))).whole()
    };
    assert_eq!(swap("d20").0, 202, "it goes on serving: there is nothing to change to");
    let (status, refused) = swap("d21");
    assert_eq!(status, 404, "{refused}");
    assert_eq!(server.health()["current_model"], "d20");
    assert_eq!(swap("samosa-mini").0, 202);
    assert_eq!(server.health()["current_model"], "samosa-mini");
}

#[test]
fn an_answer_in_a_form_ends_with_the_token_that_begins_a_text_where_there_is_no_other() {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("d20");
    put(&model);
    std::fs::remove_file(model.join("tokenizer.pkl")).unwrap();
    base_tokenizer(&model.join("tokenizer.json"));
    let mut server = Running::start(&at(root.path(), &[]));
    server.wait_for("its model", |server| server.health()["ready"] == true);
    let schema = json!({ "type": "json_schema", "json_schema": { "name": "one", "schema": { "enum": ["yes", "no"] } } });
    for (field, form, texts) in [
        ("grammar", json!({ "syntax": "regex", "definition": "(yes|no)" }), ["yes", "no"]),
        ("response_format", schema, ["\"yes\"", "\"no\""]),
    ] {
        let mut body = json!({ "model": "d20", "prompt": "Hello", "max_tokens": 40, "temperature": 0 });
        body[field] = form;
        let (status, answer) = server.ask("POST", "/v1/completions", ("", &body.to_string())).whole();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{answer}");
        assert!(texts.contains(&choice["text"].as_str().unwrap()), "{answer}");
    }
}
