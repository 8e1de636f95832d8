//! `samosa bench` as a process: against the real server, and against one that plays what others say, with known
//! delays and every way to fail.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::support::mock::{self, head};
use crate::support::running::Running;

/// Runs the client with nothing in its environment but this.
fn bench(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().envs(environment.iter().copied()).arg("bench").args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The figures of a run, and whether it succeeded.
fn figures(arguments: &[&str]) -> (Value, bool) {
    let output = bench(&[arguments, &["--json"]].concat(), &[]);
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|_| panic!("{}", text(&output.stderr))), output.status.success())
}

/// A server for one test: reads a request, then writes pieces, each after a pause.
struct Mock {
    url: String,
    /// Heads and bodies of the requests, as they came.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Mock {
    fn start(pieces: Vec<(u64, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, pieces) = (Arc::clone(&requests), Arc::new(pieces));
        let serve = move || {
            for socket in listener.incoming() {
                let (seen, pieces) = (Arc::clone(&seen), Arc::clone(&pieces));
                let answer = move || answer(&mut socket.unwrap(), &pieces, &seen);
                std::thread::Builder::new().spawn(answer).unwrap();
            }
        };
        // It ends with the test's process.
        std::thread::Builder::new().spawn(serve).unwrap();
        Self { url, requests }
    }

    /// An event stream: the head after `first_ms`, then an event every `gap_ms`.
    fn stream(first_ms: u64, gap_ms: u64, events: &[String]) -> Self {
        let mut pieces = vec![(first_ms, head("200 OK", "text/event-stream"))];
        let at = |i: usize| if i == 0 { 0 } else { gap_ms };
        pieces.extend(events.iter().enumerate().map(|(i, event)| (at(i), format!("data: {event}\n\n"))));
        Self::start(pieces)
    }

    fn request(&self, index: usize) -> String {
        self.requests.lock().unwrap()[index].clone()
    }
}

fn answer(socket: &mut TcpStream, pieces: &[(u64, String)], seen: &Mutex<Vec<String>>) {
    socket.set_nodelay(true).unwrap();
    let request = mock::request(socket);
    seen.lock().unwrap().push(request);
    for (pause_ms, piece) in pieces {
        sleep(Duration::from_millis(*pause_ms));
        match socket.write_all(piece.as_bytes()) {
            Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => {
                return;
            }
            written => written.unwrap(),
        }
    }
}

