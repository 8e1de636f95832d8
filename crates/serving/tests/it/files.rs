//! Checkpoints as people have them: exported, sharded, of another architecture, pinned, changed; found by tag and
//! loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpu::{Compute, Isa, KvCache, KvLayout, Session, WeightFormat};
use engine::backend::{BatchItem, LogitRows};
use formats::TensorTable;
use registry::identity::HashCache;
use registry::{Catalog, Error, Identity, Tag, open};
use serving::LoadedModel;
use tempfile::TempDir;

const TOKENS: [u32; 5] = [692, 17, 300, 5, 691];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(path)
}

fn copy(from: &str, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(golden(from), to).unwrap();
}

/// A root with the tokenizer of all goldens and a golden model as `d2`.
fn storage(case: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    copy("tokenizer/tokenizer.pkl", &root.path().join("tokenizer/tokenizer.pkl"));
    for file in std::fs::read_dir(golden(case)).unwrap() {
        let name = file.unwrap().file_name();
        let name = name.to_str().unwrap();
        copy(&format!("{case}/{name}"), &root.path().join("d2").join(name));
    }
    root
}

fn open(root: &Path, tag: &str) -> Result<open::Verified, Error> {
    let catalog = Catalog::new(Some(root.to_owned()));
    open::open(&catalog, &catalog.find(&Tag::new(tag).unwrap())?, None)
}

fn load(model: open::Verified, isa: Isa) -> Result<LoadedModel, Error> {
    LoadedModel::load(model, WeightFormat::F32, &Compute::new(isa, 1))
}

fn model(root: &Path, tag: &str) -> LoadedModel {
    load(open(root, tag).unwrap(), Isa::detect()).unwrap()
}

fn refusal(root: &Path, tag: &str) -> Error {
    let error = open(root, tag).err().unwrap();
    assert_eq!(error.category(), registry::Category::BadCheckpoint, "{error}");
    error
}

fn logits(model: &LoadedModel) -> Vec<f32> {
    let layout = KvLayout::new(&model.weights.config, WeightFormat::F32);
    let tables = vec![vec![0]; layout.classes.len()];
    let mut session = Session::new(KvCache::new(&layout, &vec![1; tables.len()]));
    let (tokens, logits) = (&TOKENS[..], LogitRows::Last);
    let rows = BatchItem { tokens, history: &[], tables: &tables, logits };
    session.forward(&Compute::new(Isa::detect(), 1), &model.weights, &[rows]).to_vec()
}

fn table(path: &str) -> TensorTable {
    TensorTable::read("model.pt", Arc::new(std::fs::File::open(golden(path)).unwrap())).unwrap()
}

