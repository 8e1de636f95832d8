//! Headers that tell browsers to make nothing more of an answer than it is.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const NO_CONTENT: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// A year. Without the names below ours: whose those are, is not known here.
const ALWAYS_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Whether callers are told to come by TLS from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// They came without, or to a loopback address: all programs behind `localhost` share its name.
    Any,
    /// Yes.
    AlwaysTls,
}

/// Adds what is missing of them; a handler's own word stands.
///
/// The resource policy stays with CORS too: it concerns requests that ask for no permission, and those that CORS lets in
/// have asked for one.
pub(crate) fn add(headers: &mut HeaderMap, transport: Transport) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NO_CONTENT);
    if transport == Transport::AlwaysTls {
        headers.insert(STRICT_TRANSPORT_SECURITY, ALWAYS_TLS);
    }
}
