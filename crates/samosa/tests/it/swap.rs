//! `samosa swap` as a process: against the real server with the golden checkpoints as its storage, and against one
//! that plays what a server says when a download is long, others swap, or it dies.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::mock;
use crate::support::running::Running;

/// The client with nothing in its environment but this key.
fn client(arguments: &[&str], key: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().env("INTERNAL_API_KEY", key).arg("swap").args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it says where, and its exit code.
fn said(output: &Output) -> (String, String, Option<i32>) {
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn swap(arguments: &[&str], key: &str) -> (String, String, Option<i32>) {
    said(&client(arguments, key).output().unwrap())
}

/// A failure: exit code 1, nothing on stdout. Returns the last line, which says why.
fn fails(arguments: &[&str], key: &str) -> String {
    let (stdout, stderr, code) = swap(arguments, key);
    assert_eq!((stdout.as_str(), code), ("", Some(1)), "{arguments:?}: {stderr}");
    stderr.lines().last().unwrap().to_owned()
}

/// A storage directory with models of two generations, and one that is cut off in the middle.
fn storage() -> TempDir {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let root = tempfile::tempdir().unwrap();
    for (from, to) in [("g7", "g7"), ("g6", "g6"), ("g6", "broken"), ("tokenizer", "tokenizer")] {
        std::fs::create_dir(root.path().join(to)).unwrap();
        for entry in std::fs::read_dir(goldens.join(from)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, root.path().join(to).join(path.file_name().unwrap())).unwrap();
        }
    }
    for entry in std::fs::read_dir(root.path().join("broken")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pt") {
            std::fs::write(&path, &std::fs::read(&path).unwrap()[..5000]).unwrap();
        }
    }
    root
}

/// A server of that storage, which serves g7.
fn serving(storage: &TempDir) -> (Running, String) {
    let mut server = Running::start(&[
        ("INTERNAL_API_KEY", "right,other"),
        ("MODEL_STORAGE_PATH", storage.path().to_str().unwrap()),
        ("DEFAULT_MODEL_TAG", "g7"),
    ]);
    server.wait_for("its model", |server| server.health()["ready"] == true);
    let url = format!("http://{}", server.address);
    (server, url)
}

#[test]
fn a_model_comes_phase_by_phase_and_is_live_at_once_when_asked_again() {
    let storage = storage();
    let (server, url) = serving(&storage);
    let (stdout, stderr, code) = swap(&["g6", "--url", &url], " right , other");
    assert_eq!((code, stdout.lines().count()), (Some(0), 1), "{stdout}{stderr}");
    assert!(stdout.starts_with("g6 serves (") && stdout.ends_with(")\n"), "{stdout}");
    assert!(stdout.contains(" s: resolve 0.") && stdout.contains(", load 0."), "{stdout}");
    let phases: Vec<&str> = stderr.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((phases[0], phases[phases.len() - 1]), ("resolve", "cutover"), "{stderr}");
    assert!(stderr.lines().all(|line| line.ends_with(" s")), "{stderr}");
    assert_eq!(server.health()["current_model"], "g6");
    let again = swap(&["g6", "--url", &format!("{url}/")], "other");
    assert_eq!(again, ("g6 serves already\n".to_owned(), String::new(), Some(0)));
}

#[test]
fn json_is_the_record_and_nothing_else() {
    let storage = storage();
    let (_server, url) = serving(&storage);
    let record = |arguments: &[&str], expected| {
        let (stdout, stderr, code) = swap(&[arguments, &["--url", &url, "--json"]].concat(), "right");
        assert_eq!(code, Some(expected), "{stderr}");
        assert_eq!(stderr.lines().count(), usize::from(expected != 0), "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    let live = record(&["g6"], 0);
    assert_eq!((&live["swap_id"], &live["target_model"]), (&json!(2), &json!("g6")));
    assert!(["live", "ok"].contains(&live["outcome"].as_str().unwrap()), "{live}");
    assert!(live["phase_seconds"]["selftest"].as_f64().unwrap() > 0.0, "{live}");
    let again = record(&["g6"], 0);
    assert_eq!((&again["swap_id"], &again["started"]), (&live["swap_id"], &live["started"]), "{again}");
}

#[test]
fn a_broken_checkpoint_is_said_and_the_old_model_serves() {
    let storage = storage();
    let (server, url) = serving(&storage);
    let said = fails(&["broken", "--url", &url], "right");
    assert!(said.starts_with("samosa: ") && said.ends_with(" g7 still serves."), "{said}");
    assert!(
        said.contains("the swap to broken failed in resolve after 0.") && !said.contains(".. "),
        "{said}"
    );
    // It fails as fast as it is answered: whichever comes first, the record is there.
    for _ in 0..4 {
        let (stdout, stderr, code) = swap(&["broken", "--url", &url, "--json"], "right");
        let failed: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, &failed["outcome"]), (Some(1), &json!("failed")), "{stdout}{stderr}");
        assert!(stderr.contains(failed["reason"].as_str().unwrap()), "{stderr}");
    }
    assert_eq!(server.health()["current_model"], "g7");
}

