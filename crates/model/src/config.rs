//! The blueprint of a model: sizes and constants, checked against the tensors that are there.

use std::collections::BTreeSet;

use formats::{Meta, TensorTable};

use crate::Error;
use crate::generation::{Constants, Generation, ShortWindow};
use crate::metadata;
use crate::names::{self, Parameter};

/// Upper bounds of the sizes this server takes on; a file that asks for more is refused before anything is
/// allocated.
const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 65_536;
const MAX_VOCAB: usize = 1 << 20;
const MAX_SEQUENCE: usize = 1 << 20;
/// Unknown tensors that an error names.
const NAMED_STRANGERS: usize = 6;

/// What an operator says over a checkpoint's head.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Overrides {
    /// Constants of this generation instead of the detected one's.
    pub generation: Option<Generation>,
    /// Cap of the logits (15 or 20 where the file cannot tell); 0 is none.
    pub softcap: Option<f32>,
    /// Base of the rotary frequencies.
    pub rope_base: Option<f32>,
    /// Factor on queries and keys.
    pub qk_scale: Option<f32>,
    /// Range of the value gate.
    pub value_gate_scale: Option<f32>,
    /// Reach of an S layer.
    pub short_window: Option<ShortWindow>,
    /// Letters S and L, repeated over the layers.
    pub window_pattern: Option<String>,
    /// Longest sequence.
    pub sequence_len: Option<usize>,
}

/// Sizes and constants of a model.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The architecture.
    pub generation: Generation,
    /// What the architecture fixes, overrides applied.
    pub constants: Constants,
    /// Longest sequence.
    pub sequence_len: usize,
    /// Token ids the model knows.
    pub vocab_size: usize,
    /// Layers.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_kv_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// How many positions back each layer sees, itself not counted.
    pub windows: Vec<usize>,
    /// Input channels of the value gates, 0 without value embeddings.
    pub value_gate_channels: usize,
    /// What was assumed because the file does not tell, in sentences for the log.
    pub notes: Vec<String>,
    /// Keys of the metadata that are neither used nor known to be harmless, with their values.
    pub unknown_keys: Vec<String>,
}

impl Config {
    /// Reads the blueprint off a checkpoint's metadata and tensors.
    pub fn read(table: &TensorTable, meta: &Meta, overrides: &Overrides) -> Result<Self, Error> {
        let seen = Seen::look(table)?;
        let generation = match overrides.generation {
            Some(generation) => generation,
            None => seen.generation(meta)?,
        };
        let mut notes = Vec::new();
        let meta = &describing(meta, generation, &mut notes);
        let constants = constants(generation, meta, overrides)?;
        let n_embd = seen.width;
        let n_head = size("n_head", meta.n_head, None, MAX_WIDTH)?;
        let sequence_len = size("sequence_len", meta.sequence_len, overrides.sequence_len, MAX_SEQUENCE)?;
        let vocab = meta.text_vocab_size.or(meta.vocab_size);
        let vocab_size = size("vocab_size", vocab.or(Some(seen.rows as u64)), None, MAX_VOCAB)?;
        notes.extend(assumptions(generation, meta, overrides)?);
        notes.extend(metadata::unused(meta, &constants));
        let windows =
            windows(&seen, generation, sequence_len, constants.short_window, meta, overrides, &mut notes)?;
        let mut config = Self {
            generation,
            constants,
            sequence_len,
            vocab_size,
            n_layer: seen.layers,
            n_head,
            n_kv_head: seen.kv_rows * n_head / n_embd.max(1),
            n_embd,
            windows,
            value_gate_channels: seen.gate_channels,
            notes,
            unknown_keys: Vec::new(),
        };
        config.check(&seen, meta)?;
        config.unknown_keys = metadata::check(meta, &config, table, overrides)?;
        Ok(config)
    }

    /// Numbers in a head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Whether a layer has value embeddings.
    pub fn has_values(&self, layer: usize) -> bool {
        self.value_gate_channels > 0 && layer % 2 == (self.n_layer - 1) % 2
    }

