//! `samosa top` without a terminal (the figures once, as text and as JSON, and what it says when there are none), and on
//! a real one.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, reason = "each test file uses its part of it")]
mod running;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use running::Running;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

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
struct Screen {
    child: Child,
    /// Our end of the terminal, and its name.
    keys: Option<File>,
    /// Ends the thread that reads, which has a copy of our end.
    stop: Arc<AtomicBool>,
    name: String,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn start(url: &str, key: &str) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || File::options().read(true).write(true).open(&name).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_samosa"))
            .args(["top", "--url", url, "--interval", "100ms"])
            .env_clear()
            .env("INTERNAL_API_KEY", key)
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs())
            .spawn()
            .unwrap();
        let keys = File::from(ours);
        let (mut screen, written) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&written), Arc::clone(&stop));
        let read = move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..length]);
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        thread::Builder::new().spawn(read).unwrap();
        Self { child, keys: Some(keys), stop, name, written }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2000 {
            if holds(self) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("never came: {what}: {:?}", self.written());
    }

    fn press(&self, key: &[u8]) {
        self.keys.as_ref().unwrap().write_all(key).unwrap();
    }

    fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        self.wait_for("its end", |screen| {
            status = screen.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Whether the terminal shows again what is typed.
    fn is_as_before(&self) -> bool {
        let terminal = File::options().read(true).write(true).open(&self.name).unwrap();
        tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_screen_comes_and_leaves_the_terminal_as_it_was() {
    let mut running = Running::start(&[]);
    let url = format!("http://{}", running.address);
    for end in [&b"q"[..], b"\x03", b""] {
        let mut screen = Screen::start(&url, &running.key);
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
    let mut screen = Screen::start(&url, &running.key);
    screen.wait_for("the figures", |screen| screen.written().contains("Tokens/s"));
    running.kill();
    screen.wait_for("what is wrong", |screen| screen.written().contains("nothing"));
    screen.press(b"q");
    assert_eq!(screen.ended(), Some(0));
}

#[test]
fn it_ends_when_its_terminal_does() {
    let running = Running::start(&[("STARTUP_LOAD_ENABLED", "false")]);
    let mut screen = Screen::start(&format!("http://{}", running.address), &running.key);
    screen.wait_for("the figures", |screen| screen.written().contains("Tokens/s"));
    // The screen shows for how long the server runs: the thread that reads it wakes within a second.
    screen.stop.store(true, Ordering::Relaxed);
    screen.keys = None;
    let mut status = None;
    screen.wait_for("its end", |screen| {
        status = screen.child.try_wait().unwrap();
        status.is_some()
    });
    assert!(matches!(status.unwrap().code(), Some(0 | 1)), "{status:?}");
}
