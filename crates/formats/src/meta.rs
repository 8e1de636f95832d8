//! `meta_*.json` and `config.json`: what a checkpoint's sizes are, in any of the ways they are written.
//!
//! Names of sizes are resolved and their types checked here. Whether they fit together, and what the constants and
//! switches beside them mean, is for the model crate, which gets them as they are.

use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::json::without_mark;
use crate::limits::LIMITS;
use crate::reader::widen;
use crate::table::check_small;

/// What a meta or config file says. Every field is optional: files differ in what they leave out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The file's name.
    pub file: String,
    /// Positions: `sequence_len`, `n_positions`, `n_ctx` or `max_position_embeddings`, the first that is there.
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
    /// One letter a layer, repeated.
    pub window_pattern: Option<String>,
    /// Real token ids, where `vocab_size` is the padded size.
    pub text_vocab_size: Option<u64>,
    /// Training step.
    pub step: Option<u64>,
    /// Hugging Face's `architectures`.
    pub architectures: Vec<String>,
    /// The trainer's settings, as they are.
    pub user_config: Map<String, Value>,
    /// The object that describes the model, as it is: `model_config`, or all of a file that has none.
    pub model: Map<String, Value>,
    /// What is written beside `model_config`, as it is; empty where there is none.
    pub beside: Map<String, Value>,
    /// The other file that describes the same weights, where there is one.
    pub companion: Option<Box<Meta>>,
}

/// Reads a meta or config file. `NaN`, `Infinity` and `-Infinity`, which Python writes, are read as texts of that
/// name; a byte order mark at the start is skipped.
///
/// # Errors
/// `Json` for what is not a JSON object, `Field` for a size of another type or two names of one size that differ,
/// `TooLarge`.
pub fn read_meta(file_name: &str, bytes: &[u8]) -> Result<Meta, Error> {
    let meta = read(without_mark(bytes)).map_err(|error| error.in_file(file_name))?;
    Ok(Meta { file: file_name.to_owned(), ..meta })
}

fn read(bytes: &[u8]) -> Result<Meta, Error> {
    check_small(bytes, "meta_bytes", LIMITS.meta_bytes)?;
    let text = without_python_numbers(bytes)?;
    let mut beside: Map<String, Value> = serde_json::from_slice(&text)?;
    let user_config = match beside.remove("user_config") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let model = match beside.remove("model_config") {
        None | Some(Value::Null) => std::mem::take(&mut beside),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(ErrorKind::Field { field: "model_config", expected: "an object" }.into()),
    };
    let (fields, outer) = (MetaFields(&model), MetaFields(if beside.is_empty() { &model } else { &beside }));
    let n_head = fields.size(&["n_head", "num_attention_heads"])?;
    Ok(Meta {
        file: String::new(),
        sequence_len: fields.first_size(&[
            "sequence_len",
            "n_positions",
            "n_ctx",
            "max_position_embeddings",
        ])?,
        vocab_size: fields.size(&["vocab_size"])?,
        n_layer: fields.size(&["n_layer", "num_hidden_layers"])?,
        n_head,
        n_kv_head: fields.size(&["n_kv_head", "num_key_value_heads"])?.or(n_head),
        n_embd: fields.size(&["n_embd", "hidden_size"])?,
        window_pattern: fields.text("window_pattern")?,
        text_vocab_size: fields.size(&["text_vocab_size"])?,
        step: outer.size(&["step"])?,
        architectures: fields.texts("architectures"),
        user_config,
        model,
        beside,
        companion: None,
    })
}

/// Looks fields up; null counts as absent.
struct MetaFields<'a>(&'a Map<String, Value>);

impl MetaFields<'_> {
    fn find<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                convert(value).map(Some).ok_or_else(|| ErrorKind::Field { field, expected }.into())
            }
        }
    }

    /// A size that all of its names that are there agree on.
    fn size(&self, names: &[&'static str]) -> Result<Option<u64>, Error> {
        let mut found = None;
        for field in names {
            let size = self.find(field, "a whole number", Value::as_u64)?;
            if size.is_some() && found.is_some_and(|found| Some(found) != size) {
                return Err(ErrorKind::Field { field, expected: "what its other name says" }.into());
            }
            found = found.or(size);
        }
        Ok(found)
    }

    /// A size under the first of several names, which need not mean the same.
    fn first_size(&self, names: &[&'static str]) -> Result<Option<u64>, Error> {
        let mut found = None;
        for field in names {
            found = found.or(self.find(field, "a whole number", Value::as_u64)?);
        }
        Ok(found)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Error> {
        self.find(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }
}

/// The text with Python's non-numbers put between quotation marks, outside of strings. Also bounds the containers, each
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
                let word = words.iter().find_map(|word| Some((*word, rest.strip_prefix(*word)?)));
                if let Some((word, tail)) = word {
                    text.push(b'"');
                    text.extend(word);
                    text.push(b'"');
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
