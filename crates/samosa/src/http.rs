//! Asking a server over HTTP: where it is, one exchange on a connection of its own, and what its errors say.
//!
//! All commands that are clients share it: `bench`, `swap`, `top`, `healthcheck`, `chat`, `generate`. The last two may ask
//! a service in this process, in the same words. Reading order: [`Place`] (a URL), [`Way`] (how to get there), [`tls`].

mod tls;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, value_parser};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::request;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use server::App;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::tls::Tls;
pub(crate) use self::tls::Trust;

/// The header that carries the key of this server.
pub(crate) const KEY_HEADER: &str = "x-internal-api-key";
/// How long the end of a body may take once the answer has ended.
pub(crate) const CLOSING: Duration = Duration::from_secs(1);
/// Characters of a server's words that are repeated.
const MAX_ECHO: usize = 400;

/// The flag `--url`.
pub(crate) fn url() -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .value_parser(Place::parse)
        .help("Where the server listens, such as http://127.0.0.1:8003")
}

/// The flag `--ca-cert`.
pub(crate) fn ca_cert() -> Arg {
    Arg::new("ca-cert")
        .long("ca-cert")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Certificates in PEM to trust over https, instead of those that this machine trusts")
}

/// The way that `--url` and `--ca-cert` name.
pub(crate) fn way(matches: &ArgMatches) -> Result<Way> {
    let place = matches.get_one::<Place>("url").context("--url is missing")?;
    let trust = matches.get_one::<PathBuf>("ca-cert").cloned().map_or(Trust::System, Trust::File);
    Way::new(place.clone(), &trust)
}

/// The parts of a URL.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    is_encrypted: bool,
    host: String,
    port: u16,
    /// Path before the endpoint, without a slash at its end.
    base: String,
}

impl Place {
    /// Reads `http://host[:port][/base]`, or the same with `https`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        let (is_encrypted, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err("it must begin with http:// or https://".to_owned()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        // Brackets belong to the URL, not to the address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_encrypted, host, port: uri.port_u16().unwrap_or(usual_port), base })
    }

    /// The path of an endpoint; a base may end in `/v1` or be the endpoint already.
    pub(crate) fn path(&self, endpoint: &str) -> String {
        let base = self.base.strip_suffix(endpoint).unwrap_or(&self.base);
        let base = if endpoint.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
        format!("{base}{endpoint}")
    }

    /// An endpoint as a person reads it.
    pub(crate) fn url(&self, endpoint: &str) -> String {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path(endpoint))
    }

    /// Host and port as the Host header has them.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, Lost> {
        let Self { host, port, .. } = self;
        let unknown = |why: String| Lost::Unreachable(format!("the host {host} {why}"));
        let found = (host.as_str(), *port).to_socket_addrs();
        let addresses: Vec<_> = found.map_err(|error| unknown(format!("is not known ({error})")))?.collect();
        if addresses.is_empty() { Err(unknown("has no address".to_owned())) } else { Ok(addresses) }
    }

    /// This very process, where no name is looked up.
    fn here() -> Self {
        Self { is_encrypted: false, host: "localhost".to_owned(), port: 80, base: String::new() }
    }

    /// A request to an endpoint, after which the connection shall be closed.
    pub(crate) fn request(&self, endpoint: &str) -> Result<request::Builder> {
        let host =
            HeaderValue::try_from(self.authority()).context("the host's name does not fit a header")?;
        Ok(Request::builder().uri(self.path(endpoint)).header(HOST, host).header(CONNECTION, "close"))
    }
}

/// A key as a header carries it, kept out of debug output.
pub(crate) fn secret(value: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(value).context("the key holds characters no header may have")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why no answer came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    Refused,
    Unreachable(String),
    OutOfSockets(String),
    /// No TLS came about, for this reason.
    Untrusted(String),
    NotHttp,
    Cut,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nothing listens there"),
            Self::Unreachable(why) => write!(f, "no connection: {why}"),
            Self::OutOfSockets(why) => write!(f, "this machine gives no more sockets (see ulimit -n): {why}"),
            Self::Untrusted(why) => f.write_str(why),
            Self::NotHttp => f.write_str("what answered does not speak HTTP"),
            Self::Cut => f.write_str("the connection was closed before an answer came"),
        }
    }
}

/// The body of an answer, wherever it comes from. A frame that is an error is the end of one that was cut.
pub(crate) type Body = UnsyncBoxBody<Bytes, Cut>;

/// What came of the body was not all.
#[derive(Debug)]
pub(crate) struct Cut;

/// A connection with an answer on it, which ends with that answer: the server was asked to close.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<Result<(), hyper::Error>>,
}

impl Connection {
    /// Waits a little for the server to close: a connection that is closed under the last bytes would look to the
    /// server like a caller that left.
    pub(crate) async fn closed(self) {
        drop(self.sender);
        let _ = timeout(CLOSING, self.task).await;
    }
}

/// How to get to a server, and whom to believe there.
pub(crate) struct Way {
    pub(crate) place: Place,
    route: Route,
}

enum Route {
    Network {
        /// Of the host, looked up once.
        addresses: OnceCell<Vec<SocketAddr>>,
        tls: Option<Tls>,
    },
    /// No socket at all: the service is in this process.
    Here(App),
}

