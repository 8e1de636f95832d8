//! Prometheus series: the eight of the existing board under their exact names, and a few of our own. Every
//! label value that is known beforehand exists from the start, at zero.

mod connections;
mod swaps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State as FromState;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use engine::Counts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::memory;
use crate::problem::Code;
use crate::sse::End;
use crate::state::State;
use crate::statistics::{Rate, Recent};
use connections::ConnectionMetrics;
use swaps::SwapMetrics;

const HTTP_SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const GENERATION_SECONDS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const FIRST_TOKEN_SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const INTER_TOKEN_SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.06, 0.08, 0.1, 0.25,
    1.0, 5.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct HttpLabels {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Method {
    method: &'static str,
    path: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Field {
    field: String,
}

/// All series, and the recent figures of `/stats`.
pub(crate) struct Metrics {
    registry: Registry,
    generation_seconds: Histogram,
    tokens: Counter,
    prompt_tokens: Counter,
    cache_queries: Counter,
    cache_hits: Counter,
    cache_evictions: Counter,
    cache_pages: Gauge,
    drafted_tokens: Counter,
    accepted_tokens: Counter,
    workers_total: Gauge,
    workers_busy: Gauge,
    workers_available: Gauge,
    active_generations: Gauge,
    requests_waiting: Gauge,
    kv_usage: Gauge<f64, AtomicU64>,
    memory_bytes: Family<Kind, Gauge>,
    http_requests: Family<HttpLabels, Counter>,
    http_seconds: Family<Method, Histogram, fn() -> Histogram>,
    first_token_seconds: Histogram,
    inter_token_seconds: Histogram,
    stream_ends: Family<Reason, Counter>,
    refusals: Family<Reason, Counter>,
    ignored_fields: Family<Field, Counter>,
    pub(crate) swaps: SwapMetrics,
    pub(crate) connections: ConnectionMetrics,
    /// Tokens generated, lately.
    pub(crate) token_rate: Rate,
    /// Times to first token, lately.
    pub(crate) first_token: Recent,
    /// Times between tokens, lately.
    pub(crate) inter_token: Recent,
}

impl Metrics {
    pub(crate) fn new(ignored: &BTreeSet<String>) -> Self {
        let http_histogram: fn() -> Histogram = || Histogram::new(HTTP_SECONDS);
        let mut registry = Registry::default();
        let mut metrics = Self {
            swaps: SwapMetrics::new(&mut registry),
            connections: ConnectionMetrics::new(&mut registry),
            registry,
            generation_seconds: Histogram::new(GENERATION_SECONDS),
            tokens: Counter::default(),
            prompt_tokens: Counter::default(),
            cache_queries: Counter::default(),
            cache_hits: Counter::default(),
            cache_evictions: Counter::default(),
            cache_pages: Gauge::default(),
            drafted_tokens: Counter::default(),
            accepted_tokens: Counter::default(),
            workers_total: Gauge::default(),
            workers_busy: Gauge::default(),
            workers_available: Gauge::default(),
            active_generations: Gauge::default(),
            requests_waiting: Gauge::default(),
            kv_usage: Gauge::default(),
            memory_bytes: Family::default(),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(http_histogram),
            first_token_seconds: Histogram::new(FIRST_TOKEN_SECONDS),
            inter_token_seconds: Histogram::new(INTER_TOKEN_SECONDS),
            stream_ends: Family::default(),
            refusals: Family::default(),
            ignored_fields: Family::default(),
            token_rate: Rate::new(),
            first_token: Recent::default(),
            inter_token: Recent::default(),
        };
        metrics.register_board();
        metrics.register_own();
        metrics.register_spared();
        metrics.start_at_zero(ignored);
        metrics
    }

    /// The series that the existing board asks for. Counters gain `_total` when they are written out.
    fn register_board(&mut self) {
        let r = &mut self.registry;
        r.register(
            "inference_duration_seconds",
            "Seconds from request to the end of its answer",
            self.generation_seconds.clone(),
        );
        r.register("tokens_generated", "Tokens generated", self.tokens.clone());
        r.register("workers_total", "Engine replicas", self.workers_total.clone());
        r.register("workers_busy", "Engine replicas that run a request", self.workers_busy.clone());
        r.register("workers_available", "Engine replicas that run nothing", self.workers_available.clone());
        r.register("active_generations", "Requests that wait or run", self.active_generations.clone());
        r.register("http_requests", "HTTP requests", self.http_requests.clone());
        r.register(
            "http_request_duration_seconds",
            "Seconds until an answer's headers",
            self.http_seconds.clone(),
        );
    }

    fn register_own(&mut self) {
        let r = &mut self.registry;
        r.register(
            "samosa_requests_waiting",
            "Requests that wait for admission",
            self.requests_waiting.clone(),
        );
        r.register("samosa_kv_usage_ratio", "Share of key/value pages in use", self.kv_usage.clone());
        r.register("samosa_memory_bytes", "Bytes of memory by kind", self.memory_bytes.clone());
        r.register("samosa_prompt_tokens", "Prompt tokens of admitted requests", self.prompt_tokens.clone());
        r.register(
            "samosa_time_to_first_token_seconds",
            "From request to first token",
            self.first_token_seconds.clone(),
        );
        r.register(
            "samosa_inter_token_latency_seconds",
            "From one token to the next",
            self.inter_token_seconds.clone(),
        );
        r.register("samosa_stream_ends", "Streams by how they ended", self.stream_ends.clone());
        r.register("samosa_refused", "Requests refused, by code", self.refusals.clone());
        r.register(
            "samosa_ignored_fields",
            "Request fields that were passed over",
            self.ignored_fields.clone(),
        );
    }

    /// What the engines need not compute.
    fn register_spared(&mut self) {
        let r = &mut self.registry;
        for (name, help, counter) in [
            ("prefix_cache_queries", "Prompt tokens looked for in the prefix cache", &self.cache_queries),
            ("prefix_cache_hits", "Prompt tokens found in the prefix cache", &self.cache_hits),
            ("prefix_cache_evictions", "Pages the prefix cache lost to others", &self.cache_evictions),
            ("spec_decode_draft_tokens", "Tokens guessed before they were sampled", &self.drafted_tokens),
            ("spec_decode_accepted_tokens", "Tokens guessed rightly", &self.accepted_tokens),
        ] {
            r.register(format!("samosa_{name}"), help, counter.clone());
        }
        let help = "Key/value pages that the prefix cache keeps and nobody holds";
        r.register("samosa_prefix_cache_pages", help, self.cache_pages.clone());
    }

    /// Sets the counters that the engines keep.
    fn count(&self, counts: &Counts) {
        for (counter, count) in [
            (&self.cache_queries, counts.cache_queries),
            (&self.cache_hits, counts.cache_hits),
            (&self.cache_evictions, counts.cache_evictions),
            (&self.drafted_tokens, counts.drafted_tokens),
            (&self.accepted_tokens, counts.accepted_tokens),
        ] {
            // Whoever asks at the same time may have seen more.
            counter.inner().fetch_max(count, Ordering::Relaxed);
        }
    }

    fn start_at_zero(&self, ignored: &BTreeSet<String>) {
        for end in End::ALL {
            drop(self.stream_ends.get_or_create(&Reason { reason: end.as_str() }));
        }
        for code in Code::ALL {
            drop(self.refusals.get_or_create(&Reason { reason: code.as_str() }));
        }
        for field in ignored {
            drop(self.ignored_fields.get_or_create(&Field { field: field.clone() }));
        }
        drop(self.http_requests.get_or_create(&HttpLabels {
            method: "POST",
            path: "/generate".to_owned(),
            status: 200,
        }));
        drop(self.http_seconds.get_or_create(&Method { method: "POST", path: "/generate".to_owned() }));
    }

    pub(crate) fn http(&self, labels: HttpLabels, took: Duration) {
        self.http_requests.get_or_create(&labels).inc();
        let HttpLabels { method, path, .. } = labels;
        self.http_seconds.get_or_create(&Method { method, path }).observe(took.as_secs_f64());
    }

    pub(crate) fn refused(&self, code: Code) {
        self.refusals.get_or_create(&Reason { reason: code.as_str() }).inc();
    }

    pub(crate) fn ignored_field(&self, field: &str) {
        self.ignored_fields.get_or_create(&Field { field: field.to_owned() }).inc();
    }

    pub(crate) fn token(&self, since_last: Option<Duration>, since_start: Duration) {
        self.tokens.inc();
        self.token_rate.add(1);
        if let Some(gap) = since_last {
            self.inter_token_seconds.observe(gap.as_secs_f64());
            self.inter_token.add(gap);
        } else {
            self.first_token_seconds.observe(since_start.as_secs_f64());
            self.first_token.add(since_start);
        }
    }

    pub(crate) fn prompt(&self, tokens: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
    }

    pub(crate) fn stream_began(&self) {
        self.active_generations.inc();
    }

    pub(crate) fn stream_ended(&self, end: End, took: Duration) {
        self.active_generations.dec();
        self.generation_seconds.observe(took.as_secs_f64());
        self.stream_ends.get_or_create(&Reason { reason: end.as_str() }).inc();
    }

    /// Streams by how they ended.
    pub(crate) fn ends(&self) -> serde_json::Map<String, serde_json::Value> {
        let count = |end: &End| self.stream_ends.get_or_create(&Reason { reason: end.as_str() }).get();
        End::ALL.iter().map(|end| (end.as_str().to_owned(), count(end).into())).collect()
    }

    /// Requests that were refused, by code; those that never were are left out.
    pub(crate) fn refused_by_code(&self) -> serde_json::Map<String, serde_json::Value> {
        let count = |code: &Code| self.refusals.get_or_create(&Reason { reason: code.as_str() }).get();
        let counts = Code::ALL.iter().map(|code| (code.as_str().to_owned(), count(code)));
        counts.filter(|(_, count)| *count > 0).map(|(code, count)| (code, count.into())).collect()
    }

    /// Streams that are open.
    pub(crate) fn active(&self) -> i64 {
        self.active_generations.get()
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(FromState(state): FromState<Arc<State>>) -> Response {
    let metrics = &state.metrics;
    let workers = state.workers();
    let busy = workers.iter().filter(|worker| worker.busy()).count() as i64;
    metrics.workers_total.set(workers.len() as i64);
    metrics.workers_busy.set(busy);
    metrics.workers_available.set(workers.len() as i64 - busy);
    let queued: usize = workers.iter().map(|worker| worker.snapshot.queued).sum();
    metrics.requests_waiting.set((queued + state.gate.waiting()) as i64);
    let pages: usize = workers.iter().map(|worker| worker.snapshot.pages_total).sum();
    let used: usize = workers.iter().map(|worker| worker.snapshot.pages_used).sum();
    metrics.kv_usage.set(used as f64 / pages.max(1) as f64);
    metrics.cache_pages.set(workers.iter().map(|worker| worker.snapshot.pages_cached as i64).sum());
    metrics.count(&state.tally.total());
    metrics.swaps.look(&state);
    metrics.connections.look(&state.connections);
    for (kind, bytes) in memory::KINDS.into_iter().zip(memory::bytes_by_kind(&state)) {
        metrics.memory_bytes.get_or_create(&Kind { kind }).set(bytes as i64);
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &metrics.registry);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}
