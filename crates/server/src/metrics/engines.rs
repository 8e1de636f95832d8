//! Series of the engines: what they run, what waits for them, their steps, their pages, and what they were saved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::driver::Snapshot;
use engine::pace::Buckets;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serving::Models;
use serving::models::EngineState;
use serving::totals::EngineCounts;

use super::series::series;

/// What pages are there for: requests, the prefix cache alone, nothing.
const PAGE_STATES: [&str; 3] = ["used", "cached", "free"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PageLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GenerationLabels {
    generation: u64,
}

/// How much the engines have to do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Requests that are computed with, by old weights too.
    pub(crate) running: usize,
    /// Requests that wait for admission or for weights.
    pub(crate) queued: usize,
    /// Pages that requests hold, of the engines that serve.
    pub(crate) pages_used: usize,
    /// And all that these have.
    pub(crate) pages_total: usize,
}

impl Load {
    /// How much they have to do now.
    pub(crate) fn now(models: &Models) -> Self {
        let mut load = Self { running: 0, queued: models.waiting(), pages_used: 0, pages_total: 0 };
        for EngineState { serves, snapshot, .. } in models.engines() {
            load.running += snapshot.running;
            load.queued += snapshot.queued;
            if serves {
                load.pages_used += snapshot.pages_used;
                load.pages_total += snapshot.pages_total;
            }
        }
        load
    }
}

series! {
    /// Series of engines.
    pub(super) struct EngineMetrics {
        running: Gauge,
            "samosa_requests_running", "Requests that are computed with";
        waiting: Gauge,
            "samosa_requests_waiting", "Requests that wait for admission or for weights";
        queue_tokens: Gauge,
            "samosa_queue_tokens",
            "Tokens, of prompts and answers at their longest, that waiting requests stand for";
        active: Family<GenerationLabels, Gauge>,
            "samosa_generation_requests_active",
            "Requests that wait or run, by the weights they began with; old and new ones during a swap";
        last_token_age: Gauge<f64, AtomicU64>,
            "samosa_last_token_age_seconds",
            "Seconds since a busy engine last admitted a request or made a token; 0 while all are idle";
        step_seconds: StepHistogram,
            "samosa_step_seconds", "Seconds of an engine's step";
        step_rows: StepHistogram,
            "samosa_step_tokens",
            "Rows of an engine's step: prompt tokens, and one for each answer and each guess";
        kv_usage: Gauge<f64, AtomicU64>,
            "samosa_kv_usage_ratio", "Share of key/value pages that requests hold";
        kv_pages: Family<PageLabels, Gauge>,
            "samosa_kv_pages",
            "Key/value pages of the engines that serve: held, kept by the prefix cache alone, free";
        cache_pages: Gauge,
            "samosa_prefix_cache_pages", "Key/value pages that the prefix cache keeps and nobody holds";
        cache_queries: Counter,
            "samosa_prefix_cache_queries", "Prompt tokens looked for in the prefix cache";
        cache_hits: Counter,
            "samosa_prefix_cache_hits", "Prompt tokens found in the prefix cache";
        cache_evictions: Counter,
            "samosa_prefix_cache_evictions", "Pages the prefix cache lost to others";
        drafted_tokens: Counter,
            "samosa_spec_decode_draft_tokens", "Tokens guessed before they were sampled";
        accepted_tokens: Counter,
            "samosa_spec_decode_accepted_tokens", "Tokens guessed rightly";
        cached_tokens: Counter,
            "samosa_prompt_tokens_cached",
            "Prompt tokens that were not computed, since the prefix cache had them";
    }
}

impl EngineMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let engines = Self::register(r);
        for state in PAGE_STATES {
            drop(engines.kv_pages.get_or_create(&PageLabels { state }));
        }
        engines
    }

    /// Looks at what is now.
    pub(super) fn look(&self, models: &Models, engines: &[EngineState]) {
        let sum =
            |of: fn(&Snapshot) -> usize| engines.iter().map(|engine| of(&engine.snapshot)).sum::<usize>();
        self.running.set(sum(|engine| engine.running) as i64);
        self.waiting.set((sum(|engine| engine.queued) + models.waiting()) as i64);
        self.queue_tokens.set(sum(|engine| engine.queued_tokens) as i64);
        let oldest = engines.iter().map(|engine| engine.snapshot.last_token_age).max();
        self.last_token_age.set(oldest.unwrap_or_default().as_secs_f64());
        self.active.clear();
        for EngineState { memory, snapshot, .. } in engines {
            let of = GenerationLabels { generation: memory.version };
            self.active.get_or_create(&of).inc_by((snapshot.running + snapshot.queued) as i64);
        }
        self.look_at_pages(engines);
        let EngineCounts { counts, pace } = models.counts();
        self.set_counters(&counts);
        self.step_seconds.set(&pace.seconds);
        self.step_rows.set(&pace.rows);
    }

    fn look_at_pages(&self, engines: &[EngineState]) {
        let sum = |of: fn(&Snapshot) -> usize| {
            let serving = engines.iter().filter(|engine| engine.serves);
            serving.map(|engine| of(&engine.snapshot)).sum::<usize>()
        };
        let (total, used) = (sum(|engine| engine.pages_total), sum(|engine| engine.pages_used));
        let cached = sum(|engine| engine.pages_cached);
        self.kv_usage.set(used as f64 / total.max(1) as f64);
        self.cache_pages.set(cached as i64);
        // They are looked at one after the other, while the engines go on.
        let free = total.saturating_sub(used + cached);
        for (state, pages) in PAGE_STATES.into_iter().zip([used, cached, free]) {
            self.kv_pages.get_or_create(&PageLabels { state }).set(pages as i64);
        }
    }

    /// Counters that the engines keep.
    fn set_counters(&self, counts: &engine::Counts) {
        for (counter, count) in [
            (&self.cache_queries, counts.cache_queries),
            (&self.cache_hits, counts.cache_hits),
            (&self.cached_tokens, counts.cache_hits),
            (&self.cache_evictions, counts.cache_evictions),
            (&self.drafted_tokens, counts.drafted_tokens),
            (&self.accepted_tokens, counts.accepted_tokens),
        ] {
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}

/// A histogram of what the engines counted by size themselves.
#[derive(Clone, Debug, Default)]
struct StepHistogram(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl StepHistogram {
    fn set<const N: usize>(&self, buckets: &Buckets<N>) {
        let (sum, count) = (buckets.sum(), buckets.count());
        let counted = Counted { sum, count, buckets: buckets.counts().collect() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counted;
    }
}

impl EncodeMetric for StepHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Counted { sum, count, buckets } = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
