//! Bytes that no well-meaning client sends: each gets exactly the answers written here, and no request that is hidden in
//! another one is ever served.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use server::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{self, KEY, Server, options};

/// After this much silence nothing more is expected to come.
const SILENCE: Duration = Duration::from_secs(2);
/// Longest time for what must come to its end.
const SOON: Duration = Duration::from_secs(20);
/// A request within a request: wherever it is served, `/metrics` counts a path that is unknown.
const HIDDEN: &str =
    "GET /hidden HTTP/1.1\r\nHost: localhost\r\nX-Internal-API-Key: key-of-the-tests\r\n\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
/// A body of two bytes, an object without fields: 422 where it is read as such.
const OBJECT: &str = "2\r\n{}\r\n0\r\n\r\n";

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Closed,
    Open,
}
use After::{Closed, Open};

/// What is sent, the statuses that come for it, and what becomes of the connection.
type Case = (&'static str, String, &'static [u16], After);

/// A server that loses patience with bodies before a test does.
async fn server() -> Server {
    let mut all = Options { load_at_start: false, ..options() };
    all.limits.body_timeout = Duration::from_millis(400);
    Server::start(all).await
}

async fn statuses(server: &Server, bytes: &[u8]) -> (Vec<u16>, After) {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    // The server may have had enough before all is written.
    let _ = socket.write_all(bytes).await;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    let after = loop {
        match timeout(SILENCE, socket.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break Closed,
            Ok(Ok(read)) => all.extend_from_slice(&buffer[..read]),
            Err(_) => break Open,
        }
    };
    let text = String::from_utf8(all).unwrap().replace("HTTP/1.0 ", "HTTP/1.1 ");
    (text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect(), after)
}

/// Sends each on a connection of its own, and looks whether a hidden request was served.
async fn hold(cases: Vec<Case>) {
    let server = server().await;
    let asked = cases.iter().map(async |(name, bytes, statuses_expected, after)| {
        let found = statuses(&server, bytes.as_bytes()).await;
        (found != (statuses_expected.to_vec(), *after)).then(|| format!("{name}: {found:?}"))
    });
    let wrong: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(hidden(&server).await, [""; 0]);
}

/// What was counted for paths that there are not, which hidden requests ask for.
async fn hidden(server: &Server) -> Vec<String> {
    let metrics = server.send(support::Ask::new("GET", "/metrics")).await.rest().await;
    let metrics = String::from_utf8(metrics).unwrap();
    let all = metrics
        .lines()
        .filter(|line| line.starts_with("http_requests_total{") && line.contains("<unmatched>"));
    let (nothing, something): (Vec<&str>, Vec<&str>) = all.partition(|line| line.ends_with(" 0"));
    assert!(!nothing.is_empty(), "{metrics}");
    something.into_iter().map(str::to_owned).collect()
}

fn get(headers: &str) -> String {
    format!("GET /stats HTTP/1.1\r\nHost: localhost\r\nX-Internal-API-Key: {KEY}\r\n{headers}\r\n")
}

/// A swap whose body is an object, unless something is wrong before that is looked at.
fn post(headers: &str, body: &str) -> String {
    let head = format!(
        "POST /models/swap HTTP/1.1\r\nHost: localhost\r\nX-Internal-API-Key: {KEY}\r\n\
         Content-Type: application/json\r\n"
    );
    format!("{head}{headers}\r\n{body}")
}

#[tokio::test]
async fn a_request_that_is_not_hidden_is_seen() {
    let server = server().await;
    assert_eq!(statuses(&server, (get("") + HIDDEN).as_bytes()).await, (vec![200, 404], Open));
    let served = "http_requests_total{method=\"GET\",path=\"<unmatched>\",status=\"404\"}";
    assert_eq!(server.metric(served).await, 1.0, "so the other tests would find one");
}

