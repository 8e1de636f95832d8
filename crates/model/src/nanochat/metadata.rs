//! Metadata beside sizes: constants, which are used whatever the tensors are called; fields of other architectures,
//! which are refused by name unless they are off; and unknown keys, which are reported. Not sizes: those are in `nanochat`.

use formats::{Meta, TensorTable};
use serde_json::{Map, Value};

use super::tensor;
use super::version::Constants;
use crate::{Config, Error, NanochatVersion, Overrides, Parameter};

/// Unknown keys that are reported.
const MAX_UNKNOWN: usize = 20;
/// Characters of a value that an error or a report shows.
const MAX_SHOWN: usize = 60;
/// Largest epsilon of an RMS norm that passes. Ours is 1.2e-7, transformers writes 1e-6 and MLX 1e-5: beside a mean
/// square near 1, that changes an activation by five millionths.
const MAX_EPSILON: f64 = 1e-5;

/// The Hugging Face class, and the constants that its converter writes.
const CLASS: &str = "NanoChatForCausalLM";
const CLASS_ROPE_BASE: f32 = 10_000.0;
const CLASS_SOFTCAP: f32 = 15.0;
/// Fields that the class does not have, with spaces between them: sizes under native names, and those of forks.
const NOT_OF_CLASS: &str = "n_layer n_head n_kv_head n_embd sequence_len window_pattern padded_vocab_size \
     smear_gate_channels ve_gate_channels value_embed_layers qk_norm_scale qk_scale logit_softcap logits_soft_cap \
     logits_softcap final_logit_softcap softcap rope_base";

/// Constants that metadata states; a softcap of 0 is none.
#[derive(Default, Debug)]
pub(crate) struct Stated {
    pub(crate) rope_base: Option<f32>,
    pub(crate) qk_scale: Option<f32>,
    pub(crate) softcap: Option<f32>,
    pub(crate) value_gate_scale: Option<f32>,
}

/// A constant by its names, and what may be written there.
struct Constant {
    names: &'static [&'static str],
    /// The override in `models.toml`.
    over: &'static str,
    expected: &'static str,
    read: fn(f32) -> Option<f32>,
    /// What null stands for.
    null: Option<f32>,
}

const ROPE_BASE: Constant = Constant {
    names: &["rope_theta", "rope_base"],
    over: "rope_base",
    expected: "a number from 1 to 1e12",
    read: |base| (1.0..=1e12).contains(&base).then_some(base),
    null: None,
};
const QK_SCALE: Constant = Constant {
    names: &["qk_norm_scale", "qk_scale"],
    over: "qk_scale",
    expected: "a positive number up to 1000",
    read: |scale| (scale > 0.0 && scale <= 1000.0).then_some(scale),
    null: None,
};
const SOFTCAP: Constant = Constant {
    names: &[
        "logit_softcap",
        "logits_soft_cap",
        "logits_softcap",
        "final_logit_softcapping",
        "final_logit_softcap",
        "softcap",
    ],
    over: "softcap",
    expected: "a number; 0, less, or null is no cap",
    read: |cap| cap.is_finite().then_some(cap.max(0.0)),
    null: Some(0.0),
};
const VALUE_GATE_SCALE: Constant =
    Constant { names: &["value_gate_scale"], over: "value_gate_scale", ..QK_SCALE };
const CONSTANTS: [&Constant; 4] = [&ROPE_BASE, &QK_SCALE, &SOFTCAP, &VALUE_GATE_SCALE];
/// Parts of a key that say that a number under it is a constant of the computation: whole words of it, in the plural
/// or not, and parts of words that are in no other.
const WORDS_OF_CONSTANTS: &str = "rope freq cap capping scale scaling temperature temp window eps epsilon gate \
     logit softmax norm";
const PARTS_OF_CONSTANTS: [&str; 8] =
    ["rotary", "theta", "softcap", "multiplier", "lambda", "smear", "backout", "epsilon"];
