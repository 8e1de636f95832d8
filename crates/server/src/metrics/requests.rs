//! Series of requests and their answers: how long each part took, how large they were, how they ended.

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::series::series;
use crate::problem::Code;
use crate::statistics::streams::StreamEnd;

/// For times to and of stages: a small model needs milliseconds, a crowded one minutes.
const STAGE_SECONDS: [f64; 20] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0,
];
const INTER_TOKEN_SECONDS: [f64; 20] = [
    0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04,
    0.06, 0.1, 0.25, 1.0, 5.0,
];
const TOKENS: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FieldLabels {
    field: String,
}

series! {
    /// Series of requests. `tokens` is the board's counter of tokens.
    pub(super) struct RequestMetrics(tokens: Counter) {
        pub(super) first_token_seconds: Histogram = Histogram::new(STAGE_SECONDS),
            "samosa_time_to_first_token_seconds", "Seconds from a request to its first token";
        pub(super) queue_seconds: Histogram = Histogram::new(STAGE_SECONDS),
            "samosa_request_queue_seconds",
            "Seconds from a request until it is computed with; waiting for weights counts";
        pub(super) prefill_seconds: Histogram = Histogram::new(STAGE_SECONDS),
            "samosa_request_prefill_seconds",
            "Seconds from there to its first token, or to the end of an answer without one";
        pub(super) decode_seconds: Histogram = Histogram::new(STAGE_SECONDS),
            "samosa_request_decode_seconds", "Seconds from the first token to the end, of complete answers";
        pub(super) whole_seconds: Histogram = Histogram::new(STAGE_SECONDS),
            "samosa_e2e_request_latency_seconds",
            "Seconds from a request to the end of its answer, of complete answers";
        pub(super) inter_token_seconds: Histogram = Histogram::new(INTER_TOKEN_SECONDS),
            "samosa_inter_token_latency_seconds",
            "Seconds from one token to the next; tokens that come with one step share its time";
        pub(super) inter_token_during_swap_seconds: Histogram = Histogram::new(INTER_TOKEN_SECONDS),
            "samosa_inter_token_latency_during_swap_seconds", "The same while other weights are on their way";
        pub(super) per_output_token_seconds: Histogram = Histogram::new(INTER_TOKEN_SECONDS),
            "samosa_time_per_output_token_seconds", "Mean seconds between the tokens of a complete answer";
        pub(super) prompt_size: Histogram = Histogram::new(TOKENS),
            "samosa_request_prompt_tokens", "Tokens of an admitted prompt";
        pub(super) answer_size: Histogram = Histogram::new(TOKENS),
            "samosa_request_generation_tokens", "Tokens of an answer, of complete answers";
        pub(super) prompt_tokens: Counter,
            "samosa_prompt_tokens", "Prompt tokens of admitted requests";
        /// The board's counter under our own name too, so that they never differ.
        pub(super) tokens: Counter = tokens,
            "samosa_generation_tokens", "Tokens generated";
        ends: Family<ReasonLabels, Counter>,
            "samosa_stream_ends", "Streams by how they ended";
        refusals: Family<ReasonLabels, Counter>,
            "samosa_refused", "Requests refused, by code";
        ignored_fields: Family<FieldLabels, Counter>,
            "samosa_ignored_fields", "Request fields that were ignored";
    }
}

impl RequestMetrics {
    pub(super) fn new(r: &mut Registry, tokens: Counter, ignored: &BTreeSet<String>) -> Self {
        let requests = Self::register(r, tokens);
        requests.start_at_zero(ignored);
        requests
    }

    fn start_at_zero(&self, ignored: &BTreeSet<String>) {
        for end in StreamEnd::ALL {
            drop(self.ends.get_or_create(&ReasonLabels { reason: end.as_str() }));
        }
        for code in Code::ALL {
            drop(self.refusals.get_or_create(&ReasonLabels { reason: code.as_str() }));
        }
        for field in ignored {
            drop(self.ignored_fields.get_or_create(&FieldLabels { field: field.clone() }));
        }
    }

    /// A request is computed with, after it waited so long.
    pub(super) fn admitted(&self, prompt_tokens: usize, waited: Duration) {
        self.prompt_tokens.inc_by(prompt_tokens as u64);
        self.prompt_size.observe(prompt_tokens as f64);
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    pub(super) fn ended(&self, end: StreamEnd) {
        self.ends.get_or_create(&ReasonLabels { reason: end.as_str() }).inc();
    }

    pub(super) fn refused(&self, code: Code) {
        self.refusals.get_or_create(&ReasonLabels { reason: code.as_str() }).inc();
    }

    pub(super) fn ignored_field(&self, field: &str) {
        self.ignored_fields.get_or_create(&FieldLabels { field: field.to_owned() }).inc();
    }

    /// Requests that were refused, by code; those that never were are left out.
    pub(super) fn refused_by_code(&self) -> serde_json::Map<String, serde_json::Value> {
        let count = |code: &Code| self.refusals.get_or_create(&ReasonLabels { reason: code.as_str() }).get();
        let counts = Code::ALL.iter().map(|code| (code.as_str().to_owned(), count(code)));
        counts.filter(|(_, count)| *count > 0).map(|(code, count)| (code, count.into())).collect()
    }

    /// Requests that were refused.
    pub(super) fn refused_in_all(&self) -> u64 {
        let count = |code: &Code| self.refusals.get_or_create(&ReasonLabels { reason: code.as_str() }).get();
        Code::ALL.iter().map(count).sum()
    }

    /// Streams by how they ended.
    pub(super) fn ends(&self) -> serde_json::Map<String, serde_json::Value> {
        let count = |end: &StreamEnd| self.ends.get_or_create(&ReasonLabels { reason: end.as_str() }).get();
        StreamEnd::ALL.iter().map(|end| (end.as_str().to_owned(), count(end).into())).collect()
    }
}
