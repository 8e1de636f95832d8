//! The ids of a request, and how its caller reads errors.

use axum::extract::Request;
use axum::http::HeaderName;

use crate::problem::ErrorShape;
use crate::random::random_u64;
use crate::trace::TraceContext;

/// Longest id of a caller's that is passed on.
const MAX_ID: usize = 128;
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The ids of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestIds {
    /// From `X-Request-Id`, or new.
    pub(crate) request: String,
    /// From `X-Trace-Id`, else `traceparent`, else `X-Request-Id`, else new.
    pub(crate) trace: String,
    /// Where the request stands in a trace.
    pub(crate) context: TraceContext,
    /// How its caller reads errors.
    pub(crate) shape: ErrorShape,
}

/// Marks an answer whose end is logged and traced by its stream.
#[derive(Clone, Copy)]
pub(crate) struct EndsLater;

impl RequestIds {
    /// From the headers of a request, or new.
    pub(crate) fn read(request: &Request) -> Self {
        let headers = request.headers();
        let id = |name: &HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).filter(|id| plain(id))
        };
        let (given, trace) = (id(&REQUEST_ID), id(&TRACE_ID));
        let context = TraceContext::read(headers, trace.or(given));
        let new = format!("{:032x}", context.trace);
        let in_trace = context.is_given().then_some(new.as_str());
        let trace = trace.or(in_trace).or(given).unwrap_or(&new).to_owned();
        // A request without an id gets that of its trace, if this is the trace's only request.
        let own =
            given.map_or_else(|| if context.is_given() { new_id() } else { new.clone() }, str::to_owned);
        Self { request: own, trace, context, shape: ErrorShape::at(request.uri().path()) }
    }

    /// Those that a request was given when it came.
    pub(crate) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self::read(request))
    }
}

/// Whether an id may go to logs and headers as it is.
fn plain(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/=+".contains(&b))
}

fn new_id() -> String {
    format!("{:016x}{:016x}", random_u64(), random_u64())
}
