//! As much of HTTP as it takes to ask a server on loopback: one question a connection, in version 1.0, which has no
//! chunks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request: method and path, headers each with its line's end, body.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a str,
    pub(super) body: &'a str,
}

/// Status and body of the answer.
pub(super) fn send(address: SocketAddr, ask: &Ask<'_>) -> anyhow::Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let Ask { method, path, headers, body } = ask;
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n");
    socket.write_all((head + body).as_bytes())?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

/// The body of a page that must be there.
pub(super) fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    match send(address, &Ask { method: "GET", path, headers: "", body: "" })? {
        (200, body) => Ok(body),
        (status, body) => bail!("GET {path}: {status} {}", body.trim()),
    }
}

/// Text as a value in a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