/// Writes tensors as safetensors, each under the name that `rename` gives it; those without one are left out.
fn write_safetensors(path: &Path, table: &TensorTable, rename: impl Fn(&str) -> Option<String>) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in table.iter() {
        let Some(name) = rename(tensor.name()) else { continue };
        let begin = data.len();
        data.extend(tensor.read().unwrap().iter().flat_map(|number| number.to_le_bytes()));
        let shape = tensor.shape();
        let offsets = [begin, data.len()];
        header.insert(name, serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

/// What the Hugging Face class calls a parameter of generation G0.
fn hugging_face(name: &str) -> String {
    let names = [
        ("transformer.wte", "model.embed_tokens"),
        ("transformer.h.", "model.layers."),
        ("attn.c_q", "self_attn.q_proj"),
        ("attn.c_k", "self_attn.k_proj"),
        ("attn.c_v", "self_attn.v_proj"),
        ("attn.c_proj", "self_attn.o_proj"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    ];
    names.iter().fold(name.to_owned(), |name, (native, other)| name.replace(native, other))
}

/// The `config.json` of the class for the golden model of generation G0.
fn config_json(directory: &Path) {
    let config = serde_json::json!({
        "architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "vocab_size": 701, "hidden_size": 64,
        "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": null,
        "max_position_embeddings": 512, "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
        "final_logit_softcapping": 15.0, "tie_word_embeddings": false,
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

fn says(root: &Path, text: &str) {
    std::fs::write(root.join("models.toml"), format!("[[model]]\ntag = \"d2\"\n{text}")).unwrap();
}

#[test]
fn the_hugging_face_class_is_generation_g0_whole_and_in_shards() {
    let root = storage("g0");
    let expected = logits(&model(root.path(), "d2"));
    let table = table("g0/model_000106.pt");
    let whole = root.path().join("whole");
    write_safetensors(&whole.join("model.safetensors"), &table, |name| Some(hugging_face(name)));
    config_json(&whole);
    let shards = root.path().join("shards");
    let is_first = |name: &str| name.contains("h.0.");
    let name = |first: bool| format!("model-0000{}-of-00002.safetensors", if first { 1 } else { 2 });
    for first in [true, false] {
        let rename = |tensor: &str| (is_first(tensor) == first).then(|| hugging_face(tensor));
        write_safetensors(&shards.join(name(first)), &table, rename);
    }
    let map = table.names().map(|tensor| (hugging_face(tensor), name(is_first(tensor)).into()));
    let index = serde_json::json!({ "weight_map": map.collect::<serde_json::Map<_, _>>() });
    std::fs::write(shards.join("model.safetensors.index.json"), index.to_string()).unwrap();
    // Not a shard, and not a file of the model.
    std::fs::write(shards.join("adapter.safetensors"), b"something else").unwrap();
    config_json(&shards);
    for tag in ["whole", "shards"] {
        let model = model(root.path(), tag);
        assert_eq!(model.weights.config.architecture, "g0");
        assert_eq!(logits(&model), expected, "{tag}");
        assert!(model.weights.config.notes.is_empty());
    }
    std::fs::write(shards.join("adapter.safetensors"), b"something else again").unwrap();
    let before = model(root.path(), "shards");
    let catalog = Catalog::new(Some(root.path().to_owned()));
    let is_current = || before.found.is_current(&catalog, None).unwrap();
    assert!(is_current());
    write_safetensors(&shards.join(name(true)), &table, |tensor| {
        is_first(tensor).then(|| hugging_face(tensor))
    });
    assert!(!is_current(), "a shard was written again");
}

#[test]
fn torch_files_can_be_shards() {
    let root = storage("g0");
    let expected = logits(&model(root.path(), "d2"));
    let directory = root.path().join("bin");
    copy("g0/model_000106.pt", &directory.join("pytorch_model-00001-of-00001.bin"));
    copy("g0/meta_000106.json", &directory.join("meta.json"));
    let index = r#"{"weight_map": {"lm_head.weight": "pytorch_model-00001-of-00001.bin"}}"#;
    std::fs::write(directory.join("pytorch_model.bin.index.json"), index).unwrap();
    assert_eq!(logits(&model(root.path(), "bin")), expected);
}

#[test]
fn an_export_beside_metadata_of_a_newer_model_is_warned_of() {
    let root = storage("g0");
    let table = table("g0/model_000106.pt");
    let export = root.path().join("d3/hf_000200");
    write_safetensors(&export.join("model.safetensors"), &table, |name| Some(hugging_face(name)));
    config_json(&export);
    copy("g0/meta_000106.json", &root.path().join("d3/meta_000106.json"));
    assert!(model(root.path(), "d3").weights.config.notes.is_empty());
    copy("g7/meta_000100.json", &root.path().join("d3/meta_000200.json"));
    let notes = model(root.path(), "d3").weights.config.notes.clone();
    assert!(
        notes.len() == 1 && notes[0].contains("meta_000200.json beside them describes a newer"),
        "{notes:?}"
    );
}

#[test]
fn a_fork_is_refused_by_the_names_of_its_tensors() {
    let root = storage("g7");
    std::fs::remove_file(root.path().join("d2/model_000100.pt")).unwrap();
    let rename = |name: &str| Some(name.replace("h.1.mlp.c_fc", "h.1.mlp.router.gate"));
    let path = root.path().join("d2/model_000100.safetensors");
    write_safetensors(&path, &table("g7/model_000100.pt"), rename);
    let error = refusal(root.path(), "d2");
    let Error::Model(model::Error::UnknownTensors { names }) = &error else { panic!("{error:?}") };
    assert_eq!(*names, ["`transformer.h.1.mlp.router.gate.weight`"]);
}

fn assert_mismatch(error: &Error, file: &str, expected: &str, found: &str) {
    let Error::DigestMismatch { file: of, expected: pinned, found: is, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((of.as_str(), pinned.as_str(), is.as_str()), (file, expected, found));
}

#[test]
fn pins_are_held_to() {
    let root = storage("g7");
    let found = model(root.path(), "d2");
    let catalog = Catalog::new(Some(root.path().to_owned()));
    let entry = catalog.find(&found.tag).unwrap();
    let hashes = open::find(&catalog, &entry, None).unwrap().hashes(&HashCache::none()).unwrap();
    assert_eq!(hashes.keys().collect::<Vec<_>>(), ["meta_000100.json", "model_000100.pt", "tokenizer.pkl"]);
    assert_eq!(found.identity, Identity::of(&hashes));
    let (weights, meta) = (&hashes["model_000100.pt"], &hashes["meta_000100.json"]);
    for right in [
        format!("sha256 = \"{weights}\""),
        format!("sha256 = \"{}\"", found.identity.as_str().to_uppercase()),
        format!("sha256 = {{ \"model_000100.pt\" = \"{weights}\", \"meta_000100.json\" = \"{meta}\" }}"),
    ] {
        says(root.path(), &right);
        assert!(open(root.path(), "d2").is_ok(), "{right}");
    }
    for (wrong, file, is) in [
        (format!("sha256 = \"{meta}\""), "model_000100.pt", weights.as_str()),
        (format!("sha256 = {{ \"model_000100.pt\" = \"{meta}\" }}"), "model_000100.pt", weights),
        (format!("sha256 = {{ \"other.pt\" = \"{meta}\" }}"), "other.pt", "missing"),
    ] {
        says(root.path(), &wrong);
        assert_mismatch(&refusal(root.path(), "d2"), file, meta, is);
    }
}

#[test]
fn a_fetched_file_that_is_not_what_was_fetched_is_refused() {
    let root = storage("g7");
    let identity = model(root.path(), "d2").identity;
    let hash = "a".repeat(64);
    let provenance = |name: &str| {
        let files = serde_json::json!({ name: { "size": 1, "sha256": hash } });
        let all = serde_json::json!({
            "source": "s3://b/d2", "revision": null, "commit": null, "directory": null, "step": null, "files": files,
        });
        std::fs::write(root.path().join("d2/.samosa.json"), all.to_string()).unwrap();
    };
    provenance("unused.pt");
    let fetched = model(root.path(), "d2");
    assert_eq!((fetched.source.as_str(), &fetched.identity), ("s3://b/d2", &identity));
    provenance("meta_000100.json");
    let catalog = Catalog::new(Some(root.path().to_owned()));
    let entry = catalog.find(&fetched.tag).unwrap();
    let hashes = open::find(&catalog, &entry, None).unwrap().hashes(&HashCache::none()).unwrap();
    let found = &hashes["meta_000100.json"];
    assert_mismatch(&refusal(root.path(), "d2"), "meta_000100.json", &hash, found);
}

#[test]
fn files_that_change_between_hashing_and_reading_are_refused() {
    let root = storage("g7");
    let opened = open(root.path(), "d2").unwrap();
    let path = root.path().join("d2/model_000100.pt");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let error = load(opened, Isa::SCALAR).err().unwrap();
    assert!(matches!(&error, Error::Changed { file } if file == "model_000100.pt"), "{error:?}");
}

/// The golden tokenizer as a base model of autoresearch has it, in hexadecimal or base64: no token for conversations.
fn base_tokenizer(path: &Path, encode: fn(&[u8]) -> String) {
    let bytes = std::fs::read(golden("tokenizer/tokenizer.pkl")).unwrap();
    let read = formats::read_tokenizer_pickle("tokenizer.pkl", &bytes).unwrap();
    let ranks: serde_json::Map<_, _> =
        read.ranks.iter().map(|(token, rank)| (encode(token), (*rank).into())).collect();
    let special: serde_json::Map<_, _> =
        (0..9).map(|i| (format!("<|reserved_{i}|>"), (692 + i).into())).collect();
    let file = serde_json::json!({
        "name": "rustbpe", "pattern": read.pattern, "mergeable_ranks": ranks, "special_tokens": special,
    });
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file.to_string()).unwrap();
}

fn hex(token: &[u8]) -> String {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap();
    token.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn base64(token: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = |i: usize| char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]);
        (0..4).map(|i| if i <= group.len() { digit(i) } else { '=' }).collect::<String>()
    };
    token.chunks(3).map(group).collect()
}

#[test]
fn a_base_model_has_the_token_that_begins_a_text_alone_and_passes_its_self_test() {
    for encode in [hex, base64] {
        let root = storage("g7");
        let with_chat = model(root.path(), "d2");
        base_tokenizer(&root.path().join("d2/tokenizer.json"), encode);
        let base = model(root.path(), "d2");
        assert_eq!((base.chat.bos, base.chat.messages), (692, None));
        assert_eq!(base.tokenizer.encode("Hello!"), with_chat.tokenizer.encode("Hello!"));
        assert_eq!(logits(&base), logits(&with_chat));
        let notes = &base.weights.config.notes;
        assert!(notes.iter().any(|note| note.contains("has no chat tokens")), "{notes:?}");
        serving::self_test::run(&base, &Compute::new(Isa::detect(), 1)).unwrap();
    }
}

#[test]
fn a_tokenizer_that_models_toml_names_is_part_of_the_model() {
    let root = storage("g7");
    let own = model(root.path(), "d2");
    std::fs::rename(root.path().join("tokenizer"), root.path().join("shared")).unwrap();
    let catalog = Catalog::new(Some(root.path().to_owned()));
    assert!(matches!(catalog.find(&own.tag), Err(Error::Incomplete { .. })));
    says(root.path(), "tokenizer = \"shared\"");
    let named = model(root.path(), "d2");
    assert_eq!(named.identity, own.identity, "the same files");
    assert!(named.found.is_current(&catalog, None).unwrap());
    base_tokenizer(&root.path().join("other/tokenizer.json"), hex);
    says(root.path(), "tokenizer = \"other/tokenizer.json\"");
    assert!(!named.found.is_current(&catalog, None).unwrap(), "another one is another model");
    assert_ne!(model(root.path(), "d2").identity, own.identity);
}

#[test]
fn config_json_beside_the_metadata_counts_and_is_part_of_the_model() {
    let root = storage("g7-constants");
    let own = model(root.path(), "d2");
    assert_eq!(own.weights.config.layers[0].rope_base, 1e6);
    let config = root.path().join("d2/config.json");
    let write = |fields: serde_json::Value| std::fs::write(&config, fields.to_string()).unwrap();
    write(
        serde_json::json!({ "rope_theta": 1e6, "logit_softcap": -1, "qk_norm_scale": 1.5, "head_dim": 16 }),
    );
    let both = model(root.path(), "d2");
    assert_eq!(logits(&both), logits(&own));
    assert_ne!(both.identity, own.identity, "what is read is hashed");
    let catalog = Catalog::new(Some(root.path().to_owned()));
    assert!(both.found.is_current(&catalog, None).unwrap());
    write(serde_json::json!({ "rope_theta": 10000 }));
    assert!(!both.found.is_current(&catalog, None).unwrap());
    let error = refusal(root.path(), "d2");
    let Error::Model(model::Error::Contradiction { first, second, over: "rope_base" }) = &error else {
        panic!("{error:?}")
    };
    assert!(first.contains("meta_000107.json") && second.contains("config.json"), "{error}");
    says(root.path(), "[model.overrides]\nrope_base = 1e6");
    assert_eq!(logits(&model(root.path(), "d2")), logits(&own), "an override decides");
    write(serde_json::json!({ "num_attention_heads": 4 }));
    let error = refusal(root.path(), "d2");
    assert!(matches!(&error, Error::Model(model::Error::InvalidField { field: "n_head", .. })), "{error:?}");
}

#[test]
fn flat_metadata_and_a_byte_order_mark_change_nothing() {
    let root = storage("g7-constants");
    let expected = logits(&model(root.path(), "d2"));
    let path = root.path().join("d2/meta_000107.json");
    let nested = std::fs::read_to_string(&path).unwrap().replace("NaN", "null");
    let value: serde_json::Value = serde_json::from_str(&nested).unwrap();
    for text in [format!("\u{feff}{nested}"), value["model_config"].to_string()] {
        std::fs::write(&path, &text).unwrap();
        assert_eq!(logits(&model(root.path(), "d2")), expected, "{text}");
    }
}

#[test]
fn a_bare_table_of_ranks_gets_nanochats_special_tokens() {
    let root = storage("g7");
    let ranks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/fixtures/ranks_4.pkl");
    std::fs::copy(ranks, root.path().join("d2/tokenizer.pkl")).unwrap();
    let error = refusal(root.path(), "d2");
    // 260 ranks and nine special tokens: a tokenizer, but not this model's.
    assert!(matches!(error, Error::VocabularyMismatch { tokenizer: 269, model: 701 }), "{error:?}");
}
