//! From one model to the next, while people chat.
//!
//! `registry::swap` says which phase comes next, `work` does what a phase does, `record` keeps what `/stats` tells
//! of it. Here: who may begin a swap, who waits for its end, and the thread that goes through the phases.

mod record;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::driver::{Snapshot, Watch};
use registry::swap::{SwapOutcome, SwapPhase, SwapStep};
use registry::{Category, LoadOptions, Tag, last_model};
use tokio::sync::watch;

pub(crate) use record::Record;

use crate::clock;
use crate::generation::Held;
use crate::problem::{Code, Problem};
use crate::state::{LastModel, State};
use record::History;
use work::Work;

/// The swap that runs and those that ran; retired engines until they end.
#[derive(Default)]
pub(crate) struct Swapper {
    inner: Mutex<Inner>,
    /// Held by whoever keeps a tag for the next start, which may take a disk its time.
    remembering: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    running: Option<Running>,
    history: History,
    retired: Vec<Retired>,
    count: u64,
    generations: u64,
    /// The models to begin with are still tried.
    starting: bool,
    start_failure: Option<String>,
}

/// An engine that no longer serves.
struct Retired {
    watch: Watch,
    /// What its generation holds.
    held: Held,
    /// Its share of weights, keys and values.
    bytes: u64,
}

/// How a swap ended for whoever asked for it.
type End = Result<(), Problem>;

/// A swap whose end others may wait for.
#[derive(Clone)]
struct Running {
    id: u64,
    target: Tag,
    end: watch::Receiver<Option<End>>,
}

/// What was seen of a tag before the swapper is asked.
struct Look {
    /// The number of the generation that served then.
    serving: Option<u64>,
    /// Whether it was the tag's, and its files are as they were.
    unchanged: bool,
}

/// What became of a request to swap.
pub(crate) enum Asked {
    /// The tag is live and unchanged.
    AlreadyLive,
    /// A swap to it runs; wait on this for its end.
    Running(u64, watch::Receiver<Option<End>>),
}

/// On what condition a swap may begin: that these weights serve, or any at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Condition {
    /// None is set.
    Always,
    /// Some model serves.
    Any,
    /// A model of one of these identities serves.
    Identities(Vec<String>),
}

impl Swapper {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last swaps, the latest first; the first of them may still run.
    pub(crate) fn history(&self) -> Vec<Record> {
        self.lock().history.latest_first().cloned().collect()
    }

    /// Why the model that was asked for last does not serve, or why none was even looked for at start.
    pub(crate) fn failure(&self) -> Option<String> {
        let inner = self.lock();
        let latest = inner.history.latest_first().next();
        latest.and_then(|record| record.failure().map(str::to_owned)).or_else(|| inner.start_failure.clone())
    }

    /// The model that went live last.
    fn latest_live(&self) -> Option<Tag> {
        let inner = self.lock();
        inner.history.latest_first().find(|record| record.went_live()).map(|record| record.target.clone())
    }

    /// Whether weights are on their way to serve.
    pub(crate) fn is_running(&self) -> bool {
        let inner = self.lock();
        inner.running.is_some() || inner.starting
    }

    /// Ends the streams of engines that no longer serve.
    pub(crate) fn abort_retired(&self) {
        self.lock().retired.iter().for_each(|retired| retired.watch.abort_all());
    }

    /// Engines that no longer serve but still finish what they began, and the memory that was set aside for them.
    pub(crate) fn retired(&self) -> (usize, u64) {
        let mut inner = self.lock();
        inner.retired.retain(|retired| !retired.watch.ended());
        (inner.retired.len(), inner.retired.iter().map(|retired| retired.bytes).sum())
    }

    /// Each of them, with what its generation holds and what it is doing.
    pub(crate) fn retired_engines(&self) -> Vec<(Held, Snapshot)> {
        let inner = self.lock();
        let live = inner.retired.iter().filter(|retired| !retired.watch.ended());
        live.map(|retired| (retired.held, retired.watch.snapshot())).collect()
    }

    /// How long ago each of them finished its last step.
    pub(crate) fn retired_stuck_for(&self) -> Vec<Duration> {
        self.lock().retired.iter().map(|retired| retired.watch.snapshot().stuck_for).collect()
    }

