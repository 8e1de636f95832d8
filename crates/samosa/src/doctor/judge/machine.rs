//! The machine: instruction sets, cores, memory, swap, and how fast it was.

use registry::machine::Machine;

use super::counted;
use crate::doctor::facts::{Build, MachineFacts, Speed};
use crate::doctor::finding::{Finding, rounded, size};

/// What an instruction set does of int8 products a cycle, by its widest multiplication, against that of AVX2 or NEON.
const INT8_AGAINST_BASE: [(&str, f64); 9] = [
    ("scalar", 0.1),
    ("avx2", 1.0),
    ("avx-vnni", 3.0),
    ("avx512", 2.0),
    ("avx512-vnni", 6.0),
    ("avx512-bf16", 6.0),
    ("neon", 1.0),
    ("neon-dotprod", 4.0),
    ("neon-i8mm", 8.0),
];
/// With less free memory than this nothing but the built-in model can be served.
const LITTLE_MEMORY: u64 = 256 << 20;
/// A control group that is held back in more of its periods than this has too small a quota.
const OFTEN: f64 = 0.05;
/// Longer than any rounding of a quota.
const ALMOST: f64 = 0.01;

/// Estimates, for the order of costs alone.
const DEBUG_BUILD: f64 = 3.0;
const HELD_BACK: f64 = 2.0;
const SWAPPED: f64 = 1.5;
const SWAP_THERE: f64 = 1.05;
const GOVERNED: f64 = 1.2;
const MANY_WORKERS: f64 = 1.3;

/// What is to be said of a machine.
pub(crate) fn machine(facts: &MachineFacts) -> Vec<Finding> {
    let mut found = vec![processor(facts), instruction_set(facts), cores(facts)];
    found.extend(held_back(&facts.machine));
    found.extend(workers(facts));
    found.push(memory(facts));
    found.push(swap(&facts.machine));
    found.extend(pages_and_frequency(&facts.machine));
    if facts.has_gpu {
        found.push(Finding::note(
            "gpu",
            "there is a GPU, which is not used",
            "This version computes on the processor alone.",
        ));
    }
    if facts.build == Build::Debug {
        let advice = "Build it with cargo build --release.";
        let cost = "This is a debug build: everything but the kernels is compiled without speed in mind.";
        found.push(Finding::warning("build", "this is a debug build", advice).costing(DEBUG_BUILD, cost));
    }
    found.extend(facts.speed.iter().flat_map(speed));
    found
}

fn processor(facts: &MachineFacts) -> Finding {
    let name = facts.machine.cpu.as_deref().unwrap_or("a processor that does not tell its name");
    Finding::ok("processor", name).with("processor", facts.machine.cpu.clone())
}

fn instruction_set(facts: &MachineFacts) -> Finding {
    let rate = |name: &str| {
        let known = INT8_AGAINST_BASE.iter().find(|(known, _)| *known == name);
        known.map_or(1.0, |(_, rate)| *rate)
    };
    let MachineFacts { set, sets, .. } = facts;
    let best = sets.first().copied().unwrap_or("scalar");
    let text = format!("instruction set {set}, of {}", sets.join(", "));
    let found = if *set != best && rate(best) > rate(set) {
        let times = rate(best) / rate(set);
        let advice = format!("Leave ISA at auto, which takes {best}.");
        let cost = format!(
            "ISA={set} keeps the kernels from {best}, which multiplies int8 up to {} times as fast.",
            rounded(times)
        );
        Finding::warning("instruction_set", text, advice).costing(times, cost)
    } else if let Some((missing, wanted)) = missing(best) {
        let times = rate(wanted) / rate(best);
        let advice = format!(
            "Nothing is wrong; a processor with {missing} multiplies int8 up to {} times as fast, which prompts and many \
             streams at once would feel, and a single stream hardly.",
            rounded(times)
        );
        let cost = format!(
            "This processor has no {missing}: prompts and many streams at once take longer (int8 is multiplied up to {} \
             times as fast with it); a single stream hardly.",
            rounded(times)
        );
        // One stream waits for memory, so most of the factor is seldom felt.
        Finding::note("instruction_set", text, advice).costing(times.sqrt(), cost)
    } else {
        Finding::ok("instruction_set", text)
    };
    found.with("instruction_set", *set).with("available", sets.clone())
}

