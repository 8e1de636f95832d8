//! `samosa chat` on a real terminal, with the engine in its process and with servers that come and go, and without one.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::mock;
use crate::support::running::{self, Running, long_storage};
use crate::support::screen::Screen;

const HELLO: &str = "Hello! How can I help you today?";
/// A terminal is asked where its cursor is whenever a prompt begins.
const PROMPT: &str = "\x1b[6n";

/// A chat on a terminal that is its own, so that Ctrl-C reaches it as it reaches programs.
struct Chat {
    screen: Screen,
    home: TempDir,
    /// Bytes that were looked at.
    seen: usize,
}

impl Chat {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_at(tempfile::tempdir().unwrap(), arguments, environment)
    }

    /// One at this home.
    fn start_at(home: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", env!("CARGO_BIN_EXE_samosa"), "chat"])
            .args(arguments)
            .env_clear()
            .envs(running::isa());
        command.env("HOME", home.path()).env("PATH", "/usr/bin:/bin").env("TERM", "xterm");
        command.envs(environment.iter().copied()).current_dir(home.path());
        let screen = Screen::start(&mut command, 80);
        let mut chat = Self { screen, home, seen: 0 };
        chat.until("/help lists the commands");
        chat.prompt();
        chat
    }

    /// Waits until this is written after all that was waited for.
    fn until(&mut self, words: &str) {
        let mut end = 0;
        let seen = self.seen;
        self.screen.wait_for(words, |screen| {
            let written = screen.written();
            let found = written[seen..].find(words);
            end = found.map_or(seen, |at| seen + at + words.len());
            found.is_some()
        });
        self.seen = end;
    }

    fn prompt(&mut self) {
        self.until(PROMPT);
        // Keys that come before the terminal is set up are shown twice, and not lost.
        self.until("› ");
    }

    /// Types a line and waits for what it leads to.
    fn type_line(&mut self, line: &str, expected: &str) {
        self.screen.press(line.as_bytes());
        self.screen.press(b"\r");
        self.until(expected);
        self.prompt();
    }

    fn leave(mut self) -> TempDir {
        self.screen.press(b"\x04");
        assert_eq!(self.screen.ended(), Some(0), "{}", self.screen.written());
        assert!(self.screen.is_as_before());
        self.home
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(name)).unwrap()
    }
}

/// A storage directory with two models of the goldens.
fn storage() -> TempDir {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let root = tempfile::tempdir().unwrap();
    for name in ["g7", "g6", "tokenizer"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
        for entry in std::fs::read_dir(goldens.join(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, root.path().join(name).join(path.file_name().unwrap())).unwrap();
        }
    }
    root
}

#[test]
fn typing_editing_and_history() {
    let mut chat = Chat::start(&["--temperature", "0"], &[]);
    chat.type_line("What is 12 * 7?", "\x1b[2m[12*7 = 84]\x1b[0m 12 * 7 is 84.");
    // Backspace, the beginning of the line, and its end.
    chat.type_line("ellox\x7f\x01H\x05!", HELLO);
    chat.type_line("\x1b[A\x1b[A", "is 84.");
    // What is pasted keeps its lines, and so does what is opened; Alt-Enter begins a new one.
    chat.screen.press(b"\x1b[200~Hello!\nWhat is\n2 + 2?\x1b[201~");
    chat.type_line("\x1b\rThanks.", "tokens/s");
    chat.type_line("\"\"\"\rWhat is\r3 + 3?\r\"\"\"", "tokens/s");
    chat.type_line("What is\\\r4 + 4?", "tokens/s");
    chat.type_line("//etc is a path", "tokens/s");
    chat.type_line("/save talk.json", "Written to talk.json.");
    let saved: Value = serde_json::from_str(&chat.file("talk.json")).unwrap();
    let said: Vec<&str> = saved["messages"]
        .as_array()
        .unwrap()
        .iter()
        .step_by(2)
        .map(|m| m["content"].as_str().unwrap())
        .collect();
    let expected = [
        "What is 12 * 7?",
        "Hello!",
        "What is 12 * 7?",
        "Hello!\nWhat is\n2 + 2?\nThanks.",
        "What is\n3 + 3?",
        "What is\n4 + 4?",
        "/etc is a path",
    ];
    assert_eq!(said, expected);
    chat.screen.press(b"never sent\x03");
    chat.prompt();
    chat.type_line("/undo", "Forgotten: /etc is a path");
    let history = chat.home.path().join(".local/state/samosa/chat_history");
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let home = chat.leave();
    let text = std::fs::read_to_string(&history).unwrap();
    assert!(text.contains("What is 12 * 7?\n") && !text.contains("never sent"), "{text}");
    // The next chat remembers, unless it shall not.
    let mut chat = Chat::start_at(home, &["--temperature", "0"], &[]);
    chat.type_line("\x1b[A", "There is nothing to undo.");
    let mut chat = Chat::start_at(chat.leave(), &["--temperature", "0", "--no-history", "--plain"], &[]);
    chat.type_line("\x1b[AHello!", HELLO);
    chat.type_line("What is 12 * 7?", "[12*7 = 84] 12 * 7 is 84.");
    assert!(!chat.screen.written().contains("\x1b[2m"), "plain is without colours");
    chat.leave();
    assert!(!std::fs::read_to_string(history).unwrap_or_default().contains("Hello!\nHello!"));
}

