//! The swap that runs, those that ran, and engines that no longer serve until they end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::driver::{Snapshot, Watch};
use registry::Tag;
use tokio::sync::watch;

use crate::error::SwapError;
use crate::served_model::{ModelMemory, ServedModel};
use crate::swap_status::SwapStatus;

/// Swaps that are remembered.
const REMEMBERED: usize = 20;

/// How a swap ended for its callers; `None` while it runs.
pub(crate) type SwapEnd = Option<Result<(), SwapError>>;

/// All swaps of a process.
#[derive(Default)]
pub(crate) struct Swaps(Mutex<SwapState>);

#[derive(Default)]
pub(crate) struct SwapState {
    pub(crate) running: Option<RunningSwap>,
    /// The last ones, the latest at the end.
    records: VecDeque<SwapStatus>,
    retired: Vec<RetiredEngine>,
    count: u64,
    versions: u64,
    /// The models to begin with are still tried.
    pub(crate) is_starting: bool,
    pub(crate) start_failure: Option<String>,
}

/// An engine that no longer serves.
struct RetiredEngine {
    watch: Watch,
    /// What its model holds.
    memory: ModelMemory,
    /// Its share of weights and KV cache.
    bytes: u64,
}

/// A swap whose end others may wait for.
#[derive(Clone)]
pub(crate) struct RunningSwap {
    pub(crate) id: u64,
    pub(crate) target: Tag,
    pub(crate) end: watch::Receiver<SwapEnd>,
}

impl SwapState {
    /// Adds a swap that begins now; its end is to be sent through `end`. Returns its number.
    pub(crate) fn begin(
        &mut self,
        target: &Tag,
        previous: Option<Tag>,
        end: watch::Receiver<SwapEnd>,
    ) -> u64 {
        self.count += 1;
        let id = self.count;
        self.add(SwapStatus::new(id, target.clone(), previous));
        self.running = Some(RunningSwap { id, target: target.clone(), end });
        id
    }

    fn add(&mut self, record: SwapStatus) {
        if self.records.len() == REMEMBERED {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut SwapStatus)) {
        if let Some(record) = self.records.iter_mut().find(|record| record.id == id) {
            change(record);
        }
    }
}

impl Swaps {
    pub(crate) fn lock(&self) -> MutexGuard<'_, SwapState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last swaps, the latest first; the first of them may still run.
    pub(crate) fn records(&self) -> Vec<SwapStatus> {
        self.lock().records.iter().rev().cloned().collect()
    }

    /// A swap that is remembered.
    pub(crate) fn record(&self, id: u64) -> Option<SwapStatus> {
        self.lock().records.iter().find(|record| record.id == id).cloned()
    }

    /// Changes the record of a swap.
    pub(crate) fn change(&self, id: u64, change: impl FnOnce(&mut SwapStatus)) {
        self.lock().change(id, change);
    }

    /// It is decided whether the new model serves: for every reader, that is so, on record, and others may swap in one
    /// step.
    pub(crate) fn decide(&self, id: u64, change: impl FnOnce(&mut SwapStatus)) {
        let mut state = self.lock();
        state.change(id, change);
        state.running = None;
    }

    /// Why the model that was asked for last does not serve, or why none was even looked for at start.
    pub(crate) fn failure(&self) -> Option<String> {
        let state = self.lock();
        let latest = state.records.back();
        latest.and_then(|record| record.failure().map(str::to_owned)).or_else(|| state.start_failure.clone())
    }

    /// The model that went live last.
    pub(crate) fn latest_live(&self) -> Option<Tag> {
        let state = self.lock();
        state.records.iter().rev().find(|record| record.live.is_some()).map(|record| record.target.clone())
    }

    /// Whether a model is on its way to serve.
    pub(crate) fn is_running(&self) -> bool {
        let state = self.lock();
        state.running.is_some() || state.is_starting
    }

    /// A number for the next model in service.
    pub(crate) fn next_version(&self) -> u64 {
        let mut state = self.lock();
        state.versions += 1;
        state.versions
    }

    /// Watches the engines of a model that is about to be replaced. They end, and their memory is free, with their last
    /// request; until then they can be told to stop.
    pub(crate) fn retire(&self, served: &Arc<ServedModel>) -> Vec<Watch> {
        let watches: Vec<Watch> = served.workers.iter().map(engine::Handle::watch).collect();
        let (memory, bytes) = (served.memory(), served.bytes() / watches.len().max(1) as u64);
        let mut state = self.lock();
        state.retired.retain(|retired| !retired.watch.ended());
        let engines = watches.iter().map(|watch| RetiredEngine { watch: watch.clone(), memory, bytes });
        state.retired.extend(engines);
        watches
    }

    /// How many retired engines still finish what they began, and the memory reserved for them.
    pub(crate) fn retired(&self) -> (usize, u64) {
        let mut state = self.lock();
        state.retired.retain(|retired| !retired.watch.ended());
        (state.retired.len(), state.retired.iter().map(|retired| retired.bytes).sum())
    }

    /// Each of them, with what its model holds and what it is doing.
    pub(crate) fn retired_engines(&self) -> Vec<(ModelMemory, Snapshot)> {
        let state = self.lock();
        let live = state.retired.iter().filter(|retired| !retired.watch.ended());
        live.map(|retired| (retired.memory, retired.watch.snapshot())).collect()
    }

    /// How long ago each of them finished its last step.
    pub(crate) fn retired_stuck_for(&self) -> Vec<Duration> {
        self.lock().retired.iter().map(|retired| retired.watch.snapshot().stuck_for).collect()
    }

    /// Ends the streams of retired engines.
    pub(crate) fn abort_retired(&self) {
        self.lock().retired.iter().for_each(|retired| retired.watch.abort_all());
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_last_twenty_swaps_are_remembered() {
        let swaps = Swaps::default();
        for id in 1..=23 {
            swaps.lock().add(SwapStatus::new(id, registry::builtin::tag(), None));
        }
        let ids: Vec<u64> = swaps.records().iter().map(|record| record.id).collect();
        assert_eq!((ids.len(), ids[0], ids[19]), (20, 23, 4));
    }

    #[test]
    fn the_latest_live_model_is_that_of_the_latest_swap_that_went_live() {
        let swaps = Swaps::default();
        assert_eq!(swaps.latest_live(), None);
        for (id, name, live) in [(1, "d8", true), (2, "d12", true), (3, "d20", false)] {
            swaps.lock().add(SwapStatus::new(id, Tag::new(name).unwrap(), None));
            if live {
                swaps.change(id, |record| record.live = Some(SystemTime::now()));
            }
        }
        assert_eq!(swaps.latest_live(), Tag::new("d12"));
    }
}