    fn check(&self, seen: &Seen, meta: &Meta) -> Result<(), Error> {
        let expect = |holds: bool, field: &'static str, value: usize, expected: &str| {
            let error =
                || Error::InvalidField { field, value: value.to_string(), expected: expected.to_owned() };
            if holds { Ok(()) } else { Err(error()) }
        };
        let told = |field: &'static str, said: Option<u64>, found: usize| {
            expect(
                said.is_none_or(|said| said == found as u64),
                field,
                said.unwrap_or(0) as usize,
                &format!("{found}, as the tensors say"),
            )
        };
        if let Some(other) = meta.companion.as_deref() {
            let agreed = other.n_head.is_none_or(|heads| heads == self.n_head as u64);
            let expected = format!("{}, as {} says, and not that of {}", self.n_head, meta.file, other.file);
            expect(agreed, "n_head", other.n_head.unwrap_or(0) as usize, &expected)?;
        }
        for file in metadata::files(meta) {
            told("n_layer", file.n_layer, self.n_layer)?;
            told("n_embd", file.n_embd, self.n_embd)?;
        }
        // A file that does not say is read as if every head had its own keys; the tensors know better.
        let kv_heads = meta.n_kv_head.filter(|&said| said != self.n_head as u64);
        told("n_kv_head", kv_heads, self.n_kv_head)?;
        expect(self.n_embd.is_multiple_of(self.n_head), "n_head", self.n_head, "a divisor of n_embd")?;
        let dim = self.head_dim();
        let largest = kernels::attention::MAX_HEAD_DIM;
        expect(
            dim.is_multiple_of(2) && dim <= largest,
            "head dimension",
            dim,
            &format!("even and at most {largest}"),
        )?;
        let divides = self.n_kv_head > 0 && self.n_head.is_multiple_of(self.n_kv_head);
        expect(
            divides && self.n_kv_head * dim == seen.kv_rows,
            "n_kv_head",
            self.n_kv_head,
            "a divisor of n_head",
        )?;
        expect(
            self.vocab_size <= seen.rows,
            "vocab_size",
            self.vocab_size,
            &format!("at most {}, the rows of the embedding", seen.rows),
        )?;
        let smallest = kernels::attention::PAGE;
        expect(
            self.sequence_len >= smallest,
            "sequence_len",
            self.sequence_len,
            &format!("at least {smallest}"),
        )?;
        let channels = self.value_gate_channels;
        expect(channels <= self.n_embd, "value gate channels", channels, "at most n_embd")?;
        expect(!seen.smear || self.n_embd >= 24, "n_embd", self.n_embd, "at least 24")
    }
}

/// The metadata without a companion that describes other weights than these.
fn describing(meta: &Meta, generation: Generation, notes: &mut Vec<String>) -> Meta {
    let foreign = |other: &&Meta| metadata::describes_other_weights(other, generation);
    let Some(other) = meta.companion.as_deref().filter(foreign) else { return meta.clone() };
    notes.push(format!(
        "{} beside these weights describes the Hugging Face class, which is generation g0, and these are {}: it is \
         not used",
        other.file,
        generation.name()
    ));
    Meta { companion: None, ..meta.clone() }
}

/// The generation's constants, under those that the metadata states, under those that an operator does.
fn constants(generation: Generation, meta: &Meta, overrides: &Overrides) -> Result<Constants, Error> {
    let (base, stated) = (generation.constants(), metadata::stated(meta, overrides)?);
    let positive = |field: &'static str, over: Option<f32>| match over {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            let expected = "a positive number".to_owned();
            Err(Error::InvalidField { field, value: value.to_string(), expected })
        }
        over => Ok(over),
    };
    let softcap = overrides.softcap.or(stated.softcap);
    if softcap.is_some_and(|cap| !cap.is_finite()) {
        let value = softcap.unwrap_or_default().to_string();
        return Err(Error::InvalidField {
            field: "softcap",
            value,
            expected: "a number; 0 is no cap".to_owned(),
        });
    }
    Ok(Constants {
        rope_base: positive("rope_base", overrides.rope_base.or(stated.rope_base))?.unwrap_or(base.rope_base),
        qk_scale: positive("qk_scale", overrides.qk_scale.or(stated.qk_scale))?.unwrap_or(base.qk_scale),
        softcap: softcap.map_or(base.softcap, |cap| (cap > 0.0).then_some(cap)),
        value_gate_scale: positive(
            "value_gate_scale",
            overrides.value_gate_scale.or(stated.value_gate_scale),
        )?
        .unwrap_or(base.value_gate_scale),
        short_window: overrides.short_window.unwrap_or(base.short_window),
    })
}

