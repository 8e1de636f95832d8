//! Figures over the last moments, for `/stats`: rates by second, percentiles of recent samples. The answers on their way
//! are in [`streams`], the last half hour in [`history`].

pub(crate) mod history;
pub(crate) mod streams;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::clock;

/// Seconds a rate looks back at most.
const SECONDS: usize = 60;
/// Samples that percentiles are taken of.
const SAMPLES: usize = 1024;

/// Events per second, lately.
pub(crate) struct Rate {
    started: Instant,
    /// Counts of the last seconds, by second modulo the length, with the second they belong to.
    counts: Mutex<[(u64, u64); SECONDS + 1]>,
}

impl Rate {
    pub(crate) fn new() -> Self {
        Self { started: clock::now(), counts: Mutex::new([(0, 0); SECONDS + 1]) }
    }

    pub(crate) fn add(&self, events: u64) {
        self.add_at(self.started.elapsed().as_secs(), events);
    }

    fn add_at(&self, second: u64, events: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut counts[second as usize % (SECONDS + 1)];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += events;
    }

    /// Mean over the last whole `seconds`, at most a minute.
    pub(crate) fn per_second(&self, seconds: u64) -> f64 {
        self.per_second_at(self.started.elapsed().as_secs(), seconds)
    }

    fn per_second_at(&self, now: u64, seconds: u64) -> f64 {
        let from = now.saturating_sub(seconds);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let events: u64 =
            counts.iter().filter(|(second, _)| (from..now).contains(second)).map(|(_, n)| n).sum();
        events as f64 / (now - from).max(1) as f64
    }
}

/// The latest durations of something, with when each was over.
#[derive(Default)]
pub(crate) struct Recent(Mutex<(usize, Vec<(Instant, Duration)>)>);

impl Recent {
    pub(crate) fn add(&self, at: Instant, took: Duration) {
        let sample = (at, took);
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, samples) = &mut *guard;
        if samples.len() < SAMPLES {
            samples.push(sample);
        } else {
            samples[*next] = sample;
            *next = (*next + 1) % SAMPLES;
        }
    }

    /// The 50th, 95th and 99th percentile in milliseconds, if there are samples.
    pub(crate) fn percentiles_ms(&self) -> Option<[f64; 3]> {
        self.percentiles_of(|_| true)
    }

    /// The same of those that were over after an instant.
    pub(crate) fn percentiles_ms_after(&self, from: Instant) -> Option<[f64; 3]> {
        self.percentiles_of(|at| at > from)
    }

    fn percentiles_of(&self, counts: impl Fn(Instant) -> bool) -> Option<[f64; 3]> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = all.1.iter().filter(|(at, _)| counts(*at));
        let mut samples: Vec<Duration> = samples.map(|(_, took)| *took).collect();
        drop(all);
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        Some(
            [0.50, 0.95, 0.99]
                .map(|share: f64| samples[(share * last as f64).round() as usize].as_secs_f64() * 1e3),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_whole_seconds_and_forgets() {
        let rate = Rate::new();
        for second in 0..200 {
            rate.add_at(second, 5);
            rate.add_at(second, 5);
        }
        assert_eq!(rate.per_second_at(200, 10), 10.0);
        assert_eq!(rate.per_second_at(200, 60), 10.0);
        assert_eq!(rate.per_second_at(205, 10), 5.0);
        assert_eq!(rate.per_second_at(400, 60), 0.0);
    }

    #[test]
    fn percentiles_are_of_the_latest_samples() {
        let recent = Recent::default();
        assert_eq!(recent.percentiles_ms(), None);
        let begun = clock::now();
        for i in 0..5000 {
            let took = Duration::from_millis(if i < 3000 { 1_000_000 } else { i % 100 });
            recent.add(begun + Duration::from_millis(i), took);
        }
        let [p50, p95, p99] = recent.percentiles_ms().unwrap();
        assert!((45.0..55.0).contains(&p50) && (90.0..97.0).contains(&p95) && p99 >= p95 && p99 < 100.0);
        let after = |ms| recent.percentiles_ms_after(begun + Duration::from_millis(ms));
        assert_eq!(after(4989).map(|[p50, ..]| p50), Some(95.0), "90 to 99, the middle rounded up");
        assert_eq!(after(4999), None);
    }
}