/// Words that say that it is one of training or sampling.
const WORDS_OF_TRAINING: &str = "lr loss grad gradient optim optimizer adam adamw muon momentum init decay \
     warmup warmdown schedule batch data dropout sampling sample generation eval train training";
/// Objects that hold constants of rotary embeddings.
const ROPE_OBJECTS: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// Fields that do not change the computation, or repeat what is read elsewhere, with spaces between them.
/// `rotary_base` is written by an importer that never looked at the model.
const HARMLESS: &[&str] = &[
    // Sizes, which `config` compares with the tensors.
    "sequence_len n_positions n_ctx max_position_embeddings vocab_size n_layer num_hidden_layers \
     n_head num_attention_heads n_kv_head num_key_value_heads n_embd hidden_size window_pattern \
     padded_vocab_size text_vocab_size pad_vocab_to_multiple pad_vocab_size_to",
    // Where there are none of what they describe.
    "sliding_window attention_window window_size ve_gate_channels",
    // What the model is called, and by what it was written.
    "model_type architectures auto_map transformers_version _name_or_path name_or_path rotary_base \
     _commit_hash tokenizer_class torch_dtype dtype use_bfloat16 torchscript return_dict",
    // What experts are like, where there are none.
    "n_experts_active expert_hidden_mult expert_hidden num_experts_per_tok top_k",
    // Training.
    "initializer_range init_std use_cache dropout attention_dropout hidden_dropout resid_pdrop \
     embd_pdrop attn_pdrop attention_probs_dropout_prob hidden_dropout_prob gradient_checkpointing \
     step val_bpb val_loss train_loss device_batch_size max_seq_len total_batch_size \
     dataloader_state_dict loop_state minutes tokens held_out_loss imported_from_hf source_hf_repo \
     source_hf_revision tool_schema tokenizer_vocab_size",
    // What transformers writes of every model: tokens, tasks, and defaults of sampling.
    "bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id \
     output_hidden_states output_attentions output_scores return_dict_in_generate is_encoder_decoder \
     is_decoder add_cross_attention cross_attention_hidden_size tie_encoder_decoder pruned_heads \
     chunk_size_feed_forward id2label label2id num_labels finetuning_task task_specific_params \
     problem_type prefix tf_legacy_loss max_length min_length do_sample early_stopping num_beams \
     num_beam_groups diversity_penalty temperature top_p typical_p repetition_penalty length_penalty \
     no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences \
     forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty \
     suppress_tokens begin_suppress_tokens pretraining_tp",
];

/// The value under which a field describes the model that is computed here.
#[derive(Clone)]
enum Neutral {
    /// null, false or 0.
    Off,
    /// null or true.
    On,
    /// null or this number.
    Number(u64),
    /// null or one of these words, without regard to capitals, dashes and underscores.
    Word(&'static [&'static str]),
    /// null or this list.
    List(Vec<Value>),
    /// null or a number from 0 to this.
    UpTo(f64),
    /// null, false, 0, or at least this.
    OffOrFrom(u64),
    /// null or false; true only if the output matrix is the embedding.
    Tied,
}

