//! Replacing the model that serves: the phases up to the cut-over, and the record of how it went.
//!
//! `resolve → verify → load → self-test → cut over → drain → free`: everything that can fail happens before
//! the cut-over, so a failure leaves the old model as it was. Cut-over and drain need engines and belong to
//! the server; this module does what comes before and names what comes after.

use std::time::{Duration, SystemTime};

use model::Compute;

use crate::{Catalog, Error, LoadOptions, LoadedModel, Tag, load, self_test};

/// Where a swap is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Finding the tag.
    Resolve,
    /// Reading names, shapes, metadata and tokenizer; comparing with the memory there is.
    Verify,
    /// Reading and packing the weights.
    Load,
    /// A short answer.
    SelfTest,
    /// New requests go to the new model.
    CutOver,
    /// The old model finishes what it began.
    Drain,
    /// The old model's memory is free.
    Free,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Resolve, Self::Verify, Self::Load, Self::SelfTest, Self::CutOver, Self::Drain, Self::Free];

    /// The name used in `/stats` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Verify => "verify",
            Self::Load => "load",
            Self::SelfTest => "selftest",
            Self::CutOver => "cutover",
            Self::Drain => "drain",
            Self::Free => "free",
        }
    }
}

/// How a swap went, or goes.
#[derive(Clone, Debug)]
pub struct SwapRecord {
    /// Counts from 1.
    pub id: u64,
    /// The model asked for.
    pub target: Tag,
    /// When it began.
    pub started: SystemTime,
    /// Where it is, or was when it ended.
    pub phase: Phase,
    /// Phases that are over, with how long each took.
    pub phases: Vec<(Phase, Duration)>,
    /// `None` while it runs; then nothing, or why it failed.
    pub outcome: Option<Result<(), String>>,
}

impl SwapRecord {
    /// A swap that begins now.
    pub fn new(id: u64, target: Tag) -> Self {
        let started = SystemTime::now();
        Self { id, target, started, phase: Phase::Resolve, phases: Vec::new(), outcome: None }
    }

    /// The current phase is over and the next one begins.
    pub fn enter(&mut self, next: Phase, took: Duration) {
        debug_assert!(next > self.phase, "phases come in order");
        self.phases.push((self.phase, took));
        self.phase = next;
    }

    /// It is over.
    pub fn end(&mut self, outcome: Result<(), String>, took: Duration) {
        self.phases.push((self.phase, took));
        self.outcome = Some(outcome);
    }
}

/// Everything before the cut-over. `enter` is called as each phase begins after the first.
pub fn prepare(
    catalog: &Catalog,
    tag: &Tag,
    options: &LoadOptions,
    compute: &Compute,
    mut enter: impl FnMut(Phase),
) -> Result<LoadedModel, Error> {
    let entry = catalog.find(tag)?;
    enter(Phase::Verify);
    let opened = load::open(catalog, &entry, options)?;
    enter(Phase::Load);
    let model = opened.load(compute)?;
    enter(Phase::SelfTest);
    self_test::run(&model, compute)?;
    Ok(model)
}
