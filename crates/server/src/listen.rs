//! Sockets, and stopping: accept connections, serve HTTP/1.1 on each, and end without cutting an answer.

use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::clock;
use crate::deadline::{Deadline, Missed};
use crate::state::State;

/// Room for a request's headers on the wire; larger than the limit that is explained to callers, so that they
/// get the explanation.
const HEADER_BUFFER: usize = 64 << 10;
/// Header lines on the wire; their bytes are limited anyway.
const HEADERS: usize = 512;
/// How often streams are counted while the server stops.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long connections may take to close once their streams are over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells a server to stop: drop it, or send.
pub type Stop = watch::Receiver<bool>;

/// Serves until `stop` says so, then drains: no new requests, open streams finish within the drain timeout and
/// the rest end with an error event.
pub async fn serve(listener: TcpListener, state: Arc<State>, mut stop: Stop) {
    let app = crate::app(Arc::clone(&state));
    let limits = state.options.limits.clone();
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    // Connections are taken until the last stream is over: probes and callers hear that the server drains.
    let mut drained = std::pin::pin!(async {
        // A closed channel means the same as its signal.
        let _ = stop.wait_for(|stop| *stop).await;
        drain(&state).await;
    });
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut drained => break,
        };
        let Some((stream, permit)) = accepted else { continue };
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
        http.max_buf_size(HEADER_BUFFER).max_headers(HEADERS);
        let missed = Missed::default();
        let told = missed.clone();
        let service =
            TowerToHyperService::new(app.clone().map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(told.clone());
                request
            }));
        let socket = TokioIo::new(Deadline::new(stream, limits.unread_for, missed));
        let connection = graceful.watch(http.serve_connection(socket, service));
        tokio::spawn(async move {
            // Errors here are the other side's: cut connections, bad requests that hyper answered.
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, graceful.shutdown()).await;
}

/// Waits for room, then for a connection.
pub(crate) async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Tokens are small and each should leave at once.
            let _ = stream.set_nodelay(true);
            Some((stream, permit))
        }
        Err(error) => {
            // Out of file descriptors, most likely: trying again at once would only spin.
            tracing::warn!(error = %error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn drain(state: &State) {
    state.drain();
    let begun = clock::now();
    let timeout = state.options.drain_timeout;
    tracing::info!(open_streams = state.open_streams(), timeout_s = timeout.as_secs(), "stopping");
    while state.open_streams() > 0 && begun.elapsed() < timeout {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    if state.open_streams() > 0 {
        tracing::warn!(open_streams = state.open_streams(), "streams are ended after the drain timeout");
        state.abort_streams();
        let begun = clock::now();
        while state.open_streams() > 0 && begun.elapsed() < CLOSE_TIMEOUT {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}
