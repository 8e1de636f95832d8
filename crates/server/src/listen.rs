//! Sockets, and stopping: accept connections, serve HTTP/1.1 on each, and end without cutting an answer.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::App;
use crate::body_drain::Unread;
use crate::clock;
use crate::connections::reject;
use crate::connections::write_timeout::{TimedSocket, WriteTimeout};
use crate::connections::{Closed, ConnectionSlot, ConnectionState, Connections};
use crate::edge::host::Listening;
use crate::edge::tls::{self, Tls};
use crate::lifecycle::Ending;
use crate::routes::{metrics_router, router};

/// Room for a request's headers on the wire; larger than the limit that is explained to callers, so that they
/// get the explanation.
const HEADER_BUFFER: usize = 64 << 10;
/// Header lines on the wire; their bytes are limited anyway.
const HEADERS: usize = 512;
/// Connections at once to the listener of metrics: a few scrapers, each with one or two.
const METRICS_CONNECTIONS: usize = 32;
/// How often streams are counted while the server stops.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// How long connections may take to close once their streams are over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long idle connections are kept after another process took over, so that a request already on its way is
/// answered.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Whether a server goes on; once it has to end it cannot go on again.
pub type Stop = watch::Receiver<Option<Ending>>;

/// Serves until `stop` says how to end, then finishes open streams within the drain timeout; the rest end with an
/// error event.
pub async fn serve(listener: TcpListener, app: App, mut stop: Stop) {
    // It ends with this function, however that ends.
    let mut beside = JoinSet::new();
    let seconds = app.options.limits.history_seconds;
    beside.spawn(Arc::clone(&app.telemetry).record_history(Arc::clone(&app.models), seconds));
    let graceful = GracefulShutdown::new();
    let connections = Arc::clone(&app.lifecycle.connections);
    let server = HttpServer::new(router(app.clone()), &listener, connections, app.clone());
    let ending = server.accept_until(&listener, &graceful, ending(&mut stop)).await;
    match ending {
        Ending::Drain => {
            // Connections are taken until the last stream is over: probes and callers hear that the server drains.
            let mut drained = pin!(drain(&app));
            let is_over = async {
                tokio::select! {
                    () = drained.as_mut() => true,
                    () = relieved(&mut stop) => false,
                }
            };
            let is_over = server.accept_until(&listener, &graceful, is_over).await;
            drop(listener);
            if !is_over {
                drained.await;
            }
        }
        Ending::HandOver => {
            // Whoever has the socket now takes the connections that wait in it.
            drop(listener);
            hand_over(&app).await;
        }
    }
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, graceful.shutdown()).await;
}

/// Serves `/metrics` and `/livez` on an address of their own until `stop` says so. Scrapes are short, so that nothing has to
/// be drained.
pub async fn serve_metrics(listener: TcpListener, app: App, mut stop: Stop) {
    let connections = Connections::new(METRICS_CONNECTIONS);
    let server = HttpServer::new(metrics_router(app.clone()), &listener, connections, app).without_tls();
    server.accept_until(&listener, &GracefulShutdown::new(), ending(&mut stop)).await;
}

/// Returns once the server has to end. A closed channel means the same as its signal.
async fn ending(stop: &mut Stop) -> Ending {
    let stopped = stop.wait_for(Option::is_some).await;
    stopped.ok().and_then(|ending| *ending).unwrap_or(Ending::Drain)
}

/// Returns once a successor has the socket of a server that drains.
async fn relieved(stop: &mut Stop) {
    if stop.wait_for(|ending| *ending == Some(Ending::HandOver)).await.is_err() {
        // There is nobody who could say so.
        std::future::pending::<()>().await;
    }
}

/// What each connection of a listener needs.
struct HttpServer {
    router: Router,
    listening: Listening,
    tls: Option<Tls>,
    connections: Arc<Connections>,
    /// Connections that are told at once that there is no room.
    refusals: Arc<Semaphore>,
    app: App,
}

impl HttpServer {
    /// Serves `router` on a listener, with TLS if that is set.
    fn new(router: Router, listener: &TcpListener, connections: Arc<Connections>, app: App) -> Self {
        let refusals = Arc::new(Semaphore::new(reject::AT_ONCE));
        let (listening, tls) = (Listening::on(listener.local_addr()), app.options.edge.tls.clone());
        Self { router, listening, tls, connections, refusals, app }
    }

    /// The same in the clear.
    fn without_tls(self) -> Self {
        Self { tls: None, ..self }
    }

