//! How long the steps of an engine took and how many rows they had, as counts by size: what a histogram shows.

use std::ops::AddAssign;
use std::time::Duration;

/// Upper bounds of a step's seconds. A small model steps in less than a millisecond.
const SECONDS: [f64; 20] = [
    0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08,
    0.15, 0.3, 1.0, 3.0, 10.0,
];
/// Upper bounds of a step's rows.
const ROWS: [f64; 14] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 96.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 8192.0];

/// Samples counted by size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Buckets<const N: usize> {
    bounds: &'static [f64; N],
    counts: [u64; N],
    /// Of samples above the last bound.
    above: u64,
    sum: f64,
}

impl<const N: usize> Buckets<N> {
    const fn new(bounds: &'static [f64; N]) -> Self {
        Self { bounds, counts: [0; N], above: 0, sum: 0.0 }
    }

    fn add(&mut self, sample: f64) {
        let at = self.bounds.partition_point(|bound| *bound < sample);
        *self.counts.get_mut(at).unwrap_or(&mut self.above) += 1;
        self.sum += sample;
    }

    /// Upper bounds, each with the samples up to it and above the one before; the last bound is infinite.
    pub fn counts(&self) -> impl Iterator<Item = (f64, u64)> {
        let last = (f64::INFINITY, self.above);
        self.bounds.iter().copied().zip(self.counts).chain([last])
    }

    /// Samples.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// What they add up to.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

impl<const N: usize> AddAssign for Buckets<N> {
    fn add_assign(&mut self, other: Self) {
        for (own, more) in self.counts.iter_mut().zip(other.counts) {
            *own += more;
        }
        self.above += other.above;
        self.sum += other.sum;
    }
}

/// The steps of an engine so far, those that computed anything.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// How many seconds each took.
    pub seconds: Buckets<{ SECONDS.len() }>,
    /// How many rows each computed: prompt tokens, and for each sequence that decodes one and its guesses.
    pub rows: Buckets<{ ROWS.len() }>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { seconds: Buckets::new(&SECONDS), rows: Buckets::new(&ROWS) }
    }
}

impl Pace {
    pub(crate) fn add(&mut self, took: Duration, rows: usize) {
        if rows > 0 {
            self.seconds.add(took.as_secs_f64());
            self.rows.add(rows as f64);
        }
    }
}

impl AddAssign for Pace {
    fn add_assign(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.rows += other.rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_up_to_the_first_bound_that_holds_it() {
        let mut pace = Pace::default();
        for (ms, rows) in [(1, 1), (2, 3), (60_000, 10_000), (5, 0)] {
            pace.add(Duration::from_millis(ms), rows);
        }
        let mut twice = pace;
        twice += pace;
        let counted = |buckets: Vec<(f64, u64)>| -> Vec<(f64, u64)> {
            buckets.into_iter().filter(|(_, count)| *count > 0).collect()
        };
        assert_eq!(counted(pace.seconds.counts().collect()), [(0.001, 1), (0.002, 1), (f64::INFINITY, 1)]);
        assert_eq!(counted(twice.rows.counts().collect()), [(1.0, 2), (4.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((twice.rows.count(), twice.rows.sum()), (6, 20_008.0));
        assert!((pace.seconds.sum() - 60.003).abs() < 1e-9);
    }

    #[test]
    fn bounds_ascend() {
        assert!(SECONDS.is_sorted_by(|a, b| a < b) && ROWS.is_sorted_by(|a, b| a < b));
    }
}
