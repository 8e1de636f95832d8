//! Who may call: whoever has the key, everywhere but on the public paths.

use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::middleware::Next;
use axum::response::Response;

use crate::PUBLIC;
use crate::context::RequestIds;
use crate::problem::{Code, Problem};
use crate::state::State;

const KEY_HEADER: &str = "x-internal-api-key";

/// Who calls: the hash of their key. Callers with different keys share no computed prefixes.
#[derive(Clone, Copy)]
pub(crate) struct Caller(pub(crate) engine::Scope);

/// Lets a request through if its path is public or its key is known.
pub(crate) async fn require_key(
    FromState(state): FromState<Arc<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    if PUBLIC.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let keys = &state.options.keys;
    let problem = if keys.is_empty() {
        Problem::new(Code::NotConfigured, "No internal API key is configured, so nobody may call.")
            .retry_after(60)
    } else {
        let key = request.headers().get(KEY_HEADER).map_or(&[][..], |value| value.as_bytes());
        if let Some(hash) = keys.find(key) {
            request.extensions_mut().insert(Caller(hash));
            return next.run(request).await;
        }
        Problem::new(Code::Unauthorized, "Invalid internal API key")
    };
    problem.response(&RequestIds::of(&request))
}