impl Way {
    pub(crate) fn new(place: Place, trust: &Trust) -> Result<Self> {
        let tls = if place.is_encrypted { Some(Tls::new(&place.host, trust)?) } else { None };
        Ok(Self { place, route: Route::Network { addresses: OnceCell::new(), tls } })
    }

    /// The way to a service in this process.
    pub(crate) fn here(app: App) -> Self {
        Self { place: Place::here(), route: Route::Here(app) }
    }

    /// Looks the addresses up again, the next time.
    pub(crate) fn forget(&mut self) {
        if let Route::Network { addresses, .. } = &mut self.route {
            *addresses = OnceCell::new();
        }
    }

    /// Connects, sends a request, and returns its answer as far as its head, with the connection if there is one.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Body>, Option<Connection>), Lost> {
        let (addresses, tls) = match &self.route {
            Route::Network { addresses, tls } => (addresses, tls),
            Route::Here(app) => {
                let response = server::answer(app.clone(), request).await;
                return Ok((response.map(|body| body.map_err(|_| Cut).boxed_unsync()), None));
            }
        };
        let socket = connect(addresses.get_or_try_init(async || self.place.resolve()).await?).await?;
        let (response, connection) = match tls {
            None => exchange(socket, request).await,
            Some(tls) => exchange(tls.connect(socket).await.map_err(Lost::Untrusted)?, request).await,
        }?;
        Ok((response, Some(connection)))
    }
}

async fn exchange(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Body>, Connection), Lost> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| lost(&error))?;
    let task = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
    Ok((response.map(|body| body.map_err(|_| Cut).boxed_unsync()), Connection { sender, task }))
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Lost> {
    use std::io::ErrorKind;
    /// Too many open files, of this process or of the system.
    const TOO_MANY_FILES: [Option<i32>; 2] = [Some(24), Some(23)];
    let socket = TcpStream::connect(addresses).await.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Lost::Refused,
        _ if TOO_MANY_FILES.contains(&error.raw_os_error()) => Lost::OutOfSockets(error.to_string()),
        _ => Lost::Unreachable(error.to_string()),
    })?;
    socket.set_nodelay(true).map_err(|error| Lost::Unreachable(error.to_string()))?;
    Ok(socket)
}

fn lost(error: &hyper::Error) -> Lost {
    if error.is_parse() { Lost::NotHttp } else { Lost::Cut }
}

/// Shakes hands with a server whose name is `host`, as the system trusts it; the error is a sentence.
pub(crate) async fn shake_hands(host: &str, socket: TcpStream) -> Result<(), String> {
    let tls = Tls::new(host, &Trust::System).map_err(|error| format!("{error:#}"))?;
    let shaken = tls.connect(socket).await.map_err(|why| why.replace(tls::OTHERS, ""));
    shaken.map(drop)
}

/// A body as far as it came, and not much more than `most` bytes of it.
pub(crate) async fn read(mut body: Body, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        if bytes.len() > most {
            break;
        }
    }
    bytes
}

/// The sentence in an error, wherever the server put it: problem details, OpenAI's `message`, a bare string.
pub(crate) fn message(error: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(error).unwrap_or_default();
    let places =
        [&parsed["detail"], &parsed["error"]["message"], &parsed["message"], &parsed["error"], &parsed];
    match places.iter().find_map(|place| place.as_str()) {
        Some(text) => shortened(text.as_bytes()),
        None if error.is_empty() => "it says nothing more".to_owned(),
        None => shortened(error),
    }
}

/// The first line of what a server said, not too long, and without what a terminal would obey.
pub(crate) fn shortened(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().filter(|c| !c.is_control()).take(MAX_ECHO).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_endpoints() {
        let url = |url: &str, endpoint: &str| Place::parse(url).unwrap().url(endpoint);
        assert_eq!(url("http://127.0.0.1:8003", "/generate"), "http://127.0.0.1:8003/generate");
        assert_eq!(url("http://[::1]:80/x/", "/generate"), "http://[::1]:80/x/generate");
        for base in ["", "/", "/v1", "/v1/", "/v1/completions"] {
            let base = format!("http://host{base}");
            assert_eq!(url(&base, "/v1/completions"), "http://host:80/v1/completions", "{base}");
        }
        assert_eq!(url("https://host/x", "/stats"), "https://host:443/x/stats");
        assert!(Place::parse("host:80").is_err() && Place::parse("/generate").is_err());
    }

    #[test]
    fn a_servers_words_are_found_shortened_and_harmless() {
        assert_eq!(message(br#"{"title":"x","detail":"It is full."}"#), "It is full.");
        assert_eq!(message(br#"{"error":{"message":"No."}}"#), "No.");
        assert_eq!(message(b"\x1b[31mred\x07\nmore"), "[31mred…");
        assert_eq!(message(b""), "it says nothing more");
        assert_eq!(shortened("é".repeat(MAX_ECHO + 1).as_bytes()).chars().count(), MAX_ECHO + 1);
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_refused() {
        assert!(secret("a\nb".to_owned()).is_err());
        assert!(!format!("{:?}", secret("hush".to_owned()).unwrap()).contains("hush"));
    }
}
