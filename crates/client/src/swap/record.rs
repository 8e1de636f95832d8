//! What `/stats` tells of a swap, in words. Fields may be missing: servers of other versions have fewer.

use serde_json::Value;

use crate::http::shortened;
use crate::progress::Download;
use crate::text::sentence;

/// With this phase the new model serves; what comes after it concerns the old one.
const CUT_OVER: &str = "cutover";
/// This phase undoes what failed.
const RESTORE: &str = "restore";

/// How a swap ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SwapEnd {
    /// The new model serves.
    Live,
    /// It does not; the old one does, if there was one and it could be kept.
    Failed,
    /// The old model had gone, and was loaded again.
    Restored,
}

/// A swap's record.
#[derive(Clone, Debug)]
pub struct SwapRecord(pub Value);

impl SwapRecord {
    /// The record of this swap.
    pub(super) fn of(stats: &Value, swap_id: u64, tag: &str) -> Option<Self> {
        records(stats)
            .find(|record| record["swap_id"] == swap_id && record["target_model"] == tag)
            .cloned()
            .map(Self)
    }

    /// The record of the latest swap with which this model went live.
    pub(super) fn of_live(stats: &Value, tag: &str) -> Option<Self> {
        records(stats)
            .filter(|record| record["target_model"] == tag)
            .cloned()
            .map(Self)
            .find(SwapRecord::is_live)
    }

    /// The record of the last swap, if it was to this model and failed for this reason.
    pub(super) fn of_failure(stats: &Value, tag: &str, reason: &str) -> Option<Self> {
        let record = Self(stats["swap"]["last"].clone());
        let is_it = record.0["target_model"] == tag && record.reason() == reason;
        Some(record).filter(|record| is_it && record.end().is_some_and(|end| end != SwapEnd::Live))
    }

    /// How it ended, if it did.
    pub(super) fn end(&self) -> Option<SwapEnd> {
        match self.0["outcome"].as_str()? {
            "live" | "ok" => Some(SwapEnd::Live),
            "restored" => Some(SwapEnd::Restored),
            "failed" | "lost" => Some(SwapEnd::Failed),
            _ => None,
        }
    }

    fn is_live(&self) -> bool {
        self.end() == Some(SwapEnd::Live)
    }

    /// The phase it is in, or was in at its end.
    pub fn phase(&self) -> String {
        self.text("phase").unwrap_or_default()
    }

    /// The phases that are over, with their seconds, up to the one with which the new model serves.
    pub(crate) fn phases(&self) -> Vec<(String, f64)> {
        let phases = self.0["phase_seconds"].as_object().into_iter().flatten();
        let mut phases: Vec<_> = phases
            .map(|(name, took)| (shortened(name.as_bytes()), took.as_f64().unwrap_or_default()))
            .collect();
        let live = phases.iter().position(|(name, _)| name == CUT_OVER);
        phases.truncate(live.map_or(phases.len(), |at| at + 1));
        phases
    }

    /// How far its download is, if it has one.
    pub fn download(&self) -> Option<Download> {
        let download = self.0.get("download").filter(|download| download.is_object())?;
        let number = |name: &str| download[name].as_u64().unwrap_or_default();
        Some(Download {
            files_done: number("files_done"),
            files_total: number("files_total"),
            bytes_done: number("bytes_done"),
            bytes_total: number("bytes_total"),
            bytes_resumed: number("bytes_resumed"),
            retries: number("retries"),
        })
    }

    /// `identity 1f3a…, overlap, 3.2 s: resolve 0.0, download 2.1`, of what is known.
    pub(super) fn summary(&self) -> String {
        let mut known = Vec::new();
        if let Some(identity) = self.text("identity") {
            known.push(format!("identity {identity:.12}…"));
        }
        known.extend(self.text("mode"));
        let phases = self.phases();
        let total = total(&phases);
        let each: Vec<String> = phases
            .iter()
            .filter(|(name, _)| name != CUT_OVER)
            .map(|(name, took)| format!("{name} {took:.1}"))
            .collect();
        let each = if each.is_empty() { each.concat() } else { format!(": {}", each.join(", ")) };
        known.push(format!("{total:.1} s{each}"));
        known.join(", ")
    }

