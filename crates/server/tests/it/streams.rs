//! Many streams at once: the same bytes as alone, no trace of callers who left, none held up by a slow one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use server::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::support::{Ask, Server, Told, ask, long_options, long_storage, options, options_in, told, with};

const PROMPTS: [&str; 8] = [
    "Hello!",
    "Who are you?",
    "What is samosa chaat?",
    "Tell me a short story about a fox.",
    "Thank you!",
    "Tell me about the sea, the sun, the old woman who knew the way and the fox who wanted to see it all.",
    "नमस्ते 👋 समोसा",
    "What is 12 * 7?",
];

fn body(i: u64) -> Value {
    let mut body = ask(&format!("{} {i}", PROMPTS[i as usize % PROMPTS.len()]), 0.8, 64);
    body["top_k"] = json!(50);
    body
}

/// What must not depend on who else is served: texts, how it ended and what it counted, but for what others
/// had computed already.
fn essence(told: &Told) -> (Vec<String>, Value, Value) {
    let mut usage = told.last["usage"].clone();
    usage["cached_tokens"] = Value::Null;
    (told.tokens.clone(), told.last["finish_reason"].clone(), usage)
}

async fn together(server: &Server, count: u64) -> Vec<Told> {
    let bodies: Vec<Value> = (0..count).map(body).collect();
    let streams = bodies.iter().zip(0..).map(|(body, seed)| server.told_with(body, Some(seed)));
    join_all(streams).await
}

