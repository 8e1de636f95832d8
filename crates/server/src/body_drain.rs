//! Drains the body of a request that was answered before all of it was read.
//!
//! Closing a socket with unread bytes resets the connection, and the reset can discard the answer before the client has read
//! it: the client reports a broken pipe instead of a status. So the rest of the body is read and discarded after the answer
//! is written, up to a bound of bytes and one of time. A body that ends within them leaves the connection reusable.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
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
/// Silence after which the client counts as done with sending.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The body that the current request's handler dropped before its end. One per connection, since HTTP/1.1 cannot read the
/// next request before this body has ended.
#[derive(Clone, Default)]
pub(crate) struct Unread(Arc<Mutex<Option<Rest>>>);

struct Rest {
    body: Incoming,
    /// Whether the client may be waiting for `100 Continue` before it sends the body.
    awaits_continue: bool,
}

/// The body of a request. Dropped before its end, it moves to [`Unread`].
pub(crate) struct RequestBody {
    /// `None` after the last frame.
    body: Option<Incoming>,
    awaits_continue: bool,
    unread: Unread,
}

impl Unread {
    /// Wraps the body of a request so that its unread rest is kept here.
    pub(crate) fn watch(&self, request: Request<Incoming>) -> Request<RequestBody> {
        let awaits_continue = expects_continue(request.headers());
        request.map(|body| RequestBody { body: Some(body), awaits_continue, unread: self.clone() })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Rest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the answer must say `Connection: close`: the client may send the body or skip it, so the next request cannot
    /// be told from it; or the body is longer than what is drained.
    pub(crate) fn ends_connection(&self) -> bool {
        let must_close = |rest: &Rest| rest.awaits_continue || rest.body.size_hint().lower() > MAX_BYTES;
        self.slot().as_ref().is_some_and(must_close)
    }

    /// Drains the unread body, if there is one. Call it once the answer is written: polling the body earlier would make hyper
    /// send `100 Continue`.
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
            // hyper closes the connection of a body that is dropped before its end.
            let _ = timeout(MAX_TIME, rest).await;
        })
    }
}

/// Whether the client asked for `100 Continue`.
fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Polling makes hyper send `100 Continue`.
        self.awaits_continue = false;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
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
            *self.unread.slot() = Some(Rest { body, awaits_continue: self.awaits_continue });
        }
    }
}
