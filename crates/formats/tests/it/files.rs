//! Real files: the goldens of the repository and the fixtures that torch wrote, against what torch says.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use formats::{
    DType, ErrorKind, TensorTable, TokenizerFault, TokenizerFile, TorchFault, read_meta, read_shard_index,
    read_tokenizer_pickle,
};
use serde_json::Value;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

fn open(path: PathBuf) -> Result<TensorTable, formats::Error> {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    TensorTable::read(&name, Arc::new(File::open(path).unwrap()))
}

fn json(path: PathBuf) -> serde_json::Map<String, Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Asserts that the table has exactly these tensors; `values` may be the first few.
fn assert_table(context: &str, table: &TensorTable, expected: &Value) {
    let expected = expected.as_object().unwrap();
    assert_eq!(table.names().collect::<Vec<_>>().len(), expected.len(), "{context}");
    for (name, tensor) in expected {
        let found = table.get(name).unwrap_or_else(|| panic!("{context}: {name} is missing"));
        assert_eq!(format!("{:?}", found.dtype()), tensor["dtype"], "{context}: {name}");
        assert_eq!(serde_json::json!(found.shape()), tensor["shape"], "{context}: {name}");
        let values: Vec<f32> = serde_json::from_value(tensor["values"].clone()).unwrap();
        let read = found.read().unwrap();
        assert_eq!(read.len(), found.element_count(), "{context}: {name}");
        assert_eq!(read[..values.len()], values, "{context}: {name}");
    }
}

#[test]
fn goldens_hold_what_torch_says() {
    let cases = json(fixtures().join("goldens.json"));
    assert_eq!(cases.len(), 7);
    for (path, expected) in cases {
        assert_table(&path, &open(goldens().join(&path)).unwrap(), &expected);
    }
}