#[test]
fn every_command_here() {
    let storage = storage();
    let path = storage.path().to_str().unwrap();
    let mut chat = Chat::start(&["--model", "samosa-mini"], &[("MODEL_STORAGE_PATH", path)]);
    chat.type_line("/help", "/save! FILE");
    chat.type_line("/set temperature 0", "temperature 0 from now on");
    chat.type_line("/set seed 5", "seed 5 from now on");
    chat.type_line("/set", "top_k        50 (default)");
    chat.type_line("/set top_k 900", "must be a whole number from 0 to 200");
    chat.type_line("/models", "* samosa-mini");
    chat.type_line("/modle", "did you mean /model?");
    chat.type_line("/system Answer in English.", "These instructions come before");
    chat.type_line("/system", "Answer in English.");
    chat.type_line("/retry", "There is no message to answer again.");
    chat.type_line("Hello!", "seed 5");
    chat.type_line("/retry", "seed ");
    chat.type_line("/save talk.json", "Written to talk.json.");
    chat.type_line("/save talk.json", "exists already; /save! talk.json replaces");
    chat.type_line("/save! talk.md", "Written to talk.md.");
    assert!(
        chat.file("talk.md")
            .starts_with("## System\n\nAnswer in English.\n\n## You\n\nHello!\n\n## samosa-mini\n")
    );
    chat.type_line("/undo", "Forgotten: Hello!");
    chat.type_line("/undo", "There is nothing to undo.");
    chat.type_line("/system -", "The instructions are gone.");
    chat.type_line("/load talk.json", "2 messages are loaded.");
    let saved = chat.file("talk.json");
    chat.type_line("/save again.json", "Written to again.json.");
    assert_eq!(chat.file("again.json"), saved);
    chat.type_line("/load talk.md", "is no conversation in JSON");
    chat.type_line("/reset", "A new conversation begins.");
    chat.type_line("/stats", "prefix hits");
    // Tab completes commands and tags; the first Enter takes what it offers.
    chat.type_line("/sta\t", "prefix hits");
    chat.type_line("/model g\t6\r", "g6 serves (identity");
    chat.type_line("/set max_tokens 8", "max_tokens 8 from now on");
    chat.type_line("Hello!", "8 tokens, cut at the longest");
    chat.type_line("/model d99", "d99");
    chat.screen.press(b"/quit\r");
    assert_eq!(chat.screen.ended(), Some(0));
    assert!(!storage.path().join(".samosa/last_model.json").exists(), "a chat decides nothing for servers");
}

#[test]
fn ctrl_c_stops_an_answer_and_not_the_chat() {
    let storage = long_storage();
    let path = storage.path().to_str().unwrap();
    let arguments = ["--model", "long", "--temperature", "0", "--max-tokens", "4096"];
    let mut chat = Chat::start(&arguments, &[("MODEL_STORAGE_PATH", path)]);
    chat.screen.press(b"Tell me a story.\r");
    let before = chat.screen.written().len();
    chat.screen.wait_for("a part of it", |screen| screen.written().len() > before + 400);
    chat.screen.press(b"\x03");
    chat.until("stopped; what there is of the answer is kept");
    chat.prompt();
    chat.type_line("/stats", "0 running, 0 waiting");
    chat.type_line("/model samosa-mini", "samosa-mini serves (identity");
    chat.type_line("/reset", "A new conversation begins.");
    chat.type_line("Hello!", HELLO);
    chat.leave();
}

