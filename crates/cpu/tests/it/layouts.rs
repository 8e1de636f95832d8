//! The same weights under other names and in another container are the same model; what is no nanochat
//! model is refused by what is wrong with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpu::{Compute, Isa, KvCache, KvLayout, Session, WeightFormat, Weights};
use engine::backend::{BatchItem, LogitRows};
use formats::{Meta, TensorTable};
use model::{Config, NanochatVersion, Overrides};
use serde_json::{Value, json};

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
    let rows = BatchItem { tokens: &TOKENS, history: &[], tables: &tables, logits: LogitRows::Last };
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
    assert_eq!(weights.config.architecture, "g0");
    assert_eq!(logits(&weights), logits(&build(&table, &meta).unwrap()));
}

#[test]
fn overrides_change_what_they_name() {
    let (table, meta) = golden("g3");
    let plain = build(&table, &meta).unwrap();
    assert!(plain.config.notes.iter().any(|note| note.contains("15 or 20")), "{:?}", plain.config.notes);
    let overrides =
        Overrides { generation: Some(NanochatVersion::G5), sequence_len: Some(256), ..Overrides::default() };
    let config = Config::read(&table, &meta, &overrides).unwrap();
    assert_eq!((config.architecture, config.sequence_len), ("g5", 256));
    assert_eq!((config.softcap, windows(&config)), (Some(20.0), vec![128, 256, 256]));
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

/// The metadata of a file with these fields in its `model_config`, or beside it.
fn described(meta: &Meta, fields: Value, beside: Value) -> Meta {
    let (mut model, mut outer) = (meta.model.clone(), meta.beside.clone());
    for (to, from) in [(&mut model, fields), (&mut outer, beside)] {
        let Value::Object(from) = from else { panic!("fields are an object") };
        to.extend(from);
    }
    outer.insert("model_config".to_owned(), Value::Object(model));
    formats::read_meta("meta.json", Value::Object(outer).to_string().as_bytes()).unwrap()
}

fn config(table: &TensorTable, meta: &Meta) -> Result<Config, model::Error> {
    Config::read(table, meta, &Overrides::default())
}

/// Base, scale and cap.
fn windows(config: &Config) -> Vec<usize> {
    config.layers.iter().map(|layer| layer.window).collect()
}

/// The upper end of the gates on value embeddings.
fn gate_scale(config: &Config) -> f32 {
    config.layers.iter().find_map(|layer| layer.value_gate).unwrap().scale
}

fn constants(config: &Config) -> (f32, f32, Option<f32>) {
    (config.layers[0].rope_base, config.layers[0].qk_scale, config.softcap)
}

#[test]
fn constants_of_the_metadata_count_whatever_the_tensors_are_called() {
    let (table, meta) = golden("g7");
    for (fields, beside, expected) in [
        (json!({}), json!({}), (1e5, 1.2, Some(15.0))),
        (
            json!({"rope_theta": 1_000_000, "logit_softcap": 0, "qk_norm_scale": 1.5}),
            json!({}),
            (1e6, 1.5, None),
        ),
        (json!({"logit_softcap": -1.0}), json!({"rope_theta": 5e5, "qk_norm_scale": 1}), (5e5, 1.0, None)),
        (json!({"final_logit_softcapping": null}), json!({}), (1e5, 1.2, None)),
        (json!({"logits_soft_cap": 30}), json!({"logit_softcap": 30.0}), (1e5, 1.2, Some(30.0))),
        (
            json!({"rope_parameters": {"rope_theta": 2e4, "rope_type": "default"}}),
            json!({}),
            (2e4, 1.2, Some(15.0)),
        ),
        (
            json!({"rope_scaling": {"rope_theta": 2e4}, "rope_theta": 20000}),
            json!({}),
            (2e4, 1.2, Some(15.0)),
        ),
        (
            json!({"rotary_base": 7, "rope_theta": null, "qk_norm_scale": null}),
            json!({}),
            (1e5, 1.2, Some(15.0)),
        ),
    ] {
        let config = config(&table, &described(&meta, fields.clone(), beside)).unwrap();
        assert_eq!(constants(&config), expected, "{fields}");
        assert_eq!(config.unknown_keys, [""; 0], "{fields}");
    }
    let stated =
        described(&meta, json!({"rope_theta": 1e6, "logit_softcap": 30, "qk_norm_scale": 1.5}), json!({}));
    let overrides =
        Overrides { rope_base: Some(3e4), qk_scale: Some(1.1), softcap: Some(0.0), ..Overrides::default() };
    let config = Config::read(&table, &stated, &overrides).unwrap();
    assert_eq!(constants(&config), (3e4, 1.1, None), "an override outranks the file");
}

#[test]
fn constants_that_make_no_sense_are_refused_by_name_and_value() {
    let (table, meta) = golden("g7");
    for (field, value, shown) in [
        ("rope_theta", json!(-1e6), "-1000000.0"),
        ("rope_theta", json!(0), "0"),
        ("rope_theta", json!("1000000"), "\"1000000\""),
        ("rope_theta", json!("NaN"), "NaN"),
        ("rope_theta", json!(1e300), "1e+300"),
        ("rope_theta", json!(true), "true"),
        ("rope_theta", json!([1e6]), "[1000000.0]"),
        ("qk_norm_scale", json!(0), "0"),
        ("qk_norm_scale", json!("Infinity"), "Infinity"),
        ("logit_softcap", json!("off"), "\"off\""),
        ("final_logit_softcapping", json!("NaN"), "NaN"),
    ] {
        for beside in [false, true] {
            let fields = json!({field: value});
            let (model, outer) = if beside { (json!({}), fields) } else { (fields, json!({})) };
            let error = config(&table, &described(&meta, model, outer)).unwrap_err().to_string();
            let expected = format!("the metadata's `{field}` is {shown}, but only ");
            assert!(error.starts_with(&expected), "{error}, and not {expected}");
        }
    }
    // As Python writes it: no JSON, so it has to come from a file.
    let text = r#"{"model_config": {"n_head": 4, "sequence_len": 512, "logit_softcap": NaN}}"#;
    let meta = formats::read_meta("meta.json", text.as_bytes()).unwrap();
    let error = config(&table, &meta).unwrap_err().to_string();
    assert!(error.contains("`logit_softcap` is NaN"), "{error}");
}

#[test]
fn places_that_contradict_each_other_are_refused_unless_an_override_says_which() {
    let (table, meta) = golden("g7");
    let other = |fields: Value| {
        Some(Box::new(formats::read_meta("config.json", fields.to_string().as_bytes()).unwrap()))
    };
    let stated = described(&meta, json!({"rope_theta": 1e6}), json!({}));
    let with = |fields: Value| Meta { companion: other(fields), ..stated.clone() };
    let agreed = config(&table, &with(json!({"rope_theta": 1_000_000, "qk_norm_scale": 1.5}))).unwrap();
    assert_eq!(constants(&agreed), (1e6, 1.5, Some(15.0)), "what one file alone states counts too");
    let torn = with(json!({"rope_theta": 10000.0}));
    let error = config(&table, &torn).unwrap_err().to_string();
    assert_eq!(
        error,
        "`rope_theta` is 1000000.0 in meta.json, but `rope_theta` is 10000.0 in config.json; an override \
         `rope_base` in models.toml can say which is right"
    );
    let overrides = Overrides { rope_base: Some(1e6), ..Overrides::default() };
    assert_eq!(Config::read(&table, &torn, &overrides).unwrap().layers[0].rope_base, 1e6);
    let within = described(&meta, json!({"rope_theta": 1e6}), json!({"rope_theta": 1e5}));
    assert!(config(&table, &within).unwrap_err().to_string().contains("can say which is right"));
    // A conversion to the Hugging Face class beside newer weights does not describe them.
    let class = json!({"hidden_act": "relu2", "rope_theta": 10000.0, "final_logit_softcapping": 15.0});
    let config = config(&table, &Meta { companion: other(class), ..meta }).unwrap();
    assert_eq!(constants(&config), (1e5, 1.2, Some(15.0)));
    assert!(config.notes.iter().any(|note| note.starts_with("config.json beside")), "{:?}", config.notes);
}

#[test]
fn a_config_of_a_fork_counts_beside_a_meta_though_it_has_keys_of_the_hugging_face_class() {
    let (table, meta) = golden("g7");
    let beside = |fields: &Value| {
        let other = formats::read_meta("config.json", fields.to_string().as_bytes()).unwrap();
        config(&table, &Meta { companion: Some(Box::new(other)), ..meta.clone() })
    };
    let class = json!({
        "architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "hidden_act": "relu2", "hidden_size": 64,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "final_logit_softcapping": 15.0,
        "rms_norm_eps": 1e-6, "attention_bias": false,
    });
    let untouched = (1e5, 1.2, Some(15.0));
    for (change, expected) in [
        (json!({}), untouched),
        (json!({"hidden_act": null}), untouched),
        (json!({"architectures": null}), untouched),
        (json!({"rope_parameters": {"rope_theta": 1e6}}), (1e6, 1.2, Some(15.0))),
        (json!({"final_logit_softcapping": 20}), (1e4, 1.2, Some(20.0))),
        (json!({"final_logit_softcapping": 0}), (1e4, 1.2, None)),
        (json!({"qk_norm_scale": 1.5}), (1e4, 1.5, Some(15.0))),
        (json!({"architectures": ["NanoSweForCausalLM"], "padded_vocab_size": 704}), (1e4, 1.2, Some(15.0))),
    ] {
        let mut fields = class.clone();
        fields.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let config = beside(&fields).unwrap();
        assert_eq!(constants(&config), expected, "{change}");
        let is_passed_over = config.notes.iter().any(|note| note.starts_with("config.json beside"));
        assert_eq!(is_passed_over, expected == untouched, "{change}");
    }
    let fork = json!({
        "rope_theta": 1e6, "logit_softcap": -1, "qk_norm_scale": 1.5, "hidden_act": "relu2", "model_type": "nanochat",
    });
    assert_eq!(constants(&beside(&fork).unwrap()), (1e6, 1.5, None));
    let unlike = json!({"rope_theta": 1e6, "hidden_act": "silu"});
    assert!(beside(&unlike).unwrap_err().to_string().contains("`hidden_act` is \"silu\""));
}

#[test]
fn fields_of_other_architectures_are_refused_unless_they_are_off() {
    let (table, meta) = golden("g7");
    for (field, value) in [
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "default", "factor": 2.0})),
        ("rope_scaling", json!("yarn")),
        ("rope_parameters", json!({"rope_type": "llama3"})),
        ("rope_parameters", json!({"full_attention": {"rope_theta": 1e6}})),
        ("attention_bias", json!(true)),
        ("qkv_bias", json!(true)),
        ("attention_bias", json!("no")),
        ("rms_norm_eps", json!(1e-3)),
        ("rms_norm_eps", json!("NaN")),
        ("hidden_act", json!("silu")),
        ("activation_function", json!("gelu_new")),
        ("partial_rotary_factor", json!(0.5)),
        ("head_dim", json!(32)),
        ("sliding_window", json!(128)),
        ("tie_word_embeddings", json!(true)),
        ("n_experts", json!(8)),
        ("attn_logit_softcapping", json!(50.0)),
        ("intermediate_size", json!(8192)),
        ("use_qk_norm", json!(false)),
        ("layer_types", json!(vec!["sliding_attention"; 5])),
        ("value_embed_layers", json!([1, 3])),
        ("ve_gate_channels", json!(32)),
        ("quantization", json!({"bits": 4})),
    ] {
        for beside in [false, true] {
            let fields = json!({field: value});
            let (model, outer) = if beside { (json!({}), fields) } else { (fields, json!({})) };
            let error = config(&table, &described(&meta, model, outer)).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("is supported"), "{field} {value}: {error}");
        }
    }
    let off = json!({
        "rope_scaling": null, "rope_parameters": {"rope_type": "default"}, "attention_bias": false, "qkv_bias": null,
        "rms_norm_eps": 1e-5, "hidden_act": "relu_squared", "activation_function": "relu^2", "head_dim": 16,
        "partial_rotary_factor": 1.0, "sliding_window": null, "window_size": 512, "tie_word_embeddings": false,
        "n_experts": 0, "n_experts_active": 2, "intermediate_size": 256, "rotary": true, "rotary_base": 10000,
        "layer_types": vec!["full_attention"; 5], "value_embed_layers": [0, 2, 4], "ve_gate_channels": 12,
        "smear_gate_channels": 24, "torch_dtype": "bfloat16", "transformers_version": "5.0", "id2label": {"0": "x"},
    });
    let config = config(&table, &described(&meta, off, json!({"arc_easy_acc": 0.5}))).unwrap();
    assert_eq!((constants(&config), config.unknown_keys), ((1e5, 1.2, Some(15.0)), vec![]));
}

