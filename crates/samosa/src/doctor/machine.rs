//! The machine: instruction set, cores, memory, swap space, and how fast it is.

use std::fmt::Write as _;
use std::time::Duration;

use client::text::ByteSize;
use cpu::{Compute, Isa};
use kernels::probe::{self, Arithmetic};
use registry::memory;

use super::Context;
use super::finding::{Finding, Severity, counted, rounded};
use crate::clock;

/// With less free memory than this nothing but the built-in model can be served.
const LITTLE_MEMORY: u64 = 256 << 20;
/// A control group that is held back in more of its periods than this has too small a quota.
const OFTEN: f64 = 0.05;
/// Longer than any rounding of a quota.
const ALMOST: f64 = 0.01;

impl Context<'_> {
    /// Instruction set, workers, and compute threads of each worker.
    fn compute(&self) -> (Isa, usize, usize) {
        match &self.options {
            Some(options) => (options.models.isa, options.models.workers, options.models.threads),
            None => (Isa::detect(), 1, cores_here()),
        }
    }
}

fn cores_here() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn instruction_set(context: &Context, found: &mut Vec<Finding>) {
    let cpu = context.machine.cpu.as_deref();
    found.push(
        Finding::ok("processor", cpu.unwrap_or("a processor that does not tell its name"))
            .with("processor", cpu),
    );
    let sets: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
    let (set, best) = (context.compute().0.name(), sets[0]);
    let text = format!("instruction set {set}, of {}", sets.join(", "));
    let missing = match best {
        "avx512" => "AVX-512 VNNI",
        "avx2" => "AVX-VNNI or AVX-512 VNNI",
        "scalar" => "AVX2",
        "neon" => "the dot product of ARMv8.2",
        _ => "",
    };
    let (severity, advice) = if set != best {
        (Severity::Warning, format!("Leave ISA at auto, which takes {best}."))
    } else if missing.is_empty() {
        (Severity::Ok, String::new())
    } else {
        let advice = "Nothing is wrong; prompts and many streams at once would be faster on a processor with";
        (Severity::Note, format!("{advice} {missing}, and a single stream hardly."))
    };
    found.push(
        Finding::new("instruction_set", severity, text, advice)
            .with("instruction_set", set)
            .with("available", sets),
    );
}

pub(super) fn cores(context: &Context, found: &mut Vec<Finding>) {
    let (cores, allowed, quota) = (context.machine.cores, context.machine.allowed, context.machine.quota);
    let (_, workers, threads_of_each) = context.compute();
    let threads = workers * threads_of_each;
    let usable = allowed.or(cores).unwrap_or(threads);
    let mut text =
        cores.map_or_else(|| "an unknown number of cores".to_owned(), |cores| counted(cores, "core"));
    if let Some(allowed) = allowed.filter(|allowed| Some(*allowed) != cores) {
        let _ = write!(text, ", {allowed} of them for this process");
    }
    if let Some(quota) = quota {
        let _ = write!(text, ", a quota of {}", cores_of(quota));
    }
    let _ = write!(text, "; {} in {}", counted(threads, "thread"), counted(workers, "worker"));
    let with_quota = quota.map_or(usable as f64, |quota| quota.min(usable as f64));
    let whole = (with_quota as usize / workers).max(1);
    let (severity, advice) = if quota.is_some_and(|quota| threads as f64 > quota + ALMOST) {
        let advice = "or give the control group whole cores: under a quota all threads are stopped in the middle of a step.";
        (Severity::Warning, format!("Set COMPUTE_THREADS={whole}, {advice}"))
    } else if threads > usable {
        (Severity::Warning, format!("Set COMPUTE_THREADS={whole}: each step waits for the last thread."))
    } else if with_quota >= threads as f64 + 1.0 - ALMOST {
        let advice = "unless the other cores are for others.";
        (Severity::Note, format!("Take COMPUTE_THREADS away or set it to {whole}, {advice}"))
    } else {
        (Severity::Ok, String::new())
    };
    found.push(
        Finding::new("cores", severity, text, advice)
            .with("cores", cores)
            .with("allowed", allowed)
            .with("quota", quota)
            .with("workers", workers)
            .with("threads_of_each", threads_of_each),
    );
}

/// A number of cores that need not be whole.
fn cores_of(number: f64) -> String {
    if number.fract().abs() < ALMOST {
        counted(number.round() as usize, "core")
    } else {
        format!("{number:.1} cores")
    }
}

pub(super) fn throttling(context: &Context, found: &mut Vec<Finding>) {
    let Some((periods, held)) = context.machine.held_back else { return };
    let share = held as f64 / periods.max(1) as f64;
    let text = format!("the control group was held back in {:.0} % of its periods so far", share * 100.0);
    let advice =
        "Raise the quota of the control group, or set COMPUTE_THREADS lower; other programs in it count too.";
    let (severity, advice) = if share > OFTEN { (Severity::Warning, advice) } else { (Severity::Ok, "") };
    found.push(Finding::new("held_back", severity, text, advice).with("share", share));
}