    /// Takes connections until `end` is there, and returns what it brings.
    async fn accept_until<T>(
        &self,
        listener: &TcpListener,
        graceful: &GracefulShutdown,
        end: impl Future<Output = T>,
    ) -> T {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => self.take(socket, graceful.watcher()),
                    Err(error) => {
                        // Out of file descriptors, most likely: trying again at once would only spin.
                        tracing::warn!(error = %error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// Gives a connection its place and its task, or tells it that there is none.
    fn take(&self, socket: TcpStream, watcher: Watcher) {
        // Tokens are small and each should leave at once.
        let _ = socket.set_nodelay(true);
        let Some(slot) = self.connections.admit() else {
            self.app.telemetry.metrics.connections.closed(Closed::Refused);
            // Who wants TLS would have to shake hands first, and is just closed.
            let is_plain = self.tls.is_none();
            if let Some(permit) = Arc::clone(&self.refusals).try_acquire_owned().ok().filter(|_| is_plain) {
                tokio::spawn(reject::reject(socket, permit));
            }
            return;
        };
        let (router, listening, tls) = (self.router.clone(), self.listening, self.tls.clone());
        let connection = HttpConnection { router, listening, tls, app: self.app.clone(), slot };
        tokio::spawn(connection.run(socket, watcher));
    }
}

/// A connection on its way through its requests.
struct HttpConnection {
    router: Router,
    listening: Listening,
    tls: Option<Tls>,
    app: App,
    slot: ConnectionSlot,
}

impl HttpConnection {
    /// Until the other side has enough of it, or the server.
    async fn run(self, socket: TcpStream, watcher: Watcher) {
        let closed = tokio::select! {
            closed = self.converse(socket, watcher) => closed,
            closed = self.slot.has_to_end(&self.app.options.limits) => Some(closed),
        };
        if let Some(closed) = closed {
            self.app.telemetry.metrics.connections.closed(closed);
            tracing::debug!(reason = closed.as_str(), "connection closed");
        }
    }

    /// Answers requests until the other side ends. Returns why it did not end well, if that is ours to know.
    async fn converse(&self, socket: TcpStream, watcher: Watcher) -> Option<Closed> {
        let (limits, timed_out) = (&self.app.options.limits, WriteTimeout::default());
        let socket =
            TimedSocket::new(socket, limits.unread_for, timed_out.clone(), Arc::clone(self.slot.state()));
        let stream = match tls::open(socket, self.tls.as_ref(), limits.header_timeout).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(error = %error, "no TLS connection came about");
                return None;
            }
        };
        let mut http = hyper::server::conn::http1::Builder::new();
        // Times are kept here, for all phases of a connection.
        http.header_read_timeout(None).max_buf_size(HEADER_BUFFER).max_headers(HEADERS);
        let service = TowerToHyperService::new(self.service(timed_out.clone()));
        let ended = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await;
        // Errors here are the other side's: cut connections, bad requests that hyper answered.
        if let Err(error) = ended {
            tracing::debug!(error = %error, "connection ended");
        }
        timed_out.is_set().then_some(Closed::SlowClient)
    }

    /// The routes, for requests that know their connection and a connection that knows its requests.
    fn service(
        &self,
        timed_out: WriteTimeout,
    ) -> impl tower::Service<
        Request<Incoming>,
        Response = Response<ResponseBody>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + use<> {
        let (connection, listening, lifecycle) =
            (Arc::clone(self.slot.state()), self.listening, Arc::clone(&self.app.lifecycle));
        let (requested, unread) = (Arc::clone(&connection), Unread::default());
        let kept = unread.clone();
        self.router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                requested.began();
                request.extensions_mut().insert(timed_out.clone());
                request.extensions_mut().insert(listening);
                kept.watch(request)
            })
            .map_response(move |mut response: Response<Body>| {
                if lifecycle.is_ending() || unread.ends_connection() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let (connection, unread) = (Arc::clone(&connection), unread.clone());
                response.map(|body| ResponseBody { body, connection, unread })
            })
    }
}

/// A body that says when its answer is over.
struct ResponseBody {
    body: Body,
    connection: Arc<ConnectionState>,
    unread: Unread,
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.connection.answered();
        if let Some(drain) = self.unread.drain() {
            let connection = Arc::clone(&self.connection);
            tokio::spawn(async move {
                drain.await;
                connection.drained();
            });
        }
    }
}

/// No new requests; returns when the last stream is over.
async fn drain(app: &App) {
    app.lifecycle.drain();
    let timeout = app.options.drain_timeout;
    tracing::info!(open_streams = app.open_streams(), timeout_s = timeout.as_secs(), "stopping");
    finish(app, clock::now(), || app.open_streams() == 0).await;
}

/// Nothing new is taken from the socket, but what comes on open connections is answered, for a little while.
async fn hand_over(app: &App) {
    app.lifecycle.hand_over();
    let begun = clock::now();
    let open_streams = app.open_streams();
    tracing::info!(open_streams, timeout_s = app.options.drain_timeout.as_secs(), "handing over");
    finish(app, begun, || {
        let [head, busy, idle] = app.lifecycle.connections.by_phase();
        app.open_streams() + busy == 0 && (head + idle == 0 || begun.elapsed() > LAST_REQUESTS)
    })
    .await;
    // Who comes with a request only now is sent to the successor, rather than cut with the last connections.
    app.lifecycle.drain();
    finish(app, begun, || app.open_streams() == 0).await;
}

/// Returns when `done`, or when the drain timeout since `begun` is over and all streams were ended.
async fn finish(app: &App, begun: Instant, done: impl Fn() -> bool) {
    while !done() && begun.elapsed() < app.options.drain_timeout {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    if app.open_streams() > 0 {
        tracing::warn!(open_streams = app.open_streams(), "streams are ended after the drain timeout");
        app.models.abort_all();
        let begun = clock::now();
        while app.open_streams() > 0 && begun.elapsed() < CLOSE_TIMEOUT {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}
