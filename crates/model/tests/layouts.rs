//! The same weights under other names and in another container are the same model; what is no nanochat
//! model is refused by what is wrong with it.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{Meta, TensorTable};
use model::{
    Compute, Config, Generation, Isa, KvCache, KvLayout, LogitRows, Overrides, SequenceRows, Session,
    WeightFormat, Weights,
};

const TOKENS: [u32; 5] = [692, 17, 300, 5, 691];

fn golden(name: &str) -> (TensorTable, Meta) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name);
    let file = |prefix: &str| -> PathBuf {
        let mut paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        paths.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).unwrap()
    };
    let table =
        TensorTable::read("model.pt", Arc::new(std::fs::File::open(file("model_")).unwrap())).unwrap();
    (table, formats::read_meta("meta.json", &std::fs::read(file("meta_")).unwrap()).unwrap())
}

/// The table as a safetensors file of f32, each tensor under the name that `rename` gives it.
fn safetensors(table: &TensorTable, rename: impl Fn(&str) -> Option<String>) -> TensorTable {
    written(table, rename, |_| None)
}

/// The table with other numbers in one tensor.
fn with_numbers(table: &TensorTable, name: &str, numbers: &[f32]) -> TensorTable {
    written(table, |name| Some(name.to_owned()), |other| (other == name).then(|| numbers.to_vec()))
}

fn written(
    table: &TensorTable,
    rename: impl Fn(&str) -> Option<String>,
    replace: impl Fn(&str) -> Option<Vec<f32>>,
) -> TensorTable {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in table.iter() {
        let Some(name) = rename(tensor.name()) else { continue };
        let begin = data.len();
        let numbers = replace(tensor.name()).unwrap_or_else(|| tensor.read().unwrap());
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let fields = serde_json::json!({
            "dtype": "F32", "shape": tensor.shape(), "data_offsets": [begin, data.len()],
        });
        header.insert(name, fields);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = [(header.len() as u64).to_le_bytes().as_slice(), &header, &data].concat();
    TensorTable::read("model.safetensors", Arc::new(file)).unwrap()
}

fn build(table: &TensorTable, meta: &Meta) -> Result<Weights, model::Error> {
    Weights::load(
        &Compute::new(Isa::SCALAR, 1),
        table,
        Config::read(table, meta, &Overrides::default())?,
        WeightFormat::F32,
    )
}

fn refusal(table: &TensorTable, meta: &Meta) -> String {
    build(table, meta).err().unwrap().to_string()
}

fn logits(weights: &Weights) -> Vec<f32> {
    let layout = KvLayout::new(&weights.config, WeightFormat::F32);
    let n_pages = vec![1; layout.classes.len()];
    let tables = vec![vec![0]; n_pages.len()];
    let mut session = Session::new(KvCache::new(&layout, &n_pages));
    let rows = SequenceRows {
        tokens: &TOKENS,
        previous: None,
        position: 0,
        tables: &tables,
        logits: LogitRows::Last,
    };
    session.forward(&Compute::new(Isa::detect(), 1), weights, &[rows]).to_vec()
}

/// What the Hugging Face class calls a parameter of generation G0.
fn hugging_face(name: &str) -> String {
    let name =
        name.replace("transformer.wte", "model.embed_tokens").replace("transformer.h.", "model.layers.");
    let names = [
        ("attn.c_q", "self_attn.q_proj"),
        ("attn.c_k", "self_attn.k_proj"),
        ("attn.c_v", "self_attn.v_proj"),
        ("attn.c_proj", "self_attn.o_proj"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    ];
    names.iter().fold(name, |name, (native, other)| name.replace(native, other))
}

#[test]
fn safetensors_hold_the_same_model_under_native_and_prefixed_names() {
    for name in ["g0", "g5", "g7"] {
        let (table, meta) = golden(name);
        let expected = logits(&build(&table, &meta).unwrap());
        for prefix in ["", "_orig_mod.", "model.", "_orig_mod.module.model."] {
            let copy = safetensors(&table, |tensor| Some(format!("{prefix}{tensor}")));
            assert_eq!(logits(&build(&copy, &meta).unwrap()), expected, "{name} {prefix:?}");
        }
    }
}

#[test]
fn the_hugging_face_class_is_generation_g0_under_other_names() {
    let (table, meta) = golden("g0");
    let copy = safetensors(&table, |tensor| Some(hugging_face(tensor)));
    assert!(copy.get("layers.0.mlp.fc1.weight").is_some(), "the names did change");
    let weights = build(&copy, &meta).unwrap();
    assert_eq!(weights.config.generation, Generation::G0);
    assert_eq!(logits(&weights), logits(&build(&table, &meta).unwrap()));
}

#[test]
fn overrides_change_what_they_name() {
    let (table, meta) = golden("g3");
    let plain = build(&table, &meta).unwrap();
    assert!(plain.config.notes.iter().any(|note| note.contains("15 or 20")), "{:?}", plain.config.notes);
    let overrides =
        Overrides { generation: Some(Generation::G5), sequence_len: Some(256), ..Overrides::default() };
    let config = Config::read(&table, &meta, &overrides).unwrap();
    assert_eq!((config.generation, config.sequence_len), (Generation::G5, 256));
    assert_eq!((config.constants.softcap, config.windows.as_slice()), (20.0, [128, 256, 256].as_slice()));
    let capped =
        logits(&Weights::load(&Compute::new(Isa::SCALAR, 1), &table, config, WeightFormat::F32).unwrap());
    assert_ne!(capped, logits(&plain));
}

#[test]
fn what_is_wrong_is_named() {
    let (table, meta) = golden("g7");
    let without = |gone: &str| safetensors(&table, |name| (name != gone).then(|| name.to_owned()));
    let error = refusal(&without("transformer.h.3.mlp.c_fc.weight"), &meta);
    assert_eq!(error, "tensor `transformer.h.3.mlp.c_fc.weight` is missing");
    let error = refusal(&without("value_embeds.2.weight"), &meta);
    assert_eq!(error, "tensor `value_embeds.2.weight` is missing");
    let fork = safetensors(&table, |name| Some(name.replace("h.1.mlp.c_fc", "h.1.mlp.router.gate")));
    let error = refusal(&fork, &meta);
    assert!(error.contains("unknown tensors `transformer.h.1.mlp.router.gate.weight`"), "{error}");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut numbers = table.get("lm_head.weight").unwrap().read().unwrap();
        numbers[77] = bad;
        let poisoned = with_numbers(&table, "lm_head.weight", &numbers);
        assert_eq!(refusal(&poisoned, &meta), "tensor `lm_head.weight` holds a value that is not finite");
    }
    let error = refusal(&table, &Meta { n_layer: Some(6), ..meta.clone() });
    assert_eq!(error, "`n_layer` is 6, but must be 5, as the tensors say");
    let error = refusal(&table, &Meta { vocab_size: Some(100_000), ..meta.clone() });
    assert!(error.contains("`vocab_size` is 100000, but must be at most 704"), "{error}");
    let error = refusal(&table, &Meta { sequence_len: None, ..meta.clone() });
    assert!(error.contains("no `sequence_len`"), "{error}");
    let error = refusal(&table, &Meta { window_pattern: Some("SXL".to_owned()), ..meta });
    assert!(error.contains("`window_pattern` is SXL"), "{error}");
}
