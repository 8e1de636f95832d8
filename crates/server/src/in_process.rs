//! The service without a socket, for callers in the same process: the same routes, checks, limits and errors.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use tower::ServiceExt;

use crate::State;

/// Answers a request as the service on a network would, key and Host header included. Dropping the body of a stream ends
/// its answer.
pub async fn answer(state: Arc<State>, request: Request<Full<Bytes>>) -> Response<Body> {
    match crate::app(state).oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