    /// ` in verify after 0.4 s: The checkpoint is broken.`, of what is known.
    pub(crate) fn failure(&self) -> String {
        let phases = self.phases();
        // The phase that failed is over too, and what came after it only mends.
        let failed = phases.iter().rev().find(|(name, _)| name != RESTORE);
        let phase = failed.map_or_else(|| self.phase(), |(name, _)| name.clone());
        let total = total(&phases);
        format!(" in {phase} after {total:.1} s: {}", self.reason())
    }

    fn reason(&self) -> String {
        self.text("reason").map_or_else(|| "It does not say why.".to_owned(), |reason| sentence(&reason))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0[name].as_str().map(|text| shortened(text.as_bytes())).filter(|text| !text.is_empty())
    }
}

fn total(phases: &[(String, f64)]) -> f64 {
    // Of nothing at all, `sum` makes -0.
    phases.iter().fold(0.0, |total, (_, took)| total + took)
}

/// All records, the latest first.
fn records(stats: &Value) -> impl Iterator<Item = &Value> {
    let swap = &stats["swap"];
    [&swap["current"], &swap["last"]].into_iter().chain(swap["history"].as_array().into_iter().flatten())
}

/// What serves after all, as a sentence.
pub(super) fn serving(stats: &Value, end: SwapEnd) -> String {
    match (stats["current_model"].as_str().filter(|tag| !tag.is_empty()), end) {
        (None, _) => "No model serves.".to_owned(),
        (Some(tag), SwapEnd::Restored) => {
            format!("{} was loaded again and serves.", shortened(tag.as_bytes()))
        }
        (Some(tag), _) => format!("{} still serves.", shortened(tag.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(fields: &Value) -> SwapRecord {
        let mut record = json!({ "swap_id": 3, "target_model": "d20" });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        SwapRecord(record)
    }

    #[test]
    fn a_swap_is_found_wherever_it_is_listed() {
        let of = |id: u64, tag: &str, outcome: &str| json!({ "swap_id": id, "target_model": tag, "outcome": outcome });
        let stats = json!({ "swap": {
            "current": of(9, "d12", "running"),
            "last": of(8, "d20", "failed"),
            "history": [of(9, "d12", "running"), of(8, "d20", "failed"), of(3, "d20", "ok"), of(2, "d20", "ok")],
        } });
        assert_eq!(SwapRecord::of(&stats, 9, "d12").unwrap().end(), None);
        assert_eq!(SwapRecord::of(&stats, 8, "d20").unwrap().end(), Some(SwapEnd::Failed));
        assert_eq!(SwapRecord::of_live(&stats, "d20").unwrap().0["swap_id"], 3);
        assert!(
            SwapRecord::of(&stats, 9, "d20").is_none(),
            "a server that was restarted counts from 1 again"
        );
        assert!(SwapRecord::of(&json!({ "swap": { "current": null, "last": null } }), 1, "d20").is_none());
    }

    #[test]
    fn the_end_is_told_up_to_the_cut_over() {
        let phases = json!({ "resolve": 0.04, "download": 2.1, "cutover": 0.001, "drain": 9.0, "free": 0.2 });
        let identity = "1f3a".repeat(16);
        let whole = record(&json!({ "phase_seconds": phases, "mode": "overlap", "identity": identity }));
        assert_eq!(
            whole.summary(),
            "identity 1f3a1f3a1f3a…, overlap, 2.1 s: resolve 0.0, download 2.1",
            "what the old model still does is not waited for"
        );
        assert_eq!(record(&json!({})).summary(), "0.0 s");
    }

    #[test]
    fn a_failure_names_the_phase_that_failed() {
        let phases = json!({ "resolve": 0.0, "free": 0.1, "load": 1.0, "restore": 2.0 });
        let restored = json!({ "phase_seconds": phases, "phase": "restore", "outcome": "restored", "reason": "It broke" });
        assert_eq!(record(&restored).failure(), " in load after 3.1 s: It broke.");
        assert_eq!(
            record(&json!({ "phase": "load" })).failure(),
            " in load after 0.0 s: It does not say why."
        );
        assert_eq!(
            serving(&json!({ "current_model": "d12" }), SwapEnd::Restored),
            "d12 was loaded again and serves."
        );
        assert_eq!(serving(&json!({ "current_model": null }), SwapEnd::Restored), "No model serves.");
    }
}
