//! What `/stats` says, as figures to show. Any field may be missing or of another type: servers of other versions have
//! fewer or others.

use serde_json::Value;

use super::words::{count, percent, time};
use crate::http::shortened;
use crate::swap::SwapRecord;
use crate::text::ByteSize;

/// Phases of a swap that took less, in seconds, are not worth a word.
const TELLING: f64 = 0.05;

/// An answer of `/stats`.
pub(super) struct Stats(pub(super) Value);

/// Something that fills up.
pub(super) struct Meter {
    pub(super) name: &'static str,
    /// From 0 to 1, if the limit is known.
    pub(super) share: Option<f64>,
    /// What is used, and of how much.
    pub(super) text: String,
}

impl Stats {
    /// A number at this JSON pointer.
    pub(super) fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer)?.as_f64().filter(|number| *number >= 0.0)
    }

    /// A word at this JSON pointer, with nothing in it that a terminal would obey.
    fn word(&self, pointer: &str) -> Option<String> {
        let text = self.0.pointer(pointer)?.as_str()?;
        Some(shortened(text.as_bytes())).filter(|text| !text.is_empty())
    }

    /// The numbers of an object, by name.
    pub(super) fn counts(&self, pointer: &str) -> Vec<(String, f64)> {
        let fields = self.0.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        fields.filter_map(|(name, value)| Some((shortened(name.as_bytes()), value.as_f64()?))).collect()
    }

    /// Tokens a second over ten seconds, and over a minute.
    pub(super) fn tokens_per_second(&self) -> [Option<f64>; 2] {
        ["10s", "60s"].map(|span| self.number(&format!("/tokens_per_second/{span}")))
    }

    /// The service in one word.
    pub(super) fn status(&self) -> String {
        self.word("/status").unwrap_or_else(|| "unknown".to_owned())
    }

    /// Why it is not `ok`.
    pub(super) fn reason(&self) -> Option<String> {
        self.word("/reason")
    }

    /// The model that serves.
    pub(super) fn model(&self) -> String {
        self.word("/current_model").unwrap_or_else(|| "no model".to_owned())
    }

    /// What the model is: identity, step, format, architecture.
    pub(super) fn about_model(&self) -> Vec<String> {
        let identity = self.word("/model/sha256").map(|identity| format!("{identity:.12}"));
        let step = self.number("/model/step").map(|step| format!("step {step}"));
        let format = self.word("/model/weight_format");
        [identity, format, step].into_iter().flatten().collect()
    }

    /// The process: for how long it runs, its version, on what.
    pub(super) fn about_server(&self) -> Vec<String> {
        let up = self.number("/uptime_s").map(|seconds| format!("up {}", time(seconds)));
        let isa = self.word("/isa").map(|isa| match self.number("/threads") {
            Some(threads) => format!("{isa} × {threads}"),
            None => isa,
        });
        [up, self.word("/version"), isa].into_iter().flatten().collect()
    }

    /// Engines; the limits in `/stats` are those of each.
    fn workers(&self) -> f64 {
        self.number("/total_workers").unwrap_or(1.0).max(1.0)
    }

    /// Everything that fills up.
    pub(super) fn meters(&self) -> Vec<Meter> {
        let limit = |pointer: &str| self.number(pointer).map(|each| each * self.workers());
        let meter = |name, used: Option<f64>, of: Option<f64>, shown: fn(f64) -> String| {
            let text = match (used, of) {
                (None, _) => "–".to_owned(),
                (Some(used), None) => shown(used),
                (Some(used), Some(of)) => format!("{} of {}", shown(used), shown(of)),
            };
            let share = used.zip(of).map(|(used, of)| if of > 0.0 { (used / of).min(1.0) } else { 0.0 });
            Meter { name, share, text }
        };
        let resident = self.number("/memory_bytes/resident");
        let free = self.number("/memory_available_bytes");
        let memory = resident.zip(free).map(|(resident, free)| resident + free);
        vec![
            meter("streams", self.number("/running"), limit("/limits/running_requests"), count),
            meter("queue", self.number("/queue/requests"), limit("/limits/queued_requests"), count),
            meter("queued tokens", self.number("/queue/tokens"), limit("/limits/queued_tokens"), count),
            meter("KV pages", self.number("/kv_pages/used"), self.number("/kv_pages/total"), count),
            meter("memory", resident, memory, bytes),
        ]
    }

    /// Percentiles in milliseconds: the 50th, 95th and 99th.
    pub(super) fn latencies(&self) -> [(&'static str, [Option<f64>; 3]); 2] {
        let percentiles =
            |name: &str| ["p50", "p95", "p99"].map(|share| self.number(&format!("/{name}/{share}")));
        [("first token", percentiles("time_to_first_token_ms")), ("each next", percentiles("inter_token_ms"))]
    }

    /// Other figures, as name and words.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let hits = self.number("/prefix_cache/hits").zip(self.number("/prefix_cache/queries"));
        let guesses =
            self.number("/speculation/accepted_tokens").zip(self.number("/speculation/drafted_tokens"));
        let share = |figures: Option<(f64, f64)>| match figures {
            Some((part, whole)) if whole > 0.0 => {
                format!("{} of {}", percent((part / whole).min(1.0)), count(whole))
            }
            Some(_) => "none yet".to_owned(),
            None => "–".to_owned(),
        };
        vec![("prefix hits", share(hits)), ("guesses kept", share(guesses))]
    }

    /// The engines and what memory is for, as name and words.
    pub(super) fn inside(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some(total) = self.number("/total_workers") {
            let busy = self.number("/busy_workers").map_or(String::new(), |busy| format!(", {busy} busy"));
            let retired = self.number("/retired_engines").filter(|retired| *retired > 0.0);
            let retired = retired.map_or(String::new(), |retired| format!(", {retired} finish old streams"));
            rows.push(("workers", format!("{total}{busy}{retired}")));
        }
        let of = |name: &str| self.number(&format!("/memory_bytes/{name}"));
        if let Some((matrices, embeddings)) = of("matrices").zip(of("embeddings")) {
            rows.push(("weights", bytes(matrices + embeddings)));
        }
        if let Some(reserved) = of("kv_reserved") {
            rows.push(("KV reserved", bytes(reserved)));
        }
        rows
    }

    /// The swap that runs.
    pub(super) fn swap(&self) -> Option<Swap> {
        Swap::new(self.0.pointer("/swap/current")?)
    }

    /// The swap that ended last.
    pub(super) fn last_swap(&self) -> Option<Swap> {
        Swap::new(self.0.pointer("/swap/last")?)
    }
}