/// Fields that would change the computation, whatever the model's sizes; names have spaces between them.
const SWITCHES: &[(&str, Neutral)] = &[
    (
        "attention_bias qkv_bias use_qkv_bias attn_bias mlp_bias use_bias bias add_bias_linear layer_norm_bias \
         norm_bias elementwise_affine n_experts num_experts num_local_experts n_routed_experts n_shared_experts \
         num_shared_experts use_moe attn_logit_softcapping attn_logit_softcap attention_softcap attn_softcap \
         quantization quantization_config parallel_residual use_parallel_residual alibi use_alibi clip_qkv \
         use_swiglu swiglu use_sliding_window no_rope_layers num_nextn_predict_layers scale_embedding \
         scale_embeddings",
        Neutral::Off,
    ),
    ("rotary use_rope use_rotary qk_norm use_qk_norm use_rmsnorm is_causal", Neutral::On),
    (
        "partial_rotary_factor rotary_pct rotary_percent embedding_multiplier residual_multiplier logits_scaling \
         logit_scale embed_scale",
        Neutral::Number(1),
    ),
    ("mlp_ratio mlp_mult ffn_mult", Neutral::Number(4)),
    ("smear_gate_channels", Neutral::Number(super::SMEAR_CHANNELS as u64)),
    (
        "rms_norm_eps rms_eps norm_eps norm_epsilon layer_norm_eps layer_norm_epsilon",
        Neutral::UpTo(MAX_EPSILON),
    ),
    (
        "hidden_act hidden_activation activation_function activation mlp_activation",
        Neutral::Word(&["relu2", "relu^2", "relusquared", "squaredrelu", "relusquare", "relusq", "sqrelu"]),
    ),
    ("norm_type normalization", Neutral::Word(&["rmsnorm", "rms"])),
    ("position_embedding_type", Neutral::Word(&["rope", "rotary"])),
    ("tie_word_embeddings tie_embeddings tied_embeddings tie_weights", Neutral::Tied),
];

/// The constants that the model's files state, but for those that are overridden.
pub(crate) fn stated(meta: &Meta, overrides: &Overrides) -> Result<Stated, Error> {
    let unless = |overridden: Option<f32>, constant| match overridden {
        Some(_) => Ok(None),
        None => constant_of(meta, constant),
    };
    Ok(Stated {
        rope_base: unless(overrides.rope_base, &ROPE_BASE)?,
        qk_scale: unless(overrides.qk_scale, &QK_SCALE)?,
        softcap: unless(overrides.softcap, &SOFTCAP)?,
        value_gate_scale: unless(overrides.value_gate_scale, &VALUE_GATE_SCALE)?,
    })
}

/// Whether a file describes the Hugging Face class, which computes generation G0 alone. Beside newer weights it
/// belongs to what a converter made of them. Forks write some of the class's keys too, so a file that has a field or
/// a constant that the class has not is no such file.
pub(crate) fn describes_other_weights(meta: &Meta, version: NanochatVersion) -> bool {
    let is_class =
        meta.model.contains_key("hidden_act") || meta.architectures.iter().any(|name| name == CLASS);
    let is_native = meta.model.keys().any(|key| is_among(NOT_OF_CLASS, key));
    let states = |constant, number: f32| {
        constant_of(meta, constant).is_ok_and(|stated| stated.is_none_or(|stated| stated == number))
    };
    version != NanochatVersion::G0
        && is_class
        && !is_native
        && states(&ROPE_BASE, CLASS_ROPE_BASE)
        && states(&SOFTCAP, CLASS_SOFTCAP)
}

/// The file that describes the weights, and the other one.
pub(crate) fn files(meta: &Meta) -> impl Iterator<Item = &Meta> {
    std::iter::once(meta).chain(meta.companion.as_deref())
}

/// One constant, wherever it is written; several places must agree.
fn constant_of(meta: &Meta, constant: &Constant) -> Result<Option<f32>, Error> {
    let mut found: Option<(f32, String)> = None;
    for file in files(meta) {
        for place in places(file) {
            for name in constant.names {
                let Some(value) = place.get(*name) else { continue };
                let number = read(value, constant).map_err(|()| refused(name, value, constant.expected))?;
                let Some(number) = number else { continue };
                let here = format!("`{name}` is {} in {}", shown(value), file.file);
                match &found {
                    Some((other, there)) if *other != number => {
                        let over = constant.over;
                        return Err(Error::Contradiction { first: there.clone(), second: here, over });
                    }
                    _ => found = Some((number, here)),
                }
            }
        }
    }
    Ok(found.map(|(number, _)| number))
}

