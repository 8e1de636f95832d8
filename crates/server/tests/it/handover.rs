//! The old process while another one takes over: what comes on its connections, and when it lets go of the socket.

use std::time::Duration;

use serde_json::json;
use server::Ending;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::{Ask, Reply, Server, ask, long_options, long_storage, options};

/// Longer than the old process waits for requests on connections it has, and less than it takes to close them.
const LATE: Duration = Duration::from_millis(5500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_when_all_is_over_is_sent_to_the_successor_and_not_cut() {
    let storage = long_storage();
    let server = Server::start(long_options(storage.path())).await;
    let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096)).bytes();
    let (first, rest) = request.split_at(20);
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(first).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.tell_to_end(Ending::HandOver);
    sleep(LATE).await;
    slow.write_all(rest).await.unwrap();
    let reply = Reply::read(slow).await;
    assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
    assert_eq!(reply.json().await["code"], "draining");
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_lets_go_of_the_socket_once_it_is_relieved() {
    let storage = long_storage();
    let server = Server::start(long_options(storage.path())).await;
    let mut stream = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096))).await;
    assert!(stream.piece().await.is_some());
    server.tell_to_stop();
    server.until("it drains", |stats| stats["status"] == "draining").await;
    server.tell_to_end(Ending::HandOver);
    sleep(Duration::from_millis(100)).await;
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "the successor alone takes connections");
    assert!(stream.piece().await.is_some(), "what began goes on");
    drop(stream);
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_relieved_takes_no_swap() {
    let server = Server::start(options()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.tell_to_end(Ending::HandOver);
    sleep(Duration::from_millis(100)).await;
    let swap = Ask::new("POST", "/models/swap").json(&json!({ "model_tag": "samosa-mini" }));
    socket.write_all(&swap.bytes()).await.unwrap();
    let reply = Reply::read(socket).await;
    assert_eq!(reply.status, 503, "it would die with this process");
    assert_eq!(reply.json().await["code"], "draining");
    server.stopped().await;
}
