//! Series about weights: which serve, and how they came to.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use registry::fetch::ProgressSnapshot;
use registry::swap::{Outcome, Phase};

use crate::generation::Generation;
use crate::state::State;

const PHASE_SECONDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model_tag: String,
    sha256: String,
    generation: u64,
    architecture: &'static str,
    dtype: &'static str,
}

/// Series of swaps and of the model that serves.
pub(crate) struct SwapMetrics {
    outcomes: Family<OutcomeLabels, Counter>,
    phases: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    in_progress: Gauge,
    held: Gauge,
    retired: Gauge,
    model: Family<ModelLabels, Gauge>,
    downloaded: Counter,
    retries: Counter,
}

impl SwapMetrics {
    /// All of them, registered, every label value that is known beforehand at zero.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let phase_histogram: fn() -> Histogram = || Histogram::new(PHASE_SECONDS);
        let metrics = Self {
            outcomes: Family::default(),
            phases: Family::new_with_constructor(phase_histogram),
            in_progress: Gauge::default(),
            held: Gauge::default(),
            retired: Gauge::default(),
            model: Family::default(),
            downloaded: Counter::default(),
            retries: Counter::default(),
        };
        metrics.register(registry);
        for outcome in Outcome::ALL {
            drop(metrics.outcomes.get_or_create(&OutcomeLabels { outcome: outcome.name() }));
        }
        for phase in Phase::ALL {
            drop(metrics.phases.get_or_create(&PhaseLabels { phase: phase.name() }));
        }
        metrics
    }

    fn register(&self, r: &mut Registry) {
        r.register("samosa_swaps", "Swaps of weights", self.outcomes.clone());
        r.register("samosa_swap_phase_seconds", "Seconds of each phase of a swap", self.phases.clone());
        r.register("samosa_swap_in_progress", "Whether weights are on their way", self.in_progress.clone());
        let help = "Requests held back while weights are exchanged one after the other";
        r.register("samosa_requests_held", help, self.held.clone());
        let help = "Engines that no longer serve but still finish what they began";
        r.register("samosa_retired_engines", help, self.retired.clone());
        r.register("samosa_model_info", "The model that serves", self.model.clone());
        r.register("samosa_download_bytes", "Bytes of weights fetched", self.downloaded.clone());
        r.register(
            "samosa_download_retries",
            "Requests for weights that were repeated",
            self.retries.clone(),
        );
    }

    /// A swap went live, or failed.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.outcomes.get_or_create(&OutcomeLabels { outcome: outcome.name() }).inc();
    }

    /// A phase is over.
    pub(crate) fn phase(&self, phase: Phase, took: Duration) {
        self.phases.get_or_create(&PhaseLabels { phase: phase.name() }).observe(took.as_secs_f64());
    }

    /// A download is over, well or not.
    pub(crate) fn downloaded(&self, progress: &ProgressSnapshot) {
        self.downloaded.inc_by(progress.bytes_done.saturating_sub(progress.bytes_resumed));
        self.retries.inc_by(progress.retries);
    }

    /// Looks at what is now.
    pub(crate) fn look(&self, state: &State) {
        self.in_progress.set(i64::from(state.is_loading()));
        self.held.set(state.gate.waiting() as i64);
        self.retired.set(state.swapper.retired().0 as i64);
        self.model.clear();
        if let Some(generation) = state.generation() {
            self.model.get_or_create(&labels(&generation)).set(1);
        }
    }
}

fn labels(generation: &Generation) -> ModelLabels {
    let model = &generation.model;
    ModelLabels {
        model_tag: model.tag.to_string(),
        sha256: model.identity.as_str().to_owned(),
        generation: generation.number,
        architecture: model.weights.config.generation.name(),
        dtype: model.weights.format.name(),
    }
}
