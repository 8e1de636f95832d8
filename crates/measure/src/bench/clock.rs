//! The watch of the benchmarks, and how often they look at it.

use std::time::{Duration, Instant};

/// Now.
#[expect(clippy::disallowed_methods, reason = "measuring times is what a benchmark is for")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long something takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let begun = now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Seconds that each of several runs took: at least `runs`, and more while `budget` is not used up. A first
/// run that is not counted brings memory and caches into their usual state.
pub(crate) fn samples(runs: usize, budget: Duration, mut work: impl FnMut()) -> Vec<f64> {
    work();
    let begun = now();
    let mut taken = Vec::new();
    while taken.len() < runs || begun.elapsed() < budget {
        taken.push(seconds(&mut work));
    }
    taken
}

/// The value in the middle; of two the mean. Zero of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The smallest value that at least `percent` of all do not exceed. Zero of none.
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// The smallest value.
pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 9.0, 1.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([50.0, 95.0, 99.0, 100.0].map(|p| percentile(&values, p)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 0.0), 7.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 99.0), 3.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn at_least_so_many_runs_are_taken_and_the_first_is_not_counted() {
        let mut calls = 0;
        assert_eq!(samples(3, Duration::ZERO, || calls += 1).len(), 3);
        assert_eq!(calls, 4);
    }
}