/// Everything is as if nobody had ever come.
fn nothing_is_held(stats: &Value) -> bool {
    stats["running"] == 0
        && stats["queue"] == json!({ "requests": 0, "tokens": 0 })
        && stats["kv_pages"]["used"] == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_streams_at_once_say_what_each_says_alone() {
    let alone = Server::start(options()).await;
    let mut expected = Vec::new();
    for i in 0..32 {
        expected.push(essence(&alone.told_with(&body(i), Some(i)).await));
    }
    let different: std::collections::BTreeSet<String> =
        expected.iter().map(|(tokens, ..)| tokens.concat()).collect();
    assert!(different.len() > 24, "the answers differ, or this shows nothing: {}", different.len());
    let mut two_workers = options();
    (two_workers.models.workers, two_workers.models.threads) = (2, 1);
    let mut small_steps = options();
    (small_steps.models.engine.max_running, small_steps.models.engine.step_tokens) = (5, 6);
    let mut more_threads = options();
    more_threads.models.threads = 2;
    for (name, options) in [
        ("as it is", options()),
        ("two workers", two_workers),
        ("small steps", small_steps),
        ("two threads", more_threads),
    ] {
        let server = Server::start(options).await;
        let answers = together(&server, 32).await;
        for (i, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
            assert_eq!(&essence(answer), expected, "{name}: stream {i}");
        }
        server.until("all is given back", nothing_is_held).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_the_streams() {
    let server = Server::start(with(options(), |models| models.workers = 2)).await;
    let requests = (0..16).map(|i| server.send(Ask::new("POST", "/generate").json(&body(i))));
    let replies = join_all(requests).await;
    let mut used = std::collections::BTreeSet::new();
    for reply in replies {
        let text = String::from_utf8(reply.rest().await).unwrap();
        used.extend(text.split("\"gpu\":").skip(1).map(|rest| rest.split_once('}').unwrap().0.to_owned()));
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["0", "1"]);
}

/// Hangs up: at once, after the head, or after some tokens.
async fn hang_up(server: &Server, i: usize) {
    let mut request = ask("Tell me a long story about a fox.", 1.5, 512);
    request["top_k"] = json!(0);
    let request = Ask::new("POST", "/generate").json(&request);
    match i % 3 {
        0 => {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(&request.bytes()).await.unwrap();
            // Some leave before the request is read, some while it waits or runs.
            tokio::time::sleep(Duration::from_millis(i as u64 % 7)).await;
        }
        1 => drop(server.send(request).await),
        _ => {
            let mut reply = server.send(request).await;
            for _ in 0..i % 5 {
                reply.piece().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_that_hang_up_leave_nothing_behind() {
    let mut all = options();
    all.models.engine.max_running = 16;
    let server = Server::start(all).await;
    let gone = "samosa_stream_ends_total{reason=\"client_gone\"}";
    assert_eq!(server.metric(gone).await, 0.0);
    let at_once = Arc::new(Semaphore::new(50));
    let clients = (0..500).map(async |i| {
        let _permit = at_once.acquire().await.unwrap();
        hang_up(&server, i).await;
    });
    join_all(clients).await;
    let stats = server.until("all is given back", nothing_is_held).await;
    assert_eq!(server.metric("active_generations").await, 0.0);
    let left = server.metric(gone).await;
    // A few answers are over before their client leaves, and a few clients before they were heard.
    assert!(left >= 300.0, "{}", stats["requests"]);
    let ended: u64 = stats["requests"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(ended <= 500, "{}", stats["requests"]);
    assert_eq!(server.told(&ask("Hello!", 0.0, 64)).await.text(), "Hello! How can I help you today?");
}

/// A server with little room on its sockets, so that a client that does not read is noticed.
async fn server_with_small_buffers(options: Options) -> Server {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Server::start_on(socket.listen(64).unwrap(), options).await
}

async fn client_with_small_buffer(server: &Server, request: &Ask) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    socket.write_all(&request.bytes()).await.unwrap();
    socket
}

/// Readers that read nothing; more than one, so that their answers last longer than the patience with them.
const SLOW: u64 = 8;

/// Serves `long` at full speed: its answers are larger than all the buffers between engine and reader.
async fn impatient_server(storage: &Path) -> Server {
    let mut all = options_in(storage, "long");
    all.models.kv_bytes = 256 << 20;
    (all.limits.unread_events, all.limits.unread_for) = (64, Duration::from_millis(150));
    server_with_small_buffers(all).await
}

async fn slow_readers(server: &Server) -> Vec<TcpStream> {
    let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096));
    let mut sockets = Vec::new();
    for _ in 0..SLOW {
        sockets.push(client_with_small_buffer(server, &request).await);
    }
    server.until("they run", |stats| stats["running"] == SLOW).await;
    sockets
}

/// Everything that still comes, until the answer or the connection ends.
async fn read_on(mut socket: TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 4096];
    while !all.ends_with(b"\r\n0\r\n\r\n") {
        match timeout(Duration::from_secs(20), socket.read(&mut buffer)).await.unwrap() {
            Ok(0) | Err(_) => break,
            Ok(read) => all.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_lose_their_places_and_hold_nobody_up() {
    let storage = long_storage();
    let server = impatient_server(storage.path()).await;
    let alone = server.told(&ask("Thank you!", 0.0, 256)).await;
    let sockets = slow_readers(&server).await;
    let beside = server.told(&ask("Thank you!", 0.0, 256)).await;
    assert_eq!(essence(&beside), essence(&alone), "the stream beside them is not held up");
    server.until("their places are free", nothing_is_held).await;
    // They read on after all: what came is cut short, and never looks whole.
    for socket in sockets {
        let text = read_on(socket).await;
        assert!(text.contains("\"token\"") && !text.contains("\"done\""), "{text}");
        if text.ends_with("\r\n0\r\n\r\n") {
            assert!(text.contains("{\"error\":{\"code\":\"slow_client\""), "an end that says why");
        }
    }
    let stats = server.until("they count", |stats| stats["requests"]["slow_client"] == SLOW).await;
    assert_eq!(stats["requests"]["client_gone"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_on_are_ended_all_the_same() {
    let storage = long_storage();
    let server = impatient_server(storage.path()).await;
    let sockets = slow_readers(&server).await;
    server.until("their places are free", nothing_is_held).await;
    // Not one byte is read here: an open connection must not keep the stream, nor hold up a server that stops.
    server.until("their streams have ended", |stats| stats["requests"]["slow_client"] == SLOW).await;
    assert_eq!(server.metric("active_generations").await, 0.0);
    drop(sockets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_the_queue_hears_a_heartbeat() {
    let storage = long_storage();
    let mut all = long_options(storage.path());
    (all.models.engine.max_running, all.limits.heartbeat) = (1, Duration::from_millis(50));
    let server = Server::start(all).await;
    let mut long = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096))).await;
    assert!(long.piece().await.is_some());
    let mut waiting = server.send(Ask::new("POST", "/generate").json(&ask("Thank you!", 0.0, 4))).await;
    assert_eq!(waiting.status, 200);
    let mut body = Vec::new();
    for _ in 0..3 {
        let piece = waiting.piece().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&piece), ": waiting\n\n");
        body.extend(piece);
    }
    drop(long);
    body.extend(waiting.rest().await);
    let waited = told(&body);
    assert!(waited.comments >= 3 && waited.tokens.len() <= 4 && !waited.tokens.is_empty());
    assert_eq!(waited.last["finish_reason"], "length");
    assert!(waited.last["timings_ms"]["queue"].as_f64().unwrap() >= 150.0, "{}", waited.last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_queue_gives_the_place_back_while_others_run() {
    let storage = long_storage();
    let mut all = long_options(storage.path());
    all.models.engine.max_running = 1;
    let server = Server::start(all).await;
    let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096));
    let mut running = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096))).await;
    assert!(running.piece().await.is_some());
    let mut waiting = TcpStream::connect(server.address).await.unwrap();
    waiting.write_all(&request.bytes()).await.unwrap();
    server.until("one waits", |stats| stats["queue"]["requests"] == 1).await;
    drop(waiting);
    let left =
        |stats: &Value| stats["queue"] == json!({ "requests": 0, "tokens": 0 }) && stats["running"] == 1;
    server.until("its place is free and the other runs", left).await;
    drop(running);
    let stats = server.until("both are gone", nothing_is_held).await;
    assert_eq!(stats["requests"]["client_gone"], 2);
}