    fn record(&self, id: u64, change: impl FnOnce(&mut Record)) {
        self.lock().history.change(id, change);
    }

    fn next_generation(&self) -> u64 {
        let mut inner = self.lock();
        inner.generations += 1;
        inner.generations
    }

    /// It is decided whether the new model serves: in one step for whoever asks, that is so and on record, and others
    /// may swap.
    fn decide(&self, id: u64, change: impl FnOnce(&mut Record)) {
        let mut inner = self.lock();
        inner.history.change(id, change);
        inner.running = None;
    }
}

impl State {
    /// Begins to load the model that served last if that is wished, else the one that the settings name, else the
    /// one that the catalog chooses. The service can listen meanwhile; failures are in `/health` and the log.
    pub fn load_at_start(self: &Arc<Self>) {
        let storage = self.options.storage.as_deref();
        if let Some(storage) = storage.filter(|storage| !storage.exists()) {
            tracing::warn!(storage = %storage.display(), "MODEL_STORAGE_PATH does not exist (yet)");
        }
        let default = self.options.first_tag().inspect(|tag| {
            // Whatever is added to the storage later, the choice stands.
            let _ = self.first_tag.set(tag.clone());
        });
        let catalog = self.options.catalog();
        let recalled = catalog.directory().filter(|_| self.options.restore_last_model);
        let last = recalled.and_then(last_model::recall);
        let last = last.filter(|last| default.as_ref().is_ok_and(|default| default != last));
        self.swapper.lock().starting = true;
        let state = Arc::clone(self);
        tokio::spawn(async move {
            let restored = match last {
                Some(last) => state.started_with(Ok(last)).await,
                None => false,
            };
            if !restored {
                state.started_with(default).await;
            }
            state.swapper.lock().starting = false;
        });
    }

