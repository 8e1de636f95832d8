use super::*;
use crate::doctor::finding::Mark::{self, Note, Ok as Fine, Warning};

const GB: u64 = 1 << 30;

/// A machine on which all is well.
fn fine() -> MachineFacts {
    MachineFacts {
        machine: Machine {
            cpu: Some("Some CPU".to_owned()),
            cores: Some(4),
            allowed: Some(4),
            memory: Some(16 * GB),
            swap: Some(0),
            swap_used: Some(0),
            ..Machine::default()
        },
        available: Some(12 * GB),
        sets: vec!["avx512-vnni", "avx512", "avx2", "scalar"],
        set: "avx512-vnni",
        workers: 1,
        threads: 4,
        speed: Some(Speed {
            read: 20e9,
            read_model: 20e9,
            int8: 900e9,
            instruction: "vpdpbusd zmm",
            threads: 4,
        }),
        build: Build::Release,
        has_gpu: false,
    }
}

#[test]
fn a_machine_on_which_all_is_well_gets_no_advice() {
    let found = machine(&fine());
    assert!(found.iter().all(|finding| finding.mark == Fine && finding.advice.is_empty()), "{found:?}");
    assert!(found.iter().all(|finding| finding.cost.is_none()), "{found:?}");
    let of = |id: &str| found.iter().find(|finding| finding.id == id).unwrap();
    assert_eq!(of("memory_speed").figures["bytes_per_second"], 20e9);
    assert_eq!(of("cores").text, "4 cores; 4 threads compute");
    assert_eq!(of("memory").text, "16 GB of memory; 12 GB are free for this process");
}

/// What is changed of the machine, which finding that makes, what it says or advises, and how much slower it is.
type Case = (fn(&mut MachineFacts), &'static str, Mark, &'static str, Option<f64>);

const CASES: &[Case] = &[
    (|f| f.build = Build::Debug, "build", Warning, "cargo build --release", Some(DEBUG_BUILD)),
    (|f| f.has_gpu = true, "gpu", Note, "there is a GPU, which is not used", None),
    (|f| f.set = "avx2", "instruction_set", Warning, "Leave ISA at auto, which takes avx512-vnni", Some(6.0)),
    // Both multiply int8 alike.
    (
        |f| f.sets.insert(0, "avx512-bf16"),
        "instruction_set",
        Fine,
        "instruction set avx512-vnni, of avx512-bf16",
        None,
    ),
    (
        |f| (f.sets, f.set) = (vec!["avx512", "avx2", "scalar"], "avx512"),
        "instruction_set",
        Note,
        "AVX-512 VNNI multiplies int8 up to 3.0 times",
        Some(1.732_050_807_568_877_2),
    ),
    (
        |f| (f.sets, f.set) = (vec!["neon-i8mm", "neon"], "neon-i8mm"),
        "instruction_set",
        Fine,
        "neon-i8mm",
        None,
    ),
    (
        |f| (f.machine.quota, f.threads) = (Some(1.5), 2),
        "cores",
        Warning,
        "Set COMPUTE_THREADS=1, or give the control group whole cores",
        Some(2.0 / 1.5),
    ),
    (
        |f| (f.machine.quota, f.threads) = (Some(2.0), 2),
        "cores",
        Fine,
        "4 cores, a quota of 2 cores; 2 threads",
        None,
    ),
    (|f| (f.machine.quota, f.threads) = (Some(2.5), 2), "cores", Fine, "a quota of 2.5 cores", None),
    (|f| f.machine.allowed = Some(2), "cores", Warning, "4 cores, 2 of them for this process", Some(2.0)),
    (|f| (f.workers, f.threads) = (2, 4), "cores", Warning, "8 threads compute (2 workers)", Some(2.0)),
    (
        |f| (f.workers, f.threads) = (2, 2),
        "workers",
        Note,
        "NUM_WORKERS=1 is nearly always right",
        Some(MANY_WORKERS),
    ),
    (|f| f.threads = 1, "cores", Note, "1 thread computes", Some(4.0)),
    (
        |f| f.machine.held_back = Some((100, 40)),
        "held_back",
        Warning,
        "held back in 40 % of its periods",
        Some(HELD_BACK),
    ),
    (|f| f.machine.held_back = Some((100, 1)), "held_back", Fine, "held back in 1 % of its periods", None),
    (|f| f.available = Some(100 << 20), "memory", Warning, "100 MB are free", None),
    (|f| f.available = None, "memory", Note, "set KV_CACHE_MB", None),
    (|f| f.machine.memory_limit = Some(4 * GB), "memory", Fine, "a limit of 4.0 GB", None),
    (
        |f| f.machine.swap = Some(2 * GB),
        "swap_space",
        Note,
        "2.0 GB of swap space, none of it in use",
        Some(SWAP_THERE),
    ),
    (
        |f| (f.machine.swap, f.machine.swap_used) = (Some(2 * GB), Some(GB)),
        "swap_space",
        Warning,
        "1.0 GB of 2.0 GB swap space are in use",
        Some(SWAPPED),
    ),
    (
        |f| f.machine.governors = vec!["powersave".to_owned()],
        "governor",
        Note,
        "governor performance",
        Some(GOVERNED),
    ),
    (|f| f.machine.governors = vec!["schedutil".to_owned()], "governor", Fine, "schedutil", None),
    (
        |f| f.machine = Machine::default(),
        "cores",
        Fine,
        "an unknown number of cores; 4 threads compute",
        None,
    ),
];

#[test]
fn what_is_amiss_is_found_with_what_to_do_and_what_it_costs() {
    for (number, (change, id, mark, says, times)) in CASES.iter().enumerate() {
        let mut facts = fine();
        change(&mut facts);
        let found = machine(&facts);
        let finding =
            found.iter().find(|finding| finding.id == *id).unwrap_or_else(|| panic!("{number}: {id}"));
        assert_eq!(finding.mark, *mark, "{number}: {finding:?}");
        assert!(finding.text.contains(says) || finding.advice.contains(says), "{number}: {finding:?}");
        assert_eq!(finding.advice.is_empty(), *mark == Fine, "{number}: {finding:?}");
        assert_eq!(finding.cost.as_ref().map(|cost| cost.times), *times, "{number}: {finding:?}");
    }
}

#[test]
fn what_costs_most_comes_first() {
    let mut facts = fine();
    facts.machine.governors = vec!["powersave".to_owned()];
    facts.set = "avx2";
    facts.build = Build::Debug;
    let found = machine(&facts);
    let costs: Vec<&str> =
        crate::doctor::judge::costs(found.iter()).iter().map(|cost| cost.text.as_str()).collect();
    assert!(
        costs.len() == 3 && costs[0].starts_with("ISA=avx2") && costs[2].contains("powersave"),
        "{costs:?}"
    );
}