fn completions(texts: usize) -> Vec<String> {
    let text = r#"{"id":"c","choices":[{"index":0,"text":" word","finish_reason":null}]}"#;
    let mut events = vec![text.to_owned(); texts];
    events.push(r#"{"id":"c","choices":[{"index":0,"text":"","finish_reason":"length"}]}"#.to_owned());
    events
}

fn chat(texts: usize) -> Vec<String> {
    let delta = |delta: &str, reason: &str| {
        format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}"#)
    };
    let mut events = vec![delta(r#"{"role":"assistant","content":null}"#, "null")];
    events.extend(vec![delta(r#"{"content":" word"}"#, "null"); texts]);
    events.push(delta("{}", r#""stop""#));
    let usage = format!(r#""prompt_tokens":20,"completion_tokens":{}"#, 2 * texts);
    let details = r#""prompt_tokens_details":{"cached_tokens":16}"#;
    events.push(format!(r#"{{"id":"c","choices":[],"usage":{{{usage},{details}}}}}"#));
    events.push("[DONE]".to_owned());
    events
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {report:#}"))
}

/// A pause takes at least as long as asked for, and on a busy machine much longer.
fn assert_pause(report: &Value, pointer: &str, asked_ms: f64) {
    let found = number(report, pointer);
    assert!((asked_ms * 0.8..asked_ms * 3.0 + 100.0).contains(&found), "{pointer}: {report:#}");
}

#[test]
fn the_real_server_is_measured() {
    let server = Running::start(&[]);
    let url = format!("http://{}", server.address);
    let load = ["--url", &url, "--key", &server.key, "--streams", "4", "--requests", "8"];
    let length = ["--answer-tokens", "16", "--prompt-tokens", "32", "--shared-prefix", "8"];
    let (report, succeeded) = figures(&[&load[..], &length[..]].concat());
    assert!(succeeded, "{report:#}");
    assert_eq!((&report["failed"], &report["tokens_counted_by"]), (&0.into(), &"usage".into()));
    assert!((8.0..=128.0).contains(&number(&report, "/tokens")), "{report:#}");
    assert!(number(&report, "/prompt_tokens/min") >= 32.0, "{report:#}");
    assert!(number(&report, "/first_token_ms/p50") > 0.0 && number(&report, "/tokens_per_s/total") > 0.0);
    assert!((0.0..2.0).contains(&number(&report, "/client_cpu")), "{report:#}");
}

#[test]
fn a_wrong_key_is_said_in_words() {
    let mut server = Running::start(&[("INTERNAL_API_KEY", "right")]);
    server.wait_for("its model", |server| server.health()["ready"] == true);
    let url = format!("http://{}", server.address);
    let output = bench(&["--url", &url, "--key", "wrong"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("HTTP 401: the key is missing or wrong"),
        "{}",
        text(&output.stderr)
    );
    let output = bench(&["--url", &url, "--answer-tokens", "4"], &[("INTERNAL_API_KEY", "right,other")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("tokens/s"), "{}", text(&output.stdout));
}

#[test]
fn completions_are_timed_and_counted_by_events() {
    let mock = Mock::stream(60, 20, &completions(6));
    let asked =
        ["--url", &mock.url, "--api", "completions", "--streams", "2", "--requests", "4", "--key", "k"];
    let (report, succeeded) = figures(&asked);
    assert!(succeeded, "{report:#}");
    assert_eq!((&report["tokens"], &report["tokens_counted_by"]), (&24.into(), &"events".into()));
    assert_eq!((&report["ended"]["length"], &report["prompt_tokens"]["mean"]), (&4.into(), &Value::Null));
    assert_pause(&report, "/first_token_ms/p50", 60.0);
    assert_pause(&report, "/between_tokens_ms/p50", 20.0);
    // Two streams of a token every 20 ms are 100 a second, less what the machine is late.
    assert!((20.0..=105.0).contains(&number(&report, "/tokens_per_s/steady")), "{report:#}");
    assert!(number(&report, "/tokens_per_s/total") < number(&report, "/tokens_per_s/steady"), "{report:#}");
    let request = mock.request(0);
    assert!(request.starts_with("POST /v1/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer k\r\n"), "{request}");
    assert!(request.contains(r#""stream":true"#) && request.contains(r#""max_tokens":64"#), "{request}");
}

#[test]
fn chat_is_timed_and_counted_by_usage() {
    let mock = Mock::stream(10, 15, &chat(5));
    let asked = ["--url", &format!("{}/v1", mock.url), "--api", "chat", "--model", "m", "--warm-up", "0"];
    let (report, succeeded) = figures(&asked);
    assert!(succeeded, "{report:#}");
    assert_eq!((&report["tokens"], &report["tokens_counted_by"]), (&10.into(), &"usage".into()));
    assert_eq!(
        (number(&report, "/prompt_tokens/mean"), number(&report, "/cached_tokens/mean")),
        (20.0, 16.0)
    );
    assert_eq!(report["ended"]["stop"], 1);
    // The first event has a role and no text.
    assert_pause(&report, "/first_token_ms/p50", 25.0);
    assert_pause(&report, "/between_tokens_ms/p50", 15.0);
    let request = mock.request(0);
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(r#""model":"m""#) && request.contains(r#""include_usage":true"#), "{request}");
}

#[test]
fn failures_are_counted_by_kind_and_said_in_words() {
    let refusal = |status: &str, body: &str| vec![(0, head(status, "application/json") + body)];
    let stream = |events: &str| vec![(0, head("200 OK", "text/event-stream")), (0, events.to_owned())];
    let cut = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n";
    let gave_up = "data: {\"error\":{\"message\":\"It broke.\"}}\n\n";
    let cases = [
        (
            refusal("503 Service Unavailable", r#"{"detail":"The queue is full."}"#),
            "HTTP 503",
            "The queue is full.",
        ),
        (refusal("404 Not Found", ""), "HTTP 404", "no such endpoint"),
        (refusal("403 Forbidden", r#"{"error":{"message":"No."}}"#), "HTTP 403", "wrong (--key"),
        (refusal("200 OK", "{}"), "not an event stream", "application/json"),
        (stream(cut), "cut", "ended before"),
        (stream(gave_up), "error event", "It broke."),
        (stream("<html>\n"), "garbage", "<html>"),
        (vec![(0, "SSH-2.0-OpenSSH\r\n".to_owned())], "not HTTP", "does not speak HTTP"),
        (vec![(3000, String::new())], "timeout", "--timeout"),
    ];
    for (pieces, kind, words) in cases {
        let mock = Mock::start(pieces);
        let rest = ["--api", "completions", "--warm-up", "0", "--requests", "2", "--timeout", "1"];
        let (report, succeeded) = figures(&[&["--url", mock.url.as_str()], &rest[..]].concat());
        assert!(!succeeded, "{kind}: {report:#}");
        assert_eq!(
            (&report["failed"], &report["errors"][kind]["count"]),
            (&2.into(), &2.into()),
            "{report:#}"
        );
        let said = report["errors"][kind]["first"].as_str().unwrap();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_server_that_is_not_there_stops_the_run_at_its_first_request() {
    // Taken from the system and given back: nobody else gets it so soon.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = bench(&["--url", &format!("http://{address}"), "--requests", "1000"], &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = text(&output.stderr);
    assert!(
        said.contains("connection refused: nothing listens there") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_at_once() {
    for (arguments, words) in [
        (&["--url", "ftp://127.0.0.1"][..], "http:// or https://"),
        (&["--url", "127.0.0.1:80"], "http://"),
        (&[], "--url"),
        (
            &["--url", "http://127.0.0.1", "--prompt-tokens", "4", "--shared-prefix", "5"],
            "--shared-prefix is 5",
        ),
        (&["--url", "http://127.0.0.1", "--streams", "0"], "--streams"),
        (&["--url", "http://127.0.0.1", "--key", "a\nb"], "the key holds"),
    ] {
        let output = bench(arguments, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