    /// Whether a model to begin with serves.
    async fn started_with(self: &Arc<Self>, tag: Result<Tag, registry::Error>) -> bool {
        let state = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let name = tag.as_ref().ok().map(Tag::to_string);
            let tag = tag.map_err(|error| problem(&error));
            let asked = tag.and_then(|tag| state.ask(&tag, &Condition::Always));
            asked.inspect_err(|problem| {
                tracing::error!(model_tag = name, error = %problem.detail, "no model is loaded at start");
                state.swapper.lock().start_failure = Some(problem.detail.clone());
            })
        });
        match asked.await {
            Ok(Ok(Asked::Running(_, mut end))) => {
                end.wait_for(Option::is_some).await.is_ok_and(|end| matches!(*end, Some(Ok(()))))
            }
            asked => asked.is_ok_and(|asked| asked.is_ok()),
        }
    }

    /// How a model is loaded.
    fn load_options(&self, tag: &Tag) -> LoadOptions {
        // Where nothing is loaded at the start, the first model is the one that is named.
        let first = self.first_tag.get().or(self.options.default_tag.as_ref());
        self.options.load_options(tag, first)
    }

    /// Asks for a model: joins the swap to it that runs, or begins one.
    pub(crate) fn ask(self: &Arc<Self>, tag: &Tag, condition: &Condition) -> Result<Asked, Problem> {
        loop {
            // Disks may be slow, and whoever asks for /health waits for the swapper's lock: they are looked at before.
            let serving = self.generation_number();
            let look = Look { serving, unchanged: self.is_live_and_unchanged(tag) };
            if !look.unchanged {
                // A slip of a caller's is no swap: it leaves no record, and no other reason in /health.
                let found = self.options.catalog().find(tag);
                if let Some(error) = found.err().filter(|error| error.category() == Category::NotFound) {
                    return Err(problem(&error));
                }
            }
            if let Some(asked) = self.begin(tag, condition, &look) {
                return asked;
            }
        }
    }

    /// Joins or begins a swap after a look; `None` if other weights serve now, for then the look says nothing.
    fn begin(
        self: &Arc<Self>,
        tag: &Tag,
        condition: &Condition,
        look: &Look,
    ) -> Option<Result<Asked, Problem>> {
        let mut inner = self.swapper.lock();
        if let Some(running) = &inner.running {
            if running.target == *tag {
                if let Err(problem) = self.check(condition) {
                    return Some(Err(problem));
                }
                return Some(Ok(Asked::Running(running.id, running.end.clone())));
            }
            let detail = format!("A swap to \"{}\" is running; ask again when it has ended.", running.target);
            return Some(Err(Problem::new(Code::SwapInProgress, detail).retry_after(5)));
        }
        // Nothing takes over while this lock is held, so what serves now is what serves when the swap begins.
        if self.generation_number() != look.serving {
            return None;
        }
        if let Err(problem) = self.check(condition) {
            return Some(Err(problem));
        }
        if look.unchanged {
            return Some(Ok(Asked::AlreadyLive));
        }
        inner.count += 1;
        let (id, target) = (inner.count, tag.clone());
        let (tell, end) = watch::channel(None);
        let previous = self.generation().map(|generation| generation.model.tag.clone());
        inner.history.add(Record::new(id, target.clone(), previous));
        inner.running = Some(Running { id, target: target.clone(), end: end.clone() });
        drop(inner);
        let state = Arc::clone(self);
        tokio::task::spawn_blocking(move || state.swap(id, &target, &tell));
        Some(Ok(Asked::Running(id, end)))
    }

    fn generation_number(&self) -> Option<u64> {
        self.generation().map(|generation| generation.number)
    }

    fn check(&self, condition: &Condition) -> Result<(), Problem> {
        let generation = self.generation();
        let serving = generation.as_ref().map(|generation| generation.model.identity.as_str());
        let holds = match (condition, serving) {
            (Condition::Always, _) | (Condition::Any, Some(_)) => true,
            (Condition::Identities(wanted), Some(serving)) => wanted.iter().any(|wanted| wanted == serving),
            (_, None) => false,
        };
        if holds {
            return Ok(());
        }
        let serving = serving.map_or_else(|| "none".to_owned(), |identity| format!("\"{identity}\""));
        let detail = format!("If-Match names other weights than those that serve: {serving}.");
        Err(Problem::new(Code::PreconditionFailed, detail))
    }

    fn is_live_and_unchanged(&self, tag: &Tag) -> bool {
        let Some(generation) = self.generation().filter(|generation| generation.model.tag == *tag) else {
            return false;
        };
        if generation.has_dead_engine() {
            return false;
        }
        let found = generation.model.found.clone();
        // Its engines need not wait for the disk before they end.
        drop(generation);
        match found.is_current(&self.options.catalog(), &self.load_options(tag)) {
            Ok(current) => current,
            // A model that is gone goes on serving: there is nothing to change to. Anything else is worth a
            // swap, which will say what is wrong.
            Err(error) => error.category() == Category::NotFound,
        }
    }

    /// One swap, on a thread of its own.
    fn swap(self: &Arc<Self>, id: u64, target: &Tag, tell: &watch::Sender<Option<End>>) {
        tracing::info!(swap_id = id, model_tag = %target, "swap began");
        let mut on_their_way = Some(self.metrics.weights.on_their_way());
        let mut work = Work::new(self, id, target);
        let (mut next, mut failure) = (SwapStep::Run(SwapPhase::Resolve), None);
        let outcome = loop {
            let phase = match next {
                SwapStep::Run(phase) => phase,
                SwapStep::End(outcome) => break outcome,
            };
            let done = self.phase(id, phase, &mut work);
            if phase == SwapPhase::CutOver && done.is_ok() {
                drop(on_their_way.take());
                self.metrics.weights.ended(SwapOutcome::Live);
                // Whoever is told that it serves may rely on it after a restart too.
                self.remember();
                tracing::info!(swap_id = id, model_tag = %target, "swap is live");
                tell.send_replace(Some(Ok(())));
            }
            next = work.next(&done);
            if let Err(problem) = done {
                self.swapper.record(id, |record| record.fail(&problem.detail));
                failure.get_or_insert(problem);
            }
        };
        drop(work);
        match failure.filter(|_| outcome != SwapOutcome::Live) {
            None => self.swapper.record(id, |record| record.end(outcome)),
            Some(problem) => {
                self.metrics.weights.ended(outcome);
                let reason = &problem.detail;
                tracing::warn!(swap_id = id, model_tag = %target, reason, outcome = outcome.name(), "swap failed");
                // Whoever waits for weights hears that there are none.
                self.gate.open();
                self.swapper.decide(id, |record| record.end(outcome));
                tell.send_replace(Some(Err(problem)));
            }
        }
        if let Some(spans) = &self.options.spans {
            let record = self.swapper.history().into_iter().find(|record| record.id == id);
            record.iter().flat_map(Record::spans).for_each(|span| spans.collect(span));
        }
    }

    /// Keeps the tag of the model that went live last for the next start. While this waits for a disk the next swap may
    /// end, so the tag is looked up by whoever writes, and one writes at a time.
    fn remember(&self) {
        if self.last_model == LastModel::Forgotten {
            return;
        }
        let turn = self.swapper.remembering.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = self.options.catalog();
        let storage = catalog.directory().filter(|directory| directory.is_dir());
        let kept = storage.zip(self.swapper.latest_live()).map(|(to, tag)| last_model::remember(to, &tag));
        drop(turn);
        if let Some(Err(error)) = kept {
            // A read-only storage is no fault; it only forgets.
            tracing::debug!(error = %error, "the model that serves is not remembered");
        }
    }

    /// One phase, with its time.
    fn phase(&self, id: u64, phase: SwapPhase, work: &mut Work<'_>) -> End {
        self.swapper.record(id, |record| record.enter(phase));
        tracing::info!(swap_id = id, phase = phase.name(), "swap phase");
        let begun = clock::now();
        let done = catch_unwind(AssertUnwindSafe(|| work.perform(phase)));
        let took = begun.elapsed();
        self.swapper.record(id, |record| record.leave(took));
        self.metrics.weights.phase(phase, took);
        done.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "The swap broke; it is logged.")))
    }

    /// Watches the engines that are about to be replaced. They end, and their memory is free, with their last
    /// request; until then they can be told to stop.
    fn retire(&self) -> Vec<Watch> {
        let Some(generation) = self.generation() else { return Vec::new() };
        let watches: Vec<Watch> = generation.workers.iter().map(engine::Handle::watch).collect();
        let (held, bytes) = (generation.held(), generation.bytes() / watches.len().max(1) as u64);
        let mut inner = self.swapper.lock();
        inner.retired.retain(|retired| !retired.watch.ended());
        inner.retired.extend(watches.iter().map(|watch| Retired { watch: watch.clone(), held, bytes }));
        watches
    }
}

