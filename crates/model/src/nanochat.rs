//! nanochat: its checkpoints name neither their version nor their constants; tensors and metadata tell.
//!
//! Reading order: `version` (six architectures), this file (evidence of the tensors → version → blueprint), `metadata`
//! (constants, and what is refused), `names`.

use std::collections::BTreeSet;

use formats::{Meta, Tensor, TensorTable};

use crate::config::{MAX_HEAD_DIM, MAX_LAYERS, MAX_SEQUENCE, MAX_VOCAB, MAX_WIDTH, MIN_SEQUENCE};
use crate::{Backout, Config, Error, Family, LayerSpec, Overrides, Parameter, Smear, ValueGate};

use self::version::{Constants, NanochatVersion};

pub mod version;

mod metadata;
mod names;

/// Unknown tensors that an error names.
const NAMED_UNKNOWN: usize = 6;

/// Channels that the smear gate reads.
pub(crate) const SMEAR_CHANNELS: usize = 24;
/// Width of the MLP, in widths of the residual stream.
const MLP_RATIO: usize = 4;

/// nanochat's own models, of every version of its architecture.
pub struct Nanochat;

impl Family for Nanochat {
    fn name(&self) -> &'static str {
        "nanochat"
    }

    fn claims(&self, table: &TensorTable, _meta: &Meta) -> bool {
        // Other families call their embedding `embed_tokens` too, but have a norm beside it.
        table.names().all(|name| names::parse(name).is_some())
            && tensor(table, Parameter::Embedding).is_some()
    }

    fn config(&self, table: &TensorTable, meta: &Meta, overrides: &Overrides) -> Result<Config, Error> {
        let evidence = Evidence::gather(table)?;
        let version = match overrides.generation {
            Some(version) => version,
            None => evidence.version(meta)?,
        };
        let mut notes = Vec::new();
        let meta = &describing(meta, version, &mut notes);
        let constants = constants(version, meta, overrides)?;
        let n_embd = evidence.width;
        let n_head = size("n_head", meta.n_head, None, MAX_WIDTH)?;
        let sequence_len = size("sequence_len", meta.sequence_len, overrides.sequence_len, MAX_SEQUENCE)?;
        let vocab = meta.text_vocab_size.or(meta.vocab_size);
        let vocab_size = size("vocab_size", vocab.or(Some(evidence.rows as u64)), None, MAX_VOCAB)?;
        notes.extend(assumptions(version, meta, overrides)?);
        notes.extend(metadata::unused(meta, &constants));
        let pattern = window_pattern(&evidence, version, meta, overrides, &mut notes)?;
        let short_reach = constants.short_window.reach(sequence_len).min(sequence_len);
        let mut config = Config {
            family: &Nanochat,
            architecture: version.name(),
            sequence_len,
            vocab_size,
            n_head,
            n_kv_head: evidence.kv_rows * n_head / n_embd.max(1),
            head_dim: n_embd / n_head,
            n_embd,
            n_hidden: MLP_RATIO * n_embd,
            layers: layers(&evidence, &constants, &pattern, sequence_len, short_reach),
            smear: evidence.smear.then_some(Smear { channels: SMEAR_CHANNELS }),
            backout: evidence.backout.then_some(Backout { layer: evidence.layers / 2 }),
            softcap: constants.softcap,
            notes,
            unknown_keys: Vec::new(),
        };
        check(&config, &evidence, meta)?;
        config.unknown_keys = metadata::check(meta, &config, table, overrides, short_reach)?;
        Ok(config)
    }

    fn tensor_name(&self, parameter: Parameter) -> String {
        names::name(parameter)
    }

    fn tensor<'t>(&self, table: &'t TensorTable, parameter: Parameter) -> Option<&'t Tensor> {
        tensor(table, parameter)
    }
}

/// A parameter's tensor, by nanochat's name or that of the Hugging Face class.
fn tensor(table: &TensorTable, parameter: Parameter) -> Option<&Tensor> {
    table.get(&names::name(parameter)).or_else(|| {
        let name = table.names().find(|name| names::parse(name) == Some(parameter))?;
        table.get(name)
    })
}

/// The layers, each with its letter of the pattern; the last one sees everything.
fn layers(
    evidence: &Evidence,
    constants: &Constants,
    pattern: &str,
    sequence_len: usize,
    short_reach: usize,
) -> Vec<LayerSpec> {
    let letters = pattern.bytes().cycle().take(evidence.layers);
    let layer = |(l, letter): (usize, u8)| {
        let is_short = letter == b'S' && l + 1 < evidence.layers;
        let gate = ValueGate { channels: evidence.gate_channels, scale: constants.value_gate_scale };
        LayerSpec {
            window: if is_short { short_reach } else { sequence_len },
            rope_base: constants.rope_base,
            qk_scale: constants.qk_scale,
            value_gate: evidence.has_values(l).then_some(gate),
        }
    };
    letters.enumerate().map(layer).collect()
}