/// What the trainer's settings say of constants, where that is not what is used: they are a dump of its command line,
/// which may not have reached the model.
pub(crate) fn unused(meta: &Meta, used: &Constants) -> Vec<String> {
    let used = [used.rope_base, used.qk_scale, used.softcap.unwrap_or(0.0), used.value_gate_scale];
    let mut notes = Vec::new();
    for file in files(meta) {
        for (constant, used) in CONSTANTS.iter().zip(used) {
            for name in constant.names {
                let Some(value) = file.user_config.get(*name) else { continue };
                if read(value, constant).is_ok_and(|said| said.is_none_or(|said| said == used)) {
                    continue;
                }
                notes.push(format!(
                    "`{name}` is {} in user_config of {}, the settings of the training, but {used} is used; an override `{}` \
                     can say otherwise",
                    shown(value),
                    file.file,
                    constant.over
                ));
            }
        }
    }
    notes
}

/// The window pattern, which both files must agree on.
pub(crate) fn window_pattern(meta: &Meta) -> Result<Option<&str>, Error> {
    let mut stated = files(meta).filter_map(|file| Some((file.window_pattern.as_deref()?, &file.file)));
    let (first, second) = (stated.next(), stated.next());
    if let (Some((pattern, file)), Some((other, there))) = (first, second)
        && !pattern.eq_ignore_ascii_case(other)
    {
        let place = |pattern: &str, file: &str| format!("`window_pattern` is {} in {file}", short(pattern));
        let (first, second, over) = (place(pattern, file), place(other, there), "window_pattern");
        return Err(Error::Contradiction { first, second, over });
    }
    Ok(first.map(|(pattern, _)| pattern))
}

fn read(value: &Value, constant: &Constant) -> Result<Option<f32>, ()> {
    match value {
        Value::Null => Ok(constant.null),
        Value::Number(number) => {
            let number = number.as_f64().map(|number| number as f32).and_then(constant.read);
            number.map(Some).ok_or(())
        }
        _ => Err(()),
    }
}

/// The objects of a file that may hold constants.
fn places(file: &Meta) -> impl Iterator<Item = &Map<String, Value>> {
    let both = [&file.model, &file.beside];
    let inner = both.into_iter().flat_map(|place| ROPE_OBJECTS.iter().filter_map(|name| place.get(*name)));
    both.into_iter().chain(inner.filter_map(Value::as_object))
}

/// Refuses what the files ask for and this server does not compute. Returns the keys that are not known. S layers see
/// `short_reach` positions back.
pub(crate) fn check(
    meta: &Meta,
    config: &Config,
    table: &TensorTable,
    overrides: &Overrides,
    short_reach: usize,
) -> Result<Vec<String>, Error> {
    let mut unknown = Vec::new();
    let rows = tensor(table, Parameter::Embedding).map_or(0, formats::Tensor::row_count);
    for file in files(meta) {
        unknown.extend(other_sizes(file, config, rows, overrides));
        for place in [&file.model, &file.beside] {
            for (key, value) in place {
                if ROPE_OBJECTS.contains(&key.as_str()) {
                    rope(key, value)?;
                } else if key == "short_window" {
                    // Its override outranks it.
                    let is_same = overrides.short_window.is_some()
                        || value.is_null()
                        || value.as_u64() == Some(short_reach as u64);
                    let expected = || format!("{short_reach}, or an override");
                    is_same.then_some(()).ok_or_else(|| refused(key, value, &expected()))?;
                } else if let Some(neutral) = neutral(key, place, config) {
                    agree(key, value, &neutral, table)?;
                } else if !is_known(key) {
                    if is_constant(key) && has_number(value) {
                        return Err(refused(key, value, "a file without it"));
                    }
                    unknown.push(format!("{} = {}", short(key), shown(value)));
                }
            }
        }
    }
    unknown.sort();
    unknown.dedup();
    if unknown.len() > MAX_UNKNOWN {
        let more = unknown.len() - MAX_UNKNOWN;
        unknown.truncate(MAX_UNKNOWN);
        unknown.push(format!("and {more} more"));
    }
    Ok(unknown)
}