fn bytes(number: f64) -> String {
    ByteSize(number as u64).to_string()
}

/// A swap, in words.
pub(super) struct Swap {
    /// `d12 → d20, overlap`
    pub(super) what: String,
    /// Where it is, or how it ended; and what took its time.
    pub(super) state: String,
    pub(super) has_failed: bool,
    /// How much of its download there is, from 0 to 1, and in words.
    pub(super) download: Option<(f64, String)>,
    /// When it began, in seconds since 1970 by the server's clock.
    pub(super) started: Option<f64>,
}

impl Swap {
    fn new(record: &Value) -> Option<Self> {
        let word = |name: &str| {
            let text = record.get(name)?.as_str()?;
            Some(shortened(text.as_bytes())).filter(|text| !text.is_empty())
        };
        let target = word("target_model")?;
        let what = match word("previous_model").filter(|previous| *previous != target) {
            Some(previous) => format!("{previous} → {target}"),
            None => target,
        };
        let record = SwapRecord(record.clone());
        let outcome = word("outcome").unwrap_or_default();
        let took: f64 = record.phases().iter().map(|(_, took)| took).sum();
        let mode = word("mode").map_or(String::new(), |mode| format!("{mode}, "));
        let phases = record.phases().into_iter().filter(|(_, took)| *took >= TELLING);
        let phases: Vec<String> = phases.map(|(name, took)| format!("{name} {took:.1}")).collect();
        let phases = if phases.is_empty() { String::new() } else { format!(": {}", phases.join(", ")) };
        let (state, has_failed) = match outcome.as_str() {
            "ok" | "live" => (format!("{outcome}, {mode}{took:.1} s{phases}"), false),
            "running" => (format!("in {}{phases}", record.phase()), false),
            _ => (format!("{outcome}{}", record.failure()), true),
        };
        let download = record.download().filter(|download| download.bytes_total > 0).map(|download| {
            let (done, total) = (download.bytes_done, download.bytes_total);
            let text = format!("{} of {}", ByteSize(done), ByteSize(total));
            ((done as f64 / total as f64).min(1.0), text)
        });
        let started = record.0.get("started").and_then(Value::as_f64);
        Some(Self { what, state, has_failed, download, started })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_is_missing_or_odd_is_left_out() {
        for odd in [
            json!({}),
            json!([]),
            json!({ "status": 7, "running": "x", "swap": { "last": 3 }, "requests": [1] }),
        ] {
            let stats = Stats(odd);
            assert_eq!((stats.status().as_str(), stats.model().as_str()), ("unknown", "no model"));
            assert!(stats.meters().iter().all(|meter| meter.text == "–" && meter.share.is_none()));
            assert!(stats.latencies().iter().all(|(_, values)| values.iter().all(Option::is_none)));
            assert!(stats.counts("/requests").is_empty() && stats.last_swap().is_none());
            assert!(
                stats.about_server().is_empty()
                    && stats.about_model().is_empty()
                    && stats.inside().is_empty()
            );
        }
    }

    #[test]
    fn limits_are_those_of_all_workers_and_words_are_harmless() {
        let stats = Stats(json!({
            "status": "\u{1b}[31mok", "running": 16, "total_workers": 2, "limits": { "running_requests": 64 },
            "memory_bytes": { "resident": 1e9 }, "memory_available_bytes": 3e9,
        }));
        let meters = stats.meters();
        assert_eq!((meters[0].text.as_str(), meters[0].share), ("16 of 128", Some(0.125)));
        assert_eq!((meters[4].text.as_str(), meters[4].share), ("1.0 GB of 4.0 GB", Some(0.25)));
        assert_eq!(stats.status(), "[31mok…");
    }

    #[test]
    fn a_swap_says_where_it_is_and_how_it_ended() {
        let swap = |fields: Value| {
            let mut record = json!({ "target_model": "d20", "previous_model": "d12" });
            record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            Stats(json!({ "swap": { "current": record } })).swap().unwrap()
        };
        let phases = json!({ "resolve": 0.1, "download": 2.0 });
        let download = json!({ "bytes_done": 3_000_000, "bytes_total": 12_000_000 });
        let runs = swap(json!({ "outcome": "running", "phase": "download", "download": download }));
        assert_eq!((runs.what.as_str(), runs.state.as_str()), ("d12 → d20", "in download"));
        assert_eq!(runs.download, Some((0.25, "3.0 MB of 12.0 MB".to_owned())));
        let ok = swap(json!({ "outcome": "ok", "phase_seconds": phases }));
        assert_eq!((ok.state.as_str(), ok.has_failed), ("ok, 2.1 s: resolve 0.1, download 2.0", false));
        let failed = swap(json!({ "outcome": "failed", "phase_seconds": phases, "reason": "It broke." }));
        assert_eq!(
            (failed.state.as_str(), failed.has_failed),
            ("failed in download after 2.1 s: It broke.", true)
        );
    }
}
