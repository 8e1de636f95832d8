//! Connections that are slow, silent, forgotten or too many: each costs its own place and nobody else's.

use std::time::{Duration, Instant};

use serde_json::json;
use server::{Limits, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::{Ask, Reply, Server, options};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn bounded(change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = options();
    change(&mut options.limits);
    options
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

async fn open(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// How long until the server closes a connection, and what it said before.
async fn closed_after(mut socket: TcpStream) -> (Duration, String) {
    let (begun, mut said) = (now(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        match timeout(Duration::from_secs(20), socket.read(&mut buffer)).await.expect("it stays open") {
            Ok(0) | Err(_) => return (begun.elapsed(), String::from_utf8(said).unwrap()),
            Ok(read) => said.extend_from_slice(&buffer[..read]),
        }
    }
}

async fn closings(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("samosa_http_connections_closed_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowloris_holds_no_place_for_longer_than_a_head_may_take() {
    let options = bounded(|limits| {
        (limits.connections, limits.header_timeout) = (64, Duration::from_secs(2));
    });
    let server = Server::start(options).await;
    // As many as there are places, each sending a header line now and then, and never the last one.
    let attacks: Vec<_> = (0..64)
        .map(|_| {
            let address = server.address;
            tokio::spawn(async move {
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.write_all(b"POST /generate HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
                let begun = now();
                while socket.write_all(b"X-Slow: 1\r\n").await.is_ok() {
                    assert!(begun.elapsed() < Duration::from_secs(10), "it may go on for ever");
                    sleep(Duration::from_millis(50)).await;
                }
                begun.elapsed()
            })
        })
        .collect();
    // Whoever comes within their rush may be taken for one of them.
    sleep(Duration::from_millis(300)).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begun = now();
        assert_eq!(server.send(Ask::new("GET", "/health")).await.status, 200);
        slowest = slowest.max(begun.elapsed());
    }
    let mut longest = Duration::ZERO;
    for attack in attacks {
        longest = longest.max(attack.await.unwrap());
    }
    println!(
        "64 slow heads in 64 places: others answered within {slowest:?}, the last one gone after {longest:?}"
    );
    assert!(slowest < Duration::from_secs(1), "a newcomer gets the place of one of them: {slowest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let ended = closings(&server, "header_timeout").await + closings(&server, "evicted").await;
    assert!(ended >= 64.0, "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_kept_for_a_while_and_a_silent_one_less() {
    let options = bounded(|limits| {
        limits.header_timeout = Duration::from_millis(200);
        limits.idle_timeout = Duration::from_millis(600);
    });
    let server = Server::start(options).await;
    let (after, said) = closed_after(open(&server).await).await;
    assert!(
        said.is_empty() && (180..500).contains(&after.as_millis()),
        "nothing was asked: {after:?} {said}"
    );
    let mut socket = open(&server).await;
    for _ in 0..3 {
        socket.write_all(HEALTH).await.unwrap();
        let mut buffer = [0; 4096];
        assert!(socket.read(&mut buffer).await.unwrap() > 0);
        sleep(Duration::from_millis(300)).await;
    }
    let (after, _) = closed_after(socket).await;
    assert!((150..1000).contains(&after.as_millis()), "300 ms of its silence are over already: {after:?}");
    let mut socket = open(&server).await;
    socket.write_all(HEALTH).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    socket.write_all(b"GET").await.unwrap();
    let (after, said) = closed_after(socket).await;
    assert!(said.starts_with("HTTP/1.1 200") && after < Duration::from_millis(550), "{after:?} {said}");
    assert_eq!(
        (closings(&server, "idle_timeout").await, closings(&server, "header_timeout").await),
        (1.0, 2.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
    let options = bounded(|limits| {
        limits.connections = 2;
        limits.body_timeout = Duration::from_secs(5);
    });
    let server = Server::start(options).await;
    let mut idle = open(&server).await;
    idle.write_all(HEALTH).await.unwrap();
    let mut buffer = [0; 4096];
    assert!(idle.read(&mut buffer).await.unwrap() > 0);
    let head = "POST /generate HTTP/1.1\r\nHost: localhost\r\nX-Internal-API-Key: key-of-the-tests\r\n\
                Content-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    let busy = async || {
        let mut socket = open(&server).await;
        socket.write_all(head.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        socket
    };
    let (mut first, _second) = (busy().await, busy().await);
    assert_eq!(idle.read(&mut buffer).await.unwrap(), 0, "the idle one made room");
    // Both places are in use now: a newcomer hears so at once, whatever it wants.
    let begun = now();
    let mut refused = open(&server).await;
    refused.write_all(HEALTH).await.unwrap();
    let reply = Reply::read(refused).await;
    let took = begun.elapsed();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.json().await["code"], "too_many_connections");
    assert!(took < Duration::from_millis(300), "{took:?}");
    first.write_all(b"not json!").await.unwrap();
    assert_eq!(Reply::read(first).await.status, 400, "who was there is answered");
    assert_eq!(server.send(Ask::new("GET", "/health")).await.status, 200);
    assert_eq!(closings(&server, "refused").await, 1.0);
    assert!(closings(&server, "evicted").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_idle_connections_keep_nobody_out() {
    let server = Server::start(bounded(|limits| limits.connections = 200)).await;
    let mut forgotten = Vec::new();
    for _ in 0..500 {
        let mut socket = open(&server).await;
        socket.write_all(HEALTH).await.unwrap();
        forgotten.push(socket);
        if forgotten.len() > 300 {
            forgotten.remove(0);
        }
    }
    let begun = now();
    let body = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 8 });
    assert_eq!(server.told(&body).await.last["done"], true);
    println!("beside 200 idle connections, 500 in all: answered within {:?}", begun.elapsed());
    let stats = server.get("/stats").await;
    let open: u64 = ["head", "busy", "idle"].iter().map(|s| stats["connections"][s].as_u64().unwrap()).sum();
    assert!(open <= 200, "{stats}");
    assert_eq!(closings(&server, "refused").await, 0.0);
}
