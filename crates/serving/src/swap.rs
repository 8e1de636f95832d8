//! Swaps: how one is requested and joined, and the thread that goes through its phases.
//!
//! [`crate::transaction`] says which phase comes next, [`crate::phases`] does what a phase does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crate::transaction::{SwapOutcome, SwapPhase, SwapStep};
use registry::{Category, Tag, last_model};
use tokio::sync::watch;

use crate::error::SwapError;
use crate::models::Models;
use crate::phases::SwapWork;
use crate::swaps::SwapEnd;

/// What became of a request to swap.
pub enum RequestedSwap {
    /// The model serves already, and its files are unchanged.
    AlreadyLive,
    /// A swap to it runs.
    Running(SwapHandle),
}

/// A swap that runs, or ran.
pub struct SwapHandle {
    /// Its number.
    pub id: u64,
    end: watch::Receiver<SwapEnd>,
}

impl SwapHandle {
    /// Returns once the new model serves, or will not; `None` if the swap's thread is gone.
    pub async fn ended(&mut self) -> Option<Result<(), SwapError>> {
        self.end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone())
    }
}

/// What has to hold for a swap to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Precondition {
    /// Nothing.
    None,
    /// Some model serves.
    AnyModel,
    /// A model of one of these identities serves.
    Identities(Vec<String>),
}

/// What was seen of a tag before the lock on swaps is taken.
struct Look {
    /// The version of the model that served then.
    serving: Option<u64>,
    /// Whether it was the tag's, and its files are as they were.
    unchanged: bool,
}

