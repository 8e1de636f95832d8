//! One HTTP exchange with a server: where it is, whose certificates are trusted, and what its errors say.
//!
//! Reading order: [`ServerUrl`], [`ServerConnector`] (how to get there), [`ExchangeFailure`] (why no answer came).

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, value_parser};
use futures_util::future::BoxFuture;
use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, Request, Response, StatusCode, Url};
use rustls::CertificateError;
use serde_json::Value;
use tokio::time::timeout;

/// The header that carries the key of this server.
pub(crate) const KEY_HEADER: &str = "x-internal-api-key";
/// How long the end of a body may take once the answer has ended.
const CLOSING: Duration = Duration::from_secs(1);
/// Bytes of an answer to a probe that are read.
const MAX_PROBE: usize = 64 << 10;
/// Characters of a server's words that are repeated.
const MAX_ECHO: usize = 400;

/// The flag `--url`.
pub(crate) fn url() -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .value_parser(ServerUrl::parse)
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

/// What `--url` and `--ca-cert` say.
pub(crate) fn server_of(matches: &ArgMatches) -> Result<(ServerUrl, Trust)> {
    let url = matches.get_one::<ServerUrl>("url").context("--url is missing")?;
    let trust = matches.get_one::<PathBuf>("ca-cert").cloned().map_or(Trust::System, Trust::File);
    Ok((url.clone(), trust))
}

/// Where a server listens: a URL without name, password, query and fragment.
#[derive(Clone, Debug)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// Reads `http://host[:port][/base]`, or the same with `https`; the error is a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut url = match Url::parse(text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) => url,
            Err(error) if text.starts_with("http://") || text.starts_with("https://") => {
                return Err(format!("not a URL: {error}"));
            }
            _ => return Err("it must begin with http:// or https://".to_owned()),
        };
        url.set_query(None);
        url.set_fragment(None);
        // A URL that has a host can be without them.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Self(url))
    }

    /// The URL of an endpoint.
    pub(crate) fn endpoint(&self, endpoint: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&self.path(endpoint));
        url
    }

    /// An endpoint for people, always with its port.
    pub fn shown(&self, endpoint: &str) -> String {
        format!("{}://{}:{}{}", self.0.scheme(), self.host(), self.port(), self.path(endpoint))
    }

    /// The path of an endpoint; the URL's own may end in `/v1` or be the endpoint already.
    fn path(&self, endpoint: &str) -> String {
        let base = self.0.path().trim_end_matches('/');
        let base = base.strip_suffix(endpoint).unwrap_or(base);
        let base = if endpoint.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
        format!("{base}{endpoint}")
    }

    /// The name, or the address, which has brackets if it is one of IPv6.
    fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The host's addresses, for a client that must not look them up with each request; none if that fails.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        (host, self.port()).to_socket_addrs().map_or_else(|_| Vec::new(), Iterator::collect)
    }
}

/// Whose certificates are trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those of this file alone.
    File(PathBuf),
    /// All: for a request without a secret to this very machine.
    Everyone,
}

/// A service in this process.
pub type InProcess = dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync;

/// How requests get to a server.
#[derive(Clone)]
pub enum ServerConnector {
    /// Each on a connection of its own.
    Network(reqwest::Client),
    /// Without a socket.
    InProcess(Arc<InProcess>),
}

