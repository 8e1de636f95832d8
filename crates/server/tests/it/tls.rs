//! HTTPS: the same service behind a handshake that nobody can hold up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use server::edge::{Tls, TlsError};
use server::{Edge, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

use crate::support::{Ask, KEY, Server, ask, long_options, long_storage, options, options_in};

const ONE: [&[u8]; 2] = [include_bytes!("../tls/one.cert.pem"), include_bytes!("../tls/one.key.pem")];
const TWO: [&[u8]; 2] = [include_bytes!("../tls/two.cert.pem"), include_bytes!("../tls/two.key.pem")];
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// Longest time for what should be over at once.
const SOON: Duration = Duration::from_secs(20);

fn pair([certificate, key]: [&[u8]; 2]) -> Tls {
    Tls::from_pem(certificate, key).unwrap()
}

fn with_tls(options: Options) -> Options {
    let edge = Edge { tls: Some(pair(ONE)), ..Edge::default() };
    Options { edge, ..options }
}

fn unloaded() -> Options {
    with_tls(Options { load_at_start: false, ..options() })
}

/// Shakes hands as a client that trusts one certificate and speaks these versions.
async fn connect(
    address: SocketAddr,
    trusted: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    shake_hands(socket, trusted, versions).await
}

async fn shake_hands(
    socket: TcpStream,
    trusted: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

async fn trusting(server: &Server) -> TlsStream<TcpStream> {
    connect(server.address, ONE[0], &BOTH).await.unwrap()
}

/// Sends a request and reads until its answer says `end`, or to the end of the connection.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: Ask, end: &str) -> String {
    stream.write_all(&request.bytes()).await.unwrap();
    read_until(stream, end).await
}

async fn read_until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let (mut text, mut buffer) = (String::new(), vec![0; 4096]);
    while !text.contains(end) {
        match timeout(SOON, stream.read(&mut buffer)).await.expect("nothing came") {
            Ok(0) | Err(_) => break,
            Ok(read) => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
        }
    }
    text
}

fn health() -> Ask {
    Ask::new("GET", "/health")
}

#[expect(clippy::disallowed_methods, reason = "a test measures how long something takes")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn https_serves_what_http_does_in_both_versions() {
    let server = Server::start(with_tls(options())).await;
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut stream = connect(server.address, ONE[0], &[version]).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = exchange(&mut stream, health(), "\"workers\"").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("strict-transport-security"), "localhost is not ours alone: {answer}");
        let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 64));
        let answer = exchange(&mut stream, request, "\"done\":true").await;
        assert!(answer.contains("\"finish_reason\":\"stop\""), "the connection is used again: {answer}");
        let wrong = Ask::new("GET", "/stats").header("X-Internal-API-Key", "wrong");
        assert!(exchange(&mut stream, wrong, "request_id").await.contains("401 Unauthorized"));
    }
}

#[tokio::test]
async fn other_machines_are_told_to_come_by_https_again() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let server = Server::start_on(listener, unloaded()).await;
    let address = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let mut stream = connect(address, ONE[0], &BOTH).await.unwrap();
    let answer = exchange(&mut stream, health(), "\"workers\"").await;
    assert!(answer.contains("strict-transport-security: max-age=31536000\r\n"), "{answer}");
}

#[tokio::test]
async fn who_speaks_no_tls_is_let_go_at_once() {
    let server = Server::start(unloaded()).await;
    let request = health().bytes();
    for said in [&request[..], b"\r\n\r\n", b"\x00", b"SSH-2.0-x\r\n", &[0x80; 64], &[0x16, 3, 1, 0xff, 0xff]]
    {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(said).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An alert, or a reset.
        let _ = timeout(SOON, socket.read_to_end(&mut answer)).await.expect("the connection is closed");
        assert!(answer.len() < 16 && !answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(server.app.open_streams(), 0);
    assert!(exchange(&mut trusting(&server).await, health(), "\"workers\"").await.contains("200 OK"));
}

#[tokio::test]
async fn plain_http_is_closed_without_waiting_for_the_deadline() {
    let server = Server::start(unloaded()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let begun = now();
    socket.write_all(&health().bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, socket.read_to_end(&mut answer)).await.expect("the connection is closed");
    assert!(begun.elapsed() < server.app.options.limits.header_timeout / 2);
}

#[tokio::test]
async fn handshakes_that_do_not_come_to_an_end_hold_up_nobody_and_are_given_up() {
    let mut all = unloaded();
    (all.limits.header_timeout, all.limits.connections) = (Duration::from_millis(400), 32);
    let server = Server::start(all).await;
    let mut silent = Vec::new();
    for i in 0..24 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        if i % 2 == 0 {
            // The beginning of a record.
            socket.write_all(&[0x16, 3, 1]).await.unwrap();
        }
        silent.push(socket);
    }
    let answer = exchange(&mut trusting(&server).await, health(), "\"workers\"").await;
    assert!(answer.contains("200 OK"), "beside 24 that say nothing: {answer}");
    for mut socket in silent {
        let mut rest = Vec::new();
        let _ = timeout(SOON, socket.read_to_end(&mut rest)).await.expect("the deadline ends it");
    }
}

#[tokio::test]
async fn bytes_that_trickle_do_not_put_the_deadline_off() {
    let mut all = unloaded();
    all.limits.header_timeout = Duration::from_millis(300);
    let server = Server::start(all).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    // A record of 16 KiB that comes a byte at a time.
    socket.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]).await.unwrap();
    let ended = async {
        loop {
            sleep(Duration::from_millis(20)).await;
            if socket.write_all(&[0]).await.is_err() {
                return;
            }
        }
    };
    timeout(SOON, ended).await.expect("the connection is closed");
}

