//! What earlier answers said: for the curve, and for rates of what the server only counts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::stats::Stats;

/// How far the curve looks back.
pub(super) const SPAN: Duration = Duration::from_mins(5);
/// How far rates look back.
const RATE_SPAN: f64 = 60.0;
/// Samples that are kept: as many as the shortest interval makes in that time.
const MAX_SAMPLES: usize = 1500;
/// Where the server counts streams by their end, and requests that it refused by code.
pub(super) const ENDED: &str = "/requests";
pub(super) const REFUSED: &str = "/refusals";

/// Earlier answers, the latest at the end.
#[derive(Default)]
pub(super) struct StatsHistory(VecDeque<StatsSample>);

struct StatsSample {
    /// Seconds by our clock.
    at: f64,
    uptime: f64,
    tokens_per_second: Option<f64>,
    /// By pointer and name.
    counts: HashMap<String, f64>,
}

impl StatsHistory {
    /// Adds an answer that came at this second of our clock.
    pub(super) fn add(&mut self, at: f64, stats: &Stats) {
        let uptime = stats.number("/uptime_s").unwrap_or_default();
        // A server that was started anew counts from zero.
        if self.0.back().is_some_and(|last| last.uptime > uptime) {
            self.0.iter_mut().for_each(|sample| sample.counts.clear());
        }
        if self.0.len() == MAX_SAMPLES {
            self.0.pop_front();
        }
        let named = |(pointer, (name, count))| (format!("{pointer}/{name}"), count);
        let both = [ENDED, REFUSED];
        let counts = both
            .iter()
            .flat_map(|pointer| stats.counts(pointer).into_iter().map(move |count| (pointer, count)));
        let counts = counts.map(named).collect();
        self.0.push_back(StatsSample {
            at,
            uptime,
            tokens_per_second: stats.number("/tokens_per_second/10s"),
            counts,
        });
    }

    /// What came a minute lately, of what the server counts here under this name.
    pub(super) fn per_minute(&self, pointer: &str, name: &str) -> Option<f64> {
        let name = format!("{pointer}/{name}");
        let last = self.0.back()?;
        let count = |sample: &StatsSample| sample.counts.get(&name).copied().unwrap_or_default();
        let is_known = |sample: &&StatsSample| !sample.counts.is_empty() && sample.at >= last.at - RATE_SPAN;
        let first = self.0.iter().find(is_known)?;
        let seconds = last.at - first.at;
        (seconds >= 1.0).then(|| (count(last) - count(first)).max(0.0) / seconds * 60.0)
    }

    /// Tokens a second, in columns of equal time up to now, the latest at the end; nothing where there was no answer.
    pub(super) fn curve(&self, columns: usize, interval: Duration) -> Vec<Option<u64>> {
        let Some(last) = self.0.back() else { return vec![None; columns] };
        let width = (SPAN.as_secs_f64() / columns.max(1) as f64).max(interval.as_secs_f64() * 1.1);
        // Columns begin at whole multiples, so that a sample never changes its column.
        let column = |at: f64| (at / width).floor();
        let mut sums = vec![(0.0, 0u32); columns];
        for sample in &self.0 {
            let age = (column(last.at) - column(sample.at)) as usize;
            if let (Some(rate), Some(sum)) = (sample.tokens_per_second, columns.checked_sub(age + 1)) {
                sums[sum].0 += rate;
                sums[sum].1 += 1;
            }
        }
        sums.iter().map(|(sum, n)| (*n > 0).then(|| (sum / f64::from(*n)).round() as u64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: u32, uptime: u32, stops: u32) -> (f64, Stats) {
        let stats = json!({
            "uptime_s": uptime, "tokens_per_second": { "10s": second }, "requests": { "stop": stops },
        });
        (f64::from(second), Stats(stats))
    }

    #[test]
    fn rates_look_back_a_minute_and_not_over_a_restart() {
        let mut history = StatsHistory::default();
        assert_eq!(history.per_minute(ENDED, "stop"), None);
        for second in 0..200 {
            let (at, stats) = at(second, second, 2 * second);
            history.add(at, &stats);
        }
        assert_eq!(history.per_minute(ENDED, "stop"), Some(120.0));
        assert_eq!(history.per_minute(ENDED, "length"), Some(0.0));
        let (again, stats) = at(201, 1, 0);
        history.add(again, &stats);
        assert_eq!(history.per_minute(ENDED, "stop"), None);
        let (again, stats) = at(203, 3, 1);
        history.add(again, &stats);
        assert_eq!(history.per_minute(ENDED, "stop"), Some(30.0));
    }

    #[test]
    fn the_curve_has_equal_columns_with_gaps_where_nothing_answered() {
        let mut history = StatsHistory::default();
        assert_eq!(history.curve(3, Duration::from_secs(1)), [None, None, None]);
        for second in (0..60).chain(240..300) {
            let (at, stats) = at(second, second, 0);
            history.add(at, &stats);
        }
        let curve = history.curve(5, Duration::from_secs(1));
        assert_eq!(curve, [Some(30), None, None, None, Some(270)]);
        assert!(history.curve(0, Duration::from_secs(1)).is_empty());
    }
}
