//! What each phase of a swap does.

use std::sync::Arc;
use std::time::Duration;

use cpu::Compute;
use engine::driver::Watch;
use fetch::DownloadProgress;
use registry::load::{Found, Verified};
use registry::plan::{self, MemoryBudget, MemoryPlan};
use registry::provenance::DownloadRequest;
use registry::swap::{SwapOrder, SwapPhase, SwapStep, Transaction};
use registry::{Entry, LoadedModel, Tag, load, memory, self_test};

use super::{problem, problem_of};
use crate::generation::Generation;
use crate::problem::{Code, Problem};
use crate::state::State;

/// How often the end of a retired engine is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A swap at work, with what its phases hand to each other.
pub(super) struct Work<'a> {
    state: &'a Arc<State>,
    id: u64,
    target: &'a Tag,
    /// The model that served when it began, as it was found then.
    old: Option<Found>,
    transaction: Transaction,
    entry: Option<Entry>,
    wanted: Option<DownloadRequest>,
    verified: Option<Verified>,
    plan: Option<MemoryPlan>,
    loaded: Option<LoadedModel>,
    next: Option<Generation>,
    retired: Vec<Watch>,
}

impl<'a> Work<'a> {
    pub(super) fn new(state: &'a Arc<State>, id: u64, target: &'a Tag) -> Self {
        let old = state.generation().map(|generation| generation.model.found.clone());
        Self {
            state,
            id,
            target,
            transaction: if old.is_some() { Transaction::replacing() } else { Transaction::first() },
            old,
            entry: None,
            wanted: None,
            verified: None,
            plan: None,
            loaded: None,
            next: None,
            retired: Vec::new(),
        }
    }

    /// What comes after a phase that ended so.
    pub(super) fn next(&mut self, done: &Result<(), Problem>) -> SwapStep {
        if done.is_ok() {
            return self.transaction.succeeded();
        }
        // Half of a model is in nobody's way, least of all in that of the old one.
        (self.verified, self.loaded, self.next) = (None, None, None);
        self.transaction.failed()
    }

    /// Does the work of a phase.
    pub(super) fn perform(&mut self, phase: SwapPhase) -> Result<(), Problem> {
        match phase {
            SwapPhase::Resolve => self.resolve(),
            SwapPhase::Download => self.download(),
            SwapPhase::Verify => self.verify(),
            SwapPhase::Load => self.load(),
            SwapPhase::SelfTest => self.self_test(),
            SwapPhase::CutOver => self.cut_over(),
            SwapPhase::Drain => {
                self.drain();
                Ok(())
            }
            SwapPhase::Free => {
                memory::give_back();
                Ok(())
            }
            SwapPhase::Restore => self.restore(),
        }
    }

    fn failed(&self, error: &registry::Error) -> Problem {
        self.log(error);
        problem(error)
    }

    fn not_fetched(&self, error: &fetch::Error) -> Problem {
        self.log(error);
        problem_of(error.category(), &error.public())
    }

    /// With its path, which no caller is told.
    fn log(&self, error: &dyn std::error::Error) {
        tracing::error!(swap_id = self.id, model_tag = %self.target, error = %error, "a model could not be loaded");
    }

    fn resolve(&mut self) -> Result<(), Problem> {
        let catalog = self.state.options.catalog();
        let entry = catalog.find(self.target).map_err(|error| self.failed(&error))?;
        let options = self.state.load_options(self.target);
        self.wanted = load::wanted(&catalog, &entry, &options).map_err(|error| self.failed(&error))?;
        self.entry = Some(entry);
        Ok(())
    }

    fn download(&mut self) -> Result<(), Problem> {
        let Some(wanted) = self.wanted.take() else { return Ok(()) };
        let options = &self.state.options;
        let catalog = options.catalog();
        let Some(root) = catalog.directory() else {
            let detail = "A model that has to be fetched needs MODEL_STORAGE_PATH to be set.";
            return Err(Problem::new(Code::StorageFailed, detail));
        };
        let progress = DownloadProgress::default();
        self.state.swapper.record(self.id, |record| record.progress = Some(progress.clone()));
        self.state.metrics.weights.download_began(&progress);
        let fetching = options.fetcher.fetch(&wanted, root, &progress);
        let fetched = tokio::runtime::Handle::current().block_on(fetching);
        self.state.metrics.weights.download_ended();
        fetched.map_err(|error| self.not_fetched(&error))?;
        let found = catalog.find(self.target);
        self.entry = Some(found.map_err(|error| self.failed(&error))?);
        Ok(())
    }

