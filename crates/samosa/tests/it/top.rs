//! `samosa top` without a terminal (the figures once, as text and as JSON, and what it says when there are none), and on
//! a real one.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::running::Running;
use crate::support::screen::Screen;

fn top(arguments: &[&str], key: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.arg("top").args(arguments).env_clear().env("INTERNAL_API_KEY", key).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_figures_of_a_running_server_are_printed_once() {
    let running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    let body = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "temperature": 0 });
    assert_eq!(running.generate(&body).whole().0, 200);
    assert_eq!(running.generate(&json!({ "messages": [] })).whole().0, 400);
    let output = top(&["--url", &url], &running.key);
    let said = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{said}");
    let line = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
        line.unwrap_or_else(|| panic!("{name} in {said}")).trim()
    };
    assert!(line("model").starts_with("samosa-mini · "), "{said}");
    assert_eq!((line("status"), line("streams"), line("refused")), ("ok", "0 of 64 (0 %)", "no_messages 1"));
    assert!(line("requests").starts_with("stop 1, length 0"), "{said}");
    assert!(line("memory").contains(" MB of ") && line("KV pages").starts_with("0 of "), "{said}");
    assert!(
        line("first token").contains("p99") && line("last swap").starts_with("samosa-mini, ok"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "no escapes");
    let output = top(&["--url", &url, "--json"], &running.key);
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&stats["current_model"], &stats["refusals"]),
        (&json!("samosa-mini"), &json!({ "no_messages": 1 }))
    );
    assert!(stats["memory_available_bytes"].as_u64().unwrap() > 0, "{stats}");
}

#[test]
fn without_an_answer_it_says_why_and_fails() {
    let running = Running::start(&[("STARTUP_LOAD_ENABLED", "false")]);
    let url = format!("http://{}", running.address);
    let failed = |url: &str, key| {
        let output = top(&["--url", url, "--once"], key);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        let said = text(&output.stderr).to_owned();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let said = failed(&url, "wrong");
    assert!(said.contains("INTERNAL_API_KEY") && !said.contains("wrong-"), "{said}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(failed(&free, "k").contains("nothing listens there"));
    for wrong in [&["--url", &url, "--interval", "1h"][..], &[], &["--url", "ftp://x"]] {
        assert_eq!(top(wrong, "k").status.code(), Some(2), "{wrong:?}");
    }
}

/// `top` on a terminal of its own.
fn screen(url: &str, key: &str) -> Screen {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.args(["top", "--url", url, "--interval", "100ms"]).env_clear().env("INTERNAL_API_KEY", key);
    Screen::start(&mut command, 100)
}

#[test]
fn the_screen_comes_and_leaves_the_terminal_as_it_was() {
    let mut running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    for end in [&b"q"[..], b"\x03", b""] {
        let mut screen = self::screen(&url, &running.key);
        screen.wait_for("the figures", |screen| screen.written().contains("Tokens/s"));
        assert!(screen.written().contains("\x1b[?1049h") && !screen.is_as_before());
        screen.press(end);
        if end.is_empty() {
            let id = screen.child.id().to_string();
            assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        }
        assert_eq!(screen.ended(), Some(0), "{end:?}");
        // What it wrote last may still be on its way here.
        screen.wait_for("the other screen", |screen| screen.written().contains("\x1b[?1049l"));
        assert!(screen.is_as_before(), "{end:?}");
    }
    let mut screen = self::screen(&url, &running.key);
    screen.wait_for("the figures", |screen| screen.written().contains("Tokens/s"));
    running.kill();
    screen.wait_for("what is wrong", |screen| screen.written().contains("nothing"));
    screen.press(b"q");
    assert_eq!(screen.ended(), Some(0));
}

#[test]
fn it_ends_when_its_terminal_does() {
    let running = Running::start(&[("STARTUP_LOAD_ENABLED", "false")]);
    // With one key it has drawn and waits for the next; with many it still draws, which fails.
    for keys in [&b"?"[..], &[b'?'; 200]] {
        let mut screen = screen(&format!("http://{}", running.address), &running.key);
        screen.wait_for("the figures", |screen| screen.written().contains("Tokens/s"));
        screen.hang_up(keys);
        let code = screen.ended();
        assert!(matches!(code, Some(0 | 1)), "{code:?} after {} keys", keys.len());
    }
}
