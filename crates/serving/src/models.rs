//! Which model serves, what all engines are doing, and requests on their way to a model.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use engine::Handle;
use engine::driver::Snapshot;
use registry::Tag;

use crate::error::AdmitError;
use crate::options::Options;
use crate::served_model::{ModelMemory, ServedModel};
use crate::swap_gate::SwapGate;
use crate::swap_status::{SwapObserver, SwapStatus};
use crate::swaps::Swaps;
use crate::totals::{EngineCounts, EngineTotals};

/// Kinds of memory. What is resident beyond the others' sum is the program, its stacks and what the allocator keeps;
/// the KV cache counts as reserved, and becomes resident as it is first written.
pub const MEMORY_KINDS: [&str; 5] = ["resident", "matrices", "embeddings", "kv_reserved", "scratch"];

/// The models of a process: the one in service, the swap to the next, the engines of those before.
pub struct Models {
    pub(crate) options: Options,
    pub(crate) current: ArcSwapOption<ServedModel>,
    pub(crate) swaps: Swaps,
    pub(crate) gate: SwapGate,
    pub(crate) totals: EngineTotals,
    pub(crate) observer: Arc<dyn SwapObserver>,
    /// The model chosen at start.
    pub(crate) first_tag: OnceLock<Tag>,
    /// Held while a tag is kept for the next start, which may take a disk its time.
    pub(crate) remembering: Mutex<()>,
}

/// One engine of the model in service.
pub struct WorkerState {
    /// Counts from 0.
    pub index: usize,
    /// The model's tag.
    pub model_tag: String,
    /// What it is doing.
    pub snapshot: Snapshot,
}

impl WorkerState {
    /// Whether it runs a request.
    pub fn is_busy(&self) -> bool {
        self.snapshot.running > 0
    }
}

/// One engine of any model in memory.
pub struct EngineState {
    /// What its model holds.
    pub memory: ModelMemory,
    /// Whether new requests go to it.
    pub serves: bool,
    /// What it is doing.
    pub snapshot: Snapshot,
}

