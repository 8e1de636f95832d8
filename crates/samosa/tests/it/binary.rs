//! The built binary, in a temporary directory with an empty environment: commands, exit codes, logs, signals.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::running::{self, Running, long_storage};

/// The binary with nothing around it.
fn samosa(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().envs(running::isa()).current_dir(directory);
    command
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    samosa(directory.path()).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn done(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let Output { status, stdout, stderr } = run(arguments, environment);
    assert_eq!(status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// What stopped it: exit code 2, nothing on stdout, one line on stderr.
fn wrong(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let Output { status, stdout, stderr } = run(arguments, environment);
    let line = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{arguments:?} {environment:?}: {line}");
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    assert_eq!((line.lines().count(), line.ends_with('\n')), (1, true), "{line:?}");
    line
}

#[test]
fn generate_prints_the_expected_answer_and_nothing_else() {
    let answer = done(&["generate", "Hello!", "--temperature", "0"], &[]);
    assert_eq!(answer, "Hello! How can I help you today?\n");
}

#[test]
fn generate_calculates() {
    let answer = done(&["generate", "What is 12 * 7?", "--temperature", "0"], &[]);
    assert!(answer.contains("84"), "{answer}");
}

#[test]
fn generate_takes_its_message_from_standard_input_and_repeats_a_seed() {
    use std::io::Write;
    use std::process::Stdio;
    let directory = tempfile::tempdir().unwrap();
    let mut child = samosa(directory.path())
        .args(["generate", "-", "--temperature", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Hello!").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Hello! How can I help you today?\n");
    let seeded = |seed| done(&["generate", "Tell me a story.", "--max-tokens", "24", "--seed", seed], &[]);
    assert_eq!(seeded("5"), seeded("5"));
    assert_ne!(seeded("5"), seeded("6"));
}

#[test]
fn generate_without_a_model_or_a_message_fails() {
    let unknown = run(&["generate", "Hello!", "--model", "d99"], &[]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{said}");
    assert!(said.contains("d99") && unknown.stdout.is_empty(), "{said}");
    assert_eq!(run(&["generate", "  "], &[]).status.code(), Some(1));
    assert_eq!(run(&["generate"], &[]).status.code(), Some(2));
    assert_eq!(run(&["generate", "x", "--temperature", "3"], &[]).status.code(), Some(2));
}

#[test]
fn version_names_itself_and_the_instruction_sets() {
    let text = done(&["version"], &[]);
    assert!(text.starts_with(concat!("samosa ", env!("CARGO_PKG_VERSION"), "\n")), "{text}");
    assert!(text.lines().nth(1).unwrap().contains("scalar"), "{text}");
}

#[test]
fn the_other_contract_is_printed_too() {
    let document: Value = serde_json::from_str(&done(&["openapi", "--openai"], &[])).unwrap();
    assert!(document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"].is_object());
}

#[test]
fn openapi_is_the_contract_as_json_with_its_errors() {
    let document: Value = serde_json::from_str(&done(&["openapi"], &[])).unwrap();
    let mut operations: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        operations.extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let expected = ["get /health", "post /generate", "get /models", "post /models/swap", "get /stats"];
    assert_eq!(operations, expected);
    let slow = &document["paths"]["/generate"]["post"]["responses"]["408"]["content"];
    assert!(slow["application/problem+json"]["schema"].is_object(), "{slow}");
}

#[test]
fn wrong_settings_stop_the_start_with_one_line() {
    for (name, value) in [
        ("PORT", "abc"),
        ("PORT", "65536"),
        ("NANOCHAT_DTYPE", "int3"),
        ("HOST", "inference"),
        ("NUM_WORKERS", "0"),
        ("DEVICE_TYPE", "cuda"),
        ("DEFAULT_TEMPERATURE", "2.5"),
        ("DEFAULT_TOP_K", "201"),
        ("DEFAULT_MAX_TOKENS", "0"),
        ("STARTUP_LOAD_ENABLED", "perhaps"),
        ("DEFAULT_MODEL_TAG", "../d20"),
        ("DEFAULT_STEP", "latest"),
        ("LOG_LEVEL", "loud"),
        ("CONTEXT_OVERFLOW", "shrug"),
        ("METRICS_ADDR", "9464"),
        ("METRICS_ADDR", "metrics:9464"),
    ] {
        let line = wrong(&["serve"], &[(name, value)]);
        assert!(line.contains(name) && line.contains(value), "{line}");
    }
    let line = wrong(&["serve"], &[("HOST", "0.0.0.0")]);
    assert!(line.contains("INTERNAL_API_KEY"), "{line}");
    let line = wrong(&[], &[("HOST", "::")]);
    assert!(line.contains("INTERNAL_API_KEY"), "serve is what it does without a command: {line}");
    let line = wrong(&["serve"], &[("INTERNAL_API_KEY_FILE", "nowhere")]);
    assert!(line.contains("INTERNAL_API_KEY_FILE"), "{line}");
    let line = wrong(&["serve", "--config", "nowhere.toml"], &[]);
    assert!(line.contains("nowhere.toml"), "{line}");
}

#[test]
fn a_port_in_use_fails_with_one_line() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = run(&["serve"], &[("PORT", &port)]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.contains(&port), "{line}");
}

fn message(content: &str, max_tokens: u64) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }], "temperature": 0, "max_tokens": max_tokens })
}