#[test]
fn a_server_may_go_and_come_back() {
    let storage = storage();
    let path = storage.path().to_str().unwrap();
    let environment =
        [("INTERNAL_API_KEY", "right"), ("MODEL_STORAGE_PATH", path), ("DEFAULT_MODEL_TAG", "samosa-mini")];
    let serving = |environment: &[(&str, &str)]| {
        let mut server = Running::start(environment);
        server.key = "right".to_owned();
        server.wait_for("its model", |server| server.health()["current_model"] == "samosa-mini");
        server
    };
    let mut server = serving(&environment);
    let url = format!("http://{}", server.address);
    let mut chat = Chat::start(
        &["--url", &url, "--temperature", "0", "--max-tokens", "24"],
        &[("INTERNAL_API_KEY", "right")],
    );
    chat.type_line("Hello!", HELLO);
    server.kill();
    chat.type_line("What is 12 * 7?", "nothing listens there. /retry sends the message again.");
    chat.type_line("/stats", "nothing listens there.");
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    let mut again = environment.to_vec();
    again.push(("PORT", &port));
    let server = serving(&again);
    chat.type_line("/retry", "is 84.");
    chat.type_line("/model g7", "g7 serves (identity");
    chat.type_line("/models", "* g7");
    chat.type_line("Hello!", "g7 · ");
    chat.type_line("/model d99", "d99");
    chat.leave();
    assert_eq!(server.stats()["current_model"], "g7");
}

#[test]
fn signals_and_lost_terminals_end_it() {
    let mut chat = Chat::start(&[], &[]);
    let id = chat.screen.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    assert_eq!(chat.screen.ended(), Some(143));
    assert!(chat.screen.is_as_before());
    let mut chat = Chat::start(&[], &[]);
    chat.screen.hang_up(b"x");
    // Whichever notices first: who waits for the terminal's end, or who reads a line.
    let code = chat.screen.ended();
    assert!(matches!(code, Some(1 | 129)), "{code:?}");
}

/// A server that plays these answers to questions, the last one for ever.
fn mocked(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let models = json!({ "current_model": "parrot", "models": [] });
    let serve = move || {
        let mut answers = answers.into_iter();
        let mut answer = String::new();
        // It ends with the test's process.
        while let Ok((mut socket, _)) = listener.accept() {
            if mock::request(&mut socket).starts_with("GET /models ") {
                let head = mock::head("200 OK", "application/json");
                socket.write_all((head + &models.to_string()).as_bytes()).unwrap();
                continue;
            }
            answer = answers.next().unwrap_or(answer);
            socket.write_all(answer.as_bytes()).unwrap();
        }
    };
    std::thread::Builder::new().spawn(serve).unwrap();
    url
}