impl Models {
    /// No model yet; see [`Models::load_at_start`]. `observer` is told of swaps.
    pub fn new(options: Options, observer: Arc<dyn SwapObserver>) -> Arc<Self> {
        cpu::allocator::keep_large_blocks_apart();
        Arc::new(Self {
            options,
            current: ArcSwapOption::empty(),
            swaps: Swaps::default(),
            gate: SwapGate::default(),
            totals: EngineTotals::default(),
            observer,
            first_tag: OnceLock::new(),
            remembering: Mutex::default(),
        })
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The model in service.
    pub fn current(&self) -> Option<Arc<ServedModel>> {
        self.current.load_full()
    }

    /// Its tag.
    pub fn current_tag(&self) -> Option<String> {
        self.current().map(|served| served.model.tag.to_string())
    }

    /// Whether a model is being loaded.
    pub fn is_loading(&self) -> bool {
        self.swaps.is_running()
    }

    /// Whether admission is paused by a serial swap.
    pub fn is_paused(&self) -> bool {
        self.gate.is_paused()
    }

    /// Requests that wait for a serial swap to end.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// The model for a request. Where admission is paused by a serial swap this waits for its end, but no longer than a
    /// request may take.
    pub async fn admit(&self) -> Result<Arc<ServedModel>, AdmitError> {
        let limit = self.options.engine.request_timeout;
        let admitted = tokio::time::timeout(limit, self.wait_for_model()).await;
        admitted.unwrap_or(Err(AdmitError::SwapTimeout { limit }))
    }

    async fn wait_for_model(&self) -> Result<Arc<ServedModel>, AdmitError> {
        let limit = self.options.engine.max_queued * self.options.workers.max(1);
        loop {
            self.gate.pass(limit).await?;
            match self.current() {
                Some(served) => return Ok(served),
                // Paused again between the two.
                None if self.gate.is_paused() => {}
                None => return Err(self.no_model()),
            }
        }
    }

    /// The model in service, without waiting for one.
    pub fn require(&self) -> Result<Arc<ServedModel>, AdmitError> {
        self.current().ok_or_else(|| self.no_model())
    }

    fn no_model(&self) -> AdmitError {
        AdmitError::NoModel { is_loading: self.is_loading() }
    }

    /// Seconds until the queue of the least loaded engine is likely to have drained.
    pub fn seconds_to_drain(&self) -> u64 {
        self.current().map_or(1, |served| served.seconds_to_drain())
    }

    /// Ends all streams with an error, those of retired engines too, and every wait for a model.
    pub fn abort_all(&self) {
        if let Some(served) = self.current() {
            served.workers.iter().for_each(Handle::abort_all);
        }
        self.swaps.abort_retired();
        self.gate.stop();
    }

    /// The engines that serve.
    pub fn workers(&self) -> Vec<WorkerState> {
        let Some(served) = self.current() else { return Vec::new() };
        let model_tag = served.model.tag.to_string();
        let worker = |(index, handle): (usize, &Handle)| WorkerState {
            index,
            model_tag: model_tag.clone(),
            snapshot: handle.snapshot(),
        };
        served.workers.iter().enumerate().map(worker).collect()
    }

    /// All engines: those that serve, and those that only finish what they began.
    pub fn engines(&self) -> Vec<EngineState> {
        let current = self.current();
        let serving = current.iter().flat_map(|served| {
            let memory = served.memory();
            let workers = served.workers.iter();
            workers.map(move |handle| EngineState { memory, serves: true, snapshot: handle.snapshot() })
        });
        let version = current.as_ref().map(|served| served.version);
        let retired = self.swaps.retired_engines().into_iter();
        let retired = retired
            // They are listed shortly before the next ones serve.
            .filter(|(memory, _)| Some(memory.version) != version)
            .map(|(memory, snapshot)| EngineState { memory, serves: false, snapshot });
        serving.chain(retired).collect()
    }

    /// Engines that no longer serve but still finish what they began.
    pub fn retired_engines(&self) -> usize {
        self.swaps.retired().0
    }

    /// Whether an engine broke and could not be rebuilt.
    pub fn has_dead_engine(&self) -> bool {
        self.current().is_some_and(|served| served.has_dead_engine())
    }

    /// The longest time that an engine with work has not finished a step. Retired engines count: while admission is
    /// paused, they must come to their end.
    pub fn stuck_for(&self) -> Duration {
        let serving = self.workers().into_iter().map(|worker| worker.snapshot.stuck_for);
        serving.chain(self.swaps.retired_stuck_for()).max().unwrap_or_default()
    }

    /// Counts of all engines since the service began.
    pub fn counts(&self) -> EngineCounts {
        self.totals.total()
    }

    /// Bytes of each of [`MEMORY_KINDS`] now: of the model in service, and of its engines.
    pub fn memory_by_kind(&self) -> [u64; 5] {
        let current = self.current();
        let weights = current.as_ref().map(|served| &served.model.weights);
        let scratch: usize = self.workers().iter().map(|worker| worker.snapshot.scratch_bytes).sum();
        [
            registry::memory::resident().unwrap_or(0),
            weights.map_or(0, |weights| weights.matrix_bytes() as u64),
            weights.map_or(0, |weights| weights.embedding_bytes() as u64),
            current.as_ref().map_or(0, |served| served.kv_bytes as u64),
            scratch as u64,
        ]
    }

    /// The last swaps, the latest first; the first of them may still run.
    pub fn swaps(&self) -> Vec<SwapStatus> {
        self.swaps.records()
    }

    /// Why the model that was asked for last does not serve, as a sentence.
    pub fn failure(&self) -> Option<String> {
        self.swaps.failure()
    }

    /// The training step of a model that is asked for.
    pub(crate) fn step_of(&self, tag: &Tag) -> Option<u64> {
        // Where nothing is loaded at the start, the first model is the one that is named.
        let first = self.first_tag.get().or(self.options.default_tag.as_ref());
        self.options.step_of(tag, first)
    }
}