impl ServerConnector {
    /// Reads the certificates that are trusted. With `addresses` the host is not looked up any more.
    pub fn network(url: &ServerUrl, trust: &Trust, addresses: &[SocketAddr]) -> Result<Self> {
        // Another part of the process may have chosen a provider before, which is as good.
        let _already_chosen = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0);
        if !addresses.is_empty() {
            builder = builder.resolve_to_addrs(url.host(), addresses);
        }
        let builder = match trust {
            // A machine may have none.
            _ if url.0.scheme() == "http" => builder.tls_certs_only([]),
            Trust::System => builder,
            Trust::File(path) => builder.tls_certs_only(certificates(path)?),
            Trust::Everyone => builder.tls_danger_accept_invalid_certs(true),
        };
        let client = builder.build().map_err(|error| {
            let error = anyhow::Error::from(error);
            let why = error.root_cause();
            match trust {
                Trust::File(path) => anyhow!("{} holds a broken certificate: {why}", path.display()),
                _ => anyhow!("this machine trusts no certificates; --ca-cert names some: {why}"),
            }
        })?;
        Ok(Self::Network(client))
    }

    /// Sends a request and returns its answer as far as its head.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, ExchangeFailure> {
        match self {
            Self::Network(client) => {
                client.execute(request).await.map_err(|error| ExchangeFailure::of(&error))
            }
            Self::InProcess(service) => Ok(service(request).await),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| anyhow!("{shown}: {error}"))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|error| anyhow!("{shown} is no PEM file: {error}"))?;
    if certificates.is_empty() {
        bail!("{shown} holds no certificate");
    }
    Ok(certificates)
}

/// A key as a header carries it, kept out of debug output.
pub(crate) fn secret(value: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(value).context("the key holds characters no header may have")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why no answer came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExchangeFailure {
    /// Nothing listens.
    Refused,
    /// No connection came about, for this reason.
    Unreachable(String),
    /// The system gives no more sockets.
    OutOfSockets(String),
    /// No TLS came about, for this reason.
    Untrusted(String),
    /// What answered is no HTTP.
    NotHttp,
    /// The connection was closed too early.
    Cut,
}

impl fmt::Display for ExchangeFailure {
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

impl ExchangeFailure {
    fn of(error: &reqwest::Error) -> Self {
        /// Too many open files, of this process or of the system.
        const TOO_MANY_FILES: [Option<i32>; 2] = [Some(24), Some(23)];
        let (mut last, mut system) = (None, None);
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                let hint = if is_unknown(error) { " (--ca-cert FILE trusts others)" } else { "" };
                return Self::Untrusted(format!("{}{hint}", why_untrusted(error)));
            }
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                return if error.is_parse() { Self::NotHttp } else { Self::Cut };
            }
            last = Some(error);
            cause = if let Some(error) = error.downcast_ref::<io::Error>() {
                system = Some(error);
                // Its `source` is that of the error inside.
                error.get_ref().map(|inner| inner as &(dyn Error + 'static))
            } else {
                error.source()
            };
        }
        let (Some(last), true) = (last, error.is_connect()) else { return Self::Cut };
        let is_encrypted = error.url().is_some_and(|url| url.scheme() == "https");
        match system {
            _ if error.is_dns() => {
                let host = error.url().and_then(Url::host_str).unwrap_or_default();
                Self::Unreachable(format!("the host {host} is not known ({last})"))
            }
            Some(error) if error.kind() == ErrorKind::ConnectionRefused => Self::Refused,
            Some(error) if TOO_MANY_FILES.contains(&error.raw_os_error()) => {
                Self::OutOfSockets(error.to_string())
            }
            Some(error)
                if is_encrypted
                    && [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) =>
            {
                let why = "the connection was closed while TLS began; does it speak plain http?";
                Self::Untrusted(why.to_owned())
            }
            _ => Self::Unreachable(last.to_string()),
        }
    }
}

/// Why TLS did not come about, as a clause.
pub fn why_untrusted(error: &rustls::Error) -> String {
    use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext};
    use rustls::Error::{InvalidCertificate, InvalidMessage};
    match error {
        error if is_unknown(error) => "its certificate is not signed by a trusted CA".to_owned(),
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is for another name".to_owned()
        }
        InvalidCertificate(Expired | ExpiredContext { .. }) => "its certificate has expired".to_owned(),
        InvalidMessage(_) => "what answers does not speak TLS; is it plain http?".to_owned(),
        error => error.to_string(),
    }
}

/// Whether no trusted CA has signed the certificate. The signature is bad where the issuer has the name of a trusted CA.
fn is_unknown(error: &rustls::Error) -> bool {
    use CertificateError::{BadSignature, UnknownIssuer};
    matches!(error, rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature))
}