#[tokio::test]
async fn a_body_has_one_length_or_ends_the_connection() {
    let hidden = HIDDEN.len();
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "{}");
    let (both, small) = (format!("Content-Length: {}\r\n", 5 + hidden), "Content-Length: 4\r\n");
    let within = format!("{hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let after = format!("0\r\n\r\n{HIDDEN}");
    let two = format!("Content-Length: 0\r\nContent-Length: {hidden}\r\n");
    hold(vec![
        ("one length", length("2"), &[422], Open),
        ("length, then chunks", post(&format!("{both}{CHUNKED}"), &after), &[400], Closed),
        ("chunks, then length", post(&format!("{CHUNKED}{both}"), &after), &[400], Closed),
        ("a length that ends within a chunk", post(&format!("{small}{CHUNKED}"), &within), &[400], Closed),
        (
            "a length that is the body's",
            post(&format!("Content-Length: 12\r\n{CHUNKED}"), OBJECT),
            &[422],
            Closed,
        ),
        ("two lengths", post(&two, HIDDEN), &[400], Closed),
        ("one length twice", post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), &[422], Open),
        ("a list of lengths", length("2, 2"), &[400], Closed),
        ("a list of two lengths", post(&format!("Content-Length: 0, {hidden}\r\n"), HIDDEN), &[400], Closed),
        ("a plus", length("+2"), &[400], Closed),
        ("a minus", length("-1"), &[400], Closed),
        ("hexadecimal", length("0x2"), &[400], Closed),
        ("no digits", length(""), &[400], Closed),
        ("2^64", length("18446744073709551616"), &[400], Closed),
        ("2^64 - 1", length("18446744073709551615"), &[431], Closed),
        ("2^64 - 3, never sent", length("18446744073709551613"), &[413], Closed),
        ("a space before the colon", post("Content-Length : 2\r\n", "{}"), &[400], Closed),
        ("shorter than its length", post("Content-Length: 3\r\n", "{}"), &[408], Closed),
        ("a request as a GET's body", get(&format!("Content-Length: {hidden}\r\n")) + HIDDEN, &[200], Open),
        ("the same in chunks", get(CHUNKED) + &within, &[200], Open),
        (
            "the same without the key",
            get(&format!("Content-Length: {hidden}\r\n")).replace(KEY, "wrong") + HIDDEN,
            &[401],
            Open,
        ),
        ("leave to go on", post("Content-Length: 2\r\nExpect: 100-continue\r\n", "{}"), &[100, 422], Open),
    ])
    .await;
}

#[tokio::test]
async fn continue_is_sent_only_where_the_body_is_read() {
    const EXPECT: &str = "Expect: 100-Continue\r\n";
    let length = |bytes: usize| format!("Content-Length: {bytes}\r\n{EXPECT}");
    let most = 1 << 20;
    hold(vec![
        ("too large", post(&length(most + 1), ""), &[413], Closed),
        ("too large, and sent all the same", post(&length(most + 1), &"x".repeat(most + 1)), &[413], Closed),
        ("as large as may be, and never sent", post(&length(most), ""), &[100, 408], Closed),
        ("no key", post(&length(HIDDEN.len()), HIDDEN).replace(KEY, "wrong"), &[401], Closed),
        ("no JSON", post(&length(2), "{}").replace("application/json", "text/plain"), &[415], Closed),
        ("no length", post(&format!("{CHUNKED}{EXPECT}"), OBJECT), &[100, 422], Open),
    ])
    .await;
    let server = server().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(post(&length(most + 1), "").as_bytes()).await.unwrap();
    let reply = support::Reply::read(socket).await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (413, Some("close")),
        "at once, and no 100 before"
    );
    let problem = reply.problem().await;
    assert_eq!(problem["detail"], "The body has 1048577 bytes, but at most 1048576 are allowed.");
}

