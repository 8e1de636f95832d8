//! Series about weights: which serve, how they came to, and the memory of all that are there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fetch::DownloadProgress;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serving::models::{EngineState, MEMORY_KINDS};
use serving::transaction::{SwapOutcome, SwapPhase};
use serving::{Models, ServedModel};

use super::series::series;

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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MemoryLabels {
    kind: &'static str,
    /// Empty for what is of no generation.
    generation: String,
}

series! {
    /// Series of swaps, of the model that serves and of what models hold.
    pub(crate) struct WeightMetrics {
        swaps: Family<OutcomeLabels, Counter>,
            "samosa_swaps", "Swaps of weights";
        phases: Family<PhaseLabels, Histogram, fn() -> Histogram>
            = Family::new_with_constructor(|| Histogram::new(PHASE_SECONDS)),
            "samosa_swap_phase_seconds", "Seconds of each phase of a swap";
        in_progress: Gauge,
            "samosa_swap_in_progress", "Whether weights are on their way";
        held: Gauge,
            "samosa_requests_held", "Requests held back while weights are exchanged one after the other";
        retired: Gauge,
            "samosa_retired_engines", "Engines that no longer serve but still finish what they began";
        model: Family<ModelLabels, Gauge>,
            "samosa_model_info", "The model that serves";
        memory: Family<MemoryLabels, Gauge>,
            "samosa_memory_bytes", "Bytes of memory, by kind and by the weights they belong to";
        download_bytes: Counter,
            "samosa_download_bytes", "Bytes of weights fetched";
        download_retries: Counter,
            "samosa_download_retries", "Requests for weights that were repeated";
        download_expected: Gauge,
            "samosa_download_expected_bytes",
            "Bytes of the model that is being fetched; 0 while none is, or none is known";
        download_present: Gauge,
            "samosa_download_present_bytes", "Bytes of it that are there, those of earlier attempts included";
        running_download: Mutex<Option<RunningDownload>>;
        /// Swaps whose weights do not serve yet and have not failed: one at most, but two threads may take turns.
        on_the_way: AtomicUsize;
    }
}

/// A download, and what of it was counted.
struct RunningDownload {
    progress: DownloadProgress,
    fetched: u64,
    retries: u64,
}

impl WeightMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let weights = Self::register(r);
        for outcome in SwapOutcome::ALL {
            drop(weights.swaps.get_or_create(&OutcomeLabels { outcome: outcome.name() }));
        }
        for phase in SwapPhase::ALL {
            drop(weights.phases.get_or_create(&PhaseLabels { phase: phase.name() }));
        }
        weights
    }

    /// A model is on its way to serve.
    pub(crate) fn swap_began(&self) {
        self.on_the_way.fetch_add(1, Ordering::AcqRel);
    }

    /// It serves, or will not.
    pub(crate) fn swap_settled(&self, outcome: SwapOutcome) {
        self.on_the_way.fetch_sub(1, Ordering::AcqRel);
        self.swaps.get_or_create(&OutcomeLabels { outcome: outcome.name() }).inc();
    }

    /// Whether weights are on their way.
    pub(super) fn are_on_their_way(&self) -> bool {
        self.on_the_way.load(Ordering::Relaxed) > 0
    }

    /// A phase is over.
    pub(crate) fn phase(&self, phase: SwapPhase, took: Duration) {
        self.phases.get_or_create(&PhaseLabels { phase: phase.name() }).observe(took.as_secs_f64());
    }

    /// A download begins.
    pub(crate) fn download_began(&self, progress: &DownloadProgress) {
        *self.running_download() =
            Some(RunningDownload { progress: progress.clone(), fetched: 0, retries: 0 });
    }

    /// A download is over, well or not.
    pub(crate) fn download_ended(&self) {
        self.look_at_download();
        *self.running_download() = None;
    }

    /// Looks at what is now.
    pub(super) fn look(&self, models: &Models, engines: &[EngineState]) {
        self.in_progress.set(i64::from(models.is_loading()));
        self.held.set(models.waiting() as i64);
        self.retired.set(engines.iter().filter(|engine| !engine.serves).count() as i64);
        self.model.clear();
        if let Some(served) = models.current() {
            self.model.get_or_create(&labels(&served)).set(1);
        }
        self.look_at_download();
        self.look_at_memory(engines);
    }

    fn look_at_memory(&self, engines: &[EngineState]) {
        let [resident, of_models @ ..] = MEMORY_KINDS;
        let mut bytes =
            BTreeMap::from([((resident, String::new()), registry::memory::resident().unwrap_or(0))]);
        if engines.is_empty() {
            bytes.extend(of_models.map(|kind| ((kind, String::new()), 0)));
        }
        for EngineState { memory, snapshot, .. } in engines {
            let generation = memory.version.to_string();
            let [matrices, embeddings, kv_reserved, scratch] =
                of_models.map(|kind| (kind, generation.clone()));
            // Engines of one generation share its weights.
            bytes.insert(matrices, memory.matrices);
            bytes.insert(embeddings, memory.embeddings);
            *bytes.entry(kv_reserved).or_default() += memory.kv_of_each;
            *bytes.entry(scratch).or_default() += snapshot.scratch_bytes as u64;
        }
        self.memory.clear();
        for ((kind, generation), bytes) in bytes {
            self.memory.get_or_create(&MemoryLabels { kind, generation }).set(bytes as i64);
        }
    }

    fn running_download(&self) -> MutexGuard<'_, Option<RunningDownload>> {
        self.running_download.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what has come since this was last called.
    fn look_at_download(&self) {
        let mut running = self.running_download();
        let now = running.as_ref().map(|running| running.progress.snapshot()).unwrap_or_default();
        self.download_expected.set(now.bytes_total as i64);
        self.download_present.set(now.bytes_done as i64);
        let Some(running) = &mut *running else { return };
        // Bytes that have to come again are taken back there, and counted once here.
        let fetched = now.bytes_done.saturating_sub(now.bytes_resumed).max(running.fetched);
        self.download_bytes.inc_by(fetched - running.fetched);
        self.download_retries.inc_by(now.retries.saturating_sub(running.retries));
        (running.fetched, running.retries) = (fetched, now.retries);
    }
}

fn labels(served: &ServedModel) -> ModelLabels {
    let model = &served.model;
    ModelLabels {
        model_tag: model.tag.to_string(),
        sha256: model.identity.as_str().to_owned(),
        generation: served.version,
        architecture: model.weights.config.architecture,
        dtype: model.weights.format.name(),
    }
}