/// What the names and shapes of the tensors tell.
struct Seen {
    rows: usize,
    width: usize,
    layers: usize,
    kv_rows: usize,
    gate_channels: usize,
    lambdas: bool,
    smear: bool,
    backout: bool,
}

impl Seen {
    fn look(table: &TensorTable) -> Result<Self, Error> {
        let names: BTreeSet<String> = table.names().map(names::native).collect();
        let strangers: Vec<&String> = names.iter().filter(|name| names::parse(name).is_none()).collect();
        if !strangers.is_empty() {
            let mut listed: Vec<String> =
                strangers.iter().take(NAMED_STRANGERS).map(|s| format!("`{s}`")).collect();
            if strangers.len() > NAMED_STRANGERS {
                listed.push(format!("and {} more", strangers.len() - NAMED_STRANGERS));
            }
            return Err(Error::UnknownTensors { names: listed });
        }
        let shape = |name: &str| -> Result<[usize; 2], Error> {
            let missing = || Error::MissingTensor { name: name.to_owned() };
            let tensor = find(table, name).ok_or_else(missing)?;
            let found = tensor.shape().to_vec();
            <[usize; 2]>::try_from(found.clone()).map_err(|_| Error::WrongShape {
                name: name.to_owned(),
                found,
                expected: vec![0, 0],
            })
        };
        let [rows, width] = shape("transformer.wte.weight")?;
        let [kv_rows, _] = shape("transformer.h.0.attn.c_k.weight")?;
        let layers = names.iter().filter_map(|n| match names::parse(n) {
            Some(
                Parameter::Layer(layer) | Parameter::ValueGate(layer) | Parameter::ValueEmbedding(layer),
            ) => Some(layer.saturating_add(1)),
            _ => None,
        });
        let layers = layers.max().unwrap_or(0);
        for (field, value, limit) in [
            ("n_layer", layers, MAX_LAYERS),
            ("n_embd", width, MAX_WIDTH),
            ("vocabulary rows", rows, MAX_VOCAB),
        ] {
            if value == 0 || value > limit {
                let expected = format!("1 to {limit}");
                return Err(Error::InvalidField { field, value: value.to_string(), expected });
            }
        }
        // Every second layer, the last included, or none: `Weights` misses a gate where one should be.
        let gate = names.iter().find(|n| matches!(names::parse(n), Some(Parameter::ValueGate(_))));
        let gate_channels = gate.map(|name| shape(name)).transpose()?.map_or(0, |[_, channels]| channels);
        let seen = Self {
            rows,
            width,
            layers,
            kv_rows,
            gate_channels,
            lambdas: names.contains("resid_lambdas"),
            smear: names.contains("smear_lambda"),
            backout: names.contains("backout_lambda"),
        };
        seen.check_sets(&names)?;
        Ok(seen)
    }

    /// Tensors that nanochat never wrote one without the other: a file with a part of them was cut, or is a fork.
    /// Backout stands alone in nanochat's variant without smear.
    fn check_sets(&self, names: &BTreeSet<String>) -> Result<(), Error> {
        let newer = self.gate_channels > 0 || self.smear || self.backout;
        let gate = names.contains("smear_gate.weight");
        let needs = [
            ("smear_lambda", "smear_gate.weight", gate),
            ("smear_gate.weight", "smear_lambda", self.smear),
            ("backout_lambda", "smear_gate.weight", gate),
            ("x0_lambdas", "resid_lambdas", self.lambdas),
            ("resid_lambdas", "x0_lambdas", names.contains("x0_lambdas")),
            ("resid_lambdas", "value embeddings, smear or backout", newer),
        ];
        let missing = needs.iter().find(|(name, _, needed)| *needed && !names.contains(*name));
        missing.map_or(Ok(()), |(name, beside, _)| {
            Err(Error::IncompleteSet { name: (*name).to_owned(), beside })
        })
    }

