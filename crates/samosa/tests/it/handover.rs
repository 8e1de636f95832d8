//! Processes that relieve each other, and what a service manager gives and hears.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::running::{Running, long_storage};

const STREAMS: usize = 16;
const KEY: &str = "key-of-the-tests";

fn question(i: usize) -> Value {
    json!({ "messages": [{ "role": "user", "content": format!("Tell me about the number {i}.") }], "max_tokens": 24 })
}

/// The text of a whole answer; panics if it was refused or cut.
fn answer(server: &Running, i: usize) -> String {
    let seed = format!("X-Seed: {i}\r\n");
    server.ask("POST", "/generate", (&seed, &question(i).to_string())).told().0
}

/// A free port; another process may take it before it is used, but here nobody does.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn new_processes_take_over_under_sixteen_streams_and_no_caller_notices() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = directory.path().join("handover");
    let environment =
        [("PORT", port.as_str()), ("HANDOVER_SOCKET", path.to_str().unwrap()), ("INTERNAL_API_KEY", KEY)];
    let start = || {
        let mut running = Running::start(&environment);
        running.key = KEY.to_owned();
        running.wait_for("its model", |running| running.health()["ready"] == true);
        running
    };
    let mut server = start();
    let solo: Vec<String> = (0..STREAMS).map(|i| answer(&server, i)).collect();
    let (over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let caller = Running::elsewhere(&server.address, KEY);
    thread::scope(|scope| {
        for i in 0..STREAMS {
            let (caller, solo, over, answers) = (&caller, &solo, &over, &answers);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(answer(caller, i), solo[i], "stream {i}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..3 {
            let before = answers.load(Ordering::Relaxed);
            let mut next = start();
            next.wait_for("that it took over", |next| {
                next.stdout().contains("took over from a running process")
            });
            assert_eq!(server.ended(), Some(0), "the old process ends by itself");
            assert!(server.stdout().contains("handing over"));
            server = next;
            server.wait_for("more answers", |_| answers.load(Ordering::Relaxed) > before + 2 * STREAMS);
            println!("round {round}: {} answers so far", answers.load(Ordering::Relaxed));
        }
        over.store(true, Ordering::Relaxed);
    });
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_successor_that_cannot_serve_leaves_the_old_process_alone() {
    let (directory, port, storage) = (tempfile::tempdir().unwrap(), free_port(), long_storage());
    let path = directory.path().join("handover");
    let models = storage.path().to_str().unwrap();
    let environment = [
        ("PORT", port.as_str()),
        ("HANDOVER_SOCKET", path.to_str().unwrap()),
        ("INTERNAL_API_KEY", KEY),
        ("MODEL_STORAGE_PATH", models),
        ("DEFAULT_MODEL_TAG", "long"),
    ];
    let mut server = Running::start(&environment);
    server.key = KEY.to_owned();
    server.wait_for("its model", |server| server.health()["current_model"] == "long");
    // Its weights are broken now, which a new process must notice.
    for entry in std::fs::read_dir(storage.path().join("long")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pt") {
            std::fs::write(path, b"not a checkpoint").unwrap();
        }
    }
    let mut broken = environment.to_vec();
    let failed = Running::start_and_end(&broken);
    assert_eq!(failed.0, Some(1), "{}", failed.1);
    assert!(failed.1.contains("the running process goes on"), "{}", failed.1);
    broken[0].1 = "1";
    let failed = Running::start_and_end(&broken);
    assert!(failed.0 == Some(1) && failed.1.contains("but HOST and PORT say 127.0.0.1:1"), "{}", failed.1);
    server.wait_for("its warning", |server| server.stdout().contains("a successor failed"));
    assert_eq!(
        (&server.health()["status"], &server.health()["current_model"]),
        (&json!("ok"), &json!("long"))
    );
    assert!(!answer(&server, 1).is_empty());
}

#[test]
fn a_successor_whose_address_for_metrics_stays_taken_can_still_be_stopped() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = directory.path().join("handover");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = taken.local_addr().unwrap().to_string();
    let mut environment =
        vec![("PORT", port.as_str()), ("HANDOVER_SOCKET", path.to_str().unwrap()), ("INTERNAL_API_KEY", KEY)];
    let mut server = Running::start(&environment);
    server.wait_for("its model", |running| running.health()["ready"] == true);
    environment.push(("METRICS_ADDR", &metrics));
    let mut next = Running::start(&environment);
    next.wait_for("that it took over", |next| next.stdout().contains("took over from a running process"));
    assert_eq!(server.ended(), Some(0));
    next.signal("TERM");
    assert_eq!(next.ended(), Some(0));
    let alone = Running::start_and_end(&environment);
    assert!(alone.0 == Some(1) && alone.1.contains("cannot listen on"), "nobody to wait for: {}", alone.1);
}

#[test]
fn a_successor_that_would_load_nothing_does_not_take_over() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = directory.path().join("handover");
    let mut environment =
        vec![("PORT", port.as_str()), ("HANDOVER_SOCKET", path.to_str().unwrap()), ("INTERNAL_API_KEY", KEY)];
    let mut server = Running::start(&environment);
    server.wait_for("its model", |running| running.health()["ready"] == true);
    environment.push(("STARTUP_LOAD_ENABLED", "false"));
    let failed = Running::start_and_end(&environment);
    assert!(failed.0 == Some(1) && failed.1.contains("STARTUP_LOAD_ENABLED is false"), "{}", failed.1);
    assert_eq!(server.health()["ready"], true);
}

/// What a service manager does: it listens, and starts the service with the socket as its fourth file.
fn activated(listener: &TcpListener, directory: &Path) -> Command {
    // No shell can name the process it becomes but by `exec`.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let mut command = Command::new("sh");
    let handle: std::os::fd::OwnedFd = listener.try_clone().unwrap().into();
    let file = |name: &str| std::fs::File::create(directory.join(name)).unwrap();
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_samosa"), "serve"])
        .env_clear()
        .env("INTERNAL_API_KEY", KEY)
        .stdin(Stdio::from(handle))
        .stdout(file("stdout"))
        .stderr(file("stderr"));
    command
}

#[test]
fn a_service_manager_gives_the_socket_and_hears_how_the_service_is() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut buffer = [0; 1024];
        let length = heard.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let hear_until = |what: &str| while !hear().contains(what) {};
    let caller = Running::elsewhere(&address, KEY);
    for round in 0..2 {
        // Whoever connects before there is a service waits for it in the socket.
        let early = thread::scope(|scope| {
            let early = scope.spawn(|| answer(&caller, 1));
            let mut service = activated(&listener, directory.path())
                .env("NOTIFY_SOCKET", directory.path().join("notify"))
                .env("WATCHDOG_USEC", "200000")
                .spawn()
                .unwrap();
            hear_until("READY=1\nSTATUS=serving samosa-mini");
            hear_until("WATCHDOG=1");
            let early = early.join().unwrap();
            let id = service.id().to_string();
            assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
            hear_until("STOPPING=1");
            assert_eq!(service.wait().unwrap().code(), Some(0), "round {round}");
            early
        });
        assert!(!early.is_empty());
    }
}

#[test]
fn a_service_managers_socket_for_everybody_takes_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut service = activated(&listener, directory.path()).env_remove("INTERNAL_API_KEY").spawn().unwrap();
    let status = service.wait().unwrap();
    let said = std::fs::read_to_string(directory.path().join("stderr")).unwrap();
    assert!(status.code() == Some(1) && said.contains("INTERNAL_API_KEY must be set"), "{status} {said}");
}
