//! Who may call: whoever has a key, everywhere but on the public paths; and who may swap, where that takes another one.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::keys;
use crate::options::Options;
use crate::paths::is_public;
use crate::problem::{Code, ErrorShape, Problem};
use crate::request_ids::RequestIds;

const KEY_HEADER: &str = "x-internal-api-key";
const BEARER: &[u8] = b"bearer";

/// Who calls.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    /// The hash of their key. Callers with different keys share no computed prefixes.
    pub(crate) scope: engine::Scope,
    /// Whether that key may change what the service serves.
    is_admin: bool,
}

/// Lets a request through if its path is public or its key is known.
pub(crate) async fn require_key(
    State(options): State<Arc<Options>>,
    mut request: Request,
    next: Next,
) -> Response {
    if is_public(request.uri().path()) {
        return next.run(request).await;
    }
    match caller(&options, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.response(&RequestIds::of(&request)),
    }
}

fn caller(options: &Options, request: &Request) -> Result<Caller, Problem> {
    let (internal, admin) = (&options.keys, &options.edge.admin_keys);
    if internal.is_empty() && admin.is_empty() {
        let detail = "No internal API key is configured, so nobody may call.";
        return Err(Problem::new(Code::NotConfigured, detail).retry_after(60));
    }
    let key = key(request.headers()).unwrap_or_default();
    let scope = keys::hash(key);
    // Both are always looked through, so that the time tells nothing.
    let (is_internal, is_admin) = (internal.hold(&scope), admin.hold(&scope));
    if !bool::from(is_internal | is_admin) {
        let detail = match ErrorShape::at(request.uri().path()) {
            ErrorShape::Details => "Invalid internal API key",
            ErrorShape::OpenAi => "The API key is missing or wrong; send one as `Authorization: Bearer KEY`.",
        };
        return Err(Problem::new(Code::Unauthorized, detail));
    }
    Ok(Caller { scope, is_admin: admin.is_empty() || is_admin.into() })
}

/// The one key that is sent, as `X-Internal-API-Key` or as a bearer's. Of two keys nobody could say which one counts.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut named = headers.get_all(KEY_HEADER).iter().map(HeaderValue::as_bytes);
    let mut borne = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let (one, other) = (named.next(), borne.next());
    if named.next().is_some() || borne.next().is_some() {
        return None;
    }
    match (one, other) {
        (Some(one), Some(other)) => (keys::hash(one) == keys::hash(other)).then_some(one),
        (one, other) => one.or(other),
    }
}

/// The key of an `Authorization` header, which may be empty; other schemes have none.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    let (scheme, key) = value.split_at(end);
    scheme.eq_ignore_ascii_case(BEARER).then(|| key.trim_ascii())
}

/// Lets a request through if its key is an admin key, or there are none.
pub(crate) async fn require_admin(request: Request, next: Next) -> Response {
    if request.extensions().get::<Caller>().is_some_and(|caller| caller.is_admin) {
        return next.run(request).await;
    }
    let detail =
        "This takes an admin key (ADMIN_API_KEY) in X-Internal-API-Key; an internal key is not enough.";
    Problem::new(Code::Forbidden, detail).response(&RequestIds::of(&request))
}
