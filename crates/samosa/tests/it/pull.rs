//! `samosa pull` as a process, against a Hub on a socket.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::hub::{Files, Hub, sha256, total};

const WEIGHTS: &str = "model_000100.pt";
const META: &str = "meta_000100.json";
const TOKENIZER: &str = "tokenizer.pkl";

/// A golden checkpoint as a repository: this one of a generation.
fn golden(generation: &str) -> Files {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let step = if generation == "g6" { "000102" } else { "000100" };
    let read = |path: &str| Arc::new(std::fs::read(goldens.join(path)).unwrap());
    [
        (WEIGHTS.to_owned(), read(&format!("{generation}/model_{step}.pt"))),
        (META.to_owned(), read(&format!("{generation}/meta_{step}.json"))),
        (TOKENIZER.to_owned(), read("tokenizer/tokenizer.pkl")),
        ("README.md".to_owned(), Arc::new(b"is not fetched".to_vec())),
    ]
    .into()
}

/// A storage directory whose `models.toml` says this.
fn storage(models: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("models.toml"), models).unwrap();
    root
}

const D20: &str = "[[model]]\ntag = \"d20\"\nsource = \"huggingface:owner/d20\"\n";

fn pull(hub: &Hub, root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().env("HF_ENDPOINT", &hub.url).env("MODEL_STORAGE_PATH", root);
    command.arg("pull").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it says where, and its exit code.
fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn done(mut command: Command) -> (String, String) {
    let (stdout, stderr, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    (stdout, stderr)
}

/// A failure that says all in one line.
fn fails(mut command: Command, expected: i32) -> String {
    let (stdout, stderr, code) = said(&command.output().unwrap());
    assert_eq!((stdout.as_str(), code), ("", Some(expected)), "{stderr}");
    let line = stderr.lines().last().unwrap().to_owned();
    assert!(line.starts_with("samosa: "), "{stderr}");
    line
}

fn assert_installed(root: &Path, files: &Files) {
    for name in [WEIGHTS, META, TOKENIZER] {
        assert!(std::fs::read(root.join("d20").join(name)).unwrap() == **files[name], "{name} differs");
    }
    assert_eq!(std::fs::read_dir(root.join("d20")).unwrap().count(), 4, "and the provenance");
    let left: Vec<_> =
        std::fs::read_dir(root.join(".staging")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [".d20.lock"]);
}

/// As `sha256sum` of the files, and of what it prints.
fn identity(files: &Files) -> String {
    let line = |name: &str| format!("{}  {name}\n", sha256(&files[name]));
    sha256([META, WEIGHTS, TOKENIZER].map(line).concat().as_bytes())
}

#[test]
fn a_model_is_pulled_and_then_up_to_date_until_its_branch_moves() {
    let (hub, files) = (Hub::start(), golden("g7"));
    let commit = hub.publish("d20", &files);
    let storage = storage(D20);
    let root = storage.path();
    let bytes = [WEIGHTS, META, TOKENIZER].map(|name| files[name].len()).iter().sum::<usize>();
    let told = |did: &str, commit: &str, said: &str| {
        let (megabytes, commit) = (bytes as f64 / 1e6, &commit[..12]);
        let begin = format!("d20 {did} huggingface:owner/d20 (commit {commit}, 3 files, {megabytes:.1} MB, ");
        assert!(said.starts_with(&begin), "{said}");
        assert!(said.ends_with(&format!(" s, identity {}…)\n", &identity(&files)[..12])), "{said}");
        assert_eq!(said.lines().count(), 1);
    };
    let (stdout, stderr) = done(pull(&hub, root, &["d20"]));
    told("was pulled from", &commit, &stdout);
    let phases: Vec<&str> = stderr.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(phases, ["resolve", "download", "verify"], "{stderr}");
    assert!(stderr.contains(" s, 3 files, "), "{stderr}");
    assert_installed(root, &files);
    assert_eq!((total(&hub.take_served().0), bytes as u64), (bytes as u64, bytes as u64));
    let (stdout, stderr) = done(pull(&hub, root, &["d20"]));
    told("is up to date with", &commit, &stdout);
    assert!(
        stderr.lines().all(|line| line.starts_with("resolve ") || line.starts_with("verify ")),
        "{stderr}"
    );
    let (served, questions) = hub.take_served();
    assert_eq!(
        (served, questions),
        (Vec::new(), 2),
        "the commit and its files are asked for, and nothing else"
    );
    // A commit that touches other files fetches what the list does not tell the hash of, which is small.
    let mut moved = files.clone();
    moved.insert("README.md".to_owned(), Arc::new(b"is another one".to_vec()));
    let commit = hub.publish("d20", &moved);
    told("was pulled from", &commit, &done(pull(&hub, root, &["d20"])).0);
    assert_eq!(total(&hub.take_served().0), files[META].len() as u64);
    assert_installed(root, &files);
}

#[test]
fn json_tells_all_of_it() {
    let (hub, files) = (Hub::start(), golden("g7"));
    let commit = hub.publish("d20", &files);
    let root = storage(&format!("{D20}revision = \"main\"\n"));
    let document = |outcome: &str, commit: &str, files: &Files| {
        let (stdout, stderr) = done(pull(&hub, root.path(), &["d20", "--json"]));
        assert_eq!(stderr, "");
        let document: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&document["model_tag"], &document["outcome"]), (&json!("d20"), &json!(outcome)));
        assert_eq!(document["identity"], identity(files));
        assert_eq!(document["retries"], 0);
        assert!(document["seconds"].as_f64().unwrap() > 0.0);
        let provenance = &document["provenance"];
        assert_eq!((&provenance["commit"], &provenance["revision"]), (&json!(commit), &json!("main")));
        assert_eq!(provenance["files"][WEIGHTS]["sha256"], sha256(&files[WEIGHTS]));
        assert_installed(root.path(), files);
        document["bytes_resumed"].as_u64().unwrap()
    };
    assert_eq!(document("pulled", &commit, &files), 0);
    assert_eq!(document("up_to_date", &commit, &files), 0);
    let newer = golden("g6");
    let commit = hub.publish("d20", &newer);
    hub.take_served();
    let here = files[TOKENIZER].len() as u64;
    assert_eq!(document("pulled", &commit, &newer), here, "the tokenizer is the same");
    assert_eq!(total(&hub.take_served().0), (newer[META].len() + newer[WEIGHTS].len()) as u64);
}