    fn generation(&self, meta: &Meta) -> Result<Generation, Error> {
        Ok(match self.gate_channels {
            _ if self.smear || self.backout => Generation::G7,
            12 => Generation::G6,
            0 if self.lambdas => Generation::G1,
            0 => Generation::G0,
            32 if trained_with_cap_20(meta) => Generation::G5,
            32 => Generation::G3,
            other => {
                let expected =
                    "12 or 32, unless an override `generation` says whose constants to use".to_owned();
                let (field, value) = ("value gate channels", other.to_string());
                return Err(Error::InvalidField { field, value, expected });
            }
        })
    }
}

/// What is assumed for want of evidence.
fn assumptions(generation: Generation, meta: &Meta, overrides: &Overrides) -> Result<Option<String>, Error> {
    let stated = overrides.softcap.or(metadata::stated(meta, overrides)?.softcap);
    let unsure = generation == Generation::G3 && stated.is_none() && meta.user_config.is_empty();
    Ok(unsure.then(|| {
        "the logit cap of this generation is 15 or 20 and the metadata does not tell; 15 is used, and an override \
         `softcap` can say otherwise"
            .to_owned()
    }))
}

/// A tensor by its native name, whatever its file calls it.
pub(crate) fn find<'a>(table: &'a TensorTable, native: &str) -> Option<&'a formats::Tensor> {
    table.get(native).or_else(|| {
        let name = table.names().find(|name| names::native(name) == native)?;
        table.get(name)
    })
}

/// Base models of one week in March 2026 record an evaluation of 80 · 524,288 tokens beside optimiser flags
/// that were renamed when the cap went back to 15.
fn trained_with_cap_20(meta: &Meta) -> bool {
    let has = |key: &str| meta.user_config.contains_key(key);
    let eval_tokens = meta.user_config.get("eval_tokens").and_then(serde_json::Value::as_f64);
    !has("warmup_steps") && (has("adam_beta1") || has("warmup_ratio")) && eval_tokens == Some(41_943_040.0)
}

fn size(field: &'static str, told: Option<u64>, wanted: Option<usize>, limit: usize) -> Result<usize, Error> {
    let value = wanted.map(|value| value as u64).or(told).ok_or(Error::MissingField { field })?;
    if value == 0 || value > limit as u64 {
        return Err(Error::InvalidField {
            field,
            value: value.to_string(),
            expected: format!("1 to {limit}"),
        });
    }
    Ok(value as usize)
}

#[expect(clippy::too_many_arguments, reason = "each is one source of evidence for the windows")]
fn windows(
    seen: &Seen,
    generation: Generation,
    sequence_len: usize,
    short: ShortWindow,
    meta: &Meta,
    overrides: &Overrides,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, Error> {
    let told = match overrides.window_pattern.as_deref() {
        Some(over) => Some(over),
        None => metadata::window_pattern(meta)?,
    };
    if told.is_none() && seen.gate_channels > 0 {
        notes.push(
            "the metadata has no window_pattern, so every layer sees the whole context; the base model was \
             probably trained with SSSL, which an override `window_pattern` can say"
                .to_owned(),
        );
    }
    // G0 had no windows, whatever a later tool wrote beside it.
    let pattern = if generation == Generation::G0 { "L" } else { told.unwrap_or("L") }.to_ascii_uppercase();
    if pattern.is_empty() || pattern.len() > MAX_LAYERS || !pattern.bytes().all(|b| b == b'S' || b == b'L') {
        let value = pattern.chars().take(40).collect();
        return Err(Error::InvalidField {
            field: "window_pattern",
            value,
            expected: "letters S and L".to_owned(),
        });
    }
    let short = short.reach(sequence_len).min(sequence_len);
    let letters = pattern.bytes().cycle().take(seen.layers);
    let mut windows: Vec<usize> = letters.map(|b| if b == b'S' { short } else { sequence_len }).collect();
    if let Some(last) = windows.last_mut() {
        *last = sequence_len;
    }
    Ok(windows)
}
