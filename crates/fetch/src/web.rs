//! HTTP and TLS for every source: one client, one redirect policy, one reading of what servers answer.
//!
//! Redirects are followed here and not by the client, since each hop decides whether it is allowed and whether
//! it may see the token.

use std::error::Error as _;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use reqwest::Url;

use crate::FetchSettings;
use crate::error::Error;
use crate::retry::RequestFault;

/// Redirects that one request may follow.
const MAX_REDIRECTS: usize = 5;
/// What is read of a refusal's body, in bytes.
const MAX_REFUSAL: usize = 16 << 10;
/// What is shown of a sentence that a server wrote, in characters.
const MAX_SHOWN: usize = 200;

/// An HTTP client that keeps to the operator's hosts.
pub(crate) struct Web {
    client: reqwest::Client,
    redirect_hosts: Vec<String>,
    wait: Duration,
    /// What must not come back in a server's words.
    secrets: Vec<String>,
}

/// What a request says beside its URL.
#[derive(Clone, Default)]
pub(crate) struct WebRequest {
    pub(crate) headers: HeaderMap,
    /// A header for the first origin alone, never for one it redirects to.
    pub(crate) authorization: Option<HeaderValue>,
    /// Redirect hosts beside those of the operator.
    pub(crate) redirect_hosts: &'static [&'static str],
}

/// What identifies the version of a file that a server has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Version {
    pub(crate) etag: Option<String>,
    pub(crate) modified: Option<String>,
}

impl Version {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(header::ETAG), modified: text(header::LAST_MODIFIED) }
    }

    /// Whether two answers can be of one version: what only one of them says tells nothing.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        if self.etag.is_some() && other.etag.is_some() {
            return self.etag == other.etag;
        }
        same(&self.modified, &other.modified)
    }

    /// Whether it tells anything.
    pub(crate) fn is_known(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// The header that has the server notice a change. Weak tags are not for ranges.
    pub(crate) fn condition(&self, headers: &mut HeaderMap) {
        let strong = self.etag.as_deref().filter(|etag| etag.starts_with('"'));
        if let Some(value) = strong.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(header::IF_MATCH, value);
        }
    }
}

/// A body with the bytes that were asked for, or the whole file because the server does not know ranges.
pub(crate) enum OpenedFile<B> {
    Part(B),
    Whole(B),
}

impl Web {
    pub(crate) fn new(settings: &FetchSettings) -> Result<Self, Error> {
        // Another part of the process may have chosen a provider before, which is as good.
        let _already_chosen = rustls::crypto::ring::default_provider().install_default();
        let client = builder(settings).build().or_else(|error| {
            // A machine without certificates can still speak plain HTTP to its own network.
            tracing::warn!("no TLS connection can be verified: {}", reason(&error));
            builder(settings).tls_certs_only([]).build()
        });
        let client = client.map_err(|error| Error::Tls { reason: reason(&error) })?;
        Ok(Self {
            client,
            redirect_hosts: settings.redirect_hosts.clone(),
            wait: settings.stall_window.max(settings.connect_timeout),
            secrets: settings.secrets(),
        })
    }

    /// Sends a GET, follows allowed redirects, and tells success from refusals and passing failures.
    pub(crate) async fn get(&self, url: &Url, ask: &WebRequest) -> Result<reqwest::Response, RequestFault> {
        let mut url = url.clone();
        let first = url.origin();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = reqwest::Request::new(Method::GET, url.clone());
            request.headers_mut().clone_from(&ask.headers);
            if let Some(value) = ask.authorization.as_ref().filter(|_| url.origin() == first) {
                request.headers_mut().insert(header::AUTHORIZATION, value.clone());
            }
            let response = self.send(request).await?;
            if !response.status().is_redirection() {
                return self.judge(response).await;
            }
            url = self.redirect(&url, response.headers(), ask.redirect_hosts)?;
        }
        Err(RequestFault::passing(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Success as it is; everything else as what it means.
    pub(crate) async fn judge(
        &self,
        mut response: reqwest::Response,
    ) -> Result<reqwest::Response, RequestFault> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if matches!(status.as_u16(), 408 | 425 | 429 | 500..=599) {
            let wait =
                matches!(status.as_u16(), 429 | 503).then(|| retry_after(response.headers())).flatten();
            return Err(RequestFault::Passing { reason: format!("status {}", status.as_u16()), wait });
        }
        let said = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.map(|text| self.harmless(text)).unwrap_or_default()
        };
        let (mut code, message) = (said("x-error-code"), said("x-error-message"));
        if code.is_empty() {
            let region = said("x-amz-bucket-region");
            let body = head_of_body(&mut response).await;
            code = tag_of(&body, "Code").map(|text| self.harmless(text)).unwrap_or_default();
            if !region.is_empty() && status.is_redirection() {
                code = format!("the bucket is in region {region}, set AWS_REGION");
            }
        }
        Err(RequestFault::Status { host: host_of(response.url()), status: status.as_u16(), code, message })
    }