/// A whole answer with this text.
fn stream(text: &str) -> String {
    let token = json!({ "token": text, "gpu": 0 });
    let done = json!({ "done": true, "finish_reason": "stop", "model_tag": "par\u{1b}[31mrot", "seed": 1,
        "usage": { "prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 2 }, "dropped_messages": 2,
        "timings_ms": { "queue": 0.1, "prefill": 1.0, "decode": 1.0 } });
    mock::head("200 OK", "text/event-stream") + &format!("data: {token}\n\n: waiting\n\ndata: {done}\n\n")
}

#[test]
fn refusals_say_what_to_do_and_the_chat_goes_on() {
    let full = json!({ "detail": "The places for running requests (1) and for waiting ones (0) are taken." });
    let busy = "HTTP/1.1 503 No\r\nContent-Type: application/problem+json\r\nRetry-After: 4\r\nConnection: close\r\n\r\n";
    let begun = mock::head("200 OK", "text/event-stream") + "data: {\"token\":\"One, \",\"gpu\":0}\n\n";
    let error = json!({ "error": { "code": "internal", "message": "The engine broke; try again.", "retryable": true } });
    let answers = [
        format!("{busy}{full}"),
        format!("{begun}data: {error}\n\n"),
        begun,
        "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>".to_owned(),
        stream("Two."),
    ];
    let url = mocked(answers.to_vec());
    let mut chat = Chat::start(&["--url", &url, "--plain"], &[]);
    chat.type_line("Count.", "are taken.");
    assert!(
        chat.screen
            .written()
            .replace("\r\n", " ")
            .contains("Try again in 4 s. /retry sends the message again.")
    );
    chat.type_line("/retry", "The engine broke; try again.");
    chat.type_line("\x1b[A\x1b[A", "the connection was closed before");
    chat.type_line("/retry", "no samosa server: 502");
    chat.type_line("/retry", "Two.");
    chat.type_line("/save talk.json", "Written to talk.json.");
    let saved: Value = serde_json::from_str(&chat.file("talk.json")).unwrap();
    assert_eq!(
        saved["messages"],
        json!([
            { "role": "user", "content": "Count." }, { "role": "assistant", "content": "Two." },
        ])
    );
    chat.leave();
}

#[test]
fn nothing_that_a_model_says_is_obeyed() {
    let url = mocked(vec![stream("\u{1b}]0;mine\u{7}\u{1b}[2J\u{9b}5n\r safe")]);
    let mut chat = Chat::start(&["--url", &url], &[("NO_COLOR", "1")]);
    chat.type_line("Hello!", "␛]0;mine␇␛[2J\u{fffd}5n␍ safe");
    let written = chat.screen.written();
    for escape in ["\x1b]0;", "\x1b[2J", "\u{9b}", "\x1b[31m"] {
        assert!(!written.contains(escape), "{escape:?} in {written:?}");
    }
    assert!(written.contains("The 2 oldest messages were left out"), "{written:?}");
    chat.leave();
}

fn piped(arguments: &[&str], input: &[u8]) -> (String, String, Option<i32>) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command
        .env_clear()
        .envs(running::isa())
        .arg("chat")
        .args(arguments)
        .args(["--temperature", "0"])
        .current_dir(home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that ends early does not read it all.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

#[test]
fn without_a_terminal_lines_are_messages() {
    let sum = "<|python_start|>12*7<|python_end|><|output_start|>84<|output_end|>12 * 7 is 84.";
    let (stdout, stderr, code) = piped(&[], b"Hello!\n\nWhat is 12 * 7?\n");
    assert_eq!((stdout, stderr.as_str(), code), (format!("{HELLO}\n{sum}\n"), "", Some(0)));
    let (stdout, _, code) = piped(&[], b"\"\"\"\nWhat is 12 * 7?\n\"\"\"");
    assert_eq!((stdout, code), (format!("{sum}\n"), Some(0)));
    let (stdout, stderr, code) = piped(&[], b"/undo\n/nope\nHello!\n/quit\nHello!\n");
    assert_eq!((stdout, code), (format!("{HELLO}\n"), Some(1)));
    assert!(
        stderr.starts_with("samosa: There is nothing to undo.\nsamosa: There is no command /nope;"),
        "{stderr}"
    );
    assert!(stderr.ends_with("samosa: 2 lines failed\n"), "{stderr}");
    let long = [&[b'x'; 8001][..], b"\nHello!\n"].concat();
    let (stdout, stderr, code) = piped(&[], &long);
    assert_eq!((stdout, code), (format!("{HELLO}\n"), Some(1)));
    assert!(stderr.contains("8001 characters, but at most 8000"), "{stderr}");
    let (_, stderr, code) = piped(&[], b"caf\xe9\n");
    assert_eq!(
        (stderr.as_str(), code),
        ("samosa: line 1 of standard input is not UTF-8 at its byte 4\n", Some(1))
    );
}

#[test]
fn wrong_arguments_are_refused_at_once() {
    for (arguments, words) in [
        (&["--resume", "nowhere.json"][..], "nowhere.json could not be read"),
        (&["--temperature", "3"], "from 0 to 2"),
        (&["--url", "ftp://x"], "http:// or https://"),
        (&["--model", "../x"], "a tag has up to 100"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
        let output = command
            .env_clear()
            .envs(running::isa())
            .arg("chat")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
}
