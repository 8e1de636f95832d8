//! Where the log cannot be written: its reader is gone or does not read, its file may not grow. Requests are answered, what
//! is lost is counted and said, and a stop is a stop.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::running::Running;

const DROPPED: &str = "samosa_log_lines_dropped_total";
/// The most talkative service with the built-in model.
const TALKATIVE: [(&str, &str); 2] = [("LOG_LEVEL", "trace"), ("INTERNAL_API_KEY", "a-key")];
/// More lines than a pipe and the buffer before it hold together.
const FLOOD: usize = 10_000;

/// Waits for the model, and answers a few.
fn answers(running: &mut Running) {
    "a-key".clone_into(&mut running.key);
    running.wait_for("the model", |running| running.health()["ready"] == true);
    let message = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 4 });
    for _ in 0..5 {
        running.generate(&message).told();
    }
}

/// Asks on one connection, each request a line of the log at least.
fn flood(running: &Running, requests: usize) {
    let mut socket = TcpStream::connect(&running.address).unwrap();
    let request = "GET /nothing HTTP/1.1\r\nHost: localhost\r\nX-Internal-API-Key: a-key\r\n\r\n";
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let count = socket.read(&mut buffer).unwrap();
            assert!(count > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 404"));
    }
}

#[test]
fn reader_of_the_log_gone_requests_are_answered_and_a_stop_is_clean() {
    let (mut running, reader) = Running::start_piped(&TALKATIVE);
    drop(reader);
    answers(&mut running);
    assert!(running.metric(DROPPED) >= 5.0);
    assert_eq!(running.health()["status"], "ok");
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn log_that_is_not_read_is_bounded_and_says_what_is_missing_once_it_is_read() {
    let (mut running, reader) = Running::start_piped(&TALKATIVE);
    answers(&mut running);
    assert_eq!(running.metric(DROPPED), 0.0, "there is a buffer");
    flood(&running, FLOOD);
    answers(&mut running);
    let dropped = running.metric(DROPPED);
    assert!(dropped > 0.0);
    // It is read again, to its end.
    let read = move || {
        let lines = reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        lines.collect::<Vec<Value>>()
    };
    let lines = std::thread::Builder::new().spawn(read).unwrap();
    running.wait_for("the reader to catch up", |running| {
        flood(running, 1);
        let before = running.metric(DROPPED);
        flood(running, 1);
        running.metric(DROPPED) == before
    });
    let dropped = running.metric(DROPPED);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    let lines = lines.join().unwrap();
    let reports: Vec<&Value> = lines.iter().filter(|line| line["message"] == "log lines dropped").collect();
    let reported: u64 = reports.iter().map(|report| report["lines"].as_u64().unwrap()).sum();
    assert_eq!(reported as f64, dropped, "{reports:?}");
    assert!(reports.len() <= 3 && reports.iter().all(|report| report["level"] == "ERROR"), "{reports:?}");
    assert_eq!(lines.last().unwrap()["message"], "stopped");
    let requests = lines.iter().filter(|line| line["path"] == "<unmatched>").count();
    assert!(requests < FLOOD + 2 && requests > 8_000, "{requests} of {FLOOD}");
}

#[test]
fn log_that_nobody_reads_does_not_keep_a_stopped_server() {
    let (mut running, reader) = Running::start_piped(&TALKATIVE);
    answers(&mut running);
    flood(&running, 1_000);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    drop(reader);
}

#[test]
fn log_file_that_may_not_grow_costs_lines_only() {
    // Blocks of 512 bytes in some shells, of 1,024 in others. SIGXFSZ comes with each write beyond.
    let mut running = Running::start_limited("ulimit -f 8", &TALKATIVE);
    answers(&mut running);
    flood(&running, 100);
    answers(&mut running);
    assert!(running.metric(DROPPED) > 50.0);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    assert!(running.stdout().len() <= 8 << 10, "{}", running.stdout().len());
}
