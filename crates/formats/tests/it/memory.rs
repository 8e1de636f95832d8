//! No input makes a reader take more than a multiple of its own size, nor panic.

use std::path::PathBuf;
use std::sync::Arc;

use formats::{LIMITS, TensorTable, fuzz};

use crate::allocation::bounded;
use crate::build::{Described, checkpoint, safetensors, state_dict, text, zip};

fn fixtures() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.metadata().unwrap().len() < 10_000).collect()
}

fn every_reader(bytes: &[u8]) {
    bounded(bytes, || fuzz::fuzz_checkpoint(bytes));
    bounded(bytes, || fuzz::fuzz_tokenizer(bytes));
    bounded(bytes, || fuzz::fuzz_meta(bytes));
}

fn one_reader(path: &std::path::Path, bytes: &[u8]) {
    match path.extension().unwrap().to_str().unwrap() {
        "pt" | "safetensors" => bounded(bytes, || fuzz::fuzz_checkpoint(bytes)),
        "pkl" => bounded(bytes, || fuzz::fuzz_tokenizer(bytes)),
        _ => bounded(bytes, || fuzz::fuzz_meta(bytes)),
    }
}

/// What fuzzing found worth keeping, a folder for each target; see `fuzz/`.
#[test]
fn the_corpus_is_survived() {
    for target in ["checkpoint", "tokenizer", "meta"] {
        let directory = format!("{}/tests/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        assert!(files.len() >= 20, "{directory} has {} files", files.len());
        for file in files {
            every_reader(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

/// The control: a reader that trusts a count does fail here.
#[test]
#[should_panic(expected = "bytes were allocated for a file of 8")]
fn the_bound_notices_a_large_allocation() {
    bounded(&[0; 8], || drop(std::hint::black_box(vec![0_u8; 2 << 20])));
}

#[test]
fn every_flipped_byte_is_survived() {
    for path in fixtures() {
        let good = std::fs::read(&path).unwrap();
        let mut bytes = good.clone();
        for at in 0..good.len() {
            for change in [0x01, 0x10, 0x80, 0xff] {
                bytes[at] = good[at] ^ change;
                one_reader(&path, &bytes);
            }
            bytes[at] = good[at];
        }
    }
}

#[test]
fn every_cut_and_every_large_number_is_survived() {
    for path in fixtures() {
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            one_reader(&path, &good[..at]);
            for large in [&[0xff; 8][..], &[0xff, 0xff, 0xff, 0x7f], &[0, 0, 0, 0, 0, 0, 0, 0x80]] {
                let mut bytes = good.clone();
                bytes.iter_mut().skip(at).zip(large).for_each(|(byte, large)| *byte = *large);
                one_reader(&path, &bytes);
            }
        }
    }
}

/// The shortest inputs for the most memory that each data structure offers.
#[test]
fn amplifiers_stay_within_the_bound() {
    let pickle = |start: &[u8], unit: &[u8], count: usize, end: &[u8]| {
        [b"\x80\x02", start, &unit.repeat(count), end, b"."].concat()
    };
    let pickles = [
        pickle(b"", b"}", LIMITS.pickle_stack, b""),
        pickle(b"N", b"\x85", LIMITS.pickle_nodes, b""),
        pickle(b"}", b"}b", LIMITS.pickle_nodes - 1, b""),
        pickle(b"N", b"\x94", LIMITS.pickle_memo, b""),
        pickle(b"", b"(t", LIMITS.pickle_stack, b""),
        pickle(b"}", b"NNs", 200_000, b""),
        pickle(b"]", b"Na", 200_000, b""),
        pickle(b"}", &[b"(", &b"N".repeat(16_000)[..], b"u"].concat(), 20, b""),
        // A long text and a wide tuple, referred to again and again.
        pickle(&[&b"}"[..], &text(&"x".repeat(100_000)), b"\x94"].concat(), b"h\x00s", 0, b"Ns"),
        pickle(
            &[b"ctorch._utils\n_rebuild_parameter\n\x94(", &b"N".repeat(9_000)[..], b"t\x94}"].concat(),
            b"h\x00h\x01RNs",
            50_000,
            b"",
        ),
        pickle(
            &[b"c_codecs\nencode\n\x94(", &text(&"x".repeat(100_000))[..], &text("latin1"), b"t\x94}("]
                .concat(),
            b"h\x00h\x01RN",
            8_000,
            b"u",
        ),
        pickle(
            &[&b"}("[..], b"B\xa0\x86\x01\0", &vec![7; 100_000][..], b"\x94N"].concat(),
            b"h\x00N",
            8_000,
            b"u",
        ),
    ];
    for bytes in &pickles {
        every_reader(bytes);
        every_reader(&checkpoint(bytes));
    }
}

#[test]
fn many_tensors_of_one_description_stay_within_the_bound() {
    let mut described =
        Described { sizes: vec![1; 8], strides: vec![1; 8], ..Described::default() }.call(&[]);
    described.extend(b"\x94");
    for count in [1_000, 10_000, LIMITS.tensors] {
        let letter = |place: usize| b'0' + u8::try_from(place % 64).unwrap();
        let names = (0..count).map(|i| [0x8c, 3, letter(i / 4096), letter(i / 64), letter(i)]);
        let items: Vec<u8> = names.flat_map(|name| [&name[..], b"h\x00s"].concat()).collect();
        let bytes = checkpoint(&[&b"\x80\x04}\x8c\x01-"[..], &described, b"s", &items, b"."].concat());
        every_reader(&bytes);
        let found = TensorTable::read("names", Arc::new(bytes)).map(|table| table.len());
        assert_eq!(found.ok(), (count < LIMITS.tensors).then_some(count + 1));
    }
}

#[test]
fn json_amplifiers_stay_within_the_bound() {
    let ranks = |unit: &str| format!(r#"{{"mergeable_ranks":{{{}"#, unit.repeat(100_000));
    let shape =
        format!(r#"{{"w":{{"dtype":"F32","shape":[{}1],"data_offsets":[0,0]}}}}"#, "1,".repeat(100_000));
    let merges = r#"["",""],"#.repeat(50_000);
    for text in [
        ranks(r#""":0,"#),
        "[".repeat(100_000),
        r#"{"":"#.repeat(4_000),
        format!("[{}0]", "0,".repeat(200_000)),
        format!(r#"{{"user_config":[{}0]}}"#, "0,".repeat(200_000)),
        format!(r#"{{"user_config":[{}0]}}"#, r#"{"":0},"#.repeat(4_000)),
        format!(r#"{{"user_config":[{}0]}}"#, "[],".repeat(4_000)),
        format!(r#"{{"user_config":[{}0]}}"#, r#""","#.repeat(200_000)),
        format!(r#"{{"model":{{"type":"BPE","vocab":{{}},"merges":[{merges}["",""]]}}}}"#),
        format!(
            r#"{{"added_tokens":[{}{{"id":0,"content":""}}]}}"#,
            r#"{"id":0,"content":""},"#.repeat(50_000)
        ),
        format!(r#"{{"weight_map":{{{}"":""}}}}"#, r#""":"","#.repeat(100_000)),
        shape.clone(),
    ] {
        every_reader(text.as_bytes());
        every_reader(&safetensors(&text, &[]));
    }
}

#[test]
fn many_zip_entries_stay_within_the_bound() {
    let names: Vec<String> = (0..20_000).map(|i| format!("{i:x}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    every_reader(&zip(&entries));
    let pickle = state_dict(&[Described { key: "none", ..Described::default() }]);
    every_reader(&checkpoint(&pickle));
}
