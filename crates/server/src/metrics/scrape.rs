//! The listener of `METRICS_ADDR`: metrics for those who collect them, on an address of their own, and nothing else.

use axum::Router;
use axum::routing::get;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use crate::app::App;
use crate::connections::Connections;
use crate::listen::{self, HttpServer, Stop};
use crate::problem::response::{method_not_allowed, not_found};
use crate::stats;

/// Connections at once: a few scrapers, each with one or two.
const CONNECTIONS: usize = 32;

fn routes(app: App) -> Router {
    Router::new()
        .route("/metrics", get(stats::metrics))
        .route("/livez", get(stats::livez))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// Serves `/metrics` and `/livez` until `stop` says so. Scrapes are short, so that nothing has to be drained.
pub async fn serve_metrics(listener: TcpListener, app: App, mut stop: Stop) {
    let connections = Connections::new(CONNECTIONS);
    let server = HttpServer::new(routes(app.clone()), &listener, connections, app).without_tls();
    server.accept_until(&listener, &GracefulShutdown::new(), listen::ending(&mut stop)).await;
}