#[test]
fn fixtures_hold_what_torch_says() {
    let cases = json(fixtures().join("expected.json"));
    assert_eq!(cases.len(), 15);
    for (path, expected) in cases {
        let table = open(fixtures().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_table(&path, &table, &expected);
    }
}

#[test]
fn golden_metas_give_sizes() {
    for (path, sequence_len, n_head, n_kv_head, pattern) in [
        ("g0/meta_000106.json", 512, 2, 2, "L"),
        ("g3/meta_000104.json", 512, 4, 1, "SL"),
        ("g5/meta_000103.json", 512, 2, 2, "SL"),
        ("g7/meta_000100.json", 512, 4, 2, "SSSL"),
    ] {
        let meta = read_meta(path, &std::fs::read(goldens().join(path)).unwrap()).unwrap();
        assert_eq!(meta.sequence_len, Some(sequence_len), "{path}");
        assert_eq!((meta.n_head, meta.n_kv_head), (Some(n_head), Some(n_kv_head)), "{path}");
        assert_eq!(meta.window_pattern.as_deref(), Some(pattern), "{path}");
        assert_eq!(meta.vocab_size, Some(701), "{path}");
        assert_eq!(meta.user_config.len(), if path.starts_with("g5") { 2 } else { 0 });
    }
}

#[test]
fn golden_tokenizer_loads() {
    let bytes = std::fs::read(goldens().join("tokenizer/tokenizer.pkl")).unwrap();
    let tokenizer = read_tokenizer_pickle("tokenizer.pkl", &bytes).unwrap();
    assert_eq!(tokenizer.ranks.len(), 692);
    assert!(tokenizer.ranks.iter().enumerate().all(|(place, (_, rank))| place as u32 == *rank));
    assert_eq!(tokenizer.ranks[97].0, b"a");
    assert_eq!(tokenizer.special.len(), 9);
    assert_eq!(tokenizer.special[0], ("<|bos|>".to_owned(), 692));
    assert_eq!(tokenizer.special[8], ("<|output_end|>".to_owned(), 700));
    assert!(tokenizer.pattern.unwrap().starts_with("'(?i:[sdmt]|ll|ve|re)|"));
    assert_eq!(tokenizer.merges, None);
}

#[test]
fn every_tokenizer_pickle_says_the_same() {
    let read = |name: &str| {
        let bytes = std::fs::read(fixtures().join(name)).unwrap();
        read_tokenizer_pickle(name, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let expected = read("tokenizer_4.pkl");
    assert_eq!(expected.ranks.len(), 260);
    assert_eq!(expected.ranks[255..258], [(vec![255], 255), (b"th".to_vec(), 256), (b"the".to_vec(), 257)]);
    assert_eq!(expected.ranks[258..], [("é".into(), 258), (b" \xff".to_vec(), 259)]);
    assert_eq!(expected.special[3], ("<|assistant_start|>".to_owned(), 263));
    for name in ["tokenizer_2.pkl", "tokenizer_3.pkl", "tokenizer_5.pkl"] {
        assert_eq!(read(name), expected, "{name}");
    }
    // Ranks alone say neither how texts are split nor which tokens are special.
    let ranks = TokenizerFile { ranks: expected.ranks, ..TokenizerFile::default() };
    for name in ["ranks_2.pkl", "ranks_4.pkl"] {
        assert_eq!(read(name), ranks, "{name}");
    }
}

#[test]
fn a_registered_encoding_is_refused_by_name() {
    let error = read_tokenizer_pickle("t.pkl", &std::fs::read(fixtures().join("registered.pkl")).unwrap())
        .unwrap_err();
    let expected = TokenizerFault::Registered("gpt2".into());
    assert!(matches!(error.kind(), ErrorKind::Tokenizer(fault) if *fault == expected), "{error}");
}

#[test]
fn what_is_no_model_is_refused() {
    let kind = |name| match open(fixtures().join(name)).unwrap_err().kind() {
        ErrorKind::Torch(fault) => fault.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind("optimiser.pt"), TorchFault::OptimiserState);
    assert_eq!(kind("bare_tensor.pt"), TorchFault::NotAStateDict);
    assert!(open(goldens().join("tokenizer/tokenizer.pkl")).is_err());
}

#[test]
fn shards_merge_into_the_whole() {
    let index = std::fs::read(fixtures().join("model.safetensors.index.json")).unwrap();
    let shards = read_shard_index("model.safetensors.index.json", &index).unwrap();
    assert_eq!(shards, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    let tables = shards.iter().map(|shard| open(fixtures().join(shard)).unwrap());
    let whole = tables.fold(TensorTable::default(), |whole, shard| whole.merge(shard).unwrap());
    assert_table("shards", &whole, &json(fixtures().join("expected.json"))["dtypes.safetensors"]);
    assert_eq!(whole.len(), 13);
    let error = whole.merge(open(fixtures().join(&shards[1])).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DuplicateTensor), "{error}");
    assert_eq!(error.file(), shards[1]);
    assert!(error.tensor().is_some());
}

#[test]
fn tied_tensors_share_bytes_and_rows_agree() {
    let table = open(fixtures().join("views.pt")).unwrap();
    assert_eq!(table.get("tied").unwrap().read().unwrap(), table.get("base").unwrap().read().unwrap());
    let tensor = table.get("permuted").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (DType::F32, &[5, 3, 4][..]));
    let all = tensor.read().unwrap();
    for row in 0..5 {
        let mut out = [0.0; 12];
        tensor.read_rows(row..row + 1, &mut out).unwrap();
        assert_eq!(out[..], all[row * 12..][..12]);
    }
}

/// A file cut after its table was read is an error when the rows are read, not a crash.
#[test]
fn a_file_that_shrinks_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    std::fs::copy(fixtures().join("dtypes.safetensors"), &path).unwrap();
    let table = open(path.clone()).unwrap();
    File::options().write(true).open(path).unwrap().set_len(900).unwrap();
    let errors: Vec<_> = table.iter().filter_map(|tensor| tensor.read().err()).collect();
    assert!(!errors.is_empty());
    assert!(errors.iter().all(|error| matches!(error.kind(), ErrorKind::Io(_)) && error.offset().is_some()));
}
