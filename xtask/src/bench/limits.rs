//! What the machine can do: the limits that everything else is a part of.

use kernels::probe::{self, Arithmetic};
use kernels::{Compute, Pool};

use super::clock;
use super::report::{Figure, Report};
use super::setup::Setup;

/// Words that are read from memory: 512 MiB, more than any cache.
const WORDS: usize = 64 << 20;
/// Runs of which the best counts: a limit is what the machine does when nothing is in its way.
const RUNS: usize = 8;
/// Rounds of arithmetic in a run: some 10 to 50 ms.
const ROUNDS: usize = 1 << 21;

/// The limits with all threads.
pub(crate) struct Limits {
    /// Bytes read from memory per second.
    pub(crate) read: f64,
    /// Multiplications and additions per second, in the order of [`Arithmetic::ALL`].
    operations: [f64; 3],
}

impl Limits {
    /// Multiplications and additions per second of one kind.
    pub(crate) fn operations(&self, kind: Arithmetic) -> f64 {
        self.operations[kind as usize]
    }

    /// The least seconds in which so many bytes are read and so many operations done, one beside the other.
    pub(crate) fn least_seconds(&self, bytes: f64, kind: Arithmetic, operations: f64) -> f64 {
        (bytes / self.read).max(operations / self.operations(kind))
    }
}

/// Measures the limits with all threads and with one.
pub(crate) fn measure(setup: &Setup, report: &mut Report) -> Limits {
    let words = vec![1u64; WORDS];
    let mut read = |threads: usize| {
        let compute = Compute::new(setup.isa, threads);
        let taken = clock::samples(RUNS, setup.budget(), || {
            assert_eq!(probe::read(&compute, &words), WORDS as u64, "every word is one");
        });
        let rate = size_of_val(words.as_slice()) as f64 / clock::least(&taken);
        report.add(Figure::new(named("memory read", threads), "", rate / 1e9, "GB/s"));
        rate
    };
    let alone = read(1);
    let read = if setup.threads > 1 { read(setup.threads) } else { alone };
    let operations = Arithmetic::ALL.map(|kind| {
        let alone = operations(setup, kind, 1, report);
        if setup.threads > 1 { operations(setup, kind, setup.threads, report) } else { alone }
    });
    Limits { read, operations }
}

fn operations(setup: &Setup, kind: Arithmetic, threads: usize, report: &mut Report) -> f64 {
    let pool = Pool::new(threads);
    let mut done = 0;
    let taken = clock::samples(RUNS, setup.budget(), || done = kind.run(&pool, ROUNDS));
    let rate = done as f64 / clock::least(&taken);
    let name = format!("{} products, {}", kind.name(), kind.instruction());
    report.add(Figure::new(named(&name, threads), "", rate / 1e9, unit(kind)));
    rate
}

/// What a thousand million operations per second are called.
pub(crate) fn unit(kind: Arithmetic) -> &'static str {
    match kind {
        Arithmetic::F32 | Arithmetic::Bf16 => "GFLOP/s",
        Arithmetic::Int8 => "GOP/s",
    }
}

fn named(what: &str, threads: usize) -> String {
    let s = if threads == 1 { "" } else { "s" };
    format!("{what}, {threads} thread{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_reading_and_computing_is_the_limit() {
        let limits = Limits { read: 10.0, operations: [100.0, 200.0, 400.0] };
        assert_eq!(limits.least_seconds(20.0, Arithmetic::Bf16, 100.0), 2.0);
        assert_eq!(limits.least_seconds(20.0, Arithmetic::F32, 500.0), 5.0);
        assert_eq!(Arithmetic::ALL.map(|kind| limits.operations(kind)), [100.0, 200.0, 400.0]);
    }
}
