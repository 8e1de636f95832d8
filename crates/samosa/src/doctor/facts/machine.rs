//! The machine, and what it can do in half a second.

use std::time::Duration;

use cpu::{Compute, Isa};
use kernels::probe::{self, Arithmetic};
use registry::machine::Machine;
use registry::{machine, memory};

use crate::clock;

/// Bytes that are read to measure memory: more than caches hold.
const READ_BYTES: u64 = 256 << 20;
/// Fewest bytes that are read: a small model may fit into a cache.
const LEAST_BYTES: u64 = 1 << 20;
/// Part of what is free that may be used for it.
const PART_OF_FREE: u64 = 8;
/// Rounds of arithmetic in a run: some milliseconds.
const ROUNDS: usize = 1 << 18;
/// How long each measurement may go on.
const BUDGET: Duration = Duration::from_millis(120);
/// Runs of each, at least and at most: the best counts, since a limit is what the machine does when nothing is in its way.
const RUNS: std::ops::Range<u32> = 2..100;

/// Whether the compiler was asked for speed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Build {
    Debug,
    Release,
}

/// The machine as a server would find it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MachineFacts {
    pub(crate) machine: Machine,
    /// Bytes that may still be allocated, control groups and all.
    pub(crate) available: Option<u64>,
    /// Instruction sets of this CPU, the fastest first.
    pub(crate) sets: Vec<&'static str>,
    /// The one in use.
    pub(crate) set: &'static str,
    pub(crate) workers: usize,
    /// Of each worker.
    pub(crate) threads: usize,
    pub(crate) speed: Option<Speed>,
    pub(crate) build: Build,
    /// Whether there is a GPU, which this version has no use for.
    pub(crate) has_gpu: bool,
}

/// What was measured, with all compute threads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Speed {
    /// Bytes a second from memory.
    pub(crate) read: f64,
    /// Bytes a second where as many are read over and over as the model has.
    pub(crate) read_model: f64,
    /// Multiplications and additions of int8 a second, by the CPU's fastest instruction.
    pub(crate) int8: f64,
    pub(crate) instruction: &'static str,
    pub(crate) threads: usize,
}

impl MachineFacts {
    /// Looks at the machine and measures it. `token_bytes` is what a model reads for a token.
    pub(crate) fn look(isa: Isa, (workers, threads): (usize, usize), token_bytes: Option<u64>) -> Self {
        let available = memory::available();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let compute = Compute::new(isa, (workers * threads).min(cores));
        let build = if cfg!(debug_assertions) { Build::Debug } else { Build::Release };
        Self {
            machine: machine::now(),
            available,
            sets: Isa::available().iter().map(|isa| isa.name()).collect(),
            set: isa.name(),
            workers,
            threads,
            speed: Some(measure(&compute, available, token_bytes)),
            build,
            has_gpu: std::path::Path::new("/dev/nvidia0").exists(),
        }
    }
}

fn measure(compute: &Compute, available: Option<u64>, token_bytes: Option<u64>) -> Speed {
    let most = available.map_or(READ_BYTES, |bytes| (bytes / PART_OF_FREE).clamp(LEAST_BYTES, READ_BYTES));
    let words = vec![1u64; (most / 8) as usize];
    let read = |bytes: u64| {
        let words = &words[..(bytes / 8) as usize];
        let seconds =
            fastest(|| assert_eq!(probe::read(compute, words), words.len() as u64, "every word is one"));
        size_of_val(words) as f64 / seconds
    };
    let mut operations = 0;
    let seconds = fastest(|| operations = Arithmetic::Int8.run(&compute.pool, ROUNDS));
    let whole = read(most);
    // What is larger than the caches is read as fast as everything.
    let part = token_bytes.map(|bytes| bytes.max(LEAST_BYTES)).filter(|bytes| *bytes < most / 2);
    Speed {
        read: whole,
        read_model: part.map_or(whole, |bytes| read(bytes).max(whole)),
        int8: operations as f64 / seconds,
        instruction: Arithmetic::Int8.instruction(),
        threads: compute.pool.threads(),
    }
}

/// The least seconds of several runs.
fn fastest(mut run: impl FnMut()) -> f64 {
    let begun = clock::now();
    let mut least = f64::MAX;
    for number in 0..RUNS.end {
        if number >= RUNS.start && begun.elapsed() > BUDGET {
            break;
        }
        let started = clock::now();
        run();
        least = least.min(started.elapsed().as_secs_f64());
    }
    least.max(1e-9)
}
