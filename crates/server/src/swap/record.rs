//! What is known of a swap, while it runs and afterwards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fetch::DownloadProgress;
use registry::Tag;
use registry::swap::{SwapOrder, SwapOutcome, SwapPhase};
use serde_json::{Value, json};

use crate::clock;
use crate::trace::{self, Span, TraceContext};

/// Swaps that are remembered.
const REMEMBERED: usize = 20;

/// How a swap went, or goes.
#[derive(Clone)]
pub(crate) struct Record {
    /// Counts from 1.
    pub(crate) id: u64,
    /// The model asked for.
    pub(crate) target: Tag,
    /// The model that served when it began.
    pub(crate) previous: Option<Tag>,
    started: SystemTime,
    /// Known once memory was compared.
    pub(crate) mode: Option<SwapOrder>,
    phase: SwapPhase,
    /// Phases that are over, with when each began and how long it took.
    phases: Vec<(SwapPhase, SystemTime, Duration)>,
    /// Since when the new model serves.
    live: Option<SystemTime>,
    outcome: Option<SwapOutcome>,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    /// Of the new weights, once they are hashed.
    pub(crate) identity: Option<Arc<str>>,
    /// Of the download, if there is one.
    pub(crate) progress: Option<DownloadProgress>,
    /// Bytes of the process in memory when it began, and when all was over.
    resident: (Option<u64>, Option<u64>),
}

impl Record {
    /// A swap that begins now.
    pub(crate) fn new(id: u64, target: Tag, previous: Option<Tag>) -> Self {
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
            resident: (registry::memory::resident(), None),
        }
    }

    /// A phase begins.
    pub(crate) fn enter(&mut self, phase: SwapPhase) {
        self.phase = phase;
    }

    /// The phase is over.
    pub(crate) fn leave(&mut self, took: Duration) {
        let now = SystemTime::now();
        self.phases.push((self.phase, now.checked_sub(took).unwrap_or(now), took));
    }

    /// The new model serves.
    pub(crate) fn go_live(&mut self) {
        self.live = Some(SystemTime::now());
    }

    /// Whether the new model went live.
    pub(crate) fn went_live(&self) -> bool {
        self.live.is_some()
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
        self.resident.1 = registry::memory::resident();
    }

    /// Why the model asked for does not serve, if the swap is over.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| self.outcome.is_some())
    }

    /// Whether the model asked for is still on its way.
    pub(crate) fn runs(&self) -> bool {
        self.outcome.is_none() && !self.went_live()
    }

    fn outcome_name(&self) -> &'static str {
        match self.outcome {
            Some(outcome) => outcome.name(),
            None if self.went_live() => "live",
            None => "running",
        }
    }

    /// The swap and its phases, in a trace of their own.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let context = TraceContext::new();
        let took = self.started.elapsed().unwrap_or_default();
        let root = trace::phase(&context, "swap", (self.started, took))
            .text("samosa.target_model", self.target.as_str())
            .text("samosa.previous_model", self.previous.as_ref().map_or("", Tag::as_str))
            .text("samosa.mode", self.mode.map_or("", SwapOrder::name))
            .text("samosa.outcome", self.outcome_name())
            .text("samosa.weights", self.identity.as_deref().unwrap_or_default())
            .count("samosa.swap_id", self.id as usize);
        let error = self.reason.as_ref().map(|_| self.outcome_name().to_owned());
        let root = Span { id: context.span, parent: None, error, ..root };
        let phases = self.phases.iter();
        let phases = phases.map(|(phase, begin, took)| trace::phase(&context, phase.name(), (*begin, *took)));
        phases.chain([root]).collect()
    }

    /// As in `/stats/history`.
    pub(crate) fn to_mark(&self) -> Value {
        json!({
            "swap_id": self.id,
            "began": clock::unix_of(self.started),
            "live": self.live.map(clock::unix_of),
            "target_model": self.target.as_str(),
            "previous_model": self.previous.as_ref().map(Tag::as_str),
            "outcome": self.outcome_name(),
        })
    }

    /// As in `/stats`.
    pub(crate) fn to_json(&self) -> Value {
        let seconds = |(phase, _, took): &(SwapPhase, SystemTime, Duration)| {
            (phase.name().to_owned(), took.as_secs_f64().into())
        };
        let phases: serde_json::Map<String, Value> = self.phases.iter().map(seconds).collect();
        json!({
            "swap_id": self.id,
            "target_model": self.target.as_str(),
            "previous_model": self.previous.as_ref().map(Tag::as_str),
            "mode": self.mode.map(SwapOrder::name),
            "started": clock::unix_of(self.started),
            "phase": self.phase.name(),
            "phase_seconds": phases,
            "outcome": self.outcome_name(),
            "reason": self.reason,
            "identity": self.identity.as_deref(),
            "download": self.progress.as_ref().map(progress_fields),
            "resident_bytes": { "before": self.resident.0, "after": self.resident.1 },
        })
    }
}

fn progress_fields(progress: &DownloadProgress) -> Value {
    let now = progress.snapshot();
    json!({
        "files_done": now.files_done,
        "files_total": now.files_total,
        "bytes_done": now.bytes_done,
        "bytes_total": now.bytes_total,
        "bytes_resumed": now.bytes_resumed,
        "retries": now.retries,
    })
}

/// The last swaps, the latest at the end.
#[derive(Default)]
pub(crate) struct History(VecDeque<Record>);

impl History {
    pub(crate) fn add(&mut self, record: Record) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    pub(crate) fn change(&mut self, id: u64, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.0.iter_mut().find(|record| record.id == id) {
            change(record);
        }
    }

    /// From the latest to the first.
    pub(crate) fn latest_first(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_are_remembered_and_the_oldest_goes() {
        let mut history = History::default();
        for id in 1..=23 {
            history.add(Record::new(id, registry::builtin::tag(), None));
        }
        let ids: Vec<u64> = history.latest_first().map(|record| record.id).collect();
        assert_eq!((ids.len(), ids[0], ids[19]), (20, 23, 4));
    }

    #[test]
    fn a_record_says_where_it_is_and_then_how_it_ended() {
        let mut record = Record::new(1, registry::builtin::tag(), None);
        record.leave(Duration::from_millis(1500));
        record.enter(SwapPhase::Verify);
        let running = record.to_json();
        assert_eq!((&running["phase"], &running["outcome"]), (&json!("verify"), &json!("running")));
        assert_eq!(running["phase_seconds"], json!({ "resolve": 1.5 }));
        record.reason = Some("it is broken".to_owned());
        assert_eq!(record.failure(), None, "a reason counts when all is over");
        record.end(SwapOutcome::Restored);
        assert_eq!(
            (record.failure(), record.to_json()["outcome"].as_str()),
            (Some("it is broken"), Some("restored"))
        );
    }
}
