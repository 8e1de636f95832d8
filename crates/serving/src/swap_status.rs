//! What is known of a swap, while it runs and afterwards.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::transaction::{SwapOrder, SwapOutcome, SwapPhase};
use fetch::DownloadProgress;
use registry::Tag;

/// How a swap went, or goes.
#[derive(Clone)]
pub struct SwapStatus {
    /// Counts from 1.
    pub id: u64,
    /// The model asked for.
    pub target: Tag,
    /// The model that served when it began.
    pub previous: Option<Tag>,
    /// When it began.
    pub started: SystemTime,
    /// Known once memory was compared.
    pub mode: Option<SwapOrder>,
    /// The phase it is in, or ended in.
    pub phase: SwapPhase,
    /// Phases that are over, with when each began and how long it took.
    pub phases: Vec<(SwapPhase, SystemTime, Duration)>,
    /// Since when the new model serves.
    pub live: Option<SystemTime>,
    /// Known once it is over.
    pub outcome: Option<SwapOutcome>,
    /// Why it failed, as sentences.
    pub reason: Option<String>,
    /// Of the new weights, once they are hashed.
    pub identity: Option<Arc<str>>,
    /// Of the download, if there is one.
    pub progress: Option<DownloadProgress>,
    /// Resident bytes of the process when it began.
    pub resident_before: Option<u64>,
    /// The same when it was over.
    pub resident_after: Option<u64>,
}

impl SwapStatus {
    /// A swap that begins now.
    pub fn new(id: u64, target: Tag, previous: Option<Tag>) -> Self {
        Self {
            id,
            target,
            previous,
            started: SystemTime::now(),
            mode: None,
            phase: SwapPhase::Resolve,
            phases: Vec::new(),
            live: None,
            outcome: None,
            reason: None,
            identity: None,
            progress: None,
            resident_before: registry::memory::resident(),
            resident_after: None,
        }
    }

    /// Its phase is over.
    pub(crate) fn leave_phase(&mut self, took: Duration) {
        let now = SystemTime::now();
        self.phases.push((self.phase, now.checked_sub(took).unwrap_or(now), took));
    }

    /// A phase failed. What failed first is the reason; what made it worse is added.
    pub(crate) fn fail(&mut self, reason: &str) {
        self.reason = Some(match self.reason.take() {
            None => reason.to_owned(),
            Some(first) => format!("{first} And then, in its phase {}: {reason}", self.phase.name()),
        });
    }

    /// It is over.
    pub(crate) fn end(&mut self, outcome: SwapOutcome) {
        self.outcome = Some(outcome);
        self.resident_after = registry::memory::resident();
    }

    /// Why the model asked for does not serve, if the swap is over.
    pub fn failure(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| self.outcome.is_some())
    }

    /// Whether the model asked for is still on its way.
    pub fn is_running(&self) -> bool {
        self.outcome.is_none() && self.live.is_none()
    }

    /// Its outcome, or its state while it has none.
    pub fn outcome_name(&self) -> &'static str {
        match self.outcome {
            Some(outcome) => outcome.name(),
            None if self.live.is_some() => "live",
            None => "running",
        }
    }
}

/// Is told of swaps as they happen, on the thread of the swap: it must not block.
pub trait SwapObserver: Send + Sync {
    /// A model is on its way to serve.
    fn began(&self);

    /// It serves, or it is settled that it will not. What follows of the swap disturbs no one.
    fn settled(&self, outcome: SwapOutcome);

    /// A phase is over.
    fn phase_ended(&self, phase: SwapPhase, took: Duration);

    /// A download begins, with its progress.
    fn download_began(&self, progress: &DownloadProgress);

    /// The download is over, well or not.
    fn download_ended(&self);

    /// All phases are over.
    fn ended(&self, record: &SwapStatus);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_failure_once_the_swap_is_over() {
        let mut record = SwapStatus::new(1, registry::builtin::tag(), None);
        record.leave_phase(Duration::from_millis(1500));
        record.phase = SwapPhase::Verify;
        record.fail("it is broken");
        assert_eq!((record.failure(), record.outcome_name()), (None, "running"));
        record.end(SwapOutcome::Restored);
        assert_eq!((record.failure(), record.outcome_name()), (Some("it is broken"), "restored"));
        assert_eq!(
            record.phases.iter().map(|(phase, _, took)| (*phase, took.as_millis())).next(),
            Some((SwapPhase::Resolve, 1500))
        );
    }
}