/// A registry's error as a caller sees it.
pub(crate) fn problem(error: &registry::Error) -> Problem {
    problem_of(error.category(), &error.public())
}

/// The same of any failure of a kind, with the sentence for callers.
fn problem_of(category: Category, text: &str) -> Problem {
    let code = match category {
        Category::NotFound => Code::ModelNotFound,
        Category::BadCheckpoint => Code::BadCheckpoint,
        Category::OutOfMemory => Code::OutOfMemory,
        Category::Storage => Code::StorageFailed,
        Category::StorageFull => Code::StorageFull,
        Category::SourceFailed => Code::SourceFailed,
    };
    let problem = Problem::new(code, sentence(text));
    if code == Code::ModelNotFound { problem.at("/model_tag") } else { problem }
}

/// An error's words as a sentence of its own. A name at its beginning stays as it is written.
pub(crate) fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let plain = word.bytes().all(|b| b.is_ascii_lowercase());
    let (first, rest) = text.split_at(usize::from(plain && !word.is_empty()));
    let stop = if text.ends_with('.') { "" } else { "." };
    first.to_ascii_uppercase() + rest + stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_live_last_is_remembered_however_long_an_earlier_swap_still_writes() {
        let swapper = Swapper::default();
        assert_eq!(swapper.latest_live(), None);
        for (id, name, live) in [(1, "d8", true), (2, "d12", true), (3, "d20", false)] {
            let tag = Tag::new(name).unwrap();
            swapper.lock().history.add(Record::new(id, tag, None));
            if live {
                swapper.record(id, Record::go_live);
            }
        }
        assert_eq!(swapper.latest_live(), Tag::new("d12"));
    }

    #[test]
    fn a_sentence_begins_as_its_first_word_allows() {
        for (text, expected) in [
            ("no model is loaded", "No model is loaded."),
            ("in model.pt: it is cut off.", "In model.pt: it is cut off."),
            ("someone/far does not exist", "someone/far does not exist."),
            ("`d20` has no weights", "`d20` has no weights."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }
}