fn check(config: &Config, evidence: &Evidence, meta: &Meta) -> Result<(), Error> {
    let expect = |holds: bool, field: &'static str, value: usize, expected: &str| {
        let error = || Error::InvalidField { field, value: value.to_string(), expected: expected.to_owned() };
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
        let agreed = other.n_head.is_none_or(|heads| heads == config.n_head as u64);
        let expected = format!("{}, as {} says, and not that of {}", config.n_head, meta.file, other.file);
        expect(agreed, "n_head", other.n_head.unwrap_or(0) as usize, &expected)?;
    }
    for file in metadata::files(meta) {
        told("n_layer", file.n_layer, config.n_layer())?;
        told("n_embd", file.n_embd, config.n_embd)?;
    }
    // A file that does not say is read as if every head had its own keys; the tensors know better.
    let kv_heads = meta.n_kv_head.filter(|&said| said != config.n_head as u64);
    told("n_kv_head", kv_heads, config.n_kv_head)?;
    expect(config.n_embd.is_multiple_of(config.n_head), "n_head", config.n_head, "a divisor of n_embd")?;
    let dim = config.head_dim;
    let largest = MAX_HEAD_DIM;
    expect(
        dim.is_multiple_of(2) && dim <= largest,
        "head dimension",
        dim,
        &format!("even and at most {largest}"),
    )?;
    let divides = config.n_kv_head > 0 && config.n_head.is_multiple_of(config.n_kv_head);
    expect(
        divides && config.n_kv_head * dim == evidence.kv_rows,
        "n_kv_head",
        config.n_kv_head,
        "a divisor of n_head",
    )?;
    expect(
        config.vocab_size <= evidence.rows,
        "vocab_size",
        config.vocab_size,
        &format!("at most {}, the rows of the embedding", evidence.rows),
    )?;
    let smallest = MIN_SEQUENCE;
    expect(
        config.sequence_len >= smallest,
        "sequence_len",
        config.sequence_len,
        &format!("at least {smallest}"),
    )?;
    let channels = evidence.gate_channels;
    expect(channels <= config.n_embd, "value gate channels", channels, "at most n_embd")?;
    expect(!evidence.smear || config.n_embd >= SMEAR_CHANNELS, "n_embd", config.n_embd, "at least 24")
}

/// The metadata without a companion that describes other weights than these.
fn describing(meta: &Meta, version: NanochatVersion, notes: &mut Vec<String>) -> Meta {
    let foreign = |other: &&Meta| metadata::describes_other_weights(other, version);
    let Some(other) = meta.companion.as_deref().filter(foreign) else { return meta.clone() };
    notes.push(format!(
        "{} beside these weights describes the Hugging Face class, which is generation g0, and these are {}: it is \
         not used",
        other.file,
        version.name()
    ));
    Meta { companion: None, ..meta.clone() }
}

