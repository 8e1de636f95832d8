//! The eight series of the existing board, under its names.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serving::models::WorkerState;

use super::series::series;

const HTTP_SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const GENERATION_SECONDS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Routes with their method, and the statuses that are worth a rate from the start.
const ROUTES: [(&str, &str, &[u16]); 22] = [
    ("POST", "/generate", &[200, 400, 401, 408, 413, 415, 422, 431, 500, 503]),
    ("GET", "/models", &[200, 401, 500]),
    ("POST", "/models/swap", &[202, 400, 401, 404, 409, 412, 422, 500, 502, 507]),
    ("GET", "/stats", &[200, 401]),
    ("GET", "/stats/history", &[200, 400, 401]),
    ("POST", "/v1/chat/completions", &[200, 400, 401, 404, 408, 413, 415, 431, 500, 503]),
    ("POST", "/v1/completions", &[200, 400, 401, 404, 408, 413, 415, 431, 500, 503]),
    ("GET", "/v1/models", &[200, 401]),
    ("GET", "/v1/models/{*model}", &[200, 401, 404, 503]),
    ("POST", "/tokenize", &[200, 400, 401, 404, 503]),
    ("POST", "/detokenize", &[200, 400, 401, 404, 503]),
    ("GET", "/", &[200, 304]),
    ("GET", "/docs", &[200, 304]),
    ("GET", "/icon.svg", &[200, 304]),
    ("GET", "/openapi.json", &[200, 304]),
    ("GET", "/openai.json", &[200, 304]),
    ("GET", "/assets/{file}", &[200, 304]),
    ("GET", "/health", &[200]),
    ("GET", "/livez", &[200, 500]),
    ("GET", "/readyz", &[200, 503]),
    ("GET", "/metrics", &[200]),
    ("GET", "<unmatched>", &[401, 404]),
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct HttpLabels {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
    path: String,
}

series! {
    /// Series of the existing board.
    pub(super) struct Board {
        pub(super) generation_seconds: Histogram = Histogram::new(GENERATION_SECONDS),
            "inference_duration_seconds", "Seconds from a request to the end of its stream, however it ends";
        pub(super) tokens: Counter,
            "tokens_generated", "Tokens generated";
        workers_total: Gauge,
            "workers_total", "Engine replicas that serve";
        workers_busy: Gauge,
            "workers_busy", "Engine replicas that run a request";
        workers_available: Gauge,
            "workers_available", "Engine replicas that run nothing";
        pub(super) active_generations: Gauge,
            "active_generations", "Streams that are open: requests that wait or run";
        http_requests: Family<HttpLabels, Counter>,
            "http_requests", "HTTP requests by method, route and status";
        http_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>
            = Family::new_with_constructor(|| Histogram::new(HTTP_SECONDS)),
            "http_request_duration_seconds", "Seconds from a request's headers to its answer's headers";
    }
}

impl Board {
    pub(super) fn new(r: &mut Registry) -> Self {
        let board = Self::register(r);
        board.start_at_zero();
        board
    }

    fn start_at_zero(&self) {
        for (method, path, statuses) in ROUTES {
            drop(self.http_seconds.get_or_create(&MethodLabels { method, path: path.to_owned() }));
            for &status in statuses {
                let labels = HttpLabels { method, path: path.to_owned(), status };
                drop(self.http_requests.get_or_create(&labels));
            }
        }
    }

    pub(super) fn http(&self, labels: HttpLabels, took: Duration) {
        self.http_requests.get_or_create(&labels).inc();
        let HttpLabels { method, path, .. } = labels;
        self.http_seconds.get_or_create(&MethodLabels { method, path }).observe(took.as_secs_f64());
    }

    /// Looks at what is now.
    pub(super) fn look(&self, workers: &[WorkerState]) {
        let busy = workers.iter().filter(|worker| worker.is_busy()).count();
        self.workers_total.set(workers.len() as i64);
        self.workers_busy.set(busy as i64);
        self.workers_available.set((workers.len() - busy) as i64);
    }
}
