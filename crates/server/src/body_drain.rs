//! Drains the body of a request that was answered before all of it was read.
//!
//! A socket that is closed with bytes unread resets the connection, and a client that still sends may lose the answer with
//! it: it reports a broken pipe instead of a status. So the rest of the body is read and thrown away while the answer goes
//! out, up to bounds of bytes and time. A body that ends within them leaves the connection open for the next request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;
use hyper::{HeaderMap, Request};
use tokio::time::timeout;

/// Most bytes that are drained.
const MAX_BYTES: u64 = 16 << 20;
/// Longest time that draining takes.
const MAX_TIME: Duration = Duration::from_secs(5);
/// Without a byte for so long, the client has stopped sending.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Where a connection keeps the body of the request that it answers, once the handler has dropped it unread. There is one
/// at a time: the next request begins where this body ends.
#[derive(Clone, Default)]
pub(crate) struct Unread(Arc<Mutex<Option<Rest>>>);

struct Rest {
    body: Incoming,
    /// Whether the client may wait for leave to send it.
    is_held_back: bool,
}

/// The body of a request, which goes to [`Unread`] when it is dropped before its end.
pub(crate) struct RequestBody {
    /// Until it has ended.
    body: Option<Incoming>,
    is_held_back: bool,
    unread: Unread,
}

impl Unread {
    /// The same request, whose body comes here if it is not read to its end.
    pub(crate) fn watch(&self, request: Request<Incoming>) -> Request<RequestBody> {
        let is_held_back = expects_leave(request.headers());
        request.map(|body| RequestBody { body: Some(body), is_held_back, unread: self.clone() })
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Rest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection cannot go on after the answer: the client may send the body or not, or too much of it.
    pub(crate) fn ends_connection(&self) -> bool {
        let is_endless = |rest: &Rest| rest.is_held_back || rest.body.size_hint().lower() > MAX_BYTES;
        self.slot().as_ref().is_some_and(is_endless)
    }

    /// Drains what is left, if anything is. To be called when the answer is written: before, hyper would tell a client that
    /// waits for leave to send its body to do so.
    pub(crate) fn drain(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut body = self.slot().take()?.body;
        Some(async move {
            let mut left = MAX_BYTES;
            let rest = async {
                while let Ok(Some(Ok(frame))) = timeout(MAX_PAUSE, body.frame()).await {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    match left.checked_sub(bytes) {
                        Some(fewer) => left = fewer,
                        None => break,
                    }
                }
            };
            // Dropping a body that goes on ends its connection.
            let _ = timeout(MAX_TIME, rest).await;
        })
    }
}

/// Whether a client waits for `100 Continue`.
fn expects_leave(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // The first look at it is the leave.
        self.is_held_back = false;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.unread.slot() = Some(Rest { body, is_held_back: self.is_held_back });
        }
    }
}