/// Sizes that a file states and that are not the model's: the other file, an override or the tensors outrank them.
fn other_sizes(file: &Meta, config: &Config, rows: usize, overrides: &Overrides) -> Vec<String> {
    let positions = file.sequence_len.filter(|_| overrides.sequence_len.is_none());
    // A file that does not say is read as if every head had its own keys.
    let kv_heads = file.n_kv_head.filter(|said| Some(*said) != file.n_head);
    let padded = file.model.get("padded_vocab_size").and_then(Value::as_u64);
    let sizes = [
        ("sequence_len", positions, config.sequence_len),
        ("n_kv_head", kv_heads, config.n_kv_head),
        ("padded_vocab_size", padded, rows),
    ];
    let others = sizes.into_iter().filter_map(|(name, said, is)| Some((name, said?, is)));
    let others = others.filter(|(_, said, is)| *said != *is as u64);
    others.map(|(name, said, _)| format!("{name} = {said} in {}", file.file)).collect()
}

fn is_known(key: &str) -> bool {
    // nanochat's evaluations are called after their task.
    HARMLESS.iter().any(|names| is_among(names, key))
        || key.ends_with("_acc")
        || CONSTANTS.iter().any(|constant| constant.names.contains(&key))
}

/// Whether a key that is not known sounds like a constant of the computation.
fn is_constant(key: &str) -> bool {
    let words = words(key);
    let is_word_of = |names: &str, word: &str| {
        is_among(names, word) || word.strip_suffix('s').is_some_and(|one| is_among(names, one))
    };
    let among = |names| words.iter().any(|word| !word.is_empty() && is_word_of(names, word));
    let is_part = || PARTS_OF_CONSTANTS.iter().any(|part| words.concat().contains(part));
    (among(WORDS_OF_CONSTANTS) || is_part()) && !among(WORDS_OF_TRAINING)
}

/// The words of a key in small letters, divided by what is no letter and by capitals.
fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in key.chars() {
        if !c.is_ascii_alphabetic() || c.is_ascii_uppercase() && was_small {
            words.push(String::new());
        }
        words
            .last_mut()
            .into_iter()
            .for_each(|word| word.extend(c.is_ascii_alphabetic().then(|| c.to_ascii_lowercase())));
        was_small = c.is_ascii_lowercase();
    }
    words
}

/// Whether there is a number in a value, as a text too.
fn has_number(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(_) => true,
        Value::String(text) => text.trim().parse::<f64>().is_ok(),
        Value::Array(items) => items.iter().any(has_number),
        Value::Object(fields) => fields.values().any(has_number),
    }
}

/// Whether a name is one of several with spaces between them.
fn is_among(names: &str, name: &str) -> bool {
    names.split(' ').any(|other| other == name)
}

/// What a field must be, if it is one that would change the computation.
fn neutral(key: &str, place: &Map<String, Value>, config: &Config) -> Option<Neutral> {
    if let Some((_, neutral)) = SWITCHES.iter().find(|(names, _)| is_among(names, key)) {
        return Some(neutral.clone());
    }
    Some(match key {
        "head_dim" | "head_size" | "d_head" | "rotary_dim" | "query_pre_attn_scalar" => {
            Neutral::Number(config.head_dim as u64)
        }
        "intermediate_size" | "n_inner" | "ffn_dim" => Neutral::Number(config.n_hidden as u64),
        "sliding_window" | "attention_window" | "window_size" => match place.get("use_sliding_window") {
            Some(Value::Bool(false)) => return None,
            _ => Neutral::OffOrFrom(config.sequence_len as u64),
        },
        "layer_types" => Neutral::List(vec!["full_attention".into(); config.n_layer()]),
        "value_embed_layers" => {
            let layers = config.layers.iter().enumerate();
            let gated = layers.filter(|(_, layer)| layer.value_gate.is_some());
            Neutral::List(gated.map(|(l, _)| Value::from(l)).collect())
        }
        "ve_gate_channels" => {
            let gate = config.layers.iter().find_map(|layer| layer.value_gate)?;
            Neutral::Number(gate.channels as u64)
        }
        _ => return None,
    })
}

