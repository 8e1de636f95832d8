//! The routes, and the service without a socket.

use axum::Router;
use axum::body::Body;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use tower::ServiceExt;

use crate::app::App;
use crate::problem::response::{method_not_allowed, not_found};
use crate::{auth, context, edge, generate, models, openai, page, stats};

/// The service, ready to be served or tested.
pub fn router(app: App) -> Router {
    let router = Router::new();
    let router = match app.options.metrics_address {
        None => router.route("/metrics", get(stats::metrics)),
        // They have a listener of their own.
        Some(_) => router,
    };
    let router = if app.options.page { router.merge(page::routes()) } else { router };
    let router = router
        .route("/health", get(stats::health))
        .route("/livez", get(stats::livez))
        .route("/readyz", get(stats::readyz))
        .route("/generate", post(generate::generate))
        .route("/models", get(models::list))
        .route("/models/swap", post(models::swap).route_layer(from_fn(auth::require_admin)))
        .route("/stats", get(stats::stats))
        .route("/stats/history", get(stats::stats_history))
        .route("/v1/chat/completions", post(openai::chat::create))
        .route("/v1/completions", post(openai::completions::create))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*model}", get(openai::models::show))
        .route("/tokenize", post(openai::tokens::tokenize))
        .route("/detokenize", post(openai::tokens::detokenize))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), auth::require_key))
        .with_state(app.clone());
    edge::cors::around(router, &app.options.edge.cors_origins)
        .layer(from_fn_with_state(app.options.edge.allowed_hosts.clone(), edge::host::check))
        .layer(from_fn_with_state(app, context::follow))
}

/// The routes of `METRICS_ADDR`: metrics for those who collect them, and nothing else.
pub(crate) fn metrics_router(app: App) -> Router {
    Router::new()
        .route("/metrics", get(stats::metrics))
        .route("/livez", get(stats::livez))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// Answers a request of this process as the service on a network would, key and Host header included. Dropping the body of
/// a stream ends its answer.
pub async fn answer(app: App, request: Request<Full<Bytes>>) -> Response<Body> {
    match router(app).oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
