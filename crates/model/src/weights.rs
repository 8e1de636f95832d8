//! Weights in memory: packed once, never changed, shared by every engine that serves them.

use std::ops::Range;

use formats::{DType, Tensor, TensorTable};
use kernels::{Compute, Packed, Table, TableFormat, WeightFormat};

use crate::config::find;
use crate::{Config, Error};

/// A model's parameters. L layers, C = n_embd, H heads and K key/value heads of D numbers, V token ids.
pub struct Weights {
    /// The blueprint.
    pub config: Config,
    /// How the matrices are held.
    pub format: WeightFormat,
    /// (V, C)
    pub(crate) embedding: Table,
    pub(crate) layers: Vec<Layer>,
    /// (V, C)
    pub(crate) head: Packed,
    pub(crate) smear: Option<Smear>,
    /// How much of the middle of the network is taken out of its end.
    pub(crate) backout: f32,
    pub(crate) rotary: Rotary,
}

pub(crate) struct Layer {
    /// Share of the residual stream and of the first embedding that enter the layer.
    pub(crate) keep: f32,
    pub(crate) first: f32,
    /// ((H + 2K) · D, C): queries, keys, values
    pub(crate) qkv: Packed,
    /// (C, C)
    pub(crate) attention_out: Packed,
    pub(crate) values: Option<ValueEmbedding>,
    /// (4C, C)
    pub(crate) up: Packed,
    /// (C, 4C)
    pub(crate) down: Packed,
}

pub(crate) struct ValueEmbedding {
    /// (V, K · D)
    pub(crate) table: Table,
    /// (K, channels)
    pub(crate) gate: Vec<f32>,
}

pub(crate) struct Smear {
    /// (24)
    pub(crate) gate: Vec<f32>,
    pub(crate) lambda: f32,
}

/// Cosine and sine of every position's angles, (sequence_len, D / 2) each.
pub(crate) struct Rotary {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Weights {
    /// Reads and packs every parameter, on all threads. Peak memory is the result plus a few rows for each.
    pub fn load(
        compute: &Compute,
        table: &TensorTable,
        config: Config,
        format: WeightFormat,
    ) -> Result<Self, Error> {
        let source = Source { compute, table, format };
        let c = &config;
        let vector = |name: &str, absent: f32| source.vector(name, c.n_layer, absent);
        let (keep, first) = (vector("resid_lambdas", 1.0)?, vector("x0_lambdas", 0.0)?);
        let layers = (0..c.n_layer)
            .map(|l| source.layer(c, l, (keep[l], first[l])))
            .collect::<Result<Vec<_>, Error>>()?;
        let smear = match find(table, "smear_gate.weight") {
            None => None,
            Some(_) => Some(Smear {
                gate: source.matrix("smear_gate.weight", [1, 24])?,
                lambda: source.vector("smear_lambda", 1, 0.0)?[0],
            }),
        };
        Ok(Self {
            embedding: source.embedding("transformer.wte.weight", c.vocab_size, c.n_embd)?,
            layers,
            head: source.packed(&[("lm_head.weight", c.vocab_size)], c.n_embd)?,
            smear,
            backout: source.vector("backout_lambda", 1, 0.0)?[0],
            rotary: Rotary::new(c),
            format,
            config,
        })
    }

    /// Bytes that [`Weights::load`] would hold.
    pub fn planned_bytes(table: &TensorTable, config: &Config, format: WeightFormat) -> usize {
        let (c, kv) = (config, config.n_kv_head * config.head_dim());
        let embedding = |name: &str, width: usize| {
            find(table, name)
                .map_or(0, |tensor| table_format(format, tensor.dtype()).bytes(c.vocab_size, width))
        };
        let values =
            (0..c.n_layer).map(|l| embedding(&format!("value_embeds.{l}.weight"), kv)).sum::<usize>();
        let angles = c.sequence_len * c.head_dim() * size_of::<f32>();
        Self::planned_matrix_bytes(c, format)
            + values
            + embedding("transformer.wte.weight", c.n_embd)
            + angles
    }

