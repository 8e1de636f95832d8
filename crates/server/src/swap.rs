//! The cut-over from one model to the next.
//!
//! Everything that can fail happens beside the model that serves (see `registry::swap`); then one atomic store
//! sends new requests to the new engines. Requests that began before finish on the old ones, which end and
//! free their memory when nobody holds them any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::Compute;
use engine::driver::Watch;
use registry::Category;
use registry::{LoadOptions, Phase, SwapRecord, Tag};
use tokio::sync::watch;

use crate::clock;
use crate::generation::Generation;
use crate::problem::{Code, Problem};
use crate::state::State;

/// How often the end of a retired engine is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// The swap that runs and the last one; retired engines until they end.
#[derive(Default)]
pub(crate) struct Swapper(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    running: Option<Running>,
    records: Vec<SwapRecord>,
    retired: Vec<Watch>,
    count: u64,
    generations: u64,
    start_failure: Option<String>,
}

/// A swap whose end others may wait for.
#[derive(Clone)]
struct Running {
    id: u64,
    target: Tag,
    end: watch::Receiver<Option<Result<(), Problem>>>,
}

/// What became of a request to swap.
pub(crate) enum Asked {
    /// The tag is live and unchanged.
    AlreadyLive,
    /// A swap to it runs; wait on this for its end.
    Running(u64, watch::Receiver<Option<Result<(), Problem>>>),
}

impl Swapper {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The swap that runs, or the last that ran.
    pub(crate) fn latest(&self) -> Option<SwapRecord> {
        self.lock().records.last().cloned()
    }

    /// The swap before that.
    pub(crate) fn previous(&self) -> Option<SwapRecord> {
        self.lock().records.iter().rev().nth(1).cloned()
    }

    /// Why no model was even looked for at start.
    pub(crate) fn start_failure(&self) -> Option<String> {
        self.lock().start_failure.clone()
    }

    /// Whether weights are being loaded now.
    pub(crate) fn is_running(&self) -> bool {
        self.lock().running.is_some()
    }

    /// Ends the streams of engines that no longer serve.
    pub(crate) fn abort_retired(&self) {
        self.lock().retired.iter().for_each(Watch::abort_all);
    }

    /// Engines that no longer serve but still finish what they began.
    pub(crate) fn retired(&self) -> usize {
        let mut inner = self.lock();
        inner.retired.retain(|watch| !watch.ended());
        inner.retired.len()
    }

    fn record(&self, id: u64, change: impl FnOnce(&mut SwapRecord)) {
        if let Some(record) = self.lock().records.iter_mut().find(|record| record.id == id) {
            change(record);
        }
    }
}

impl State {
    /// Begins to load the model that the settings name, or the one the catalog chooses. The service can
    /// listen meanwhile; failures are in `/health` and the log.
    pub fn load_at_start(self: &Arc<Self>) {
        if let Some(storage) = self.options.storage.as_deref().filter(|storage| !storage.exists()) {
            tracing::warn!(storage = %storage.display(), "MODEL_STORAGE_PATH does not exist (yet)");
        }
        let asked = match self.options.first_tag() {
            Ok(tag) => self.ask(self.first_tag.get_or_init(|| tag)),
            Err(error) => {
                tracing::error!(error = %error, "the model storage could not be read");
                Err(problem(&error))
            }
        };
        if let Err(problem) = asked {
            let model_tag = self.first_tag.get().map(Tag::as_str);
            tracing::error!(model_tag, error = %problem.detail, "no model is loaded at start");
            self.swapper.lock().start_failure = Some(problem.detail);
        }
    }

    /// How a model is loaded; the choice of the first one stands, whatever is added to the storage later.
    fn load_options(&self, tag: &Tag) -> LoadOptions {
        self.options.load_options(tag, self.first_tag.get())
    }

    /// Asks for a model: joins the swap to it that runs, or begins one.
    pub(crate) fn ask(self: &Arc<Self>, tag: &Tag) -> Result<Asked, Problem> {
        // Disks may be slow, and whoever asks for /health waits for this lock.
        let unchanged = self.is_live_and_unchanged(tag);
        if !unchanged {
            // A slip of a caller's is no swap: it leaves no record, and no other reason in /health.
            let found = self.options.catalog().find(tag);
            if let Some(error) = found.err().filter(|error| error.category() == Category::NotFound) {
                return Err(problem(&error));
            }
        }
        let mut inner = self.swapper.lock();
        if let Some(running) = &inner.running {
            if running.target == *tag {
                return Ok(Asked::Running(running.id, running.end.clone()));
            }
            let detail = format!("A swap to \"{}\" is running; ask again when it has ended.", running.target);
            return Err(Problem::new(Code::SwapInProgress, detail).retry_after(5));
        }
        if unchanged {
            return Ok(Asked::AlreadyLive);
        }
        inner.count += 1;
        let (id, target) = (inner.count, tag.clone());
        let (tell, end) = watch::channel(None);
        inner.records.push(SwapRecord::new(id, target.clone()));
        let surplus = inner.records.len().saturating_sub(20);
        inner.records.drain(..surplus);
        inner.running = Some(Running { id, target: target.clone(), end: end.clone() });
        drop(inner);
        let state = Arc::clone(self);
        tokio::task::spawn_blocking(move || state.swap(id, &target, &tell));
        Ok(Asked::Running(id, end))
    }

