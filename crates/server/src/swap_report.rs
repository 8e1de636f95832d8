//! A swap as `/stats`, `/stats/history` and traces show it.

use std::time::{Duration, SystemTime};

use fetch::DownloadProgress;
use registry::Tag;
use serde_json::{Map, Value, json};
use serving::SwapStatus;
use serving::transaction::{SwapOrder, SwapPhase};

use crate::clock;
use crate::trace::{self, TraceContext, TraceSpan};

/// As in `/stats`.
pub(crate) fn fields(record: &SwapStatus) -> Value {
    let seconds = |(phase, _, took): &(SwapPhase, SystemTime, Duration)| {
        (phase.name().to_owned(), took.as_secs_f64().into())
    };
    let phases: Map<String, Value> = record.phases.iter().map(seconds).collect();
    json!({
        "swap_id": record.id,
        "target_model": record.target.as_str(),
        "previous_model": record.previous.as_ref().map(Tag::as_str),
        "mode": record.mode.map(SwapOrder::name),
        "started": clock::unix_of(record.started),
        "phase": record.phase.name(),
        "phase_seconds": phases,
        "outcome": record.outcome_name(),
        "reason": record.reason,
        "identity": record.identity.as_deref(),
        "download": record.progress.as_ref().map(download_fields),
        "resident_bytes": { "before": record.resident_before, "after": record.resident_after },
    })
}

fn download_fields(progress: &DownloadProgress) -> Value {
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

/// As in `/stats/history`.
pub(crate) fn mark(record: &SwapStatus) -> Value {
    json!({
        "swap_id": record.id,
        "began": clock::unix_of(record.started),
        "live": record.live.map(clock::unix_of),
        "target_model": record.target.as_str(),
        "previous_model": record.previous.as_ref().map(Tag::as_str),
        "outcome": record.outcome_name(),
    })
}

/// The swap and its phases, in a trace of their own.
pub(crate) fn spans(record: &SwapStatus) -> Vec<TraceSpan> {
    let context = TraceContext::new();
    let took = record.started.elapsed().unwrap_or_default();
    let root = trace::phase(&context, "swap", record.started, took)
        .text("samosa.target_model", record.target.as_str())
        .text("samosa.previous_model", record.previous.as_ref().map_or("", Tag::as_str))
        .text("samosa.mode", record.mode.map_or("", SwapOrder::name))
        .text("samosa.outcome", record.outcome_name())
        .text("samosa.weights", record.identity.as_deref().unwrap_or_default())
        .count("samosa.swap_id", record.id as usize);
    let error = record.reason.as_ref().map(|_| record.outcome_name().to_owned());
    let root = TraceSpan { id: context.span, parent: None, error, ..root };
    let phases = record.phases.iter();
    let phases = phases.map(|(phase, begin, took)| trace::phase(&context, phase.name(), *begin, *took));
    phases.chain([root]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_swap_shows_its_phase_and_those_before() {
        let mut record = SwapStatus::new(1, registry::builtin::tag(), None);
        record.phases.push((SwapPhase::Resolve, SystemTime::now(), Duration::from_millis(1500)));
        record.phase = SwapPhase::Verify;
        let running = fields(&record);
        assert_eq!((&running["phase"], &running["outcome"]), (&json!("verify"), &json!("running")));
        assert_eq!(running["phase_seconds"], json!({ "resolve": 1.5 }));
    }
}
