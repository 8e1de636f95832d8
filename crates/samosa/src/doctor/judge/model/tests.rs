use registry::plan::Needs;

use super::*;
use crate::doctor::finding::Mark::{self, Note, Ok as Fine, Warning, Wrong};

const MB: u64 = 1 << 20;
const SPEED: Speed =
    Speed { read: 20e9, read_model: 20e9, int8: 800e9, instruction: "vpdpbusd zmm", threads: 2 };

/// A model of which all is well.
fn fine() -> Whole {
    Whole {
        source: "huggingface:owner/name".to_owned(),
        path: "d20".to_owned(),
        is_storage: false,
        files: [("model_000650.pt".to_owned(), 900 * MB), ("tokenizer.pkl".to_owned(), MB)].into(),
        step: Some(650),
        generation: "g7",
        parameters: 896_000_000,
        layers: 20,
        width: 1280,
        sequence_len: 2048,
        notes: vec![],
        format: "int8",
        hashes: Hashes::Known("ab".repeat(32)),
        needs: Needs { weights: 1400 * MB, kv: 1024 * MB, kv_least: 100 * MB },
        plan: Ok(MemoryPlan { mode: SwapOrder::Overlap, kv: 1024 * MB }),
        swap: Ok(MemoryPlan { mode: SwapOrder::Overlap, kv: 1024 * MB }),
        wish: SwapMode::Auto,
        chats: 64,
        max_running: 64,
        token_bytes: 400_000_000,
        token_bytes_int8: 400_000_000,
        token_operations: 800_000_000,
    }
}

fn judged(whole: Whole) -> Vec<Finding> {
    let facts = ModelFacts { tag: "d20".to_owned(), is_first: true, model: Model::Whole(Box::new(whole)) };
    model(&facts, "the default", Some(&SPEED))
}

#[test]
fn a_model_that_is_well_gets_no_advice_and_its_figures() {
    let found = judged(fine());
    assert!(found.iter().all(|finding| finding.mark == Fine && finding.cost.is_none()), "{found:?}");
    let text = |id: &str| found.iter().find(|finding| finding.id == id).unwrap().text.as_str();
    assert_eq!(
        text("model"),
        "d20, step 650: in d20 of the storage, fetched from huggingface:owner/name; model_000650.pt, tokenizer.pkl, 901 MB"
    );
    assert_eq!(
        text("memory_plan"),
        "it takes 1.4 GB for weights, 1.0 GB for keys and values, and 64 MB while it loads: 2.4 GB in all"
    );
    assert_eq!(
        text("one_stream"),
        "one stream: at most 50 tokens/s, since each token reads 381 MB at 20 GB/s"
    );
    assert_eq!(text("many_streams"), "many streams and prompts: at most 1000 tokens/s in all, by arithmetic");
}

/// What is changed of the model, which finding that makes, what it says or advises, and how much slower it is.
type Case = (fn(&mut Whole), &'static str, Mark, &'static str, Option<f64>);

const CASES: &[Case] = &[
    (|w| "local".clone_into(&mut w.source), "model", Fine, "in d20 of the storage, put there by hand", None),
    (|w| "builtin".clone_into(&mut w.source), "model", Fine, "built into this program", None),
    (
        |w| (w.format, w.token_bytes) = ("f32", 1_600_000_000),
        "format",
        Note,
        "weights are held as f32 (the default)",
        Some(4.0),
    ),
    (|w| (w.format, w.token_bytes) = ("int4", 220_000_000), "format", Fine, "int4", None),
    (|w| w.notes = vec!["it was guessed".to_owned()], "assumed", Warning, "it was guessed", None),
    (
        |w| w.hashes = Hashes::Pending(900 * MB),
        "identity",
        Note,
        "`samosa models show d20` does it now",
        None,
    ),
    (|w| w.hashes = Hashes::Differ("not the same".to_owned()), "identity", Wrong, "not the same", None),
    (
        |w| w.plan = Ok(MemoryPlan { mode: SwapOrder::Overlap, kv: 300 * MB }),
        "memory_plan",
        Warning,
        "Keys and values should have 1.0 GB",
        None,
    ),
    (
        |w| w.plan = Err(Shortage { needed: 1600 * MB, available: 1000 * MB }),
        "memory_plan",
        Wrong,
        "it needs 1.6 GB at least, and 1000 MB are free",
        None,
    ),
    (|w| w.chats = 10, "chats", Note, "10 chats as long as the context (2048 tokens)", Some(QUEUED)),
    (
        |w| w.swap = Ok(MemoryPlan { mode: SwapOrder::Serial, kv: 1024 * MB }),
        "swap",
        Note,
        "two models of this size do not fit",
        Some(SERIAL),
    ),
    (
        |w| (w.swap, w.wish) = (Ok(MemoryPlan { mode: SwapOrder::Serial, kv: 1024 * MB }), SwapMode::Serial),
        "swap",
        Fine,
        "as SWAP_MODE says",
        None,
    ),
    (
        |w| (w.swap, w.wish) = (Err(Shortage { needed: 2400 * MB, available: 900 * MB }), SwapMode::Overlap),
        "swap",
        Warning,
        "Set SWAP_MODE=auto",
        None,
    ),
];

#[test]
fn what_is_amiss_is_found_with_what_to_do_and_what_it_costs() {
    for (number, (change, id, mark, says, times)) in CASES.iter().enumerate() {
        let mut whole = fine();
        change(&mut whole);
        let found = judged(whole);
        let finding =
            found.iter().find(|finding| finding.id == *id).unwrap_or_else(|| panic!("{number}: {id}"));
        assert_eq!(finding.mark, *mark, "{number}: {finding:?}");
        assert!(finding.text.contains(says) || finding.advice.contains(says), "{number}: {finding:?}");
        assert_eq!(finding.advice.is_empty(), *mark == Fine, "{number}: {finding:?}");
        assert_eq!(finding.cost.as_ref().map(|cost| cost.times), *times, "{number}: {finding:?}");
    }
}

#[test]
fn a_model_that_is_not_here_can_be_fetched_and_a_broken_one_stops_a_start() {
    let of = |model| ModelFacts { tag: "d20".to_owned(), is_first: true, model };
    let absent = model(&of(Model::Absent("s3://models/d20".to_owned())), "", None);
    assert!(absent[0].mark == Note && absent[0].advice.contains("samosa pull d20"), "{absent:?}");
    let broken = model(&of(Model::Broken("a file is cut off".to_owned())), "", None);
    assert!(broken[0].mark == Wrong && broken[0].advice.contains("has no model"), "{broken:?}");
    let other = ModelFacts { is_first: false, ..of(Model::Broken("a file is cut off".to_owned())) };
    assert!(!model(&other, "", None)[0].advice.contains("has no model"));
}

#[test]
fn a_format_that_does_not_compute_with_int8_has_no_rate_of_int8() {
    let found = judged(Whole { format: "bf16", ..fine() });
    assert!(found.iter().all(|finding| finding.id != "many_streams"), "{found:?}");
}
