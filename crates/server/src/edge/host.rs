//! Which names this server answers to.
//!
//! A web page can have its own name resolve to 127.0.0.1 and then reads what a loopback server says as if it were its
//! own (DNS rebinding). Its browser still names it in the Host header, which no page can change: so a server on a
//! loopback address answers to this machine's names, and to those that the operator lists.

use std::net::IpAddr;
use std::str::FromStr;

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::paths::PUBLIC;
use crate::problem::{Code, Problem};
use crate::request_ids::RequestIds;

/// What the socket that took a request listens on; handlers find it among a request's extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listening {
    /// An address that only this machine reaches.
    Loopback,
    /// Any other.
    Network,
}

impl Listening {
    /// On an address; on a loopback one if it is not known.
    pub(crate) fn on(address: std::io::Result<std::net::SocketAddr>) -> Self {
        let is_loopback = address.map_or(true, |address| address.ip().to_canonical().is_loopback());
        if is_loopback { Self::Loopback } else { Self::Network }
    }

    /// Of a request; those that came through no socket are for no browser.
    pub(crate) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().copied().unwrap_or(Self::Network)
    }
}

/// Names in a Host header that are taken beside those of this machine.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct AllowedHosts(Vec<HostPattern>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum HostPattern {
    Address(IpAddr),
    /// In lower case.
    Name(String),
    /// What a name must end with, its first dot included.
    Below(String),
}

impl FromStr for AllowedHosts {
    type Err = ();

    /// From a list with commas: names, addresses, and `*.SUFFIX` for all names below one. No ports; no `*` alone.
    fn from_str(text: &str) -> Result<Self, ()> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| pattern(name).ok_or(())).collect::<Result<_, _>>().map(Self)
    }
}

fn pattern(text: &str) -> Option<HostPattern> {
    if let Some(address) = address(text) {
        return Some(HostPattern::Address(address));
    }
    let is_name = |name: &str| {
        let of_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        name.bytes().all(of_name) && name.split('.').all(|label| !label.is_empty())
    };
    let name = text.to_ascii_lowercase();
    match name.strip_prefix("*.") {
        Some(suffix) if is_name(suffix) => Some(HostPattern::Below(format!(".{suffix}"))),
        None if is_name(&name) => Some(HostPattern::Name(name)),
        _ => None,
    }
}

/// An IP address, in brackets or not. IPv4 in IPv6 is IPv4.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

impl AllowedHosts {
    /// Whether a host, without its port, is one of this machine's names or listed.
    fn take(&self, host: &str) -> bool {
        let address = address(host);
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_here = name == "localhost" || address.is_some_and(|address| address.is_loopback());
        let matches = |pattern: &HostPattern| match pattern {
            HostPattern::Address(allowed) => address == Some(*allowed),
            HostPattern::Name(allowed) => name == *allowed,
            HostPattern::Below(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
        };
        is_here || self.0.iter().any(matches)
    }
}

/// Lets a request through if the host that it names is one of ours.
pub(crate) async fn check(State(allowed): State<AllowedHosts>, request: Request, next: Next) -> Response {
    match refusal(&allowed, &request) {
        None => next.run(request).await,
        Some(problem) => problem.response(&RequestIds::of(&request)),
    }
}

fn refusal(allowed: &AllowedHosts, request: &Request) -> Option<Problem> {
    let named = match named(request.headers()) {
        Ok(named) => named,
        Err(detail) => return Some(Problem::new(Code::InvalidHost, detail)),
    };
    // A whole URL as the target outranks the header, and has to agree with it.
    let target = request.uri().authority();
    if let (Some(target), Some(named)) = (target, &named)
        && !target.as_str().eq_ignore_ascii_case(named.as_str())
    {
        let detail = "The request names one host in its target and another one in its Host header.";
        return Some(Problem::new(Code::InvalidHost, detail));
    }
    let host = target.or(named.as_ref()).map(Authority::host);
    if host.is_none() && request.version() != Version::HTTP_10 {
        return Some(Problem::new(Code::InvalidHost, "The request has no Host header."));
    }
    // Kubelets and load balancers ask pods by address, some of them in HTTP/1.0, which has no Host; browsers never do.
    let is_public = PUBLIC.contains(&request.uri().path());
    let accepted = match (Listening::of(request), host) {
        (Listening::Network, _) if allowed.0.is_empty() || is_public => true,
        (_, Some(host)) => allowed.take(host),
        (_, None) => is_public,
    };
    let detail =
        "The server does not answer to the name in the request's Host header; its ALLOWED_HOSTS may list it.";
    (!accepted).then(|| Problem::new(Code::HostNotAllowed, detail))
}

/// The Host header, or what is wrong with it.
fn named(headers: &HeaderMap) -> Result<Option<Authority>, &'static str> {
    let mut values = headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.get(HOST) {
            None => Ok(None),
            Some(_) => Err("The request has more than one Host header."),
        };
    };
    let authority = Authority::try_from(value.as_bytes()).ok().filter(is_host);
    authority.map(Some).ok_or("The Host header holds no host.")
}

