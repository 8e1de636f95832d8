//! What each phase of a swap does.

use std::sync::Arc;
use std::time::Duration;

use cpu::Compute;
use engine::driver::Watch;
use fetch::DownloadProgress;
use registry::open::{self, Found, Verified};
use registry::provenance::DownloadRequest;
use registry::{Entry, Tag, memory};

use crate::error::SwapError;
use crate::load::LoadedModel;
use crate::models::Models;
use crate::plan::{self, MemoryBudget, MemoryPlan};
use crate::self_test;
use crate::served_model::ServedModel;
use crate::transaction::{SwapOrder, SwapPhase, SwapStep, Transaction};

/// How often the end of a retired engine is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A swap at work, with what its phases hand to each other.
pub(crate) struct SwapWork<'a> {
    models: &'a Arc<Models>,
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
    next: Option<ServedModel>,
    retired: Vec<Watch>,
}

impl<'a> SwapWork<'a> {
    pub(crate) fn new(models: &'a Arc<Models>, id: u64, target: &'a Tag) -> Self {
        let old = models.current().map(|served| served.model.found.clone());
        Self {
            models,
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
    pub(crate) fn next(&mut self, done: &Result<(), SwapError>) -> SwapStep {
        if done.is_ok() {
            return self.transaction.succeeded();
        }
        // Free the partly loaded model: `restore` needs its memory.
        (self.verified, self.loaded, self.next) = (None, None, None);
        self.transaction.failed()
    }

    /// Does the work of a phase.
    pub(crate) fn perform(&mut self, phase: SwapPhase) -> Result<(), SwapError> {
        let done = match phase {
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
                cpu::allocator::give_back();
                Ok(())
            }
            SwapPhase::Restore => self.restore(),
        };
        done.inspect_err(|error| match error {
            SwapError::Registry(error) => self.log(&**error),
            SwapError::Fetch(error) => self.log(&**error),
            _ => {}
        })
    }

    /// With its path, which no caller is told.
    fn log(&self, error: &dyn std::error::Error) {
        tracing::error!(swap_id = self.id, model_tag = %self.target, error = %error, "a model could not be loaded");
    }

    fn resolve(&mut self) -> Result<(), SwapError> {
        let catalog = self.models.options.catalog();
        let entry = catalog.find(self.target)?;
        self.wanted = open::wanted(&catalog, &entry, self.models.step_of(self.target))?;
        self.entry = Some(entry);
        Ok(())
    }

    fn download(&mut self) -> Result<(), SwapError> {
        let Some(wanted) = self.wanted.take() else { return Ok(()) };
        let options = &self.models.options;
        let catalog = options.catalog();
        let root = catalog.directory().ok_or(SwapError::NoStorage)?;
        let progress = DownloadProgress::default();
        self.models.swaps.change(self.id, |record| record.progress = Some(progress.clone()));
        self.models.observer.download_began(&progress);
        let fetching = options.fetcher.fetch(&wanted, root, &progress);
        let fetched = tokio::runtime::Handle::current().block_on(fetching);
        self.models.observer.download_ended();
        fetched?;
        self.entry = Some(catalog.find(self.target)?);
        Ok(())
    }

    /// Everything that can be known before the weights are read, and whether there is room for them.
    fn verify(&mut self) -> Result<(), SwapError> {
        let options = &self.models.options;
        let entry = self.entry.take().ok_or(SwapError::Broken)?;
        let catalog = options.catalog();
        let opened = open::find(&catalog, &entry, self.models.step_of(self.target))?.open()?;
        let needs = options.needs(&opened);
        let plan = plan::plan(needs, self.memory(), options.swap_mode)
            .map_err(|shortage| shortage.of(self.target))?;
        if plan.kv < needs.kv {
            let (asked_mb, given_mb) = (needs.kv >> 20, plan.kv >> 20);
            tracing::warn!(asked_mb, given_mb, "less memory than set is free for keys and values");
        }
        self.transaction.plan(plan.mode);
        self.models.swaps.change(self.id, |record| record.mode = Some(plan.mode));
        // All bytes are read for it, so it comes last.
        let verified = opened.verify(&catalog)?;
        let identity = verified.identity.as_str().into();
        self.models.swaps.change(self.id, |record| record.identity = Some(identity));
        self.plan = Some(plan);
        self.verified = Some(verified);
        Ok(())
    }

    fn memory(&self) -> MemoryBudget {
        let serving = self.models.current().map(|served| served.bytes());
        let (_, retired) = self.models.swaps.retired();
        // Weights are all touched, so what is not resident is reserved KV cache.
        let reserved = serving.unwrap_or(0) + retired;
        let untouched = reserved.saturating_sub(memory::resident().unwrap_or(u64::MAX));
        let returned = serving.map(|bytes| bytes.saturating_sub(untouched));
        MemoryBudget { available: memory::available(), untouched, returned }
    }

    fn load(&mut self) -> Result<(), SwapError> {
        let verified = self.verified.take().ok_or(SwapError::Broken)?;
        self.loaded = Some(self.read(verified)?);
        Ok(())
    }

    fn read(&self, model: Verified) -> Result<LoadedModel, SwapError> {
        Ok(LoadedModel::load(model, self.models.options.format, &self.compute())?)
    }

    fn self_test(&mut self) -> Result<(), SwapError> {
        let loaded = self.loaded.take().ok_or(SwapError::Broken)?;
        let plan = self.plan.ok_or(SwapError::Broken)?;
        self.next = Some(self.start_tested(loaded, plan)?);
        Ok(())
    }

    fn compute(&self) -> Compute {
        Compute::new(self.models.options.isa, self.models.options.threads)
    }

    /// Engines around a model that gave a short answer.
    fn start_tested(&self, loaded: LoadedModel, plan: MemoryPlan) -> Result<ServedModel, SwapError> {
        self_test::run(&loaded, &self.compute())?;
        let version = self.models.swaps.next_version();
        ServedModel::start(version, loaded, &self.models.options, plan.kv as usize).map_err(|error| {
            tracing::error!(swap_id = self.id, error = %error, "an engine could not be started");
            SwapError::NoEngine
        })
    }

    fn cut_over(&mut self) -> Result<(), SwapError> {
        let next = self.next.take().ok_or(SwapError::Broken)?;
        self.retire_current();
        self.models.swaps.decide(self.id, |record| {
            self.serve(next);
            record.live = Some(std::time::SystemTime::now());
        });
        Ok(())
    }

    fn retire_current(&mut self) {
        if let Some(served) = self.models.current() {
            self.retired.extend(self.models.swaps.retire(&served));
        }
    }

    /// From now on requests go to this model.
    fn serve(&self, served: ServedModel) {
        self.models.totals.follow(&served.workers);
        self.models.current.store(Some(Arc::new(served)));
        self.models.gate.open();
    }

    fn drain(&mut self) {
        if self.transaction.mode() == SwapOrder::Serial {
            self.models.gate.pause();
            self.retire_current();
            self.models.current.store(None);
        }
        while !self.retired.iter().all(Watch::ended) {
            std::thread::sleep(DRAIN_POLL);
        }
    }

    fn restore(&mut self) -> Result<(), SwapError> {
        let old = self.old.take().ok_or(SwapError::Broken)?;
        let tag = old.tag().clone();
        tracing::warn!(swap_id = self.id, model_tag = %tag, "the model that served before is loaded again");
        cpu::allocator::give_back();
        let options = &self.models.options;
        let catalog = options.catalog();
        // What came to its tag meanwhile did not serve, so it is only taken where the old files are not there.
        let found = if old.check_unchanged().is_ok() {
            old
        } else {
            open::find(&catalog, &catalog.find(&tag)?, self.models.step_of(&tag))?
        };
        let opened = found.open()?;
        let needs = options.needs(&opened);
        let plan = plan::alone(needs, &tag)?;
        let loaded = self.read(opened.verify(&catalog)?)?;
        let served = self.start_tested(loaded, plan)?;
        self.serve(served);
        Ok(())
    }
}