    /// Bytes of what [`Weights::load`] would multiply with.
    pub fn planned_matrix_bytes(config: &Config, format: WeightFormat) -> usize {
        let (n, kv) = (config.n_embd, config.n_kv_head * config.head_dim());
        let matrices = [(n + 2 * kv, n), (n, n), (4 * n, n), (n, 4 * n)];
        let of_layer = matrices.iter().map(|&(outputs, inputs)| format.bytes(outputs, inputs)).sum::<usize>();
        config.n_layer * of_layer + format.bytes(config.vocab_size, n)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let rotary = (self.rotary.cos.len() + self.rotary.sin.len()) * size_of::<f32>();
        self.matrix_bytes() + self.embedding_bytes() + rotary
    }

    /// Bytes of what is multiplied with.
    pub fn matrix_bytes(&self) -> usize {
        let matrices = self.layers.iter().flat_map(|l| [&l.qkv, &l.attention_out, &l.up, &l.down]);
        matrices.chain([&self.head]).map(Packed::bytes).sum()
    }

    /// Bytes of what is looked up.
    pub fn embedding_bytes(&self) -> usize {
        let values = self.layers.iter().filter_map(|l| l.values.as_ref()).map(|v| v.table.bytes());
        self.embedding.bytes() + values.sum::<usize>()
    }
}

/// Where parameters come from and how they shall be held.
struct Source<'a> {
    compute: &'a Compute,
    table: &'a TensorTable,
    format: WeightFormat,
}

impl Source<'_> {
    fn layer(&self, c: &Config, l: usize, (keep, first): (f32, f32)) -> Result<Layer, Error> {
        let name = |part: &str| format!("transformer.h.{l}.{part}.weight");
        let kv = c.n_kv_head * c.head_dim();
        let values = if c.has_values(l) {
            Some(ValueEmbedding {
                table: self.embedding(&format!("value_embeds.{l}.weight"), c.vocab_size, kv)?,
                gate: self.matrix(&name("attn.ve_gate"), [c.n_kv_head, c.value_gate_channels])?,
            })
        } else {
            self.refuse(&[format!("value_embeds.{l}.weight"), name("attn.ve_gate")])?;
            None
        };
        let (q, k, v) = (name("attn.c_q"), name("attn.c_k"), name("attn.c_v"));
        Ok(Layer {
            keep,
            first,
            qkv: self.packed(&[(&q, c.n_embd), (&k, kv), (&v, kv)], c.n_embd)?,
            attention_out: self.packed(&[(&name("attn.c_proj"), c.n_embd)], c.n_embd)?,
            values,
            up: self.packed(&[(&name("mlp.c_fc"), 4 * c.n_embd)], c.n_embd)?,
            down: self.packed(&[(&name("mlp.c_proj"), c.n_embd)], 4 * c.n_embd)?,
        })
    }

    /// Value embeddings on a layer that should have none are another architecture.
    fn refuse(&self, names: &[String]) -> Result<(), Error> {
        match names.iter().find(|name| find(self.table, name).is_some()) {
            Some(name) => Err(Error::UnknownTensors { names: vec![format!("`{name}`")] }),
            None => Ok(()),
        }
    }

    /// A tensor (rows, inputs); vocabularies may be padded with more rows than asked for.
    fn tensor(&self, name: &str, rows: usize, inputs: usize) -> Result<&Tensor, Error> {
        let tensor = find(self.table, name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        let vocabulary =
            name == "lm_head.weight" || name == "transformer.wte.weight" || name.starts_with("value_embeds");
        match tensor.shape() {
            &[r, i] if i == inputs && (r == rows || vocabulary && r > rows) => Ok(tensor),
            found => {
                let (found, expected) = (found.to_vec(), vec![rows, inputs]);
                Err(Error::WrongShape { name: name.to_owned(), found, expected })
            }
        }
    }

    /// Matrices of `inputs` columns below one another, packed.
    fn packed(&self, parts: &[(&str, usize)], inputs: usize) -> Result<Packed, Error> {
        // All shapes first: nothing is allocated on the word of another tensor.
        let found = |&(name, rows): &(_, usize)| Ok((self.tensor(name, rows, inputs)?, rows));
        let tensors = parts.iter().map(found).collect::<Result<Vec<_>, Error>>()?;
        let outputs = tensors.iter().map(|(_, rows)| rows).sum();
        Packed::new(self.compute, self.format, [outputs, inputs], |range, numbers| {
            // A panel may end in another tensor than it begins in.
            let (mut first, mut numbers) = (0, numbers);
            for (&(name, _), &(tensor, rows)) in parts.iter().zip(&tensors) {
                let wanted = range.start.max(first)..range.end.min(first + rows);
                if !wanted.is_empty() {
                    let (now, rest) = numbers.split_at_mut(wanted.len() * inputs);
                    read_rows(tensor, name, wanted.start - first..wanted.end - first, now)?;
                    numbers = rest;
                }
                first += rows;
            }
            Ok(())
        })
    }

    fn embedding(&self, name: &str, rows: usize, width: usize) -> Result<Table, Error> {
        let tensor = self.tensor(name, rows, width)?;
        let format = table_format(self.format, tensor.dtype());
        Table::new(self.compute, format, [rows, width], |range, numbers| {
            read_rows(tensor, name, range, numbers)
        })
    }

    /// A small matrix, row-major in f32.
    fn matrix(&self, name: &str, [rows, inputs]: [usize; 2]) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name, rows, inputs)?;
        let mut numbers = vec![0.0; rows * inputs];
        read_rows(tensor, name, 0..rows, &mut numbers)?;
        Ok(numbers)
    }

    /// A vector of scalars that older generations lack; `absent` is the value that leaves it out.
    fn vector(&self, name: &str, length: usize, absent: f32) -> Result<Vec<f32>, Error> {
        let Some(tensor) = find(self.table, name) else {
            return Ok(vec![absent; length]);
        };
        if tensor.element_count() != length {
            let found = tensor.shape().to_vec();
            return Err(Error::WrongShape { name: name.to_owned(), found, expected: vec![length] });
        }
        let numbers = tensor.read()?;
        finite(name, &numbers)?;
        Ok(numbers)
    }
}