#[tokio::test]
async fn a_new_pair_is_for_new_connections_and_cuts_no_old_one() {
    let server = Server::start(unloaded()).await;
    let mut old = trusting(&server).await;
    assert!(exchange(&mut old, health(), "\"workers\"").await.contains("200 OK"));
    server.app.options.edge.tls.as_ref().unwrap().replace(&pair(TWO));
    assert!(connect(server.address, ONE[0], &BOTH).await.is_err(), "the old certificate is gone");
    let mut new = connect(server.address, TWO[0], &BOTH).await.unwrap();
    assert!(exchange(&mut new, health(), "\"workers\"").await.contains("200 OK"));
    assert!(exchange(&mut old, health(), "\"workers\"").await.contains("200 OK"));
}

#[tokio::test]
async fn a_stream_finishes_and_an_idle_connection_ends_when_the_server_stops() {
    let storage = long_storage();
    let server = Server::start(with_tls(long_options(storage.path()))).await;
    let mut idle = trusting(&server).await;
    assert!(exchange(&mut idle, health(), "\"workers\"").await.contains("200 OK"));
    let mut stream = trusting(&server).await;
    let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 300));
    assert!(exchange(&mut stream, request, "\"token\"").await.contains("200 OK"));
    let unfinished = TcpStream::connect(server.address).await.unwrap();
    server.tell_to_stop();
    let rest = read_until(&mut stream, "\"done\":true").await;
    assert!(rest.contains("\"done\":true"), "{rest}");
    server.stopped().await;
    let mut none = Vec::new();
    let _ = timeout(SOON, idle.read_to_end(&mut none)).await.expect("it is closed");
    assert!(none.is_empty());
    drop(unfinished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_is_ended_below_tls_too() {
    let storage = long_storage();
    let mut all = with_tls(options_in(storage.path(), "long"));
    all.models.kv_bytes = 256 << 20;
    (all.limits.unread_events, all.limits.unread_for) = (64, Duration::from_millis(150));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::start_on(socket.listen(64).unwrap(), all).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        let socket = socket.connect(server.address).await.unwrap();
        let mut stream = shake_hands(socket, ONE[0], &BOTH).await.unwrap();
        let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096));
        stream.write_all(&request.bytes()).await.unwrap();
        slow.push(stream);
    }
    let ended = async {
        loop {
            let request =
                Ask::new("GET", "/stats").header("X-Internal-API-Key", KEY).header("Connection", "close");
            let answer = exchange(&mut trusting(&server).await, request, "\0").await;
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            let stats: serde_json::Value = serde_json::from_str(body).unwrap();
            if stats["requests"]["slow_client"] == 4 && stats["running"] == 0 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, ended).await.expect("their places are free");
    drop(slow);
}

#[test]
fn pairs_that_cannot_serve_are_refused_with_a_reason_that_tells_nothing_of_the_key() {
    let error = |certificate, key| Tls::from_pem(certificate, key).unwrap_err();
    assert_eq!(error(ONE[0], TWO[1]), TlsError::Mismatch);
    assert_eq!(error(b"", ONE[1]), TlsError::NoCertificate);
    assert_eq!(error(ONE[1], ONE[1]), TlsError::NoCertificate, "a key is none");
    assert_eq!(error(ONE[0], b"-----BEGIN"), TlsError::NoKey);
    assert_eq!(error(ONE[0], ONE[0]), TlsError::NoKey, "a certificate is none");
    let broken = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(matches!(error(broken, ONE[1]), TlsError::Unusable(_)));
    let cut = &ONE[1][..ONE[1].len() / 2];
    assert_eq!(error(ONE[0], cut), TlsError::NoKey);
    assert_eq!(format!("{:?}", pair(ONE)), "Tls");
    let whole = [ONE[0], TWO[0]].concat();
    assert!(Tls::from_pem(&whole, ONE[1]).is_ok(), "a chain");
}
