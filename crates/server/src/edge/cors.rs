//! Web pages of other origins: none may call, unless the operator names them.

use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as FromState};
use axum::http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, IF_MATCH,
    ORIGIN, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tower::{Layer, ServiceExt};
use tower_http::cors::CorsLayer;

/// How long a browser may remember what it may do.
const REMEMBERED: Duration = Duration::from_mins(10);
const ALLOWED: [HeaderName; 9] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    IF_MATCH,
    HeaderName::from_static("prefer"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-internal-api-key"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-seed"),
    HeaderName::from_static("x-trace-id"),
];
/// Prefix of the headers in which OpenAI's clients describe themselves. Each version has others, so they are allowed by
/// prefix, up to a number of headers and of characters after the prefix.
const STAINLESS: &str = "x-stainless-";
const MAX_STAINLESS: usize = 32;
const MAX_STAINLESS_CHARS: usize = 64;
const EXPOSED: [HeaderName; 3] =
    [RETRY_AFTER, HeaderName::from_static("x-request-id"), HeaderName::from_static("x-trace-id")];

/// Origins of web pages that may call, each as browsers write it: `https://chat.example`, or with a port.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Origins(Vec<HeaderValue>);

impl FromStr for Origins {
    type Err = ();

    /// From a list with commas. `*` is none: a key is for whom it was given to, and any page is anybody's.
    fn from_str(text: &str) -> Result<Self, ()> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| origin(name).ok_or(())).collect::<Result<_, _>>().map(Self)
    }
}

/// One origin, if it is one to the letter: browsers' are compared byte by byte.
fn origin(text: &str) -> Option<HeaderValue> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b);
    let port = authority.as_str().strip_prefix(authority.host())?.strip_prefix(':');
    let (usual, is_web) = (if scheme == "https" { "443" } else { "80" }, matches!(scheme, "http" | "https"));
    let is_exact = is_web
        && text == format!("{scheme}://{authority}")
        && authority.as_str().bytes().all(plain)
        && port.is_none_or(|port| port != usual && port.parse::<u16>().is_ok());
    is_exact.then(|| HeaderValue::from_str(text).ok())?
}

/// The router, behind what answers browsers' questions if there are origins to answer.
pub(crate) fn around(router: Router, origins: &Origins) -> Router {
    if origins.0.is_empty() {
        return router;
    }
    let cors = CorsLayer::new()
        .allow_origin(origins.0.clone())
        .allow_methods([Method::GET, Method::POST])
        .expose_headers(EXPOSED)
        .max_age(REMEMBERED);
    router.layer(from_fn_with_state(cors, answer))
}

/// Answers preflights, which carry no key, and marks the answers to what may follow them.
async fn answer(FromState(mut cors): FromState<CorsLayer>, request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        // The layer takes every OPTIONS for a preflight; others are for the router, which wants their key.
        if !is_preflight(request.headers()) {
            return next.run(request).await;
        }
        let allowed: Vec<HeaderName> = ALLOWED.into_iter().chain(stainless(request.headers())).collect();
        cors = cors.allow_headers(allowed);
    }
    let Ok(response) = cors.layer(next).oneshot(request).await;
    response
}

/// The `x-stainless-*` headers that a preflight asks for.
fn stainless(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let lists = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|list| list.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok());
    let is_stainless = |name: &HeaderName| {
        let rest = name.as_str().strip_prefix(STAINLESS);
        rest.is_some_and(|rest| (1..=MAX_STAINLESS_CHARS).contains(&rest.len()))
    };
    names.filter(is_stainless).take(MAX_STAINLESS)
}

fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_write_them_and_in_no_other_form() {
        for good in ["https://chat.example", "http://localhost:3000", "https://[::1]:8443", "http://10.0.0.7"]
        {
            assert_eq!(good.parse(), Ok(Origins(vec![HeaderValue::from_static(good)])), "{good}");
        }
        for wrong in [
            "*",
            "null",
            "chat.example",
            "https://chat.example/",
            "https://Chat.example",
            "HTTPS://chat.example",
            "https://*.example",
            "https://chat.example:443",
            "https://chat.example:x",
            "https://u@chat.example",
            "file:///x",
            "https://a.example,*",
        ] {
            assert_eq!(wrong.parse::<Origins>(), Err(()), "{wrong}");
        }
        assert_eq!("".parse(), Ok(Origins::default()));
    }
}