#[tokio::test]
async fn unsupported_codings_are_refused_by_name() {
    let transfer = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), OBJECT);
    let content = |lines: &str| post(&format!("Content-Length: 2\r\n{lines}"), "{}");
    hold(vec![
        ("gzip, then chunked", transfer("gzip, chunked"), &[501], Open),
        ("on two lines", post(&format!("Transfer-Encoding: br\r\n{CHUNKED}"), OBJECT), &[501], Open),
        ("with a parameter", transfer("deflate;q=1, chunked"), &[501], Open),
        ("identity, then chunked", transfer("identity, chunked"), &[501], Open),
        ("empty items", transfer(", ,chunked"), &[422], Open),
        ("for a GET", get("Transfer-Encoding: gzip, chunked\r\n") + OBJECT, &[501], Open),
        ("chunked twice", transfer("chunked, chunked"), &[501], Open),
        ("and once more", transfer("Chunked,,CHUNKED ,\tchunked"), &[501], Open),
        ("twice, in chunks of chunks", transfer("chunked,chunked").replace("{}", "0\r"), &[501], Open),
        ("twice for a GET", get("Transfer-Encoding: chunked, chunked\r\n") + OBJECT, &[501], Open),
        ("and the next request", transfer("gzip, chunked") + &get(""), &[501, 200], Open),
        // Without chunked as the last coding the body has no end: RFC 9112, 6.3, demands 400 and a closed connection.
        ("gzip alone", transfer("gzip"), &[400], Closed),
        ("gzip after chunked", transfer("chunked, gzip"), &[400], Closed),
        ("a gzip body", content("Content-Encoding: gzip\r\n"), &[415], Open),
        ("an identity body", content("Content-Encoding: Identity\r\n"), &[422], Open),
        ("both", content("Content-Encoding: identity, br\r\n"), &[415], Open),
        ("on two lines", content("Content-Encoding: identity\r\nContent-Encoding: zstd\r\n"), &[415], Open),
        ("no name", content("Content-Encoding: \r\n"), &[422], Open),
        ("for a GET", get("Content-Encoding: gzip\r\n"), &[200], Open),
    ])
    .await;
    let server = server().await;
    let gzip = || support::Ask::new("POST", "/generate").json(&serde_json::json!({}));
    let problem = server.send(gzip().header("Content-Encoding", "x-GZip")).await.problem().await;
    assert_eq!(problem["code"], "unsupported_media_type");
    assert_eq!(
        problem["detail"],
        "The Content-Encoding is x-GZip, but must be identity: bodies are not decoded."
    );
}

#[tokio::test]
async fn a_client_that_sends_all_of_a_refused_body_reads_the_status() {
    let server = server().await;
    let body = "x".repeat(6 << 20);
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let wide = format!("{length}X: {}\r\n", "a".repeat(17_000));
    let plain = |text: String| text.replace("application/json", "text/plain");
    for (name, request, status) in [
        ("too large", post(&length, &body), 413),
        ("too large, in chunks", post(CHUNKED, &chunks), 413),
        ("no key", post(&length, &body).replace(KEY, "wrong"), 401),
        ("no key, in chunks", post(CHUNKED, &chunks).replace(KEY, "wrong"), 401),
        ("no JSON", plain(post(&length, &body)), 415),
        ("packed", post(&format!("{length}Content-Encoding: gzip\r\n"), &body), 415),
        ("another coding", post("Transfer-Encoding: gzip, chunked\r\n", &chunks), 501),
        ("no such path", post(&length, &body).replace("/models/swap", "/nothing"), 404),
        ("no such method", post(&length, &body).replace("/models/swap", "/models"), 405),
        ("another host", post(&length, &body).replace("localhost", "evil.example"), 403),
        ("wide headers", post(&wide, &body), 431),
    ] {
        // Like clients that write all before they read; with another request after it.
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let sent = timeout(SOON, socket.write_all((request + &get("")).as_bytes())).await.expect(name);
        assert!(sent.is_ok(), "{name}: {sent:?}");
        let mut answers = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        while let Ok(Ok(read @ 1..)) = timeout(SILENCE, socket.read(&mut buffer)).await {
            answers.extend_from_slice(&buffer[..read]);
        }
        let text = String::from_utf8(answers).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {text}");
        assert!(text.contains("HTTP/1.1 200 OK"), "{name}: the connection goes on: {text}");
    }
    assert_eq!(hidden(&server).await.len(), 1, "the path that there is not");
}

