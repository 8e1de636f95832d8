//! What surrounds every request: its ids, the header limit, its line in the log and its place in the metrics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State as FromState};
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;

use crate::clock;
use crate::edge::headers::{self, Transport};
use crate::edge::host::Listening;
use crate::metrics::HttpLabels;
use crate::problem::{Code, Problem, Shape};
use crate::start;
use crate::state::State;
use crate::trace::{TRACEPARENT, TraceContext};

/// Longest id of a caller's that is passed on.
const MAX_ID: usize = 128;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CONNECT: &str = "CONNECT";
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

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
    pub(crate) shape: Shape,
}

/// Marks an answer whose end is told by its stream.
#[derive(Clone, Copy)]
pub(crate) struct Streams;

impl RequestIds {
    fn read(request: &Request) -> Self {
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
        Self { request: own, trace, context, shape: Shape::at(request.uri().path()) }
    }

    /// Those of a request that came through [`follow`].
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
    format!("{:016x}{:016x}", crate::generate::random_u64(), crate::generate::random_u64())
}

/// Follows a request from its headers to its answer's headers (a stream's end is logged by the stream).
pub(crate) async fn follow(
    FromState(state): FromState<Arc<State>>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = clock::now();
    let ids = RequestIds::read(&request);
    request.extensions_mut().insert(ids.clone());
    let path = matched.map_or_else(|| "<unmatched>".to_owned(), |path| path.as_str().to_owned());
    let method = method(&request);
    let transport = transport(&state, &request);
    let mut response = if let Some(problem) = refusal(&state, &request) {
        problem.response(&ids)
    } else {
        // A panic is ours to explain, not the caller's to guess from a closed connection.
        AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            Problem::new(Code::Internal, "The server made a mistake; it is logged.").response(&ids)
        })
    };
    headers::add(response.headers_mut(), transport);
    if method == CONNECT {
        // What follows may be meant for the tunnel that was asked for: none of it is a request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, id) in [(REQUEST_ID, &ids.request), (TRACE_ID, &ids.trace)] {
        if let Ok(value) = HeaderValue::from_str(id) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&ids.context.traceparent()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    let status = response.status().as_u16();
    let labels = HttpLabels { method, path, status };
    let took = begun.elapsed();
    log(&labels, &ids, took.as_secs_f64() * 1000.0, response.extensions().get::<Code>().copied());
    if let Some(&code) = response.extensions().get::<Code>().filter(|_| !labels.is_not_ready_probe()) {
        state.metrics.refused(code);
    }
    if response.extensions().get::<Streams>().is_none() {
        collect(&state, &labels, &ids, (begun, response.extensions().get::<Code>().copied()));
    }
    state.metrics.http(labels, took);
    response
}

/// Checks of the request's head that hold on every route.
fn refusal(state: &State, request: &Request) -> Option<Problem> {
    let (bytes, limit) = (header_bytes(request), state.options.limits.header_bytes);
    if bytes > limit {
        let detail = format!("The headers have {bytes} bytes, but at most {limit} are allowed.");
        return Some(Problem::new(Code::HeadersTooLarge, detail));
    }
    let headers = request.headers();
    let found = if let Some(coding) = start::other_coding(headers, &TRANSFER_ENCODING, "chunked") {
        coding
    } else {
        // RFC 9112, 6.1: never more than once. A body in chunks of chunks would be read as what it is not.
        let times = start::codings(headers, &TRANSFER_ENCODING).count();
        (times > 1).then(|| format!("chunked {times} times"))?
    };
    let detail = format!("The Transfer-Encoding has {found}, but only chunked, once, is supported.");
    Some(Problem::new(Code::UnsupportedTransferCoding, detail))
}

/// Hands the span of an answered request to whoever collects them. Probes are not worth any.
fn collect(state: &State, labels: &HttpLabels, ids: &RequestIds, (begun, code): (Instant, Option<Code>)) {
    let HttpLabels { method, path, status } = labels;
    let wanted = ids.context.sampled && !crate::is_public(path);
    let Some(spans) = state.options.spans.as_ref().filter(|_| wanted) else { return };
    let mut span = ids
        .context
        .root(format!("{method} {path}"), (begun, clock::now()))
        .text("http.request.method", *method)
        .text("http.route", path.as_str())
        .count("http.response.status_code", usize::from(*status))
        .text("samosa.request_id", ids.request.as_str());
    span.error = code.filter(|_| *status >= 500).map(|code| code.as_str().to_owned());
    spans.collect(span);
}

/// What callers are told about how to come back.
fn transport(state: &State, request: &Request) -> Transport {
    let is_tls = state.options.edge.tls.is_some();
    if is_tls && Listening::of(request) == Listening::Network { Transport::AlwaysTls } else { Transport::Any }
}

/// The method as a label: callers may make up as many as they like.
fn method(request: &Request) -> &'static str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::CONNECT,
        Method::PATCH,
        Method::TRACE,
    ];
    const NAMES: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", CONNECT, "PATCH", "TRACE"];
    KNOWN.iter().position(|known| known == request.method()).map_or("other", |i| NAMES[i])
}

/// Bytes of everything before the body.
fn header_bytes(request: &Request) -> usize {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    headers.sum::<usize>() + target + request.method().as_str().len()
}

impl HttpLabels {
    /// Whether this is a probe's 503: expected while the server loads or drains, so neither an error nor a refusal.
    fn is_not_ready_probe(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() && crate::PUBLIC.contains(&self.path.as_str())
    }
}

fn log(labels: &HttpLabels, ids: &RequestIds, duration_ms: f64, code: Option<Code>) {
    let HttpLabels { method, path, status } = labels;
    let (trace_id, request_id) = (ids.trace.as_str(), ids.request.as_str());
    let code = code.map(Code::as_str);
    if *status >= 500 && *status != StatusCode::NOT_IMPLEMENTED.as_u16() && !labels.is_not_ready_probe() {
        tracing::error!(
            trace_id,
            request_id,
            method,
            path,
            status,
            duration_ms,
            error = code,
            "request failed"
        );
    } else if crate::is_public(path) {
        tracing::debug!(trace_id, request_id, method, path, status, duration_ms, "request");
    } else {
        tracing::info!(trace_id, request_id, method, path, status, duration_ms, error = code, "request");
    }
}