pub(super) fn memory(context: &Context, found: &mut Vec<Finding>) {
    let (memory, limit, free) = (context.machine.memory, context.machine.memory_limit, memory::available());
    let mut text = memory
        .map_or_else(|| "memory of unknown size".to_owned(), |all| format!("{} of memory", ByteSize(all)));
    if let Some(limit) = limit {
        let _ = write!(text, ", a limit of {}", ByteSize(limit));
    }
    if let Some(free) = free {
        let _ = write!(text, "; {} are free for this process", ByteSize(free));
    }
    let (severity, advice) = match free {
        None => (
            Severity::Note,
            "The system does not say how much is free, so set KV_CACHE_MB and watch what it takes.",
        ),
        Some(free) if free < LITTLE_MEMORY => {
            (Severity::Warning, "Free some, or raise the limit: next to nothing but the built-in model fits.")
        }
        Some(_) => (Severity::Ok, ""),
    };
    found.push(
        Finding::new("memory", severity, text, advice)
            .with("memory_bytes", memory)
            .with("limit_bytes", limit)
            .with("available_bytes", free),
    );
}

pub(super) fn swap_space(context: &Context, found: &mut Vec<Finding>) {
    let (all, used) = (context.machine.swap.unwrap_or(0), context.machine.swap_used.unwrap_or(0));
    let (severity, advice) = match (all, used) {
        (0, _) => (Severity::Ok, ""),
        (_, 0) => {
            (Severity::Note, "MemorySwapMax=0 in the unit keeps weights in memory when others need some.")
        }
        _ => (
            Severity::Warning,
            "Memory is or was short: MemorySwapMax=0 in the unit, or swapoff, keeps weights in memory.",
        ),
    };
    let text = match all {
        0 => "no swap space".to_owned(),
        _ => format!("{} of {} swap space are in use", ByteSize(used), ByteSize(all)),
    };
    found
        .push(Finding::new("swap_space", severity, text, advice).with("bytes", all).with("used_bytes", used));
}

pub(super) fn build(_: &Context, found: &mut Vec<Finding>) {
    if cfg!(debug_assertions) {
        let advice = "Build it with cargo build --release.";
        found.push(Finding::warning("build", "this is a debug build", advice));
    }
}

pub(super) fn speed(context: &Context, found: &mut Vec<Finding>) {
    let speed = context.speed();
    let read = format!(
        "reads {} GB/s from memory with {}",
        rounded(speed.read / 1e9),
        counted(speed.threads, "thread")
    );
    found.push(
        Finding::ok("memory_speed", read).with("bytes_per_second", speed.read).with("threads", speed.threads),
    );
    let int8 = format!("computes {} GOP/s in int8 ({})", rounded(speed.int8 / 1e9), speed.instruction);
    found.push(
        Finding::ok("int8_speed", int8)
            .with("operations_per_second", speed.int8)
            .with("instruction", speed.instruction),
    );
}

/// What was measured, with all compute threads.
pub(super) struct Speed {
    /// Bytes a second from memory.
    read: f64,
    /// Bytes a second where as many are read over and over as the model has.
    pub(super) read_model: f64,
    /// Multiplications and additions of int8 a second, by the CPU's fastest instruction.
    pub(super) int8: f64,
    instruction: &'static str,
    threads: usize,
}

impl Speed {
    pub(super) fn measure(context: &Context) -> Self {
        /// Bytes that are read: more than caches hold, unless memory is short; a small model may fit into a cache.
        const READ_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;
        /// Rounds of arithmetic in a run: some milliseconds.
        const ROUNDS: usize = 1 << 18;
        let (isa, workers, threads) = context.compute();
        let compute = Compute::new(isa, (workers * threads).min(cores_here()));
        let (least, most) = READ_BYTES.into_inner();
        let most = memory::available().map_or(most, |bytes| (bytes / 8).clamp(least, most));
        let words = vec![1u64; (most / 8) as usize];
        let read = |bytes: u64| {
            let words = &words[..(bytes / 8) as usize];
            let seconds =
                fastest(|| assert_eq!(probe::read(&compute, words), words.len() as u64, "every word is one"));
            size_of_val(words) as f64 / seconds
        };
        let mut operations = 0;
        let seconds = fastest(|| operations = Arithmetic::Int8.run(&compute.pool, ROUNDS));
        let whole = read(most);
        // What is larger than the caches is read as fast as everything.
        let model = context.complete_model().map(|(model, _)| model.token_bytes().max(least));
        Self {
            read: whole,
            read_model: model.filter(|bytes| *bytes < most / 2).map_or(whole, |bytes| read(bytes).max(whole)),
            int8: operations as f64 / seconds,
            instruction: Arithmetic::Int8.instruction(),
            threads: compute.pool.threads(),
        }
    }
}

/// The least seconds of several runs: a limit is what the machine does when nothing is in its way.
fn fastest(mut run: impl FnMut()) -> f64 {
    const BUDGET: Duration = Duration::from_millis(120);
    let begun = clock::now();
    let mut least = f64::MAX;
    for number in 0..100 {
        if number >= 2 && begun.elapsed() > BUDGET {
            break;
        }
        let started = clock::now();
        run();
        least = least.min(started.elapsed().as_secs_f64());
    }
    least.max(1e-9)
}