/// The version's constants, under those that the metadata states, under those that an operator does.
fn constants(version: NanochatVersion, meta: &Meta, overrides: &Overrides) -> Result<Constants, Error> {
    let (base, stated) = (version.constants(), metadata::stated(meta, overrides)?);
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
struct Evidence {
    rows: usize,
    width: usize,
    layers: usize,
    kv_rows: usize,
    gate_channels: usize,
    lambdas: bool,
    smear: bool,
    backout: bool,
}

impl Evidence {
    fn gather(table: &TensorTable) -> Result<Self, Error> {
        let unknown: BTreeSet<&str> = table.names().filter(|name| names::parse(name).is_none()).collect();
        refuse(unknown.iter().copied())?;
        let present: Vec<Parameter> = table.names().filter_map(names::parse).collect();
        let has = |parameter| present.contains(&parameter);
        let [rows, width] = shape(table, Parameter::Embedding)?;
        let [kv_rows, _] = shape(table, Parameter::Key(0))?;
        let indices = present.iter().filter_map(|parameter| parameter.layer());
        let layers = indices.map(|layer| layer.saturating_add(1)).max().unwrap_or(0);
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
        let gate = present.iter().find(|parameter| matches!(parameter, Parameter::ValueGate(_)));
        let gate = gate.map(|&gate| shape(table, gate)).transpose()?;
        let evidence = Self {
            rows,
            width,
            layers,
            kv_rows,
            gate_channels: gate.map_or(0, |[_, channels]| channels),
            lambdas: has(Parameter::ResidualScales),
            smear: has(Parameter::SmearScale),
            backout: has(Parameter::BackoutScale),
        };
        evidence.check_sets(&present)?;
        let misplaced = present.iter().filter(|parameter| match parameter {
            Parameter::ValueGate(l) | Parameter::ValueEmbedding(l) => !evidence.has_values(*l),
            _ => false,
        });
        let misplaced: BTreeSet<String> = misplaced.map(|&parameter| names::name(parameter)).collect();
        refuse(misplaced.iter().map(String::as_str))?;
        Ok(evidence)
    }

    /// Whether a layer has value embeddings: every second one, the last included, or none.
    fn has_values(&self, layer: usize) -> bool {
        self.gate_channels > 0 && layer % 2 == (self.layers - 1) % 2
    }

    /// Tensors that nanochat never wrote one without the other: a file with a part of them was cut, or is a fork.
    /// Backout stands alone in nanochat's variant without smear.
    fn check_sets(&self, present: &[Parameter]) -> Result<(), Error> {
        let has = |parameter| present.contains(&parameter);
        let newer = self.gate_channels > 0 || self.smear || self.backout;
        let (gate, scale) = (Parameter::SmearGate, Parameter::SmearScale);
        let (residual, embedding) = (Parameter::ResidualScales, Parameter::EmbeddingScales);
        let needs = [
            (scale, "smear_gate.weight", has(gate)),
            (gate, "smear_lambda", self.smear),
            (Parameter::BackoutScale, "smear_gate.weight", has(gate)),
            (embedding, "resid_lambdas", self.lambdas),
            (residual, "x0_lambdas", has(embedding)),
            (residual, "value embeddings, smear or backout", newer),
        ];
        let missing = needs.into_iter().find(|&(parameter, _, needed)| needed && !has(parameter));
        missing.map_or(Ok(()), |(parameter, beside, _)| {
            Err(Error::IncompleteSet { name: names::name(parameter), beside })
        })
    }

    fn version(&self, meta: &Meta) -> Result<NanochatVersion, Error> {
        Ok(match self.gate_channels {
            _ if self.smear || self.backout => NanochatVersion::G7,
            12 => NanochatVersion::G6,
            0 if self.lambdas => NanochatVersion::G1,
            0 => NanochatVersion::G0,
            32 if trained_with_cap_20(meta) => NanochatVersion::G5,
            32 => NanochatVersion::G3,
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
fn assumptions(
    version: NanochatVersion,
    meta: &Meta,
    overrides: &Overrides,
) -> Result<Option<String>, Error> {
    let stated = overrides.softcap.or(metadata::stated(meta, overrides)?.softcap);
    let unsure = version == NanochatVersion::G3 && stated.is_none() && meta.user_config.is_empty();
    Ok(unsure.then(|| {
        "the logit cap of this generation is 15 or 20 and the metadata does not tell; 15 is used, and an override \
         `softcap` can say otherwise"
            .to_owned()
    }))
}

/// Refuses tensors of another architecture, by the first few of their names.
fn refuse<'a>(unknown: impl ExactSizeIterator<Item = &'a str>) -> Result<(), Error> {
    let n = unknown.len();
    let mut names: Vec<String> = unknown.take(NAMED_UNKNOWN).map(|name| format!("`{name}`")).collect();
    if n > NAMED_UNKNOWN {
        names.push(format!("and {} more", n - NAMED_UNKNOWN));
    }
    if names.is_empty() { Ok(()) } else { Err(Error::UnknownTensors { names }) }
}

/// The shape of a matrix.
fn shape(table: &TensorTable, parameter: Parameter) -> Result<[usize; 2], Error> {
    let missing = || Error::MissingTensor { name: names::name(parameter) };
    let found = tensor(table, parameter).ok_or_else(missing)?.shape().to_vec();
    <[usize; 2]>::try_from(found).map_err(|found| {
        let (name, expected) = (names::name(parameter), vec![0, 0]);
        Error::WrongShape { name, found, expected }
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

/// Letters S and L, to be repeated over the layers.
fn window_pattern(
    evidence: &Evidence,
    version: NanochatVersion,
    meta: &Meta,
    overrides: &Overrides,
    notes: &mut Vec<String>,
) -> Result<String, Error> {
    let stated = match overrides.window_pattern.as_deref() {
        Some(over) => Some(over),
        None => metadata::window_pattern(meta)?,
    };
    if stated.is_none() && evidence.gate_channels > 0 {
        notes.push(
            "the metadata has no window_pattern, so every layer sees the whole context; the base model was \
             probably trained with SSSL, which an override `window_pattern` can say"
                .to_owned(),
        );
    }
    // G0 had no windows, whatever a later tool wrote beside it.
    let pattern = if version == NanochatVersion::G0 { "L" } else { stated.unwrap_or("L") };
    let pattern = pattern.to_ascii_uppercase();
    if pattern.is_empty() || pattern.len() > MAX_LAYERS || !pattern.bytes().all(|b| b == b'S' || b == b'L') {
        let value = pattern.chars().take(40).collect();
        let expected = "letters S and L".to_owned();
        return Err(Error::InvalidField { field: "window_pattern", value, expected });
    }
    Ok(pattern)
}
