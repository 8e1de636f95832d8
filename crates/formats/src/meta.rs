//! `meta_*.json` and `config.json`: what a checkpoint's sizes are, in any of the ways they are written.
//!
//! Names are resolved and types checked here; whether the sizes fit together is for the model crate.

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::limits::LIMITS;
use crate::reader::widen;
use crate::table::check_small;

/// What a meta or config file says. Every field is optional: files differ in what they leave out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Positions: `sequence_len`, `n_positions`, `n_ctx` or `max_position_embeddings`.
    pub sequence_len: Option<u64>,
    /// Token ids. Some exporters write the padded size here; see `text_vocab_size`.
    pub vocab_size: Option<u64>,
    /// Layers: `n_layer` or `num_hidden_layers`.
    pub n_layer: Option<u64>,
    /// Query heads: `n_head` or `num_attention_heads`.
    pub n_head: Option<u64>,
    /// Key and value heads: `n_kv_head` or `num_key_value_heads`; null and absent mean `n_head`.
    pub n_kv_head: Option<u64>,
    /// Width: `n_embd` or `hidden_size`.
    pub n_embd: Option<u64>,
    /// Width of the MLP: `intermediate_size`.
    pub intermediate_size: Option<u64>,
    /// One letter a layer, repeated.
    pub window_pattern: Option<String>,
    /// Rows of the embedding table, where a fork writes it.
    pub padded_vocab_size: Option<u64>,
    /// Real token ids, where `vocab_size` is the padded size.
    pub text_vocab_size: Option<u64>,
    /// Training step.
    pub step: Option<u64>,
    /// Hugging Face's `model_type`.
    pub model_type: Option<String>,
    /// Hugging Face's `architectures`.
    pub architectures: Vec<String>,
    /// `rope_theta`, also inside `rope_parameters`, or `rotary_base`.
    pub rope_theta: Option<f64>,
    /// `logits_soft_cap` or `final_logit_softcapping`.
    pub logits_soft_cap: Option<f64>,
    /// `rms_norm_eps`.
    pub rms_norm_eps: Option<f64>,
    /// `tie_word_embeddings`.
    pub tie_word_embeddings: Option<bool>,
    /// `attention_bias` or `qkv_bias`.
    pub attention_bias: Option<bool>,
    /// `val_bpb`, if it is a number.
    pub val_bpb: Option<f64>,
    /// The trainer's settings, as they are.
    pub user_config: Map<String, Value>,
}

/// Reads a meta or config file. `NaN`, `Infinity` and `-Infinity`, which Python writes, are read as null.
///
/// # Errors
/// `Json` for what is not a JSON object, `Field` for a size of another type, `TooLarge`.
pub fn read_meta(file_name: &str, bytes: &[u8]) -> Result<Meta, Error> {
    read(bytes).map_err(|error| error.in_file(file_name))
}

fn read(bytes: &[u8]) -> Result<Meta, Error> {
    check_small(bytes, "meta_bytes", LIMITS.meta_bytes)?;
    let text = without_python_numbers(bytes)?;
    let mut top: Map<String, Value> = serde_json::from_slice(&text)?;
    let user_config = match top.remove("user_config") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let outer = Fields(&top);
    let model = match top.get("model_config") {
        None | Some(Value::Null) => Fields(&top),
        Some(Value::Object(map)) => Fields(map),
        Some(_) => return Err(ErrorKind::Field { field: "model_config", expected: "an object" }.into()),
    };
    let rope = match model.0.get("rope_parameters").or_else(|| model.0.get("rope_scaling")) {
        Some(Value::Object(map)) => Fields(map).number(&["rope_theta"])?,
        _ => None,
    };
    let n_head = model.size(&["n_head", "num_attention_heads"])?;
    Ok(Meta {
        sequence_len: model.size(&["sequence_len", "n_positions", "n_ctx", "max_position_embeddings"])?,
        vocab_size: model.size(&["vocab_size"])?,
        n_layer: model.size(&["n_layer", "num_hidden_layers"])?,
        n_head,
        n_kv_head: model.size(&["n_kv_head", "num_key_value_heads"])?.or(n_head),
        n_embd: model.size(&["n_embd", "hidden_size"])?,
        intermediate_size: model.size(&["intermediate_size"])?,
        window_pattern: model.text("window_pattern")?,
        padded_vocab_size: model.size(&["padded_vocab_size"])?,
        text_vocab_size: model.size(&["text_vocab_size"])?,
        step: outer.size(&["step"])?,
        model_type: model.text("model_type")?,
        architectures: model.texts("architectures"),
        rope_theta: model.number(&["rope_theta", "rotary_base"])?.or(rope),
        logits_soft_cap: model.number(&["logits_soft_cap", "final_logit_softcapping"])?,
        rms_norm_eps: model.number(&["rms_norm_eps"])?,
        tie_word_embeddings: model.flag("tie_word_embeddings")?,
        attention_bias: match model.flag("attention_bias")? {
            None => model.flag("qkv_bias")?,
            found => found,
        },
        val_bpb: outer.number(&["val_bpb"])?,
        user_config,
    })
}

/// Looks fields up under several names; null counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn find<T>(
        &self,
        names: &[&'static str],
        expected: &'static str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        for field in names {
            match self.0.get(*field) {
                None | Some(Value::Null) => {}
                Some(value) => match convert(value) {
                    Some(value) => return Ok(Some(value)),
                    None => return Err(ErrorKind::Field { field, expected }.into()),
                },
            }
        }
        Ok(None)
    }

    fn size(&self, names: &[&'static str]) -> Result<Option<u64>, Error> {
        self.find(names, "a whole number", Value::as_u64)
    }

    fn number(&self, names: &[&'static str]) -> Result<Option<f64>, Error> {
        self.find(names, "a number", Value::as_f64)
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>, Error> {
        self.find(&[name], "true or false", Value::as_bool)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Error> {
        self.find(&[name], "a text", |value| value.as_str().map(str::to_owned))
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }
}

/// The text with Python's non-numbers replaced by null, outside of strings. Also bounds the containers, each
/// of which costs the JSON tree far more memory than it costs the file.
fn without_python_numbers(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut in_string = false;
    let mut containers = 0_usize;
    while let Some((first, tail)) = rest.split_first() {
        match first {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                if let Some((escaped, tail)) = tail.split_first() {
                    text.extend([*first, *escaped]);
                    rest = tail;
                    continue;
                }
            }
            b'{' | b'[' if !in_string => containers = containers.saturating_add(1),
            b'N' | b'I' | b'-' if !in_string => {
                let words: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
                if let Some(tail) = words.iter().find_map(|word| rest.strip_prefix(*word)) {
                    text.extend(b"null");
                    rest = tail;
                    continue;
                }
            }
            _ => {}
        }
        text.push(*first);
        rest = tail;
    }
    if containers > LIMITS.meta_containers {
        let limit = widen(LIMITS.meta_containers);
        return Err(ErrorKind::too_large("meta_containers", widen(containers), limit).into());
    }
    Ok(text)
}