/// Whether it is a host and at most a port, which may be empty.
fn is_host(authority: &Authority) -> bool {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("" | ":") => true,
        Some(_) => authority.port_u16().is_some(),
        // It begins with the name of a user.
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, hosts: &[&'static str]) -> Request {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(axum::body::Body::empty()).unwrap()
    }

    fn outcome(allowed: &str, listening: Listening, mut request: Request) -> Option<Code> {
        request.extensions_mut().insert(listening);
        refusal(&allowed.parse().unwrap(), &request).map(|problem| problem.code)
    }

    #[test]
    fn on_loopback_only_this_machines_names_and_those_listed_are_taken() {
        let ask =
            |allowed, host| outcome(allowed, Listening::Loopback, request(Version::HTTP_11, "/", &[host]));
        for here in ["localhost", "LocalHost:8003", "localhost.", "127.0.0.1:8003", "127.9.9.9", "[::1]:80"] {
            assert_eq!(ask("", here), None, "{here}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evillocalhost",
            "0.0.0.0:8003",
            "10.0.0.7",
            "[::]",
            "2130706433",
            "0x7f.1",
        ] {
            assert_eq!(ask("", other), Some(Code::HostNotAllowed), "{other}");
        }
        let list = "Inference.Example, *.svc.local, 10.0.0.7, [fd00::1]";
        for listed in ["inference.example:80", "a.b.SVC.local.", "10.0.0.7:8003", "[fd00::1]", "localhost"] {
            assert_eq!(ask(list, listed), None, "{listed}");
        }
        for other in ["svc.local", "xsvc.local", "www.inference.example", "10.0.0.8"] {
            assert_eq!(ask(list, other), Some(Code::HostNotAllowed), "{other}");
        }
        for broken in ["", "a b", "user@localhost", "localhost:port", "http://localhost", "a/b"] {
            assert_eq!(ask("", broken), Some(Code::InvalidHost), "{broken:?}");
        }
    }

    #[test]
    fn elsewhere_names_count_once_they_are_listed_but_not_for_probes() {
        let ask = |allowed, path, hosts: &[_]| {
            outcome(allowed, Listening::Network, request(Version::HTTP_11, path, hosts))
        };
        assert_eq!(ask("", "/stats", &["anything.example"]), None);
        assert_eq!(ask("a.example", "/stats", &["b.example"]), Some(Code::HostNotAllowed));
        assert_eq!(ask("a.example", "/readyz", &["10.1.2.3:8003"]), None);
        for path in ["/stats", "/readyz"] {
            assert_eq!(ask("", path, &[]), Some(Code::InvalidHost), "{path}");
            assert_eq!(ask("", path, &["a.example", "a.example"]), Some(Code::InvalidHost), "{path}");
        }
    }

    #[test]
    fn a_whole_url_counts_as_the_host_and_http_1_0_needs_none_for_probes() {
        let ask =
            |version, target, hosts: &[_]| outcome("", Listening::Loopback, request(version, target, hosts));
        let http_11 = |target, hosts: &[_]| ask(Version::HTTP_11, target, hosts);
        assert_eq!(http_11("http://localhost/stats", &["localhost"]), None);
        assert_eq!(http_11("http://evil.example/stats", &["localhost"]), Some(Code::InvalidHost));
        assert_eq!(http_11("http://evil.example/stats", &["evil.example"]), Some(Code::HostNotAllowed));
        assert_eq!(ask(Version::HTTP_10, "/readyz", &[]), None);
        assert_eq!(ask(Version::HTTP_10, "/stats", &[]), Some(Code::HostNotAllowed));
        assert_eq!(ask(Version::HTTP_10, "/readyz", &["evil.example"]), Some(Code::HostNotAllowed));
    }

    #[test]
    fn lists_hold_names_addresses_and_suffixes() {
        for wrong in
            ["*", "*.", "*.*.example", "a.example:80", "https://a.example", "a..b", ".example", "a b"]
        {
            assert_eq!(wrong.parse::<AllowedHosts>(), Err(()), "{wrong}");
        }
        assert_eq!("".parse(), Ok(AllowedHosts::default()));
    }
}
