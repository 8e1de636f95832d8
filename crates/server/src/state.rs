//! What all handlers share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use engine::driver::Snapshot;
use registry::Tag;
use tokio::sync::watch;

use crate::clock;
use crate::connections::Connections;
use crate::gate::Gate;
use crate::generation::Generation;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::statistics::history::History;
use crate::statistics::streams::OpenStreams;
use crate::swap::Swapper;
use crate::tally::Tally;

/// The state of the service.
pub struct State {
    /// The settings.
    pub options: Options,
    pub(crate) metrics: Metrics,
    pub(crate) current: ArcSwapOption<Generation>,
    pub(crate) swapper: Swapper,
    pub(crate) gate: Gate,
    pub(crate) tally: Tally,
    pub(crate) streams: OpenStreams,
    pub(crate) history: History,
    pub(crate) connections: Arc<Connections>,
    pub(crate) started: Instant,
    /// The same in seconds since 1970.
    pub(crate) started_unix: u64,
    /// The model chosen at start.
    pub(crate) first_tag: OnceLock<Tag>,
    /// What becomes of the tag of a model that went live.
    pub(crate) last_model: LastModel,
    ending: watch::Sender<Option<Ending>>,
    /// Requests between their first check and their stream.
    arriving: AtomicUsize,
}

/// What becomes of the tag of a model that went live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastModel {
    /// It is kept in the storage for the next start.
    Kept,
    Forgotten,
}

/// How a server ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It takes nothing new and says so.
    Drain,
    /// Another process has its socket: it takes no connection, but answers what comes on those it has.
    HandOver,
}

/// Counts a request that has not become a stream yet.
pub(crate) struct Arriving(Arc<State>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One engine of the serving generation.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) model_tag: String,
    pub(crate) snapshot: Snapshot,
}

impl Worker {
    pub(crate) fn busy(&self) -> bool {
        self.snapshot.running > 0
    }
}

impl State {
    /// A service without a model yet; see [`State::load_at_start`].
    pub fn new(options: Options) -> Arc<Self> {
        Self::with(options, LastModel::Kept)
    }

    /// The same for whoever asks in this process alone: what serves here is nothing to the next start of a server.
    pub fn in_process(options: Options) -> Arc<Self> {
        Self::with(options, LastModel::Forgotten)
    }

    fn with(options: Options, last_model: LastModel) -> Arc<Self> {
        registry::memory::prepare();
        Arc::new(Self {
            metrics: Metrics::new(&options),
            current: ArcSwapOption::empty(),
            swapper: Swapper::default(),
            gate: Gate::default(),
            tally: Tally::default(),
            streams: OpenStreams::default(),
            history: History::default(),
            connections: Connections::new(options.limits.connections),
            started: clock::now(),
            started_unix: clock::unix(),
            first_tag: OnceLock::new(),
            last_model,
            ending: watch::channel(None).0,
            arriving: AtomicUsize::new(0),
            options,
        })
    }

    /// The model that serves.
    pub(crate) fn generation(&self) -> Option<Arc<Generation>> {
        self.current.load_full()
    }

    /// Its tag.
    pub fn current_tag(&self) -> Option<String> {
        self.generation().map(|generation| generation.model.tag.to_string())
    }

    /// Whether weights are being loaded now.
    pub fn is_loading(&self) -> bool {
        self.swapper.is_running()
    }

    /// Whether the service finishes what it has and takes nothing new.
    pub fn is_draining(&self) -> bool {
        *self.ending.borrow() == Some(Ending::Drain)
    }

    /// Whether connections are closed after their next answer.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// From now on nothing new is taken.
    pub fn drain(&self) {
        self.ending.send_replace(Some(Ending::Drain));
    }

    /// From now on another process takes the connections.
    pub(crate) fn hand_over(&self) {
        self.ending.send_replace(Some(Ending::HandOver));
    }

    /// Returns once the service ends.
    pub(crate) async fn drains(&self) {
        // The sender lives as long as the state, so this cannot fail.
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
    }

    /// Counts a request from before it looks whether the service drains.
    pub(crate) fn arrive(self: &Arc<Self>) -> Arriving {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        Arriving(Arc::clone(self))
    }

    /// Streams that are open or about to be.
    pub fn open_streams(&self) -> usize {
        // In the order in which a request passes, so that none is missed on its way.
        let arriving = self.arriving.load(Ordering::Acquire);
        arriving + self.metrics.active().max(0) as usize
    }

    /// Seconds until the queue of the least loaded engine is likely to have drained.
    pub(crate) fn seconds_to_drain(&self) -> u64 {
        self.generation().map_or(1, |generation| generation.least_loaded().1.seconds_to_drain())
    }

    /// Ends all streams with an error, those of weights on their way out too.
    pub fn abort_streams(&self) {
        if let Some(generation) = self.generation() {
            generation.workers.iter().for_each(engine::Handle::abort_all);
        }
        self.swapper.abort_retired();
        self.gate.end();
    }

    /// The engines that serve.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let Some(generation) = self.generation() else { return Vec::new() };
        let model_tag = generation.model.tag.to_string();
        let worker = |(index, handle): (usize, &engine::Handle)| Worker {
            index,
            model_tag: model_tag.clone(),
            snapshot: handle.snapshot(),
        };
        generation.workers.iter().enumerate().map(worker).collect()
    }
}