    /// Everything that can be known before the weights are read, and whether there is room for them.
    fn verify(&mut self) -> Result<(), Problem> {
        let options = &self.state.options;
        let entry = self.entry.take().ok_or_else(out_of_order)?;
        let load_options = self.state.load_options(self.target);
        let catalog = options.catalog();
        let opened = load::find(&catalog, &entry, &load_options)
            .and_then(load::Found::open)
            .map_err(|error| self.failed(&error))?;
        let needs = opened.needs(options.kv_bytes as u64, options.workers as u64);
        let memory = self.memory();
        let plan = plan::plan(needs, memory, options.swap_mode)
            .map_err(|shortage| self.failed(&shortage.of(self.target)))?;
        if plan.kv < needs.kv {
            let (asked_mb, given_mb) = (needs.kv >> 20, plan.kv >> 20);
            tracing::warn!(asked_mb, given_mb, "less memory than set is free for keys and values");
        }
        self.transaction.plan(plan.mode);
        self.state.swapper.record(self.id, |record| record.mode = Some(plan.mode));
        // All bytes are read for it, so it comes last.
        let verified = opened.verify(&catalog).map_err(|error| self.failed(&error))?;
        let identity = verified.identity().as_str().into();
        self.state.swapper.record(self.id, |record| record.identity = Some(identity));
        self.plan = Some(plan);
        self.verified = Some(verified);
        Ok(())
    }

    fn memory(&self) -> MemoryBudget {
        let serving = self.state.generation().map(|generation| generation.bytes());
        let (_, retired) = self.state.swapper.retired();
        // Weights are all touched, so what is not resident is reserved keys and values.
        let promised = serving.unwrap_or(0) + retired;
        let untouched = promised.saturating_sub(memory::resident().unwrap_or(u64::MAX));
        let returned = serving.map(|bytes| bytes.saturating_sub(untouched));
        MemoryBudget { available: memory::available(), untouched, returned }
    }

    fn load(&mut self) -> Result<(), Problem> {
        let verified = self.verified.take().ok_or_else(out_of_order)?;
        self.loaded = Some(verified.load(&self.compute()).map_err(|error| self.failed(&error))?);
        Ok(())
    }

    fn self_test(&mut self) -> Result<(), Problem> {
        let loaded = self.loaded.take().ok_or_else(out_of_order)?;
        let plan = self.plan.ok_or_else(out_of_order)?;
        self.next = Some(self.tested(loaded, plan)?);
        Ok(())
    }

    fn compute(&self) -> Compute {
        Compute::new(self.state.options.isa, self.state.options.threads)
    }

    /// Engines around a model that gave a short answer.
    fn tested(&self, loaded: LoadedModel, plan: MemoryPlan) -> Result<Generation, Problem> {
        self_test::run(&loaded, &self.compute()).map_err(|error| self.failed(&error))?;
        let number = self.state.swapper.next_generation();
        Generation::start(number, loaded, &self.state.options, plan.kv as usize).map_err(|error| {
            tracing::error!(swap_id = self.id, error = %error, "an engine could not be started");
            Problem::new(Code::Internal, "The engines of the new model could not be started.")
        })
    }

    fn cut_over(&mut self) -> Result<(), Problem> {
        let next = self.next.take().ok_or_else(out_of_order)?;
        self.retired.extend(self.state.retire());
        self.state.swapper.decide(self.id, |record| {
            self.serve(next);
            record.go_live();
        });
        Ok(())
    }

    /// From now on requests go to this model.
    fn serve(&self, generation: Generation) {
        self.state.tally.follow(&generation.workers);
        self.state.current.store(Some(Arc::new(generation)));
        self.state.gate.open();
    }

    fn drain(&mut self) {
        if self.transaction.mode() == SwapOrder::Serial {
            self.state.gate.hold();
            self.retired.extend(self.state.retire());
            self.state.current.store(None);
        }
        while !self.retired.iter().all(Watch::ended) {
            std::thread::sleep(DRAIN_POLL);
        }
    }

    fn restore(&mut self) -> Result<(), Problem> {
        let old = self.old.take().ok_or_else(out_of_order)?;
        let tag = old.tag().clone();
        tracing::warn!(swap_id = self.id, model_tag = %tag, "the model that served before is loaded again");
        memory::give_back();
        let options = &self.state.options;
        let catalog = options.catalog();
        // What came to its tag meanwhile did not serve, so it is only taken where the old files are not there.
        let found = if old.is_unchanged() {
            Ok(old)
        } else {
            let entry = catalog.find(&tag);
            entry.and_then(|entry| load::find(&catalog, &entry, &self.state.load_options(&tag)))
        };
        let opened = found.and_then(Found::open).map_err(|error| self.failed(&error))?;
        let needs = opened.needs(options.kv_bytes as u64, options.workers as u64);
        let plan = plan::alone(needs, &tag).map_err(|error| self.failed(&error))?;
        let verified = opened.verify(&catalog).map_err(|error| self.failed(&error))?;
        let loaded = verified.load(&self.compute()).map_err(|error| self.failed(&error))?;
        let generation = self.tested(loaded, plan)?;
        self.serve(generation);
        Ok(())
    }
}

/// A phase was asked for before what it needs was made: our own fault.
fn out_of_order() -> Problem {
    Problem::new(Code::Internal, "The swap broke; it is logged.")
}