#[test]
fn unknown_tags_and_wrong_keys_are_one_line() {
    let storage = storage();
    let (_server, url) = serving(&storage);
    let unknown = fails(&["d99", "--url", &url], "right");
    assert!(unknown.contains("d99") && unknown.ends_with(". g7 still serves."), "{unknown}");
    for key in ["wrong", ""] {
        let (stdout, stderr, code) = swap(&["g6", "--url", &url], key);
        assert_eq!((stdout.as_str(), code, stderr.lines().count()), ("", Some(1), 1), "{stderr}");
        assert!(
            stderr.contains("the key is missing or wrong (ADMIN_API_KEY, INTERNAL_API_KEY): Invalid"),
            "{stderr}"
        );
    }
}

#[test]
fn what_is_no_such_server_is_said() {
    // Taken from the system and given back: nobody else gets it so soon.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = fails(&["d20", "--url", &format!("http://{gone}")], "k");
    assert_eq!(said, format!("samosa: http://{gone}/models/swap: nothing listens there"));
    let refusal = mock::head("404 Not Found", "text/html") + "<html>nothing here";
    let other = Mock::start(vec![Reply::Raw(refusal)], Vec::new());
    let said = fails(&["d20", "--url", &other.url], "k");
    assert!(said.contains("no samosa server: 404 Not Found: <html>nothing here"), "{said}");
    for (answer, words) in [
        (Reply::Raw("SSH-2.0-OpenSSH\r\n".to_owned()), "does not speak HTTP"),
        (Reply::Raw(mock::head("200 OK", "text/html") + "<html>"), "no samosa server: it says \"<html>\""),
        (Reply::Json(json!({ "status": "swapping" })), "no samosa server"),
    ] {
        let other = Mock::start(vec![answer], Vec::new());
        let said = fails(&["d20", "--url", &other.url], "k");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_at_once() {
    let url = ["--url", "http://127.0.0.1:1"];
    for (arguments, words) in [
        (&["d20"][..], "--url"),
        (&url[..], "<TAG>"),
        (&["../d20", url[0], url[1]], "a tag has up to 100"),
        (&["d20", "--url", "ftp://127.0.0.1"], "http:// or https://"),
        (&["d20", "--if-match", "1f3a", url[0], url[1]], "64 hex digits"),
        (&["d20", "--wait", "long", url[0], url[1]], "--wait"),
    ] {
        let (stdout, stderr, code) = swap(arguments, "k");
        assert_eq!((stdout.as_str(), code), ("", Some(2)), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

/// One answer of a server that a test plays.
enum Reply {
    Json(Value),
    Problem(u16, &'static str),
    Raw(String),
}

impl Reply {
    fn bytes(&self) -> String {
        match self {
            Self::Json(value) => mock::head("202 Accepted", "application/json") + &value.to_string(),
            Self::Problem(status, detail) => {
                let problem = json!({ "title": "No", "status": status, "detail": detail });
                mock::head(&format!("{status} No"), "application/problem+json") + &problem.to_string()
            }
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

/// A server that gives its answers in order, those to swaps and those of `/stats`, and is gone after the last one.
struct Mock {
    url: String,
    requests: Receiver<String>,
}

impl Mock {
    fn start(swaps: Vec<Reply>, stats: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, requests) = sync_channel(100);
        let serve = move || {
            let (mut swaps, mut stats) = (swaps.into_iter(), stats.into_iter());
            while swaps.len() + stats.len() > 0 {
                let (mut socket, _) = listener.accept().unwrap();
                let request = mock::request(&mut socket);
                let answers = if request.starts_with("POST /models/swap ") { &mut swaps } else { &mut stats };
                let _ = tell.try_send(request);
                match answers.next() {
                    Some(answer) => write(&mut socket, &answer.bytes()),
                    None => write(&mut socket, &mock::head("500 Unexpected", "text/plain")),
                }
            }
        };
        // It ends with its last answer, or with the test's process.
        std::thread::Builder::new().spawn(serve).unwrap();
        Self { url, requests }
    }

    /// One that takes a swap to d20, and whose `/stats` go through these records.
    fn swapping(records: &[Value]) -> Self {
        let begun =
            json!({ "status": "swapping", "current_model": "d12", "target_model": "d20", "swap_id": 7 });
        Self::start(vec![Reply::Json(begun)], records.iter().map(|record| stats("d12", record)).collect())
    }
}

fn write(socket: &mut TcpStream, bytes: &str) {
    match socket.write_all(bytes.as_bytes()) {
        Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => {}
        written => written.unwrap(),
    }
}

/// `/stats` with this record of swap 7 to d20, among others.
fn stats(current_model: &str, fields: &Value) -> Reply {
    let mut record = json!({
        "swap_id": 7, "target_model": "d20", "previous_model": "d12", "mode": "overlap", "outcome": "running",
    });
    record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let older = json!({ "swap_id": 6, "target_model": "d20", "outcome": "failed", "reason": "Long ago." });
    let current = if record["outcome"] == "running" { record.clone() } else { Value::Null };
    let swap = json!({ "current": current, "last": older, "history": [record, older] });
    let current_model = Some(current_model).filter(|tag| !tag.is_empty());
    Reply::Json(json!({ "status": "ok", "current_model": current_model, "swap": swap }))
}

fn downloading(bytes_done: u64) -> Value {
    let download = json!({ "files_done": 1, "files_total": 3, "bytes_done": bytes_done, "bytes_total": 2_400_000_000_u64,
                           "bytes_resumed": 0, "retries": 1 });
    json!({ "phase": "download", "phase_seconds": { "resolve": 0.01 }, "download": download })
}

fn live() -> Value {
    let mut record = downloading(2_400_000_000);
    record["download"]["files_done"] = json!(3);
    record["phase_seconds"] = json!({ "resolve": 0.01, "download": 2.12, "verify": 0.4, "load": 0.5, "selftest": 0.1, "cutover": 0.01 });
    record["phase"] = json!("drain");
    record["outcome"] = json!("live");
    record["identity"] = json!("1f3a".repeat(16));
    record
}

#[test]
fn a_download_is_followed_to_its_end() {
    let records =
        [json!({ "phase": "resolve", "phase_seconds": {} }), downloading(0), downloading(9), live()];
    let mock = Mock::swapping(&records);
    let identity = "AB".repeat(32);
    let (stdout, stderr, code) = swap(&["d20", "--url", &mock.url, "--if-match", &identity], "k");
    assert_eq!(
        stdout,
        "d20 serves (identity 1f3a1f3a1f3a…, overlap, 3.1 s: resolve 0.0, download 2.1, verify 0.4, load 0.5, \
         selftest 0.1)\n"
    );
    assert_eq!(
        stderr,
        "resolve 0.0 s\ndownload 2.1 s, 3 files, 2.4 GB, 1 retry\nverify 0.4 s\nload 0.5 s\nselftest 0.1 s\n\
         cutover 0.0 s\n"
    );
    assert_eq!(code, Some(0));
    let asked = mock.requests.recv().unwrap();
    assert!(asked.contains("prefer: wait=0\r\n") && asked.contains("x-internal-api-key: k\r\n"), "{asked}");
    assert!(asked.contains(&format!("if-match: \"{}\"\r\n", identity.to_lowercase())), "{asked}");
    assert!(asked.ends_with(r#"{"model_tag":"d20"}"#), "{asked}");
}

#[test]
fn conflicts_say_what_runs_and_what_serves() {
    for (status, detail) in [
        (409, "A swap to \"d8\" is running; ask again when it has ended."),
        (412, "If-Match names other weights than those that serve: \"00ff\"."),
        (507, "It does not fit"),
    ] {
        let mock = Mock::start(vec![Reply::Problem(status, detail)], vec![stats("d12", &json!({}))]);
        let said = fails(&["d20", "--url", &mock.url], "k");
        let stop = if detail.ends_with('.') { "" } else { "." };
        assert_eq!(said, format!("samosa: {detail}{stop} d12 still serves."));
    }
    let failed =
        json!({ "outcome": "failed", "reason": "It is cut off.", "phase_seconds": { "verify": 0.1 } });
    let mut last = stats("d12", &failed);
    if let Reply::Json(stats) = &mut last {
        stats["swap"]["last"] = stats["swap"]["history"][0].clone();
    }
    let mock = Mock::start(vec![Reply::Problem(422, "It is cut off.")], vec![last]);
    let (stdout, stderr, _) = swap(&["d20", "--url", &mock.url, "--json"], "k");
    assert!(serde_json::from_str::<Value>(&stdout).is_ok_and(|record| record["swap_id"] == 7), "{stdout}");
    assert!(stderr.contains("failed in verify after 0.1 s: It is cut off. d12 still serves."), "{stderr}");
    let mock = Mock::start(vec![Reply::Problem(404, "There is no model \"d20\".")], Vec::new());
    assert_eq!(fails(&["d20", "--url", &mock.url], "k"), "samosa: There is no model \"d20\".");
}

#[test]
fn failures_say_in_which_phase_and_what_serves_after_all() {
    let failed = |outcome: &str| {
        json!({ "mode": "serial", "outcome": outcome, "phase": "restore", "reason": "The checkpoint is cut off.",
                "phase_seconds": { "resolve": 0.0, "drain": 1.0, "free": 0.1, "load": 2.0, "restore": 3.0 } })
    };
    for (outcome, current, expected) in [
        ("restored", "d12", "d12 was loaded again and serves."),
        ("lost", "", "No model serves."),
        ("failed", "d12", "d12 still serves."),
    ] {
        let begun = json!({ "status": "swapping", "current_model": "d12", "swap_id": 7 });
        let mock = Mock::start(vec![Reply::Json(begun)], vec![stats(current, &failed(outcome))]);
        let said = fails(&["d20", "--url", &mock.url], "k");
        assert_eq!(
            said,
            format!(
                "samosa: the swap to d20 failed in load after 6.1 s: The checkpoint is cut off. {expected}"
            )
        );
    }
}

#[test]
fn a_server_that_dies_or_forgets_is_noticed() {
    let mock = Mock::swapping(&[downloading(1), downloading(2)]);
    let said = fails(&["d20", "--url", &mock.url], "k");
    let expected = "lost sight of the swap to d20 in download: nothing listens there";
    assert_eq!(said, format!("samosa: {}/models/swap: {expected}", mock.url));
    let mock = Mock::swapping(&[downloading(1), json!({ "swap_id": 1 })]);
    let said = fails(&["d20", "--url", &mock.url], "k");
    assert!(said.contains("knows nothing any more of the swap to d20"), "{said}");
    // What stands between may stumble.
    let begun = json!({ "status": "swapping", "swap_id": 7 });
    let stumble = || Reply::Raw(mock::head("502 Bad Gateway", "text/html"));
    let answers = vec![stumble(), stumble(), stats("d12", &downloading(1)), stumble(), stats("d20", &live())];
    let mock = Mock::start(vec![Reply::Json(begun)], answers);
    let (stdout, stderr, code) = swap(&["d20", "--url", &mock.url], "k");
    assert!(code == Some(0) && stdout.starts_with("d20 serves ("), "{stdout}{stderr}");
}

#[test]
fn whoever_stops_waiting_hears_that_the_swap_goes_on() {
    let records: Vec<Value> = (0..50).map(downloading).collect();
    let mock = Mock::swapping(&records);
    let said = fails(&["d20", "--url", &mock.url, "--wait", "1"], "k");
    assert_eq!(said, "samosa: after 1 s the swap to d20 still runs in download; it goes on at the server");
    let mock = Mock::swapping(&records);
    let mut command = client(&["d20", "--url", &mock.url], "k");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The question, a look, and one more: by then Ctrl-C is watched for.
    (0..3).for_each(|_| drop(mock.requests.recv().unwrap()));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let (stdout, stderr, code) = self::said(&child.wait_with_output().unwrap());
    assert_eq!((stdout.as_str(), code), ("", Some(130)), "{stderr}");
    assert!(stderr.contains("the swap to d20 goes on at the server"), "{stderr}");
}
