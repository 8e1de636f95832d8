//! Weights go back and forth under load: nobody notices, and the memory is the system's again.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, reason = "each test file uses its part of it")]
#[path = "it/support/running.rs"]
mod running;
#[path = "kill/wide.rs"]
mod wide;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use running::Running;
use serde_json::{Value, json};

const STREAMS: usize = 16;
const SWAPS: usize = 20;

/// What stream `i` always asks.
fn question(i: usize) -> Value {
    let content = format!("Stream {i} asks about the weather, and about samosas.");
    json!({ "messages": [{ "role": "user", "content": content }], "max_tokens": 24 })
}

/// Text and weights of a whole answer; panics if it was refused or cut.
fn answer(server: &Running, i: usize) -> (String, String) {
    let seed = format!("X-Seed: {i}\r\n");
    let (text, done) = server.ask("POST", "/generate", (&seed, &question(i).to_string())).told();
    (text, done["weights"].as_str().unwrap().to_owned())
}

/// All streams at once, as they come and go while a server is used.
fn all_at_once(server: &Running) {
    thread::scope(|scope| {
        for i in 0..STREAMS {
            scope.spawn(move || answer(server, i));
        }
    });
}

fn swap(server: &Running, tag: &str) {
    let (status, body) =
        server.ask("POST", "/models/swap", ("", &json!({ "model_tag": tag }).to_string())).whole();
    assert_eq!(status, 202, "{body}");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({ "status": "ok", "current_model": tag })
    );
}

/// Bytes in memory once engines of before are gone.
fn settled(server: &mut Running) -> u64 {
    server.wait_for("old engines to end", |server| {
        let stats = server.stats();
        stats["retired_engines"] == 0 && stats["swap"]["last"]["outcome"] == "ok"
    });
    server.stats()["memory_bytes"]["resident"].as_u64().unwrap()
}

#[test]
fn twenty_swaps_under_sixteen_streams_change_no_text_and_leave_no_memory_behind() {
    let root = tempfile::tempdir().unwrap();
    wide::write(&root.path().join("a"), 8, 1);
    wide::write(&root.path().join("b"), 5, 2);
    let mut server = Running::start(&[
        ("MODEL_STORAGE_PATH", root.path().to_str().unwrap()),
        ("DEFAULT_MODEL_TAG", "a"),
        ("NANOCHAT_DTYPE", "float32"),
        ("KV_CACHE_MB", "64"),
    ]);
    // By identity of the weights, what each stream says when it is alone.
    let mut solo: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for tag in ["b", "a"] {
        swap(&server, tag);
        let (texts, weights): (Vec<_>, Vec<_>) = (0..STREAMS).map(|i| answer(&server, i)).unzip();
        solo.insert(weights[0].clone(), texts);
    }
    assert_eq!(solo.len(), 2);
    assert_ne!(solo.first_key_value().unwrap().1, solo.last_key_value().unwrap().1);
    all_at_once(&server);
    let before = settled(&mut server);
    let over = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let (server, solo, over) = (&server, &solo, &over);
        let stream = |i: usize| {
            move || {
                let mut answers = 0;
                while !over.load(Ordering::Relaxed) {
                    let (text, weights) = answer(server, i);
                    assert_eq!(text, solo[&weights][i], "stream {i} on {weights}");
                    answers += 1;
                }
                answers
            }
        };
        let streams: Vec<_> = (0..STREAMS).map(|i| scope.spawn(stream(i))).collect();
        for tag in ["b", "a"].iter().cycle().take(SWAPS) {
            swap(server, tag);
        }
        over.store(true, Ordering::Relaxed);
        streams.into_iter().map(|stream| stream.join().unwrap()).sum::<usize>()
    });
    all_at_once(&server);
    let after = settled(&mut server);
    let stats = server.stats();
    for end in ["client_gone", "slow_client", "aborted", "error"] {
        assert_eq!(stats["requests"][end], 0, "{end}");
    }
    println!("{answers} answers during {SWAPS} swaps; resident {before} bytes before, {after} after");
    assert!(after as f64 <= before as f64 * 1.05, "resident: {before} bytes before, {after} after");
    assert!(before > 100 << 20, "there is something to measure");
}