#[tokio::test]
async fn a_refused_body_is_drained_to_a_bound_of_bytes_and_time() {
    let server = server().await;
    let endless = post("Content-Length: 1000000000000\r\n", "");
    let (taken, answer) = pour(&server, &endless, &[b'x'; 4096]).await;
    assert!((16 << 20..32 << 20).contains(&taken), "{taken}");
    assert!(answer.is_empty() || answer.contains("connection: close"), "{answer}");
    // A byte now and then does not hold the connection for longer than some seconds.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(post("Content-Length: 10000000\r\n", "").as_bytes()).await.unwrap();
    let trickle = async {
        while socket.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    timeout(Duration::from_secs(12), trickle).await.expect("it is closed");
}

#[tokio::test]
async fn chunks_are_announced_in_one_way() {
    let coded = |value: &str| post(&format!("Transfer-Encoding:{value}\r\n"), OBJECT);
    hold(vec![
        ("chunked", coded(" chunked"), &[422], Open),
        ("in capitals", post("tRANSFER-eNCODING: cHuNkEd\r\n", OBJECT), &[422], Open),
        ("white space around it", coded("\t chunked \t "), &[422], Open),
        ("twice", post(&format!("{CHUNKED}{CHUNKED}"), OBJECT), &[501], Open),
        ("a vertical tab before", coded(" \x0bchunked"), &[400], Closed),
        ("a form feed after", coded(" chunked\x0c"), &[400], Closed),
        ("on a line of its own", coded("\r\n chunked"), &[400], Closed),
        ("in quotes", coded(" \"chunked\""), &[400], Closed),
        ("another word", coded(" xchunked"), &[400], Closed),
        ("identity", coded(" identity"), &[400], Closed),
        ("chunked within another", coded(" chunked, identity"), &[400], Closed),
        (
            "the same on two lines",
            post(&format!("{CHUNKED}Transfer-Encoding: identity\r\n"), OBJECT),
            &[400],
            Closed,
        ),
        ("a space before the colon", post("Transfer-Encoding : chunked\r\n", OBJECT), &[400], Closed),
        ("in HTTP/1.0", coded(" chunked").replace("HTTP/1.1", "HTTP/1.0"), &[400], Closed),
    ])
    .await;
}

#[tokio::test]
async fn chunks_are_what_they_say_or_end_the_connection() {
    let chunks = |body: &str| post(CHUNKED, body);
    let hidden = |before: &str| post(CHUNKED, &format!("{before}{HIDDEN}"));
    let padding = "a".repeat(20_000);
    let trailers = |text: &str| chunks(&format!("2\r\n{{}}\r\n0\r\n{text}\r\n")) + HIDDEN;
    hold(vec![
        ("a negative size", hidden("-1\r\n"), &[400], Closed),
        ("2^64", hidden("10000000000000000\r\n"), &[400], Closed),
        ("2^64 - 1, never sent", hidden("ffffffffffffffff\r\n"), &[408], Closed),
        ("0x", hidden("0x2\r\n{}\r\n0\r\n\r\n"), &[400], Closed),
        ("a plus", hidden("+2\r\n{}\r\n0\r\n\r\n"), &[400], Closed),
        ("a space before", hidden(" 2\r\n{}\r\n0\r\n\r\n"), &[400], Closed),
        ("no size", hidden("\r\n{}\r\n0\r\n\r\n"), &[400], Closed),
        ("lines without CR", hidden("2\n{}\n0\n\n"), &[400], Closed),
        ("more than its size", hidden("1\r\n{}\r\n0\r\n\r\n"), &[400], Closed),
        ("an extension", chunks("2;a=b\r\n{}\r\n0\r\n\r\n"), &[422], Open),
        ("an extension with a bare LF", hidden("2;a\n{}\r\n0\r\n\r\n"), &[400], Closed),
        ("a huge extension", hidden(&format!("2;{padding}\r\n{{}}\r\n0\r\n\r\n")), &[400], Closed),
        (
            "trailers, and a request of its own",
            chunks("2\r\n{}\r\n0\r\nX-Internal-API-Key: wrong\r\nContent-Length: 7\r\n\r\n") + &get(""),
            &[422, 200],
            Open,
        ),
        ("a huge trailer", trailers(&format!("X: {padding}\r\n")), &[400], Closed),
        ("many trailers", trailers(&"X: a\r\n".repeat(2000)), &[400], Closed),
        ("a trailer that is none", trailers("X\r\n"), &[400], Closed),
    ])
    .await;
}

#[tokio::test]
async fn heads_are_well_formed_or_end_the_connection() {
    let as_version = |version: &str| get("").replace("HTTP/1.1", version) + HIDDEN;
    hold(vec![
        ("two requests", get("") + &get(""), &[200, 200], Open),
        ("two requests, the second without the key", get("") + &get("").replace(KEY, "x"), &[200, 401], Open),
        ("empty lines before", "\r\n\r\n".to_owned() + &get(""), &[200], Open),
        // RFC 9112 lets a bare LF end a line; it ends it for all that follows, so nothing hides behind it.
        ("lines without CR", get("").replace("\r\n", "\n"), &[200], Open),
        ("a bare CR", get("X: a\rb\r\n") + HIDDEN, &[400], Closed),
        ("NUL in a value", get("X: a\0b\r\n") + HIDDEN, &[400], Closed),
        ("NUL in a name", get("X\0: ab\r\n") + HIDDEN, &[400], Closed),
        ("NUL in the target", get("").replace("/stats", "/st\0ats") + HIDDEN, &[400], Closed),
        ("NUL in the method", get("").replace("GET", "G\0T") + HIDDEN, &[400], Closed),
        ("a folded line", get("X: b\r\n c\r\n") + HIDDEN, &[400], Closed),
        ("a line that begins with a space", get(" X: b\r\n") + HIDDEN, &[400], Closed),
        ("a line without a colon", get("Xb\r\n") + HIDDEN, &[400], Closed),
        ("a line without a name", get(": b\r\n") + HIDDEN, &[400], Closed),
        ("a space before the colon", get("X : b\r\n") + HIDDEN, &[400], Closed),
        ("tabs between", get("").replacen(' ', "\t", 2) + HIDDEN, &[400], Closed),
        ("two spaces between", get("").replacen(' ', "  ", 2) + HIDDEN, &[400], Closed),
        ("HTTP/0.9", format!("GET /stats\r\n{HIDDEN}"), &[400], Closed),
        ("HTTP/1.0 ends with its answer", as_version("HTTP/1.0"), &[200], Closed),
        ("HTTP/1.2", as_version("HTTP/1.2"), &[400], Closed),
        ("HTTP/2.0", as_version("HTTP/2.0"), &[400], Closed),
        ("http/1.1", as_version("http/1.1"), &[400], Closed),
        ("the preface of HTTP/2", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{HIDDEN}"), &[], Closed),
        (
            "an upgrade",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
            &[200],
            Open,
        ),
        ("TLS", format!("\x16\x03\x01\x02{HIDDEN}"), &[400], Closed),
        ("a request after an error", format!("BAD\0 / HTTP/1.1\r\n\r\n{HIDDEN}"), &[400], Closed),
    ])
    .await;
}

#[tokio::test]
async fn who_is_asked_and_who_asks_is_said_once() {
    hold(vec![
        ("no host", get("").replace("Host: localhost\r\n", ""), &[400], Open),
        (
            "no host in HTTP/1.0",
            get("").replace("Host: localhost\r\n", "").replace("1.1", "1.0"),
            &[403],
            Closed,
        ),
        ("two hosts", get("Host: localhost\r\n"), &[400], Open),
        ("an empty host", get("").replace("localhost", ""), &[400], Open),
        ("a URL", get("").replace("/stats", "http://localhost/stats"), &[200], Open),
        ("a URL of another host", get("").replace("/stats", "http://evil.example/stats"), &[400], Open),
        ("a key that is right, and one that is not", get("X-Internal-API-Key: wrong\r\n"), &[401], Open),
        ("the right key twice", get(&format!("x-internal-api-key: {KEY}\r\n")), &[401], Open),
        ("two keys in one", get("").replace(KEY, &format!("{KEY}, {KEY}")), &[401], Open),
    ])
    .await;
}

#[tokio::test]
async fn nothing_goes_through_a_tunnel() {
    let server = server().await;
    for (key, status) in [("", 401), ("X-Internal-API-Key: key-of-the-tests\r\n", 404)] {
        let request = format!("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n{key}\r\n{HIDDEN}");
        assert_eq!(statuses(&server, request.as_bytes()).await, (vec![status], Closed));
    }
    let request = format!("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n{HIDDEN}");
    assert_eq!(statuses(&server, request.as_bytes()).await, (vec![403], Closed));
    let unmatched = hidden(&server).await;
    assert!(unmatched.iter().all(|line| line.contains("method=\"CONNECT\"")), "{unmatched:?}");
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_lines() {
    let value = |length: usize| get(&format!("X: {}\r\n", "a".repeat(length)));
    let target = |length: usize| get("").replace("/stats", &format!("/stats?{}", "a".repeat(length)));
    hold(vec![
        ("15 kB", value(15_000), &[200], Open),
        ("17 kB", value(17_000), &[431], Open),
        ("60 kB", value(60_000), &[431], Open),
        ("200 kB", value(200_000) + HIDDEN, &[431], Closed),
        ("500 lines", get(&"a:b\r\n".repeat(500)), &[200], Open),
        ("600 lines", get(&"a:b\r\n".repeat(600)) + HIDDEN, &[431], Closed),
        ("10,000 lines", get(&"a:b\r\n".repeat(10_000)) + HIDDEN, &[431], Closed),
        ("a target of 20 kB", target(20_000), &[431], Open),
        ("a target of 70 kB", target(70_000) + HIDDEN, &[414], Closed),
        ("a method of 30 kB", get("").replace("GET", &"A".repeat(30_000)), &[431], Open),
    ])
    .await;
}

#[tokio::test]
async fn headers_over_the_limit_are_explained() {
    let server = server().await;
    let request = support::Ask::new("GET", "/stats").header("X", &"a".repeat(17_000));
    let problem = server.send(request).await.problem().await;
    assert_eq!((&problem["code"], &problem["status"]), (&"headers_too_large".into(), &431.into()));
    assert!(problem["detail"].as_str().unwrap().contains("16384"), "{problem}");
}

/// Writes for as long as the server takes it; returns the bytes it took, and its answer.
async fn pour(server: &Server, begin: &str, more: &[u8]) -> (usize, String) {
    let (mut reader, mut writer) = TcpStream::connect(server.address).await.unwrap().into_split();
    writer.write_all(begin.as_bytes()).await.unwrap();
    let pouring = async {
        let mut taken = 0;
        // Far more than sockets' buffers hold.
        while taken < 64 << 20 && writer.write_all(more).await.is_ok() {
            taken += more.len();
        }
        taken
    };
    let mut answer = Vec::new();
    let (taken, _) = timeout(SOON, async { tokio::join!(pouring, reader.read_to_end(&mut answer)) })
        .await
        .expect("the server has enough of it");
    (taken, String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn what_never_ends_is_ended() {
    let server = server().await;
    let junk = [b'a'; 4096];
    let head = get("").strip_suffix("\r\n").unwrap().to_owned();
    let mut chunk = String::new();
    let _ = write!(chunk, "{:x}\r\n{}\r\n", junk.len(), " ".repeat(junk.len()));
    for (name, begin, more, status) in [
        ("a method", "", &junk[..], "HTTP/1.1 431"),
        ("a target", "GET /", &junk, "HTTP/1.1 431"),
        ("a header's name", &head, &junk, "HTTP/1.1 431"),
        ("a header's value", &format!("{head}X: "), &junk, "HTTP/1.1 431"),
        ("header lines", &head, b"X: abc\r\n", "HTTP/1.1 431"),
        ("a chunked body", &post(CHUNKED, ""), chunk.as_bytes(), "HTTP/1.1 413"),
        ("a body of 16 MB", &post("Content-Length: 16777216\r\n", ""), &junk, "HTTP/1.1 413"),
        ("an extension of a chunk", &post(CHUNKED, "2;"), &junk, "HTTP/1.1 400"),
        ("trailers", &post(CHUNKED, "2\r\n{}\r\n0\r\n"), b"X: abc\r\n", "HTTP/1.1 400"),
    ] {
        let (taken, answer) = pour(&server, begin, more).await;
        assert!(taken < 32 << 20, "{name}: it took {taken} bytes");
        // Where bytes were still under way, the reset that they cause may outrun the answer.
        assert!(answer.is_empty() || answer.starts_with(status), "{name}: {answer}");
    }
    assert_eq!(server.app.open_streams(), 0);
    assert_eq!(statuses(&server, get("").as_bytes()).await, (vec![200], Open), "others are served");
}

#[tokio::test]
async fn json_that_nests_without_end_is_refused() {
    let server = server().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"messages\":[", "]}")] {
        for depth in [200, 100_000] {
            for whole in [true, false] {
                let mut body = open.repeat(depth);
                if whole {
                    body = body + "1" + &close.repeat(depth);
                }
                if body.len() >= 1 << 20 {
                    continue;
                }
                for path in ["/generate", "/models/swap"] {
                    let request = support::Ask::new("POST", path).body(body.as_bytes());
                    let reply = server.send(request.header("Content-Type", "application/json")).await;
                    let problem = reply.problem().await;
                    assert_eq!(problem["code"], "invalid_json", "{open} {depth} times for {path}");
                }
            }
        }
    }
    assert_eq!(server.send(support::Ask::new("GET", "/health")).await.status, 200);
}