/// What a processor lacks of the best of its kind, and the instruction set that it would have with it.
fn missing(best: &str) -> Option<(&'static str, &'static str)> {
    match best {
        "avx512" => Some(("AVX-512 VNNI", "avx512-vnni")),
        "avx2" => Some(("AVX-VNNI or AVX-512 VNNI", "avx-vnni")),
        "scalar" => Some(("AVX2", "avx2")),
        "neon" => Some(("the dot product of ARMv8.2", "neon-dotprod")),
        _ => None,
    }
}

fn cores(facts: &MachineFacts) -> Finding {
    let Machine { cores, allowed, quota, .. } = facts.machine;
    let threads = facts.workers * facts.threads;
    let usable = allowed.or(cores).unwrap_or(threads);
    let text = core_text(facts, threads);
    let found = if quota.is_some_and(|quota| threads as f64 > quota + ALMOST) {
        let quota = quota.unwrap_or_default();
        let whole = (quota.floor() as usize / facts.workers).max(1);
        let advice = format!(
            "Set COMPUTE_THREADS={whole}, or give the control group whole cores: under a quota all threads are stopped in the \
             middle of a step."
        );
        let times = threads as f64 / quota;
        let cost = format!(
            "{} share {} by the quota of the control group, so all of them are stopped for a part of the time.",
            counted(threads, "thread"),
            cores_of(quota)
        );
        Finding::warning("cores", text, advice).costing(times, cost)
    } else if threads > usable {
        let whole = (usable / facts.workers).max(1);
        let or = if facts.workers > 1 { ", or NUM_WORKERS=1" } else { "" };
        let advice = format!("Set COMPUTE_THREADS={whole}{or}.");
        let cost = format!(
            "{} compete for {}, and each step waits for the last.",
            counted(threads, "thread"),
            counted(usable, "core")
        );
        Finding::warning("cores", text, advice).costing(threads as f64 / usable as f64, cost)
    } else {
        let usable = quota.map_or(usable as f64, |quota| quota.min(usable as f64));
        if usable >= threads as f64 + 1.0 - ALMOST {
            let whole = (usable as usize / facts.workers).max(1);
            let advice = format!(
                "Take COMPUTE_THREADS away or set it to {whole}, unless the other cores are for others."
            );
            let cost = format!("{} compute where {} could.", counted(threads, "thread"), cores_of(usable));
            Finding::note("cores", text, advice).costing(usable / threads as f64, cost)
        } else {
            Finding::ok("cores", text)
        }
    };
    found
        .with("cores", cores)
        .with("allowed", allowed)
        .with("quota", quota)
        .with("workers", facts.workers)
        .with("threads_of_each", facts.threads)
}

fn core_text(facts: &MachineFacts, threads: usize) -> String {
    let Machine { cores, allowed, quota, .. } = facts.machine;
    let all = cores.map_or_else(|| "an unknown number of cores".to_owned(), |cores| counted(cores, "core"));
    let allowed = allowed.filter(|allowed| Some(*allowed) != cores);
    let allowed = allowed.map(|allowed| format!(", {allowed} of them for this process")).unwrap_or_default();
    let quota = quota.map(|quota| format!(", a quota of {}", cores_of(quota))).unwrap_or_default();
    let verb = if threads == 1 { "computes" } else { "compute" };
    let workers = if facts.workers > 1 { format!(" ({} workers)", facts.workers) } else { String::new() };
    format!("{all}{allowed}{quota}; {} {verb}{workers}", counted(threads, "thread"))
}

/// A number of cores that need not be whole.
fn cores_of(number: f64) -> String {
    if number.fract().abs() < ALMOST {
        counted(number.round() as usize, "core")
    } else {
        format!("{number:.1} cores")
    }
}

fn held_back(machine: &Machine) -> Option<Finding> {
    let (periods, held) = machine.held_back?;
    let share = held as f64 / periods.max(1) as f64;
    let text = format!("the control group was held back in {:.0} % of its periods so far", share * 100.0);
    let found = if share > OFTEN {
        let cost = format!("The quota is used up in {:.0} % of the control group's periods.", share * 100.0);
        let advice = "Raise the quota of the control group, or set COMPUTE_THREADS lower; other programs in it count too.";
        Finding::warning("held_back", text, advice).costing(HELD_BACK, cost)
    } else {
        Finding::ok("held_back", text)
    };
    Some(found.with("share", share))
}

