//! What surrounds every request: its ids, the header limits, its line in the log and its place in the metrics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State as FromState};
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;

use crate::app::App;
use crate::clock;
use crate::edge::headers::{self, Transport};
use crate::edge::host::Listening;
use crate::metrics::board::HttpLabels;
use crate::paths::{PUBLIC, is_public};
use crate::problem::{Code, Problem};
use crate::request_body::{codings, other_coding};
use crate::request_ids::{EndsLater, REQUEST_ID, RequestIds, TRACE_ID};
use crate::trace::TRACEPARENT;

const CONNECT: &str = "CONNECT";

/// Follows a request from its headers to its answer's headers (a stream's end is logged by the stream).
pub(crate) async fn follow(
    FromState(app): FromState<App>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = clock::now();
    let ids = RequestIds::read(&request);
    request.extensions_mut().insert(ids.clone());
    let path = matched.map_or_else(|| "<unmatched>".to_owned(), |path| path.as_str().to_owned());
    let method = method(&request);
    let transport = transport(&app, &request);
    let mut response = if let Some(problem) = refusal(&app, &request) {
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
        app.telemetry.metrics.refused(code);
    }
    if response.extensions().get::<EndsLater>().is_none() {
        collect(&app, &labels, &ids, begun, response.extensions().get::<Code>().copied());
    }
    app.telemetry.metrics.http(labels, took);
    response
}

/// Checks of the request's head that hold on every route.
fn refusal(app: &App, request: &Request) -> Option<Problem> {
    let (bytes, limit) = (header_bytes(request), app.options.limits.header_bytes);
    if bytes > limit {
        let detail = format!("The headers have {bytes} bytes, but at most {limit} are allowed.");
        return Some(Problem::new(Code::HeadersTooLarge, detail));
    }
    let headers = request.headers();
    let found = if let Some(coding) = other_coding(headers, &TRANSFER_ENCODING, "chunked") {
        coding
    } else {
        // RFC 9112, 6.1: never more than once. A body in chunks of chunks would be read as what it is not.
        let times = codings(headers, &TRANSFER_ENCODING).count();
        (times > 1).then(|| format!("chunked {times} times"))?
    };
    let detail = format!("The Transfer-Encoding has {found}, but only chunked, once, is supported.");
    Some(Problem::new(Code::UnsupportedTransferCoding, detail))
}

/// Hands the span of an answered request to whoever collects them. Probes are not worth any.
fn collect(app: &App, labels: &HttpLabels, ids: &RequestIds, begun: Instant, code: Option<Code>) {
    let HttpLabels { method, path, status } = labels;
    let wanted = ids.context.sampled && !is_public(path);
    let Some(spans) = app.telemetry.spans.as_ref().filter(|_| wanted) else { return };
    let mut span = ids
        .context
        .root(format!("{method} {path}"), begun, clock::now())
        .text("http.request.method", *method)
        .text("http.route", path.as_str())
        .count("http.response.status_code", usize::from(*status))
        .text("samosa.request_id", ids.request.as_str());
    span.error = code.filter(|_| *status >= 500).map(|code| code.as_str().to_owned());
    spans.collect(span);
}

/// What callers are told about how to come back.
fn transport(app: &App, request: &Request) -> Transport {
    let is_tls = app.options.edge.tls.is_some();
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
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() && PUBLIC.contains(&self.path.as_str())
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
    } else if is_public(path) {
        tracing::debug!(trace_id, request_id, method, path, status, duration_ms, "request");
    } else {
        tracing::info!(trace_id, request_id, method, path, status, duration_ms, error = code, "request");
    }
}
