//! The listener of `METRICS_ADDR`: figures for those who collect them, on an address of their own, and nothing else.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::deadline::{Deadline, Missed};
use crate::listen::{self, Stop};
use crate::state::State;
use crate::{health, problem};

/// Connections at once: a few scrapers, each with one or two.
const CONNECTIONS: usize = 32;
/// Room for a request's headers on the wire.
const HEADER_BUFFER: usize = 16 << 10;

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
    let app = app(Arc::clone(&state));
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listen::accept(&listener, &connections) => accepted,
            // A closed channel means the same as its signal.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some((stream, permit)) = accepted else { continue };
        let (app, state, mut stop) = (app.clone(), Arc::clone(&state), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, app, &state) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, app: Router, state: &State) {
    let limits = &state.options.limits;
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(HEADER_BUFFER);
    let socket = TokioIo::new(Deadline::new(stream, limits.unread_for, Missed::default()));
    if let Err(error) = http.serve_connection(socket, TowerToHyperService::new(app)).await {
        tracing::debug!(error = %error, "a connection for metrics ended");
    }
}
