//! Just enough of HTTP/1.1 to ask as a caller does: one connection a request, an answer read to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// The longest silence: a stream carries a comment every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// A free port of the loopback address.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Asks with GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> anyhow::Result<Reply> {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// The body of an answer to GET that must be a 200.
pub(crate) fn body(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    match get(address, path)? {
        Reply { status: 200, body } => Ok(body),
        Reply { status, body } => bail!("GET {path}: {status} {}", body.trim()),
    }
}

/// Asks with POST; each header comes with the end of its line.
pub(crate) fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> anyhow::Result<Reply> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    ask(address, &format!("{head}Content-Length: {length}\r\n{headers}\r\n{body}"))
}

/// Asks for an answer, with a key and a seed.
pub(crate) fn generate(address: SocketAddr, key: &str, seed: u64, body: &Value) -> anyhow::Result<Reply> {
    let headers =
        format!("X-Internal-API-Key: {key}\r\nX-Seed: {seed}\r\nContent-Type: application/json\r\n");
    post(address, "/generate", &headers, &body.to_string())
}

fn ask(address: SocketAddr, request: &str) -> anyhow::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).context("refused")?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(request.as_bytes())?;
    read_reply(&mut BufReader::new(stream))
}

/// An answer with the length it promises; one that is cut short is an error.
fn read_reply(stream: &mut impl BufRead) -> anyhow::Result<Reply> {
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no answer of HTTP: \"{first}\""))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = Some(value.trim().parse::<u64>()?),
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => read_chunks(stream, &mut body)?,
        Some(length) if stream.take(length).read_to_end(&mut body)? as u64 != length => bail!("cut short"),
        Some(_) => {}
        None => drop(stream.read_to_end(&mut body)?),
    }
    Ok(Reply { status, body: String::from_utf8(body)? })
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let length = u64::from_str_radix(&line(stream)?, 16).context("cut between chunks")?;
        if stream.take(length).read_to_end(body)? as u64 != length {
            bail!("cut within a chunk");
        }
        line(stream)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn line(stream: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.ends_with('\n') {
        bail!("cut within a line");
    }
    Ok(line.trim_end().to_owned())
}

/// What a stream of events said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WholeAnswer {
    pub(crate) text: String,
    pub(crate) tokens: u64,
}

/// The answer in a stream of events that came to its end.
pub(crate) fn whole_answer(body: &str) -> anyhow::Result<WholeAnswer> {
    let events = body.lines().filter_map(|line| line.strip_prefix("data:"));
    let events = events.map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let last = events.last().unwrap_or(&Value::Null);
    if last["done"] != true {
        bail!("no done event at the end, but {last}");
    }
    let tokens = last["usage"]["completion_tokens"].as_u64().unwrap_or_default();
    Ok(WholeAnswer { text: events.iter().filter_map(|event| event["token"].as_str()).collect(), tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn reply(text: &str) -> anyhow::Result<Reply> {
        read_reply(&mut text.as_bytes())
    }

    #[test]
    fn what_is_cut_is_told_from_what_is_whole() {
        let whole = format!("{HEAD}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        assert_eq!(reply(&whole).unwrap().body, "abcde");
        for end in HEAD.len()..whole.len() - 2 {
            assert!(reply(&whole[..end]).is_err(), "{end}");
        }
        assert!(reply("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").is_err());
    }

    #[test]
    fn only_a_done_event_ends_a_text() {
        let tokens = "data: {\"token\":\"a\"}\n\n: waiting\n\ndata: {\"token\":\"b\"}\n\n";
        assert!(whole_answer(tokens).is_err());
        assert!(whole_answer(&format!("{tokens}data: {{\"error\":{{}}}}\n\n")).is_err());
        assert_eq!(whole_answer(&format!("{tokens}data: {{\"done\":true}}\n\n")).unwrap().text, "ab");
    }
}