/// How embeddings are held beside weights of a format: in half precision, unless the file is exact and exact weights are
/// asked for, or the weights are so coarse that bytes cost nothing more.
fn table_format(format: WeightFormat, dtype: DType) -> TableFormat {
    match format {
        WeightFormat::F32 if dtype != DType::BF16 => TableFormat::F32,
        WeightFormat::F32 | WeightFormat::Bf16 | WeightFormat::Int8 => TableFormat::Bf16,
        WeightFormat::Int4 => TableFormat::Int8,
    }
}

/// Rows of a tensor, as f32.
fn read_rows(tensor: &Tensor, name: &str, rows: Range<usize>, numbers: &mut [f32]) -> Result<(), Error> {
    tensor.read_rows(rows, numbers)?;
    finite(name, numbers)
}

fn finite(name: &str, numbers: &[f32]) -> Result<(), Error> {
    // Zero times anything finite is zero, and the sum vectorises where `all` does not.
    if numbers.iter().map(|n| n * 0.0).sum::<f32>() == 0.0 {
        return Ok(());
    }
    Err(Error::NotFinite { name: name.to_owned() })
}

impl Rotary {
    /// Frequencies and angles in f32, as nanochat computes them.
    fn new(config: &Config) -> Self {
        let half = config.head_dim() / 2;
        let dim = config.head_dim() as f32;
        let frequency = |i: usize| 1.0 / config.constants.rope_base.powf(2.0 * i as f32 / dim);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles = (0..config.sequence_len)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { half, cos, sin }
    }

    /// Cosines and sines of one position.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