fn agree(key: &str, value: &Value, neutral: &Neutral, table: &TensorTable) -> Result<(), Error> {
    let off = matches!(value, Value::Null | Value::Bool(false)) || value.as_f64() == Some(0.0);
    let null_or = |holds: bool| holds || value.is_null();
    let (holds, expected) = match neutral {
        Neutral::Off => (off, "off: null, false or 0".to_owned()),
        Neutral::On => (null_or(*value == Value::Bool(true)), "true".to_owned()),
        Neutral::Number(number) => (null_or(value.as_f64() == Some(*number as f64)), number.to_string()),
        Neutral::Word(words) => (null_or(is_word(value, words)), words[0].to_owned()),
        Neutral::List(list) => (null_or(value.as_array() == Some(list)), shown(&Value::from(list.clone()))),
        Neutral::UpTo(most) => {
            let near = value.as_f64().is_some_and(|number| (0.0..=*most).contains(&number));
            (null_or(near), format!("at most {most:e}"))
        }
        Neutral::OffOrFrom(least) => {
            let far = value.as_f64().is_some_and(|number| number >= *least as f64);
            (off || far, format!("off, or at least the {least} of sequence_len"))
        }
        Neutral::Tied => {
            let tied = *value == Value::Bool(true) && is_tied(table)?;
            (off || tied, "false, or the file's lm_head.weight equal to its embedding".to_owned())
        }
    };
    if holds { Ok(()) } else { Err(refused(key, value, &expected)) }
}

fn is_word(value: &Value, words: &[&str]) -> bool {
    let text = value.as_str().unwrap_or_default().to_ascii_lowercase();
    let plain: String = text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
    words.contains(&plain.as_str())
}

/// Whether the output matrix is there and holds the numbers of the embedding.
fn is_tied(table: &TensorTable) -> Result<bool, Error> {
    let both = tensor(table, Parameter::Embedding).zip(tensor(table, Parameter::Head));
    let Some((embedding, head)) = both else {
        return Ok(false);
    };
    if embedding.shape() != head.shape() {
        return Ok(false);
    }
    let mut rows = [vec![0.0; embedding.row_elements()], vec![0.0; embedding.row_elements()]];
    for row in 0..embedding.row_count() {
        embedding.read_rows(row..row + 1, &mut rows[0])?;
        head.read_rows(row..row + 1, &mut rows[1])?;
        if rows[0] != rows[1] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Scaled frequencies are refused, whatever their factor; the base is a constant.
fn rope(key: &str, value: &Value) -> Result<(), Error> {
    let fields = match value {
        Value::Null | Value::Bool(false) => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(refused(key, value, "null or an object")),
    };
    for (name, value) in fields {
        let is_default = is_word(value, &["default", "none"]);
        let (holds, expected) = match name.as_str() {
            "rope_type" | "type" => (is_default, "default"),
            "partial_rotary_factor" | "factor" | "attention_factor" => (value.as_f64() == Some(1.0), "1"),
            "original_max_position_embeddings" => (true, ""),
            name if ROPE_BASE.names.contains(&name) => (true, ""),
            _ => (false, "absent"),
        };
        if !holds && !value.is_null() {
            return Err(refused(&format!("{key}.{name}"), value, expected));
        }
    }
    Ok(())
}

fn refused(field: &str, value: &Value, expected: &str) -> Error {
    Error::Unsupported { field: short(field), value: shown(value), expected: expected.to_owned() }
}

/// A value as JSON, cut where it is long. What Python writes for no number is shown as it was written.
fn shown(value: &Value) -> String {
    match value.as_str() {
        Some(word @ ("NaN" | "Infinity" | "-Infinity")) => word.to_owned(),
        _ => short(&value.to_string()),
    }
}

fn short(text: &str) -> String {
    let mut short: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect();
    if text.chars().count() > MAX_SHOWN {
        short.push('…');
    }
    short
}