#[test]
fn an_output_matrix_may_be_tied_if_it_is_the_embedding() {
    let (table, meta) = golden("g7");
    let tied = described(&meta, json!({"tie_word_embeddings": true}), json!({}));
    let embedding = table.get("transformer.wte.weight").unwrap().read().unwrap();
    assert!(config(&with_numbers(&table, "lm_head.weight", &embedding), &tied).is_ok());
    let mut other = embedding;
    *other.last_mut().unwrap() += 1.0;
    assert!(config(&with_numbers(&table, "lm_head.weight", &other), &tied).is_err());
    let headless = safetensors(&table, |name| (name != "lm_head.weight").then(|| name.to_owned()));
    let error = config(&headless, &tied).unwrap_err().to_string();
    assert!(error.contains("`tie_word_embeddings` is true"), "{error}");
}

#[test]
fn keys_that_are_not_known_are_reported_with_their_values() {
    let (table, meta) = golden("g7");
    let odd = described(&meta, json!({"attn_probes": 7, "xsa": {"on": true}}), json!({"note": "x\ny"}));
    let config = config(&table, &odd).unwrap();
    assert_eq!(config.unknown_keys, ["attn_probes = 7", "note = \"x\\ny\"", "xsa = {\"on\":true}"]);
}

#[test]
fn sizes_that_something_outranks_are_reported() {
    let (table, meta) = golden("g7");
    let rows = table.get("transformer.wte.weight").unwrap().row_count();
    let beside = |text: &str| {
        let companion = Some(Box::new(formats::read_meta("config.json", text.as_bytes()).unwrap()));
        config(&table, &Meta { companion, ..meta.clone() }).unwrap().unknown_keys
    };
    let other =
        beside(r#"{"max_position_embeddings": 4096, "n_head": 4, "n_kv_head": 1, "padded_vocab_size": 1}"#);
    let expected = ["n_kv_head = 1", "padded_vocab_size = 1", "sequence_len = 4096"];
    assert_eq!(other, expected.map(|size| format!("{size} in config.json")));
    let same = format!(r#"{{"max_position_embeddings": 512, "n_kv_head": 2, "padded_vocab_size": {rows}}}"#);
    assert_eq!(beside(&same), [""; 0]);
}

#[test]
fn settings_of_the_training_that_differ_from_what_is_used_are_noted() {
    let (table, meta) = golden("g7");
    let settings = |fields: Value| {
        let notes =
            config(&table, &described(&meta, json!({}), json!({"user_config": fields}))).unwrap().notes;
        notes.into_iter().filter(|note| note.contains("user_config")).collect::<Vec<_>>()
    };
    assert_eq!(
        settings(json!({"rope_theta": 100_000, "softcap": 15, "depth": 5, "qk_scale": null})),
        [""; 0]
    );
    let note = |name: &str, value: &str, used: &str, over: &str| {
        format!(
            "`{name}` is {value} in user_config of meta.json, the settings of the training, but {used} is used; an \
             override `{over}` can say otherwise"
        )
    };
    let expected = [
        note("rope_theta", "500000", "100000", "rope_base"),
        note("qk_norm_scale", "\"x\"", "1.2", "qk_scale"),
        note("softcap", "20", "15", "softcap"),
    ];
    assert_eq!(settings(json!({"rope_theta": 500_000, "softcap": 20, "qk_norm_scale": "x"})), expected);
}

#[test]
fn sizes_of_the_other_file_are_compared_too() {
    let (table, meta) = golden("g7");
    for (fields, expected) in [
        (json!({"n_layer": 9}), "`n_layer` is 9, but must be 5, as the tensors say"),
        (json!({"num_hidden_layers": 9}), "`n_layer` is 9, but must be 5, as the tensors say"),
        (json!({"hidden_size": 128}), "`n_embd` is 128, but must be 64, as the tensors say"),
    ] {
        let other = formats::read_meta("config.json", fields.to_string().as_bytes()).unwrap();
        let both = Meta { companion: Some(Box::new(other)), ..meta.clone() };
        assert_eq!(config(&table, &both).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_constant_that_is_not_computed_is_refused_by_its_key() {
    let (table, meta) = golden("g7");
    let read = |fields: Value, beside: Value| config(&table, &described(&meta, fields, beside));
    for (key, value) in [
        ("short_window", json!(64)),
        ("short_window", json!("half")),
        ("rotary_emb_base", json!(500)),
        ("rope_local_base_freq", json!(10000.0)),
        ("ropeTheta", json!(500)),
        ("attention_multiplier", json!(0.1)),
        ("softmax_scale", json!(0.125)),
        ("logit_cap", json!(30)),
        ("attn_temperature", json!(0.7)),
        ("backout_layer", json!(1)),
        ("smear_lambda_max", json!("NaN")),
        ("local_window", json!("64")),
        ("per_layer_windows", json!([64, 128])),
        ("ve_gate", json!({"range": 3})),
        ("qk_eps", json!(1e-3)),
        ("logit_scales", json!(0.5)),
    ] {
        for beside in [false, true] {
            let fields = json!({key: value});
            let (model, outer) = if beside { (json!({}), fields) } else { (fields, json!({})) };
            let error = read(model, outer).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the metadata's `{key}` is ")), "{key} {value}: {error}");
        }
    }
    let harmless = json!({
        "warmup_steps": 40, "lr_scale": 0.5, "adam_eps": 1e-8, "grad_norm": 0.7, "loss_scale": 2, "init_scale": 0.68,
        "use_smear": true, "rope_impl": "flash", "n_gpus": 8, "landscape": 3, "captions": 2, "property": 1,
        "sampling_temperature": 0.8, "softmax_scale": null, "window_kind": "causal",
    });
    let known = read(json!({}), harmless.clone()).unwrap();
    assert_eq!(known.unknown_keys.len(), harmless.as_object().unwrap().len(), "{:?}", known.unknown_keys);
}

#[test]
fn the_value_gates_range_and_the_short_window_are_those_of_the_metadata() {
    let (table, meta) = golden("g7");
    let stated = described(&meta, json!({"value_gate_scale": 5, "short_window": 128}), json!({}));
    let plain = config(&table, &meta).unwrap();
    let of_file = config(&table, &stated).unwrap();
    assert_eq!((gate_scale(&of_file), windows(&of_file)), (5.0, windows(&plain)));
    assert_ne!(gate_scale(&plain), 5.0);
    let error = config(&table, &described(&meta, json!({"value_gate_scale": 0}), json!({}))).unwrap_err();
    assert!(error.to_string().contains("`value_gate_scale` is 0"), "{error}");
    let other = described(&meta, json!({"value_gate_scale": 5, "short_window": 64}), json!({}));
    let error = config(&table, &other).unwrap_err().to_string();
    assert_eq!(error, "the metadata's `short_window` is 64, but only 128, or an override is supported");
    let short_window = Some(model::ShortWindow::Half);
    let overrides = Overrides { value_gate_scale: Some(2.0), short_window, ..Overrides::default() };
    let over = Config::read(&table, &other, &overrides).unwrap();
    assert_eq!((gate_scale(&over), windows(&over)[0]), (2.0, 256), "an override outranks the file");
}

#[test]
fn backout_or_smear_means_g7_and_a_part_of_a_set_is_refused() {
    let (table, meta) = golden("g7");
    let without =
        |gone: &[&str]| safetensors(&table, |name| (!gone.contains(&name)).then(|| name.to_owned()));
    let backout_alone = config(&without(&["smear_gate.weight", "smear_lambda"]), &meta).unwrap();
    assert_eq!((backout_alone.architecture, constants(&backout_alone)), ("g7", (1e5, 1.2, Some(15.0))));
    assert_eq!(windows(&backout_alone)[0], 128, "a quarter of 512, and not the third of g6");
    for (gone, missing) in [
        (&["smear_lambda"][..], "smear_lambda"),
        (&["smear_gate.weight"], "smear_gate.weight"),
        (&["backout_lambda"], "backout_lambda"),
        (&["smear_lambda", "backout_lambda"], "smear_lambda"),
        (&["smear_gate.weight", "backout_lambda"], "smear_gate.weight"),
        (&["x0_lambdas"], "x0_lambdas"),
        (&["resid_lambdas"], "resid_lambdas"),
        (&["resid_lambdas", "x0_lambdas"], "resid_lambdas"),
    ] {
        let table = without(gone);
        for generation in std::iter::once(None).chain(NanochatVersion::ALL.map(Some)) {
            let overrides = Overrides { generation, ..Overrides::default() };
            let error = Config::read(&table, &meta, &overrides).unwrap_err().to_string();
            let expected = format!("tensor `{missing}` is missing, which comes with ");
            assert!(error.starts_with(&expected), "{gone:?} {generation:?}: {error}");
        }
    }
}

/// A `config.json` as nanoswe's exporter writes it, by `PretrainedConfig.to_dict`.
#[test]
fn every_key_that_nanoswe_writes_is_known() {
    let (table, _) = golden("g7");
    let text = json!({
        "vocab_size": 701, "padded_vocab_size": 704, "hidden_size": 64, "num_hidden_layers": 5,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "intermediate_size": 256,
        "rope_theta": 1_000_000, "window_pattern": "SSSL", "sequence_len": 512, "smear_gate_channels": 24,
        "ve_gate_channels": 12, "qk_norm_scale": 1.5, "logit_softcap": 0.0, "pad_vocab_to_multiple": 64,
        "head_dim": 16, "value_embed_layers": [0, 2, 4], "n_experts": 0, "n_experts_active": 2, "n_shared_experts": 0,
        "expert_hidden_mult": 0.25, "expert_hidden": 0, "return_dict": true, "output_hidden_states": false,
        "torch_dtype": null, "tie_word_embeddings": false, "chunk_size_feed_forward": 0, "is_encoder_decoder": false,
        "architectures": ["NanoChatForCausalLM"], "finetuning_task": null, "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0}, "problem_type": null, "_name_or_path": "", "transformers_version": "5.7.0",
        "model_type": "nanochat", "output_attentions": false, "use_sliding_window": false, "sliding_window": 4096,
    });
    let meta = formats::read_meta("config.json", text.to_string().as_bytes()).unwrap();
    let config = config(&table, &meta).unwrap();
    assert_eq!((constants(&config), config.unknown_keys), ((1e6, 1.5, None), vec![]));
    assert_eq!((config.sequence_len, config.layers[0].window), (512, 128), "windows follow sequence_len");
}