    /// A server's words as they may be repeated: it may say the token back that it was sent.
    fn harmless(&self, text: &str) -> String {
        let masked = |text: String, secret: &String| text.replace(secret.as_str(), "********");
        shown(&self.secrets.iter().fold(text.to_owned(), masked))
    }

    /// Sends one request as it is, bounded until the answer begins.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, RequestFault> {
        match tokio::time::timeout(self.wait, self.client.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(RequestFault::passing(format!("no answer within {} s", self.wait.as_secs_f32()))),
        }
    }

    /// Asks for a part of a file, or for all of it.
    pub(crate) async fn open(
        &self,
        url: &Url,
        mut ask: WebRequest,
        range: Option<Range<u64>>,
        expected: (u64, &Version),
    ) -> Result<OpenedFile<reqwest::Response>, RequestFault> {
        let (size, version) = expected;
        version.condition(&mut ask.headers);
        if let Some(range) = &range {
            let value = HeaderValue::from_str(&format!("bytes={}-{}", range.start, range.end - 1));
            let value = value.map_err(|_| RequestFault::passing("a range that is no header"))?;
            ask.headers.insert(header::RANGE, value);
        }
        let response = match self.get(url, &ask).await {
            Err(RequestFault::Status { status: 412 | 416, .. }) => return Err(RequestFault::Changed),
            other => other?,
        };
        if !Version::of(response.headers()).agrees(version) {
            return Err(RequestFault::Changed);
        }
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            return Err(RequestFault::passing("an encoded body, which was not asked for"));
        }
        match (response.status(), range) {
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                check_range(response.headers(), &range, size)?;
                Ok(OpenedFile::Part(response))
            }
            (StatusCode::PARTIAL_CONTENT, None) => {
                Err(RequestFault::passing("a part instead of the whole file"))
            }
            _ if response.content_length().is_some_and(|length| length != size) => Err(RequestFault::Changed),
            (_, Some(range)) if range == (0..size) => Ok(OpenedFile::Part(response)),
            _ => Ok(OpenedFile::Whole(response)),
        }
    }

    fn redirect(&self, from: &Url, headers: &HeaderMap, more: &[&str]) -> Result<Url, RequestFault> {
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| from.join(location).ok());
        let to = to.ok_or_else(|| RequestFault::passing("a redirect to nowhere"))?;
        let hosts = self.redirect_hosts.iter().map(String::as_str).chain(more.iter().copied());
        if may_redirect(from, &to, hosts) {
            return Ok(to);
        }
        Err(Error::Redirect { from: host_of(from), to: format!("{}://{}", to.scheme(), host_of(&to)) }.into())
    }
}

