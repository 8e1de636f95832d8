//! The figures as plain text, once.

use std::fmt::Write as _;

use super::stats::Stats;
use super::words::{count, ms, percent, rate};

/// All figures, a line each.
pub(super) fn text(stats: &Stats) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<14} {value}");
        }
    };
    let model = std::iter::once(stats.model()).chain(stats.about_model());
    line("model", model.collect::<Vec<_>>().join(" · "));
    line(
        "status",
        [Some(stats.status()), stats.reason()].into_iter().flatten().collect::<Vec<_>>().join(": "),
    );
    line("server", stats.about_server().join(" · "));
    let figure = |pointer: &str| stats.number(pointer).map_or("–".to_owned(), rate);
    let tokens = [figure("/tokens_per_second/10s"), figure("/tokens_per_second/60s")];
    line("tokens/s", format!("{} over 10 s, {} over 60 s", tokens[0], tokens[1]));
    for meter in stats.meters() {
        let share = meter.share.map_or(String::new(), |share| format!(" ({})", percent(share)));
        line(meter.name, meter.text + &share);
    }
    for (name, values) in stats.latencies() {
        let values = values.map(|value| value.map_or("–".to_owned(), ms));
        line(name, format!("p50 {}, p95 {}, p99 {} ms", values[0], values[1], values[2]));
    }
    for (name, value) in stats.facts().into_iter().chain(stats.inside()) {
        line(name, value);
    }
    let counts = |pointer: &str| {
        let counts = stats.counts(pointer).into_iter().map(|(name, n)| format!("{name} {}", count(n)));
        counts.collect::<Vec<_>>().join(", ")
    };
    line("requests", counts("/requests"));
    line("refused", counts("/refusals"));
    for (name, swap) in [("swap", stats.swap()), ("last swap", stats.last_swap())] {
        let Some(swap) = swap else { continue };
        let download =
            swap.download.map_or(String::new(), |(share, text)| format!(" ({}, {text})", percent(share)));
        line(name, format!("{}, {}{download}", swap.what, swap.state));
    }
    out
}