fn workers(facts: &MachineFacts) -> Option<Finding> {
    let workers = facts.workers;
    (workers > 1).then(|| {
        let advice = "One worker batches all requests and reads the weights once for them; NUM_WORKERS=1 is nearly always right.";
        let cost = format!("NUM_WORKERS={workers}: each worker reads all weights for its own requests.");
        Finding::note("workers", format!("{workers} workers"), advice).costing(MANY_WORKERS, cost)
    })
}

fn memory(facts: &MachineFacts) -> Finding {
    let Machine { memory, memory_limit, .. } = facts.machine;
    let all =
        memory.map_or_else(|| "memory of unknown size".to_owned(), |all| format!("{} of memory", size(all)));
    let limit = memory_limit.map(|limit| format!(", a limit of {}", size(limit))).unwrap_or_default();
    let free = facts.available.map(|free| format!("; {} are free for this process", size(free)));
    let text = all + &limit + &free.unwrap_or_default();
    let found = match facts.available {
        None => Finding::note(
            "memory",
            text,
            "The system does not say how much is free, so set KV_CACHE_MB and watch what it takes.",
        ),
        Some(free) if free < LITTLE_MEMORY => Finding::warning(
            "memory",
            text,
            "Free some, or raise the limit: next to nothing but the built-in model fits.",
        ),
        Some(_) => Finding::ok("memory", text),
    };
    found
        .with("memory_bytes", memory)
        .with("limit_bytes", memory_limit)
        .with("available_bytes", facts.available)
}

fn swap(machine: &Machine) -> Finding {
    let (all, used) = (machine.swap.unwrap_or(0), machine.swap_used.unwrap_or(0));
    let found = if used > 0 {
        let text = format!("{} of {} swap space are in use", size(used), size(all));
        let advice = "Memory is or was short: see what takes it; MemorySwapMax=0 in the unit, or swapoff, keeps weights in memory.";
        let cost = "Swap space is in use: weights that were written to disk have to come back before they can be multiplied with.";
        Finding::warning("swap_space", text, advice).costing(SWAPPED, cost)
    } else if all > 0 {
        let text = format!("{} of swap space, none of it in use", size(all));
        let advice = "MemorySwapMax=0 in the unit keeps weights in memory when others need some.";
        let cost = "There is swap space: when memory gets short, weights go to disk and answers wait for it.";
        Finding::note("swap_space", text, advice).costing(SWAP_THERE, cost)
    } else {
        Finding::ok("swap_space", "no swap space")
    };
    found.with("bytes", all).with("used_bytes", used)
}

fn pages_and_frequency(machine: &Machine) -> Vec<Finding> {
    let pages = machine.huge_pages.iter().map(|word| {
        Finding::ok("huge_pages", format!("transparent huge pages: {word}")).with("mode", word.as_str())
    });
    let governor = (!machine.governors.is_empty()).then(|| {
        let words = machine.governors.join(", ");
        let text = format!("frequency governor: {words}");
        let found = if machine.governors.iter().any(|word| word == "powersave") {
            let advice = "If answers are slow to begin after a pause, try the governor performance (cpupower frequency-set).";
            let cost = "The frequency governor is powersave: cores may take a while to get fast, or never do.";
            Finding::note("governor", text, advice).costing(GOVERNED, cost)
        } else {
            Finding::ok("governor", text)
        };
        found.with("governors", machine.governors.clone())
    });
    pages.chain(governor).collect()
}

fn speed(speed: &Speed) -> [Finding; 2] {
    let threads = counted(speed.threads, "thread");
    let read = format!("reads {} GB/s from memory with {threads}", rounded(speed.read / 1e9));
    let int8 = format!("computes {} GOP/s in int8 ({})", rounded(speed.int8 / 1e9), speed.instruction);
    [
        Finding::ok("memory_speed", read).with("bytes_per_second", speed.read).with("threads", speed.threads),
        Finding::ok("int8_speed", int8)
            .with("operations_per_second", speed.int8)
            .with("instruction", speed.instruction),
    ]
}

#[cfg(test)]
mod tests;