fn builder(settings: &FetchSettings) -> reqwest::ClientBuilder {
    // Without this header a server may send any encoding, and sizes and ranges would be of that.
    let as_it_is = [(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
    let builder = reqwest::Client::builder()
        .default_headers(HeaderMap::from_iter(as_it_is))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .user_agent(concat!("samosa/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .referer(false);
    if settings.proxies { builder } else { builder.no_proxy() }
}

/// Whether a redirect may be followed: within one origin, or to a host of the list, and never out of TLS.
fn may_redirect<'a>(from: &Url, to: &Url, mut hosts: impl Iterator<Item = &'a str>) -> bool {
    let plain =
        matches!(to.scheme(), "http" | "https") && to.username().is_empty() && to.password().is_none();
    let keeps_tls = to.scheme() == "https" || from.scheme() == "http";
    plain && keeps_tls && (from.origin() == to.origin() || hosts.any(|entry| is_host(entry, to)))
}

/// Whether a URL's host is `host`, `host:port` or below `*.suffix`. Without a port only the scheme's own counts.
fn is_host(entry: &str, url: &Url) -> bool {
    let (host, entry) = (host_of(url), entry.to_ascii_lowercase());
    match entry.strip_prefix("*.") {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == entry,
    }
}

/// Host and port of a URL, for the log and for errors: paths and queries may carry signatures.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The beginning of a refusal's body. That it breaks off is no matter.
async fn head_of_body(response: &mut reqwest::Response) -> String {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_REFUSAL {
                break;
            }
        }
    };
    let _too_slow = tokio::time::timeout(Duration::from_secs(2), read).await;
    String::from_utf8_lossy(&body).into_owned()
}

/// The text of an element in the XML that stores answer with.
fn tag_of<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once('<').map(|(text, _)| text)
}

/// A server's words on one line, shortened.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect()
}

/// How long a server asks to wait: in `Retry-After`, or until the window of its `RateLimit` ends, as the Hub has
/// it (`"api";r=0;t=55`). A date is not taken: it needs a clock that agrees.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let after = text("retry-after").trim().parse().ok();
    let seconds = after.or_else(|| {
        let mut parameters = text("ratelimit").split(';').map(str::trim);
        parameters.find_map(|parameter| parameter.strip_prefix("t=")?.parse().ok())
    });
    seconds.map(Duration::from_secs)
}

/// Whether a partial answer is the part that was asked for, of the file that was listed.
fn check_range(headers: &HeaderMap, range: &Range<u64>, size: u64) -> Result<(), RequestFault> {
    let value = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parsed = content_range(value);
    match parsed {
        Some((_, Some(total))) if total != size => Err(RequestFault::Changed),
        Some((Some(found), _)) if found == *range => Ok(()),
        _ => Err(RequestFault::passing(format!(
            "bytes {range:?} were asked for, and \"{}\" came",
            shown(value)
        ))),
    }
}

/// `bytes 0-9/100`, also with `*` for either side.
pub(crate) fn content_range(value: &str) -> Option<(Option<Range<u64>>, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some((Some(first..last.checked_add(1)?), total))
}

/// A failure below HTTP. Certificates do not heal by asking again.
pub(crate) fn failed(error: &reqwest::Error) -> RequestFault {
    let reason = reason(error);
    if reason.contains("certificate") {
        return Error::Tls { reason }.into();
    }
    RequestFault::passing(reason)
}

/// What an error and its causes say, without the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !causes.iter().any(|known: &String| known.contains(&text)) {
            causes.push(text);
        }
        next = cause.source();
    }
    if causes.is_empty() { "the connection failed".to_owned() } else { shown(&causes.join(": ")) }
}

