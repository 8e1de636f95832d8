//! `samosa generate`: where its message may be, what it prints, and that all ways to ask give the same answer.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::running::{self, Running, long_storage};

const HELLO: &str = "Hello! How can I help you today?\n";

fn samosa(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().envs(running::isa()).args(arguments);
    command
}

/// Runs a command with this on its standard input.
fn fed(command: &mut Command, input: &[u8]) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that is not read to its end is no failure.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn generate(arguments: &[&str], input: &[u8]) -> (String, String, Option<i32>) {
    let all = [&["generate"], arguments, &["--temperature", "0", "--max-tokens", "40"]].concat();
    let Output { stdout, stderr, status } = fed(&mut samosa(&all), input);
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

fn done(arguments: &[&str], input: &[u8]) -> String {
    let (stdout, stderr, code) = generate(arguments, input);
    assert_eq!((stderr.as_str(), code), ("", Some(0)), "{arguments:?}");
    stdout
}

/// What it says when it fails, with this exit code.
fn fails(arguments: &[&str], input: &[u8], expected: i32) -> String {
    let (stdout, stderr, code) = generate(arguments, input);
    assert_eq!((stdout.as_str(), code), ("", Some(expected)), "{arguments:?}: {stderr}");
    stderr
}

fn file(directory: &Path, name: &str, bytes: &[u8]) -> String {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_message_may_be_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let hello = file(directory.path(), "hello", b"Hello!");
    assert_eq!(done(&["Hello!"], b""), HELLO);
    assert_eq!(done(&["-"], b"Hello!"), HELLO);
    assert_eq!(done(&[], b"Hello!"), HELLO);
    assert_eq!(done(&["--file", &hello], b"not this"), HELLO);
    let talk = file(directory.path(), "talk", br#"[{"role":"user","content":"Hello!"}]"#);
    assert_eq!(done(&["--messages", &talk], b"not this"), HELLO);
    let both: Value = serde_json::from_str(&done(&["Hello!", "--file", &hello, "--json"], b"")).unwrap();
    let alone: Value = serde_json::from_str(&done(&["Hello!\n\nHello!", "--json"], b"")).unwrap();
    assert_eq!((&both["text"], &both["usage"]), (&alone["text"], &alone["usage"]));
}

#[test]
fn what_is_wrong_with_a_message_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| file(directory.path(), name, bytes);
    assert!(fails(&[], b"", 2).contains("no message is given"));
    assert!(fails(&["-"], b" \n", 1).contains("the message is empty"));
    assert!(fails(&["-"], b"caf\xe9", 1).contains("standard input is not UTF-8 from byte 3 on"));
    assert!(fails(&["-"], &vec![b'x'; (1 << 20) + 1], 1).contains("more than 1048576 bytes"));
    let long = fails(&["-"], &[b'x'; 8001], 1);
    assert!(long.contains("8001 characters") && long.contains("at most 8000"), "{long}");
    let latin = file("latin", b"\xff");
    assert!(fails(&["x", "--file", &latin], b"", 1).contains("latin is not UTF-8 from byte 0 on"));
    let large = file("large", &vec![b'x'; (1 << 20) + 1]);
    assert!(fails(&["--file", &large], b"", 1).contains("large has more than 1048576 bytes"));
    assert!(fails(&["--file", "/nowhere/x"], b"", 1).contains("/nowhere/x: No such file"));
    for (messages, words) in [
        ("[", "is not JSON"),
        ("{}", "must hold an array of messages"),
        ("[]", "At least one message is required"),
        (r#"[{"role":"robot","content":"x"}]"#, "Message 0 has an invalid role \"robot\""),
        (r#"[{"role":"user","content":""}]"#, "Message 0 has empty content"),
        (r#"[{"role":"user","content":7}]"#, "/messages/0/content"),
        (r#"[{"role":"user","content":"x","name":"y"}]"#, "\"name\""),
    ] {
        let path = file("talk", messages.as_bytes());
        let said = fails(&["--messages", &path], b"", 1);
        assert!(said.contains(words) && said.lines().count() == 1, "{messages}: {said}");
    }
    let talk = file("talk", b"[]");
    for wrong in [
        &["x", "--messages", &talk][..],
        &["--messages", &talk, "--system", "y"],
        &["x", "--json", "--stream-json"],
        &["x", "--top-k", "201"],
        &["x", "--seed", "-1"],
        &["x", "--model", "../d20"],
        &["x", "--url", "ftp://x"],
    ] {
        assert!(!fails(wrong, b"", 2).is_empty(), "{wrong:?}");
    }
}

#[test]
fn scripts_get_json() {
    let output = done(&["What is 12 * 7?", "--json", "--seed", "9"], b"");
    assert_eq!(output.lines().count(), 1);
    let object: Value = serde_json::from_str(&output).unwrap();
    let names: Vec<&String> = object.as_object().unwrap().keys().collect();
    let expected =
        ["text", "finish_reason", "model_tag", "weights", "seed", "usage", "timings_ms", "dropped_messages"];
    assert_eq!(names, expected);
    assert!(object["text"].as_str().unwrap().ends_with("84."), "{object}");
    assert_eq!((&object["seed"], &object["dropped_messages"]), (&json!(9), &json!(0)));
    let output = done(&["What is 12 * 7?", "--stream-json", "--seed", "9"], b"");
    let events: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = events.iter().filter_map(|event| event["token"].as_str()).collect();
    assert_eq!(
        (text.as_str(), events.last().unwrap()["done"].as_bool()),
        (object["text"].as_str().unwrap(), Some(true))
    );
}

#[test]
fn every_way_to_ask_gives_the_same_answer() {
    let running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    let (message, flags) =
        ("Tell me a story.", ["--seed", "7", "--max-tokens", "48", "--temperature", "0.9"]);
    let told = |arguments: &[&str], input: &[u8]| {
        let mut command = samosa(&[arguments, &flags].concat());
        let output = fed(command.env("INTERNAL_API_KEY", &running.key), input);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let body =
        json!({ "messages": [{ "role": "user", "content": message }], "max_tokens": 48, "temperature": 0.9 });
    let (status, stream) = running.ask("POST", "/generate", ("X-Seed: 7\r\n", &body.to_string())).whole();
    assert_eq!(status, 200, "{stream}");
    let events =
        stream.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let raw: String = events.filter_map(|event| event["token"].as_str().map(str::to_owned)).collect();
    assert!(raw.len() > 20, "{raw}");
    let raw = raw + "\n";
    assert_eq!(told(&["generate", message], b""), raw);
    assert_eq!(told(&["generate", message, "--url", &url], b""), raw);
    let typed = format!("{message}\n");
    assert_eq!(told(&["chat"], typed.as_bytes()), raw);
    assert_eq!(told(&["chat", "--url", &url], typed.as_bytes()), raw);
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    let asked = |arguments: &[&str], key: &str| {
        let all = [&["generate", "Hello!", "--url"], arguments].concat();
        let output = fed(samosa(&all).env("INTERNAL_API_KEY", key), b"");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(asked(&[&url], "wrong").contains("the key is missing or wrong (INTERNAL_API_KEY): Invalid"));
    let other = asked(&[&url, "--model", "d20"], &running.key);
    assert!(other.contains("serves samosa-mini, not d20; `samosa swap d20 --url http"), "{other}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(asked(&[&gone], "k"), format!("samosa: {gone}: nothing listens there\n"));
}

#[test]
fn ctrl_c_and_readers_that_leave_end_it() {
    let storage = long_storage();
    let long = |limit: &str| {
        let mut command =
            samosa(&["generate", "Hello!", "--model", "long", "--temperature", "0", "--max-tokens", limit]);
        command.env("MODEL_STORAGE_PATH", storage.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = long("4096");
    let mut first = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let mut rest = Vec::new();
    child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut child = long("4096");
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
