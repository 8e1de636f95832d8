//! What the machine can do: the limits that everything else is a part of.

use kernels::Compute;
use kernels::probe::{self, Arithmetic};

use super::clock;
use super::formats::Format;
use super::report::{Figure, Report};
use super::setup::Setup;

/// Words that are read from memory: 512 MiB, more than any cache.
const WORDS: usize = 64 << 20;
/// Rounds of arithmetic in a run: some 10 to 50 ms.
const ROUNDS: usize = 1 << 21;
/// Everything is measured so often, some time apart, and the best counts: a limit is what the machine does
/// when nothing is in its way.
const PASSES: u32 = 4;
/// Runs of one kind in a pass.
const RUNS: usize = 3;

/// The limits with some number of threads.
#[derive(Clone, Copy)]
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

    /// The same with memory measured again: on a shared machine its rate drifts within minutes, and a share is
    /// of what there was at the time.
    pub(crate) fn now(self, setup: &Setup, format: &Format, report: &mut Report) -> Self {
        let read = read(setup, &setup.compute(), &vec![1; WORDS]);
        report.add(Figure::new("memory read, by now", format.name, read / 1e9, "GB/s"));
        Self { read, ..self }
    }

    /// The least seconds in which so many bytes are read and so many operations done, one beside the other.
    pub(crate) fn least_seconds(&self, bytes: f64, kind: Arithmetic, operations: f64) -> f64 {
        (bytes / self.read).max(operations / self.operations(kind))
    }
}

/// Measures the limits with one thread and with all.
pub(crate) fn measure(setup: &Setup, report: &mut Report) -> Limits {
    let words = vec![1u64; WORDS];
    let mut threads = vec![1, setup.threads];
    threads.dedup();
    let computes: Vec<Compute> = threads.iter().map(|&n| Compute::new(setup.isa, n)).collect();
    let mut found = vec![Limits { read: 0.0, operations: [0.0; 3] }; computes.len()];
    for _ in 0..PASSES {
        for (compute, limits) in computes.iter().zip(&mut found) {
            limits.read = limits.read.max(read(setup, compute, &words));
            for kind in Arithmetic::ALL {
                let best = &mut limits.operations[kind as usize];
                *best = best.max(operations(setup, compute, kind));
            }
        }
    }
    for (limits, threads) in found.iter().zip(&threads) {
        let s = if *threads == 1 { "" } else { "s" };
        let named = |what: &str| format!("{what}, {threads} thread{s}");
        report.add(Figure::new(named("memory read"), "", limits.read / 1e9, "GB/s"));
        for kind in Arithmetic::ALL {
            let name = named(&format!("{} products, {}", kind.name(), kind.instruction()));
            report.add(Figure::new(name, "", limits.operations(kind) / 1e9, unit(kind)));
        }
    }
    found[found.len() - 1]
}

/// Bytes per second.
fn read(setup: &Setup, compute: &Compute, words: &[u64]) -> f64 {
    let taken = clock::samples(RUNS, setup.budget() / PASSES, || {
        assert_eq!(probe::read(compute, words), WORDS as u64, "every word is one");
    });
    size_of_val(words) as f64 / clock::least(&taken)
}

/// Multiplications and additions per second.
fn operations(setup: &Setup, compute: &Compute, kind: Arithmetic) -> f64 {
    let mut done = 0;
    let taken = clock::samples(RUNS, setup.budget() / PASSES, || done = kind.run(&compute.pool, ROUNDS));
    done as f64 / clock::least(&taken)
}

/// What a thousand million operations per second are called.
pub(crate) fn unit(kind: Arithmetic) -> &'static str {
    match kind {
        Arithmetic::F32 | Arithmetic::Bf16 => "GFLOP/s",
        Arithmetic::Int8 => "GOP/s",
    }
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