/// Reads a body that is small or not taken.
pub(crate) async fn read_small(
    mut response: reqwest::Response,
    limit: usize,
    wait: Duration,
) -> Result<Option<Vec<u8>>, RequestFault> {
    let mut body: Vec<u8> = Vec::new();
    loop {
        let next = tokio::time::timeout(wait, response.chunk()).await;
        let next = next.map_err(|_| RequestFault::passing("the body stalled"))?;
        let Some(bytes): Option<Bytes> = next.map_err(|error| failed(&error))? else {
            return Ok(Some(body));
        };
        if body.len() + bytes.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirects(from: &str, to: &str, hosts: &[&str]) -> bool {
        may_redirect(&from.parse().unwrap(), &to.parse().unwrap(), hosts.iter().copied())
    }

    #[test]
    fn redirects_stay_with_the_origin_and_the_list() {
        let hub = "https://huggingface.co/a";
        let list = ["*.hf.co", "mirror.example:8443", "plain.example"];
        for to in [
            "https://huggingface.co/b",
            "https://cdn.hf.co/x?sig=1",
            "https://a.b.hf.co/x",
            "https://mirror.example:8443/x",
            "https://plain.example/x",
        ] {
            assert!(redirects(hub, to, &list), "{to}");
        }
        for to in [
            "http://huggingface.co/b",
            "http://cdn.hf.co/x",
            "https://hf.co/x",
            "https://evilhf.co/x",
            "https://cdn.hf.co:444/x",
            "https://cdn.hf.co.evil.example/x",
            "https://mirror.example/x",
            "https://plain.example:8443/x",
            "https://user@cdn.hf.co/x",
            "https://169.254.169.254/latest",
            "file:///etc/passwd",
        ] {
            assert!(!redirects(hub, to, &list), "{to}");
        }
        for entry in ["*.HF.co", "CDN.hf.co"] {
            assert!(redirects(hub, "https://cdn.hf.co/x", &[entry]), "{entry}");
        }
        assert!(!redirects(hub, "https://cdn.hf.co./x", &list), "a dot at the end is another name");
        assert!(redirects("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", &["127.0.0.1:2"]));
        assert!(!redirects("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", &["127.0.0.1"]));
    }

    #[test]
    fn a_server_that_says_secrets_back_is_not_repeated() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = FetchSettings {
            hf_token: Some("hf_hush".to_owned()),
            s3: vec![
                pair("AWS_REGION", "here"),
                pair("AWS_SECRET_ACCESS_KEY", "a+hush"),
                pair("AWS_SESSION_TOKEN", "hush/b"),
            ],
            ..FetchSettings::default()
        };
        let web = Web::new(&settings).unwrap();
        let said = web.harmless("Bearer hf_hush, hush/b\nand a+hush are not for here");
        assert_eq!(said, "Bearer ********, ******** and ******** are not for here");
    }

    #[test]
    fn ranges_that_servers_name() {
        assert_eq!(content_range("bytes 0-9/100"), Some((Some(0..10), Some(100))));
        assert_eq!(content_range("bytes 5-5/*"), Some((Some(5..6), None)));
        assert_eq!(content_range("bytes */0"), Some((None, Some(0))));
        for wrong in
            ["", "bytes", "items 0-1/2", "bytes 1/2", "bytes a-b/c", "bytes 0-18446744073709551615/1"]
        {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn waits_that_servers_ask_for() {
        let wait = |name: &'static str, value: &'static str| {
            let headers = [(header::HeaderName::from_static(name), HeaderValue::from_static(value))];
            retry_after(&HeaderMap::from_iter(headers)).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("retry-after", "7"), Some(7));
        assert_eq!(wait("ratelimit", "\"api\";r=0;t=55"), Some(55));
        assert_eq!(wait("ratelimit", "\"resolvers\"; r=0; t=189"), Some(189));
        for (name, value) in [
            ("retry-after", "Sun, 22 Nov 2026 17:00:00 GMT"),
            ("ratelimit", "\"api\";r=0"),
            ("ratelimit", "t=x"),
        ] {
            assert_eq!(wait(name, value), None, "{value}");
        }
    }

    #[test]
    fn versions_agree_unless_both_speak_and_differ() {
        let version = |etag: Option<&str>, modified: Option<&str>| Version {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
        };
        assert!(version(Some("\"a\""), None).agrees(&version(None, Some("today"))));
        assert!(version(Some("\"a\""), Some("x")).agrees(&version(Some("\"a\""), Some("y"))));
        assert!(!version(Some("\"a\""), None).agrees(&version(Some("\"b\""), None)));
        assert!(!version(None, Some("x")).agrees(&version(None, Some("y"))));
        let mut headers = HeaderMap::new();
        version(Some("W/\"a\""), None).condition(&mut headers);
        assert!(headers.is_empty(), "a weak tag never matches a range");
        version(Some("\"a\""), None).condition(&mut headers);
        assert_eq!(headers[header::IF_MATCH], "\"a\"");
    }
}