/// Asks one question, without a key. Returns what was answered within this time.
pub fn probe(
    url: &ServerUrl,
    trust: &Trust,
    endpoint: &str,
    patience: Duration,
) -> Result<(StatusCode, Vec<u8>)> {
    let connector = ServerConnector::network(url, trust, &[])?;
    let exchange = async {
        let sent = connector.send(request(Method::GET, url.endpoint(endpoint))).await;
        let response = sent.map_err(|failure| anyhow!("{failure}"))?;
        Ok((response.status(), read(response, MAX_PROBE).await))
    };
    let answer = crate::block_on(async { timeout(patience, exchange).await })?;
    answer.unwrap_or_else(|_| Err(anyhow!("no answer came within {} s", patience.as_secs())))
}

/// A request after which the connection shall be closed.
pub(crate) fn request(method: Method, url: Url) -> Request {
    let mut request = Request::new(method, url);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    request
}

/// A request with this document as its body.
pub(crate) fn post(url: Url, document: &Value) -> Request {
    let mut request = request(Method::POST, url);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(document.to_string().into());
    request
}

/// What an answer says that it is; empty if it says nothing.
pub(crate) fn content_type(response: &Response) -> &str {
    response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// A body as far as it came, and not much more than `most` bytes of it.
pub(crate) async fn read(mut response: Response, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > most {
            break;
        }
    }
    bytes
}

/// Waits a little for the end of a body: a connection that is closed under its last bytes would look to the server like a
/// client that left.
pub(crate) async fn finish(mut response: Response) {
    let _ = timeout(CLOSING, async { while let Ok(Some(_)) = response.chunk().await {} }).await;
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
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::crypto::ring;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn urls_become_endpoints() {
        let url = |url: &str, endpoint: &str| ServerUrl::parse(url).unwrap().shown(endpoint);
        assert_eq!(url("http://127.0.0.1:8003", "/generate"), "http://127.0.0.1:8003/generate");
        assert_eq!(url("http://[::1]:80/x/", "/generate"), "http://[::1]:80/x/generate");
        for base in ["", "/", "/v1", "/v1/", "/v1/completions"] {
            let base = format!("http://host{base}");
            assert_eq!(url(&base, "/v1/completions"), "http://host:80/v1/completions", "{base}");
        }
        assert_eq!(url("https://host/x", "/stats"), "https://host:443/x/stats");
        assert_eq!(url("http://me:hush@host/x?y=1#z", ""), "http://host:80/x");
        assert!(ServerUrl::parse("host:80").is_err() && ServerUrl::parse("/generate").is_err());
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

    #[test]
    fn who_hangs_up_before_tls_may_speak_plain_http() {
        let asked = crate::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = ServerUrl::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
            let connector = ServerConnector::network(&url, &Trust::Everyone, &[]).unwrap();
            let hang_up = async { drop(listener.accept().await.unwrap()) };
            tokio::join!(connector.send(request(Method::GET, url.endpoint("/"))), hang_up).0
        });
        let failure = asked.unwrap().unwrap_err();
        assert!(matches!(failure, ExchangeFailure::Untrusted(_)), "{failure}");
    }

    /// Asks a server whose certificate is for another name, signed by itself, and which hangs up once TLS stands.
    fn ask_another(trust: &Trust) -> ExchangeFailure {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["other.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked = crate::block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{}", listener.local_addr().unwrap());
            let url = ServerUrl::parse(&url).unwrap();
            let connector = ServerConnector::network(&url, trust, &[]).unwrap();
            let serve = async { acceptor.accept(listener.accept().await.unwrap().0).await.map(drop) };
            tokio::join!(connector.send(request(Method::GET, url.endpoint("/"))), serve).0
        });
        asked.unwrap().unwrap_err()
    }

    #[test]
    fn only_a_probe_of_this_machine_trusts_everyone() {
        assert_eq!(ask_another(&Trust::Everyone), ExchangeFailure::Cut);
        assert!(matches!(ask_another(&Trust::System), ExchangeFailure::Untrusted(_)));
    }
}
