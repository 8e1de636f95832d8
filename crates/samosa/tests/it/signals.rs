//! Signals as an operator, a terminal or a mistaken script sends them: which stop, which read files again, and that no other
//! ends the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use server::edge::Validity;
use tempfile::TempDir;

use crate::support::running::{Running, long_storage};

/// Signals that end a process by default, and are a line of the log here.
const IGNORED: &[&str] = &["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "XCPU", "PWR", "STKFLT"];
/// Those of which there is no line.
const SILENT: &[&str] = &["PIPE", "XFSZ"];
const EXPIRES: &str = "samosa_tls_certificate_expires_timestamp_seconds";
const DAY: Duration = Duration::from_hours(24);

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Serves a model that takes seconds for an answer, on any machine.
fn serve_slowly(storage: &TempDir, drain_timeout: &str) -> Running {
    Running::start(&[
        ("MODEL_STORAGE_PATH", text(storage.path())),
        ("DEFAULT_MODEL_TAG", "long"),
        ("NANOCHAT_DTYPE", "float32"),
        ("ISA", "scalar"),
        ("DRAIN_TIMEOUT", drain_timeout),
    ])
}

fn message(max_tokens: u64) -> Value {
    json!({
        "messages": [{ "role": "user", "content": "Hello!" }], "temperature": 0, "max_tokens": max_tokens
    })
}

/// The lines of the log with a message that begins so.
fn lines(running: &Running, message: &str) -> Vec<Value> {
    let begins = |line: &Value| line["message"].as_str().unwrap().starts_with(message);
    running.log().into_iter().filter(begins).collect()
}

#[test]
fn signals_without_a_meaning_cut_no_stream() {
    let storage = long_storage();
    let mut running = serve_slowly(&storage, "30");
    let mut stream = running.generate(&message(600));
    stream.until("\"token\"");
    for name in IGNORED.iter().chain(SILENT).chain(&["HUP"]) {
        running.signal(name);
    }
    running.wait_for("a line for each", |running| lines(running, "signal ignored").len() > IGNORED.len());
    let lines = lines(&running, "signal ignored");
    for name in IGNORED.iter().chain(&["HUP"]) {
        assert!(lines.iter().any(|line| line["signal"] == format!("SIG{name}")), "{name}: {lines:?}");
    }
    assert_eq!(stream.told().1["usage"]["completion_tokens"], 600);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn sigquit_drains_and_a_second_one_ends_at_once() {
    let storage = long_storage();
    let mut running = serve_slowly(&storage, "30");
    let mut stream = running.generate(&message(600));
    stream.until("\"token\"");
    running.signal("QUIT");
    running.wait_for("that it drains", |running| running.health()["status"] == "draining");
    assert_eq!(stream.told().1["usage"]["completion_tokens"], 600);
    assert_eq!(running.ended(), Some(0));

    let mut running = serve_slowly(&storage, "3600");
    let mut stream = running.generate(&message(4096));
    stream.until("\"token\"");
    running.signal("QUIT");
    running.wait_for("that it drains", |running| running.health()["status"] == "draining");
    running.signal("QUIT");
    assert_eq!(running.ended(), Some(128 + 3));
    let last = running.log().pop().unwrap();
    assert_eq!(last["message"], "stopped at once by a second signal", "the last line is written");
}

#[test]
fn sighup_reads_keys_again_and_says_what_is_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    fs::write(&file, "first-key\n").unwrap();
    let settings = [("INTERNAL_API_KEY_FILE", text(&file)), ("STARTUP_LOAD_ENABLED", "false")];
    let mut running = Running::start(&settings);
    let status = |running: &mut Running, key: &str| {
        key.clone_into(&mut running.key);
        running.ask("GET", "/stats", ("", "")).whole().0
    };
    let said =
        |running: &Running| lines(running, "read again: 1 keys").len() + lines(running, "changed, but").len();
    for (round, (keys, statuses)) in
        [("first-key\n", [200, 401]), ("second-key\n", [401, 200]), ("\n", [401, 200]), ("\n", [401, 200])]
            .into_iter()
            .enumerate()
    {
        fs::write(&file, keys).unwrap();
        running.signal("HUP");
        running.wait_for("what came of it", |running| said(running) > round);
        assert_eq!(["first-key", "second-key"].map(|key| status(&mut running, key)), statuses, "{round}");
    }
    // What is refused is said each time it is asked for.
    running.wait_for("two refusals", |running| lines(running, "changed, but").len() == 2);
    assert_eq!(lines(&running, "keys and certificates are read again").len(), 4);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn certificate_of_an_issuer_that_ends_first_ends_the_chain() {
    let certificate = |from: (i32, u8, u8), until: (i32, u8, u8)| {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    };
    let chain = [certificate((2024, 1, 1), (2034, 1, 1)), certificate((2025, 1, 1), (2031, 5, 17))].concat();
    let validity = Validity::of_pem(chain.as_bytes()).unwrap();
    // 2025-01-01 and 2031-05-17.
    assert_eq!((validity.begins, validity.ends), (1_735_689_600, 1_936_742_400));
}

/// A certificate that is valid from and until so many days from now, and its key, in the place of those of a server.
fn certify(directory: &Path, from: i64, until: i64) -> (PathBuf, PathBuf) {
    let pair = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let at = |days: i64| {
        let moved = DAY * days.unsigned_abs() as u32;
        let now = SystemTime::now();
        (if days < 0 { now - moved } else { now + moved }).into()
    };
    (parameters.not_before, parameters.not_after) = (at(from), at(until));
    let certificate = parameters.self_signed(&pair).unwrap();
    let paths = (directory.join("tls.crt"), directory.join("tls.key"));
    fs::write(&paths.0, certificate.pem()).unwrap();
    fs::write(&paths.1, pair.serialize_pem()).unwrap();
    paths
}

#[test]
fn certificate_that_clients_refuse_is_a_warning_at_the_start_and_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = certify(directory.path(), -100, -3);
    // The scrape must not need TLS.
    let settings = [
        ("TLS_CERT", text(&certificate)),
        ("TLS_KEY", text(&key)),
        ("METRICS_ADDR", "127.0.0.1:0"),
        ("INTERNAL_API_KEY", "a-key"),
        ("STARTUP_LOAD_ENABLED", "false"),
    ];
    let mut running = Running::start(&settings);
    let scraped = Running::elsewhere(&running.logged("metrics_address"), "");
    let days_left = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        (scraped.metric(EXPIRES) - now) / DAY.as_secs_f64()
    };
    let warnings = |running: &Running| lines(running, "certificate ");
    let [expired] = &warnings(&running)[..] else { panic!("{}", running.stdout()) };
    assert_eq!((&expired["level"], &expired["days_ago"]), (&json!("WARN"), &json!(3)), "{expired}");
    assert!((-3.1..-2.9).contains(&days_left()), "{}", days_left());
    running.signal("HUP");
    running.wait_for("a second warning", |running| warnings(running).len() == 2);
    for (count, (from, until, message)) in
        [(2, 90, "certificate not valid yet"), (-90, 13, "certificate expires soon")].into_iter().enumerate()
    {
        certify(directory.path(), from, until);
        running.signal("HUP");
        running.wait_for("the next warning", |running| warnings(running).len() == count + 3);
        let warning = warnings(&running).pop().unwrap();
        assert!(warning["message"].as_str().unwrap().starts_with(message), "{warning}");
        assert!((days_left() - until as f64).abs() < 0.1, "{}", days_left());
    }
    certify(directory.path(), -1, 90);
    running.wait_for("the good one", |_| days_left() > 80.0);
    assert_eq!(warnings(&running).len(), 4, "it needs none");
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}