/// Serves a model that takes seconds for an answer, on any machine.
fn serve_slowly(storage: &TempDir, drain_timeout: &str) -> Running {
    Running::start(&[
        ("MODEL_STORAGE_PATH", storage.path().to_str().unwrap()),
        ("DEFAULT_MODEL_TAG", "long"),
        ("NANOCHAT_DTYPE", "float32"),
        ("ISA", "scalar"),
        ("DRAIN_TIMEOUT", drain_timeout),
    ])
}

#[test]
fn serve_greets_streams_and_logs_json_without_secrets() {
    let mut running = Running::start(&[]);
    assert_eq!(running.key.len(), 32, "{}", running.stderr());
    assert!(
        running
            .stderr()
            .contains("Serving samosa-mini with a key made for this run. Open\n\n  http://127.0.0.1:"),
        "{}",
        running.stderr()
    );
    let body = message("Who are you?", 64).to_string();
    let (status, stream) = running.ask("POST", "/generate", ("X-Trace-Id: trace-7\r\n", &body)).whole();
    assert_eq!(status, 200);
    assert!(stream.contains("\"done\":true,\"finish_reason\":\"stop\""), "{stream}");
    let refused = message("Zanzibar", 0).to_string();
    assert_eq!(running.ask("POST", "/generate", ("X-Request-Id: req-8\r\n", &refused)).whole().0, 400);
    let key = std::mem::replace(&mut running.key, "wrong-Ouagadougou".to_owned());
    assert_eq!(running.generate(&message("Hello!", 8)).whole().0, 401);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    let log = running.log();
    for line in &log {
        let stamp = line["timestamp"].as_str().unwrap();
        assert!(stamp.len() >= 20 && stamp.as_bytes()[10] == b'T' && stamp.ends_with('Z'), "{stamp}");
        assert!(["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert_eq!(line["service"], "inference");
        assert!(!line["message"].as_str().unwrap().is_empty(), "{line}");
        for name in line.as_object().unwrap().keys() {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }
    let find = |message: &str, trace: &str| {
        log.iter().find(|line| line["message"] == message && line["trace_id"] == trace).unwrap()
    };
    let ended = find("stream ended", "trace-7");
    assert!(ended["inference_time_ms"].as_f64().unwrap() > 0.0 && ended["outcome"] == "stop", "{ended}");
    let refused = find("request", "req-8");
    assert_eq!((&refused["error"], &refused["path"]), (&json!("invalid_max_tokens"), &json!("/generate")));
    let text = running.stdout();
    for secret in [key.as_str(), "Ouagadougou", "Who are you", "Samosa Mini", "Zanzibar"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn keys_that_are_set_work_and_are_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "key-of-the-file\n").unwrap();
    let mut running = Running::start(&[
        ("INTERNAL_API_KEY", "old-key, new-key"),
        ("INTERNAL_API_KEY_FILE", file.to_str().unwrap()),
        ("STARTUP_LOAD_ENABLED", "false"),
    ]);
    for (key, status) in [("old-key", 200), ("new-key", 200), ("key-of-the-file", 200), ("other", 401)] {
        running.key = key.to_owned();
        let (found, body) = running.ask("GET", "/stats", ("", "")).whole();
        assert_eq!(found, status, "{key}");
        assert!(!body.contains("old-key") && !body.contains("key-of"), "{body}");
    }
    assert_eq!(running.health()["status"], "degraded");
    running.signal("INT");
    assert_eq!(running.ended(), Some(0));
    let said = running.stdout() + &running.stderr();
    assert!(!said.contains("old-key") && !said.contains("key-of"), "{said}");
}

#[test]
fn a_default_model_that_is_not_there_leaves_a_server_that_says_so() {
    let mut running = Running::start(&[("DEFAULT_MODEL_TAG", "d20")]);
    let health = running.health();
    assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!(false)));
    assert!(health["reason"].as_str().unwrap().contains("d20"), "{health}");
    running.wait_for("its line", |running| {
        running.log().iter().any(|line| line["level"] == "ERROR" && line["model_tag"] == "d20")
    });
    let swap = json!({ "model_tag": "samosa-mini" }).to_string();
    assert_eq!(running.ask("POST", "/models/swap", ("", &swap)).whole().0, 202);
    assert_eq!(running.health()["current_model"], "samosa-mini");
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn a_probe_that_is_not_ready_logs_no_error() {
    let mut running = Running::start(&[("STARTUP_LOAD_ENABLED", "false"), ("LOG_LEVEL", "debug")]);
    assert_eq!(running.ask("GET", "/readyz", ("", "")).whole().0, 503);
    assert_eq!(running.generate(&message("Hello!", 8)).whole().0, 503);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
    let log = running.log();
    let level = |path: &str| {
        let line = log.iter().find(|line| line["path"] == path).unwrap();
        (line["level"].as_str().unwrap(), line["status"].as_u64().unwrap())
    };
    assert_eq!((level("/readyz"), level("/generate")), (("DEBUG", 503), ("ERROR", 503)));
}

#[test]
fn float16_is_taken_as_bfloat16_with_a_warning() {
    let mut running = Running::start(&[("NANOCHAT_DTYPE", "float16"), ("STARTUP_LOAD_ENABLED", "false")]);
    running.wait_for("a warning", |running| {
        running.log().iter().any(|line| line["level"] == "WARN" && line.to_string().contains("float16"))
    });
}

#[test]
fn sigterm_lets_a_stream_finish_and_takes_nothing_new() {
    let storage = long_storage();
    let mut running = serve_slowly(&storage, "30");
    let mut stream = running.generate(&message("Hello!", 1000));
    stream.until("\"token\"");
    running.signal("TERM");
    running.wait_for("that it drains", |running| running.health()["status"] == "draining");
    let health = running.health();
    assert_eq!((&health["ready"], &health["draining"]), (&json!(false), &json!(true)));
    let (status, refused) = running.generate(&message("Hello!", 8)).whole();
    assert_eq!(status, 503, "{refused}");
    assert!(refused.contains("\"code\":\"draining\""), "{refused}");
    let (status, text) = stream.whole();
    let done = text.lines().rfind(|line| !line.is_empty()).unwrap();
    assert!(
        status == 200 && done.contains("\"done\":true") && done.contains("\"completion_tokens\":1000"),
        "{done}"
    );
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn what_outlasts_the_drain_timeout_ends_with_an_error() {
    let storage = long_storage();
    for seconds in ["0", "1"] {
        let mut running = serve_slowly(&storage, seconds);
        let mut stream = running.generate(&message("Hello!", 4096));
        stream.until("\"token\"");
        running.signal("TERM");
        let (status, text) = stream.whole();
        let last = text.lines().rfind(|line| !line.is_empty()).unwrap();
        assert_eq!(status, 200);
        assert!(
            last.starts_with("data: {\"error\":{\"code\":\"shutting_down\"") && text.ends_with("\n\n"),
            "{last}"
        );
        assert!(!text.contains("\"done\""), "nobody may take it for whole");
        assert_eq!(running.ended(), Some(0), "after {seconds} s");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let storage = long_storage();
    let mut running = serve_slowly(&storage, "3600");
    let mut stream = running.generate(&message("Hello!", 4096));
    stream.until("\"token\"");
    running.signal("TERM");
    running.wait_for("that it drains", |running| running.health()["status"] == "draining");
    running.signal("INT");
    assert_eq!(running.ended(), Some(130));
    let (_, text) = stream.whole();
    assert!(!text.contains("\"done\"") && text.matches("\"token\"").count() < 4096);
}