    fn is_live_and_unchanged(&self, tag: &Tag) -> bool {
        let Some(generation) = self.generation().filter(|generation| generation.model.tag == *tag) else {
            return false;
        };
        if generation.workers.iter().any(|worker| worker.watch().ended()) {
            return false;
        }
        match registry::load::fingerprint(&self.options.catalog(), tag, &self.load_options(tag)) {
            Ok(now) => now == generation.model.fingerprint,
            // A model that is gone goes on serving: there is nothing to change to. Anything else is worth a
            // swap, which will say what is wrong.
            Err(error) => error.category() == Category::NotFound,
        }
    }

    /// One swap, on a thread of its own.
    fn swap(self: &Arc<Self>, id: u64, target: &Tag, tell: &watch::Sender<Option<Result<(), Problem>>>) {
        tracing::info!(swap_id = id, model_tag = %target, "swap began");
        let mut begun = clock::now();
        let mut enter = |phase: Phase| {
            self.swapper.record(id, |record| record.enter(phase, begun.elapsed()));
            begun = clock::now();
        };
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.load(target, &mut enter)));
        let outcome =
            outcome.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "The swap broke; it is logged.")));
        match outcome {
            Ok(generation) => {
                enter(Phase::CutOver);
                let retired = self.retire();
                self.tally.follow(&generation.workers);
                self.current.store(Some(Arc::new(generation)));
                self.metrics.swapped("ok");
                tracing::info!(swap_id = id, model_tag = %target, "swap is live");
                self.end(tell, Ok(()));
                enter(Phase::Drain);
                while !retired.iter().all(Watch::ended) {
                    std::thread::sleep(DRAIN_POLL);
                }
                enter(Phase::Free);
                self.swapper.record(id, |record| record.end(Ok(()), Duration::ZERO));
            }
            Err(problem) => {
                self.metrics.swapped("failed");
                tracing::warn!(swap_id = id, model_tag = %target, reason = %problem.detail, "swap failed");
                let reason = problem.detail.clone();
                self.swapper.record(id, |record| record.end(Err(reason), begun.elapsed()));
                self.end(tell, Err(problem));
            }
        }
    }

    /// Weights in memory, tested, with engines around them.
    fn load(&self, target: &Tag, enter: &mut impl FnMut(Phase)) -> Result<Generation, Problem> {
        let options = &self.options;
        let compute = Compute::new(options.isa, options.threads);
        let load = self.load_options(target);
        let loaded = registry::swap::prepare(&options.catalog(), target, &load, &compute, enter);
        let model = loaded.map_err(|error| {
            // With its path, which no caller is told.
            tracing::error!(model_tag = %target, error = %error, "a model could not be loaded");
            problem(&error)
        })?;
        let number = {
            let mut inner = self.swapper.lock();
            inner.generations += 1;
            inner.generations
        };
        Generation::start(number, model, options).map_err(|error| {
            tracing::error!(model_tag = %target, error = %error, "an engine could not be started");
            Problem::new(Code::Internal, "The engines of the new model could not be started.")
        })
    }

    /// Others may swap from now on, and whoever waited is told.
    fn end(&self, tell: &watch::Sender<Option<Result<(), Problem>>>, outcome: Result<(), Problem>) {
        self.swapper.lock().running = None;
        tell.send_replace(Some(outcome));
    }

    /// Watches the engines that are about to be replaced. They end, and their memory is free, with their last
    /// request; until then they can be told to stop.
    fn retire(&self) -> Vec<Watch> {
        let generation = self.generation();
        let workers = generation.iter().flat_map(|generation| &generation.workers);
        let watches: Vec<Watch> = workers.map(engine::Handle::watch).collect();
        let mut inner = self.swapper.lock();
        inner.retired.retain(|watch| !watch.ended());
        inner.retired.extend(watches.iter().cloned());
        watches
    }
}

/// A registry's error as a caller sees it.
pub(crate) fn problem(error: &registry::Error) -> Problem {
    let code = match error.category() {
        Category::NotFound => Code::ModelNotFound,
        Category::BadCheckpoint => Code::BadCheckpoint,
        Category::OutOfMemory => Code::OutOfMemory,
        Category::Storage => Code::StorageFailed,
    };
    let problem = Problem::new(code, sentence(&error.public()));
    if code == Code::ModelNotFound { problem.at("/model_tag") } else { problem }
}

/// An error's words as a sentence of its own.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    let stop = if text.ends_with('.') { "" } else { "." };
    first.into_iter().flatten().chain(chars).chain(stop.chars()).collect()
}