#[test]
fn a_copy_that_rotted_is_not_built_upon() {
    let (hub, files) = (Hub::start(), golden("g7"));
    hub.publish("d20", &files);
    let storage = storage(D20);
    let root = storage.path();
    done(pull(&hub, root, &["d20"]));
    let path = root.join("d20").join(WEIGHTS);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[700_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let said = fails(pull(&hub, root, &["d20"]), 1);
    let expected = format!("remove {} and pull again", root.join("d20").display());
    assert!(said.contains("the sha256 of model_000100.pt must be") && said.ends_with(&expected), "{said}");
    let mut moved = files.clone();
    moved.insert("README.md".to_owned(), Arc::new(Vec::new()));
    hub.publish("d20", &moved);
    hub.take_served();
    done(pull(&hub, root, &["d20"]));
    assert_installed(root, &files);
    let fetched = (files[META].len() + files[WEIGHTS].len()) as u64;
    assert_eq!(total(&hub.take_served().0), fetched, "and not the tokenizer");
}

#[test]
fn what_the_settings_offer_is_pulled_from_whom_they_name() {
    let (hub, files) = (Hub::start(), golden("g7"));
    hub.publish("d20", &files);
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("not/there/yet");
    for (owner, code) in [("owner", 0), ("owner", 0), ("nobody", 1)] {
        let mut command = pull(&hub, &storage, &["d20"]);
        let output = command.env("HF_REPO_OWNER", owner).env("HF_TAGS", "d20, d24").output().unwrap();
        let (stdout, stderr, found) = said(&output);
        assert_eq!(found, Some(code), "{owner}: {stdout}{stderr}");
        if code == 1 {
            let expected = "samosa: nobody/d20 does not exist on the Hub, or is private: check the name, or set HF_TOKEN";
            assert_eq!(stderr.lines().last(), Some(expected));
        }
    }
    assert_installed(&storage, &files);
}

#[test]
fn what_cannot_be_pulled_is_said_in_one_line_with_a_remedy() {
    let hub = Hub::start();
    let mine = "[[model]]\ntag = \"named\"\nsource = \"local:/somewhere\"\n";
    let root = storage(&format!("{D20}{mine}"));
    let files = golden("g7");
    for directory in ["mine", "named"] {
        std::fs::create_dir(root.path().join(directory)).unwrap();
        for name in [WEIGHTS, META, TOKENIZER] {
            std::fs::write(root.path().join(directory).join(name), &**files[name]).unwrap();
        }
    }
    let fails = |tag: &str| fails(pull(&hub, root.path(), &[tag]), 1);
    assert_eq!(fails("d99"), "samosa: `d99` is not offered; models.toml and HF_TAGS offer d20");
    assert_eq!(
        fails("samosa-mini"),
        "samosa: `samosa-mini` is built into this program: there is nothing to fetch"
    );
    let by_hand = fails("mine");
    assert!(by_hand.contains("by hand, and is not replaced: move it away"), "{by_hand}");
    assert!(fails("d20").starts_with("samosa: owner/d20 does not exist on the Hub"));
    hub.publish("d20", &[("README.md".to_owned(), Arc::new(Vec::new()))].into());
    assert!(fails("d20").starts_with("samosa: huggingface:owner/d20 has no weights"));
    assert_eq!(std::fs::read_dir(root.path().join(".staging")).unwrap().count(), 1, "the lock");
    let nothing = storage("");
    let said = self::fails(pull(&hub, nothing.path(), &["d20"]), 1);
    assert!(
        said.ends_with("nothing is: name a source in models.toml, or set HF_REPO_OWNER and HF_TAGS"),
        "{said}"
    );
    let mut offline = pull(&hub, root.path(), &["d20"]);
    offline.env("HF_HUB_OFFLINE", "1");
    assert!(self::fails(offline, 1).contains("HF_HUB_OFFLINE is set"));
    let mut nowhere = pull(&hub, root.path(), &["d20"]);
    nowhere.env_remove("MODEL_STORAGE_PATH");
    let expected = "samosa: MODEL_STORAGE_PATH must be set: a model that is fetched goes there";
    assert_eq!(self::fails(nowhere, 2), expected);
    let (_, stderr, code) = said_of(pull(&hub, root.path(), &["../d20"]));
    assert!(code == Some(2) && stderr.contains("a tag has up to 100"), "{stderr}");
}

fn said_of(mut command: Command) -> (String, String, Option<i32>) {
    said(&command.output().unwrap())
}

#[test]
fn what_ctrl_c_ends_goes_on_with_the_next_pull() {
    let (hub, files) = (Hub::start(), golden("g7"));
    hub.publish("d20", &files);
    let root = storage(D20);
    hub.hold_files(&[(WEIGHTS, 1000)]);
    let child = pull(&hub, root.path(), &["d20"]).spawn().unwrap();
    hub.wait_held(1);
    let journal = root.path().join(".staging/d20/tokenizer.pkl.journal");
    for _ in 0..3000 {
        if std::fs::read_to_string(&journal).is_ok_and(|text| text.ends_with('\n')) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let (stdout, stderr, code) = said(&child.wait_with_output().unwrap());
    assert_eq!((stdout.as_str(), code), ("", Some(130)), "{stderr}");
    assert!(
        stderr.ends_with("samosa: interrupted; the next pull goes on where this one stopped\n"),
        "{stderr}"
    );
    assert!(!root.path().join("d20").exists());
    hub.hold(None);
    hub.take_served();
    let (stdout, _) = done(pull(&hub, root.path(), &["d20", "--json"]));
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert!(document["bytes_resumed"].as_u64().unwrap() >= files[TOKENIZER].len() as u64, "{document}");
    assert!(hub.take_served().0.iter().all(|served| served.file != TOKENIZER));
    assert_installed(root.path(), &files);
}

#[test]
fn a_repository_without_a_tokenizer_takes_the_one_that_models_toml_names() {
    let (hub, mut files) = (Hub::start(), golden("g7"));
    let tokenizer = files.remove(TOKENIZER).unwrap();
    hub.publish("d20", &files);
    let storage = storage(D20);
    let root = storage.path();
    let line = fails(pull(&hub, root, &["d20"]), 1);
    assert!(line.contains("has no tokenizer"), "{line}");
    let named = format!("{D20}tokenizer = \"shared/my.pkl\"\n");
    std::fs::write(root.join("models.toml"), named).unwrap();
    let line = fails(pull(&hub, root, &["d20"]), 1);
    assert!(line.contains("models.toml: line 4: tokenizer is \"shared/my.pkl\", but no such file"), "{line}");
    std::fs::create_dir(root.join("shared")).unwrap();
    std::fs::write(root.join("shared/my.pkl"), &tokenizer[..]).unwrap();
    done(pull(&hub, root, &["d20"]));
    assert_eq!(std::fs::read_dir(root.join("d20")).unwrap().count(), 3, "weights, metadata and provenance");
    let mut verify = Command::new(env!("CARGO_BIN_EXE_samosa"));
    verify.env_clear().env("MODEL_STORAGE_PATH", root).args(["models", "verify", "d20"]);
    let (stdout, _, code) = said(&verify.output().unwrap());
    assert!(code == Some(0) && stdout.contains("self-test"), "{stdout}");
}
