//! The listener of `METRICS_ADDR`: figures for those who collect them, on an address of their own, and nothing else.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use crate::connections::Connections;
use crate::listen::{self, Server, Stop};
use crate::state::State;
use crate::{health, problem};

/// Connections at once: a few scrapers, each with one or two.
const CONNECTIONS: usize = 32;

fn app(state: Arc<State>) -> Router {
    Router::new()
        .route("/metrics", get(super::metrics))
        .route("/livez", get(health::livez))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(state)
}

/// Serves `/metrics` and `/livez` until `stop` says so. Scrapes are short, so that nothing has to be drained.
pub async fn serve_metrics(listener: TcpListener, state: Arc<State>, mut stop: Stop) {
    let connections = Connections::new(CONNECTIONS);
    let server = Server::new(app(Arc::clone(&state)), &listener, connections, state).without_tls();
    server.accept_until(&listener, &GracefulShutdown::new(), listen::ending(&mut stop)).await;
}