impl Models {
    /// Begins to load the model that served last if that is set, else the one that the settings name, else the one that
    /// the catalog chooses. Returns at once; failures are in [`Models::failure`] and the log.
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
        self.swaps.lock().is_starting = true;
        let models = Arc::clone(self);
        tokio::spawn(async move {
            let restored = match last {
                Some(last) => models.start_with(Ok(last)).await,
                None => false,
            };
            if !restored {
                models.start_with(default).await;
            }
            models.swaps.lock().is_starting = false;
        });
    }

    /// Loads a model to begin with. Returns whether it serves.
    async fn start_with(self: &Arc<Self>, tag: Result<Tag, registry::Error>) -> bool {
        let models = Arc::clone(self);
        let requested = tokio::task::spawn_blocking(move || {
            let name = tag.as_ref().ok().map(Tag::to_string);
            let tag = tag.map_err(SwapError::from);
            let requested = tag.and_then(|tag| models.swap(&tag, &Precondition::None));
            requested.inspect_err(|error| {
                tracing::error!(model_tag = name, %error, "no model is loaded at start");
                models.swaps.lock().start_failure = Some(error.to_string());
            })
        });
        match requested.await {
            Ok(Ok(RequestedSwap::Running(mut swap))) => matches!(swap.ended().await, Some(Ok(()))),
            requested => requested.is_ok_and(|requested| requested.is_ok()),
        }
    }

    /// Requests a model: joins the swap to it that runs, or begins one. Blocks on the disk.
    pub fn swap(
        self: &Arc<Self>,
        tag: &Tag,
        precondition: &Precondition,
    ) -> Result<RequestedSwap, SwapError> {
        loop {
            // Disks may be slow, and /health waits for the lock on swaps: they are read before.
            let look = Look { serving: self.current_version(), unchanged: self.is_live_and_unchanged(tag) };
            if !look.unchanged {
                // A tag that does not exist is no swap: it leaves no record, and no other reason in /health.
                let found = self.options.catalog().find(tag);
                if let Some(error) = found.err().filter(|error| error.category() == Category::NotFound) {
                    return Err(error.into());
                }
            }
            if let Some(requested) = self.join_or_begin(tag, precondition, &look)? {
                return Ok(requested);
            }
        }
    }

    /// Joins or begins a swap after a look; `None` if another model serves now, for then the look says nothing.
    fn join_or_begin(
        self: &Arc<Self>,
        tag: &Tag,
        precondition: &Precondition,
        look: &Look,
    ) -> Result<Option<RequestedSwap>, SwapError> {
        let mut state = self.swaps.lock();
        if let Some(running) = &state.running {
            if running.target != *tag {
                return Err(SwapError::InProgress { target: running.target.clone() });
            }
            self.check(precondition)?;
            let swap = SwapHandle { id: running.id, end: running.end.clone() };
            return Ok(Some(RequestedSwap::Running(swap)));
        }
        // No model takes over while this lock is held, so what serves now is what serves when the swap begins.
        if self.current_version() != look.serving {
            return Ok(None);
        }
        self.check(precondition)?;
        if look.unchanged {
            return Ok(Some(RequestedSwap::AlreadyLive));
        }
        let (sender, end) = watch::channel(None);
        let previous = self.current().map(|served| served.model.tag.clone());
        let id = state.begin(tag, previous, end.clone());
        drop(state);
        let (models, target) = (Arc::clone(self), tag.clone());
        tokio::task::spawn_blocking(move || models.run_swap(id, &target, &sender));
        Ok(Some(RequestedSwap::Running(SwapHandle { id, end })))
    }

    fn current_version(&self) -> Option<u64> {
        self.current().map(|served| served.version)
    }

    fn check(&self, precondition: &Precondition) -> Result<(), SwapError> {
        let current = self.current();
        let serving = current.as_ref().map(|served| served.model.identity.as_str());
        let holds = match (precondition, serving) {
            (Precondition::None, _) | (Precondition::AnyModel, Some(_)) => true,
            (Precondition::Identities(wanted), Some(serving)) => {
                wanted.iter().any(|wanted| wanted == serving)
            }
            (_, None) => false,
        };
        if holds {
            Ok(())
        } else {
            Err(SwapError::PreconditionFailed { serving: serving.map(str::to_owned) })
        }
    }

    fn is_live_and_unchanged(&self, tag: &Tag) -> bool {
        let Some(served) = self.current().filter(|served| served.model.tag == *tag) else {
            return false;
        };
        if served.has_dead_engine() {
            return false;
        }
        let found = served.model.found.clone();
        // Its engines need not wait for the disk before they end.
        drop(served);
        match found.is_current(&self.options.catalog(), self.step_of(tag)) {
            Ok(current) => current,
            // A model that is gone goes on serving: there is nothing to change to. Anything else is worth a
            // swap, which will say what is wrong.
            Err(error) => error.category() == Category::NotFound,
        }
    }

    /// One swap, on a thread of its own.
    fn run_swap(self: &Arc<Self>, id: u64, target: &Tag, end: &watch::Sender<SwapEnd>) {
        tracing::info!(swap_id = id, model_tag = %target, "swap began");
        self.observer.began();
        let mut work = SwapWork::new(self, id, target);
        let (mut next, mut failure) = (SwapStep::Run(SwapPhase::Resolve), None);
        let outcome = loop {
            let phase = match next {
                SwapStep::Run(phase) => phase,
                SwapStep::End(outcome) => break outcome,
            };
            let done = self.run_phase(id, phase, &mut work);
            if phase == SwapPhase::CutOver && done.is_ok() {
                self.observer.settled(SwapOutcome::Live);
                // A client that reads that it serves may rely on it after a restart too.
                self.remember();
                tracing::info!(swap_id = id, model_tag = %target, "swap is live");
                end.send_replace(Some(Ok(())));
            }
            next = work.next(&done);
            if let Err(error) = done {
                self.swaps.change(id, |record| record.fail(&error.to_string()));
                failure.get_or_insert(error);
            }
        };
        drop(work);
        match failure.filter(|_| outcome != SwapOutcome::Live) {
            None => self.swaps.change(id, |record| record.end(outcome)),
            Some(error) => {
                self.observer.settled(outcome);
                let reason = error.to_string();
                tracing::warn!(swap_id = id, model_tag = %target, reason, outcome = outcome.name(), "swap failed");
                // Requests that wait for a model are refused, if none serves.
                self.gate.open();
                self.swaps.decide(id, |record| record.end(outcome));
                end.send_replace(Some(Err(error)));
            }
        }
        if let Some(record) = self.swaps.record(id) {
            self.observer.ended(&record);
        }
    }

    /// One phase, with its time.
    fn run_phase(&self, id: u64, phase: SwapPhase, work: &mut SwapWork<'_>) -> Result<(), SwapError> {
        self.swaps.change(id, |record| record.phase = phase);
        tracing::info!(swap_id = id, phase = phase.name(), "swap phase");
        #[expect(clippy::disallowed_methods, reason = "a swap is timed by the clock")]
        let begun = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| work.perform(phase)));
        let took = begun.elapsed();
        self.swaps.change(id, |record| record.leave_phase(took));
        self.observer.phase_ended(phase, took);
        done.unwrap_or(Err(SwapError::Broken))
    }

    /// Keeps the tag of the model that went live last for the next start. While this waits for a disk the next swap may
    /// end, so the tag is looked up under the lock, and one thread writes at a time.
    fn remember(&self) {
        if !self.options.remember_last_model {
            return;
        }
        let lock = self.remembering.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = self.options.catalog();
        let storage = catalog.directory().filter(|directory| directory.is_dir());
        let kept = storage.zip(self.swaps.latest_live()).map(|(to, tag)| last_model::remember(to, &tag));
        drop(lock);
        if let Some(Err(error)) = kept {
            // A read-only storage is no fault; it only forgets.
            tracing::debug!(error = %error, "the model that serves is not remembered");
        }
    }
}
