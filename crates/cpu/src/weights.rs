//! Weights in memory: packed once, never changed, shared by every engine that serves them.

use std::ops::Range;

use formats::{DType, Tensor, TensorTable};
use kernels::{Compute, Packed, Table, TableFormat, WeightFormat};

use model::{Backout, Config, Error, LayerSpec, Parameter, Smear, ValueGate};

/// A model's parameters. L layers, C = n_embd, H heads and K key/value heads of D numbers, F = n_hidden, V
/// token ids.
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
    pub(crate) smear: Option<SmearWeights>,
    pub(crate) backout: Option<BackoutWeights>,
    /// One for each base of the frequencies.
    pub(crate) rotary: Vec<Rotary>,
}

pub(crate) struct Layer {
    /// Share of the residual stream and of the first embedding that enter the layer.
    pub(crate) keep: f32,
    pub(crate) first: f32,
    /// Factor on queries and keys after their norm.
    pub(crate) qk_scale: f32,
    /// How many positions back it attends to.
    pub(crate) window: usize,
    /// ((H + 2K) · D, C): queries, keys, values
    pub(crate) qkv: Packed,
    /// (C, H · D)
    pub(crate) attention_out: Packed,
    pub(crate) values: Option<ValueEmbedding>,
    /// Index of its angles.
    pub(crate) rotary: usize,
    /// (F, C)
    pub(crate) up: Packed,
    /// (C, F)
    pub(crate) down: Packed,
}

pub(crate) struct ValueEmbedding {
    /// (V, K · D)
    pub(crate) table: Table,
    /// (K, channels)
    pub(crate) gate: Vec<f32>,
    /// Upper end of the gate.
    pub(crate) scale: f32,
}

pub(crate) struct SmearWeights {
    /// (channels)
    pub(crate) gate: Vec<f32>,
    pub(crate) scale: f32,
}

pub(crate) struct BackoutWeights {
    /// The layer whose output is subtracted at the end.
    pub(crate) layer: usize,
    pub(crate) scale: f32,
}

/// Cosine and sine of every position's angles, (sequence_len, D / 2) each.
pub(crate) struct Rotary {
    base: f32,
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
        let source = WeightSource { compute, table, format, config: &config };
        let c = &config;
        let rotary = Rotary::all(c);
        let keep = source.vector(Parameter::ResidualScales, c.n_layer(), 1.0)?;
        let first = source.vector(Parameter::EmbeddingScales, c.n_layer(), 0.0)?;
        let layer = |(l, spec): (usize, &LayerSpec)| {
            let layer = source.layer(l, spec)?;
            let rotary = rotary.iter().position(|rotary| rotary.base == spec.rope_base).unwrap_or(0);
            Ok(Layer { keep: keep[l], first: first[l], rotary, ..layer })
        };
        let layers = c.layers.iter().enumerate().map(layer).collect::<Result<Vec<_>, Error>>()?;
        let smear = |smear: Smear| {
            let gate = source.matrix(Parameter::SmearGate, [1, smear.channels])?;
            Ok::<_, Error>(SmearWeights { gate, scale: source.scalar(Parameter::SmearScale)? })
        };
        let backout = |backout: Backout| {
            let scale = source.scalar(Parameter::BackoutScale)?;
            Ok::<_, Error>(BackoutWeights { layer: backout.layer, scale })
        };
        Ok(Self {
            embedding: source.embedding(Parameter::Embedding, c.n_embd)?,
            layers,
            head: source.packed(&[(Parameter::Head, c.vocab_size)], c.n_embd)?,
            smear: c.smear.map(smear).transpose()?,
            backout: c.backout.map(backout).transpose()?,
            rotary,
            format,
            config,
        })
    }

    /// Bytes that [`Weights::load`] would hold.
    pub fn planned_bytes(table: &TensorTable, config: &Config, format: WeightFormat) -> usize {
        let kv = config.n_kv_head * config.head_dim;
        let embedding = |parameter: Parameter, width: usize| {
            let dtype = config.family.tensor(table, parameter).map(Tensor::dtype);
            dtype.map_or(0, |dtype| table_format(format, dtype).bytes(config.vocab_size, width))
        };
        let gated = config.layers.iter().enumerate().filter(|(_, layer)| layer.value_gate.is_some());
        let values: usize = gated.map(|(l, _)| embedding(Parameter::ValueEmbedding(l), kv)).sum();
        let angles = config.sequence_len * config.head_dim * size_of::<f32>();
        Self::planned_matrix_bytes(config, format)
            + values
            + embedding(Parameter::Embedding, config.n_embd)
            + rope_bases(config).len() * angles
    }

    /// Bytes of what [`Weights::load`] would multiply with.
    pub fn planned_matrix_bytes(config: &Config, format: WeightFormat) -> usize {
        let (n, hidden) = (config.n_embd, config.n_hidden);
        let (queries, kv) = (config.n_head * config.head_dim, config.n_kv_head * config.head_dim);
        let matrices = [(queries + 2 * kv, n), (n, queries), (hidden, n), (n, hidden)];
        let of_layer = matrices.iter().map(|&(outputs, inputs)| format.bytes(outputs, inputs)).sum::<usize>();
        config.n_layer() * of_layer + format.bytes(config.vocab_size, n)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let rotary = self.rotary.iter().map(|rotary| rotary.cos.len() + rotary.sin.len());
        self.matrix_bytes() + self.embedding_bytes() + rotary.sum::<usize>() * size_of::<f32>()
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
struct WeightSource<'a> {
    compute: &'a Compute,
    table: &'a TensorTable,
    config: &'a Config,
    format: WeightFormat,
}

impl WeightSource<'_> {
    /// The parameters of one layer, without what all layers share.
    fn layer(&self, l: usize, spec: &LayerSpec) -> Result<Layer, Error> {
        let c = self.config;
        let (queries, kv) = (c.n_head * c.head_dim, c.n_kv_head * c.head_dim);
        let values = |gate: ValueGate| {
            Ok::<_, Error>(ValueEmbedding {
                table: self.embedding(Parameter::ValueEmbedding(l), kv)?,
                gate: self.matrix(Parameter::ValueGate(l), [c.n_kv_head, gate.channels])?,
                scale: gate.scale,
            })
        };
        let qkv = [(Parameter::Query(l), queries), (Parameter::Key(l), kv), (Parameter::Value(l), kv)];
        Ok(Layer {
            keep: 1.0,
            first: 0.0,
            qk_scale: spec.qk_scale,
            window: spec.window,
            rotary: 0,
            qkv: self.packed(&qkv, c.n_embd)?,
            attention_out: self.packed(&[(Parameter::AttentionOut(l), c.n_embd)], queries)?,
            values: spec.value_gate.map(values).transpose()?,
            up: self.packed(&[(Parameter::Up(l), c.n_hidden)], c.n_embd)?,
            down: self.packed(&[(Parameter::Down(l), c.n_embd)], c.n_hidden)?,
        })
    }

    fn name(&self, parameter: Parameter) -> String {
        self.config.family.tensor_name(parameter)
    }

    /// A tensor (rows, inputs); vocabularies may be padded with more rows than asked for.
    fn tensor(&self, parameter: Parameter, rows: usize, inputs: usize) -> Result<&Tensor, Error> {
        let missing = || Error::MissingTensor { name: self.name(parameter) };
        let tensor = self.config.family.tensor(self.table, parameter).ok_or_else(missing)?;
        match tensor.shape() {
            &[r, i] if i == inputs && (r == rows || parameter.is_per_token() && r > rows) => Ok(tensor),
            found => {
                let (found, expected) = (found.to_vec(), vec![rows, inputs]);
                Err(Error::WrongShape { name: self.name(parameter), found, expected })
            }
        }
    }

    /// Matrices of `inputs` columns below one another, packed.
    fn packed(&self, parts: &[(Parameter, usize)], inputs: usize) -> Result<Packed, Error> {
        // All shapes first: nothing is allocated on the word of another tensor.
        let found = |&(parameter, rows): &(_, usize)| Ok((self.tensor(parameter, rows, inputs)?, rows));
        let tensors = parts.iter().map(found).collect::<Result<Vec<_>, Error>>()?;
        let outputs = tensors.iter().map(|(_, rows)| rows).sum();
        Packed::new(self.compute, self.format, [outputs, inputs], |range, numbers| {
            // A panel may end in another tensor than it begins in.
            let (mut first, mut numbers) = (0, numbers);
            for (&(parameter, _), &(tensor, rows)) in parts.iter().zip(&tensors) {
                let wanted = range.start.max(first)..range.end.min(first + rows);
                if !wanted.is_empty() {
                    let (now, rest) = numbers.split_at_mut(wanted.len() * inputs);
                    self.read_rows(tensor, parameter, wanted.start - first..wanted.end - first, now)?;
                    numbers = rest;
                }
                first += rows;
            }
            Ok(())
        })
    }

    /// A table with a row for each token id.
    fn embedding(&self, parameter: Parameter, width: usize) -> Result<Table, Error> {
        let rows = self.config.vocab_size;
        let tensor = self.tensor(parameter, rows, width)?;
        let format = table_format(self.format, tensor.dtype());
        Table::new(self.compute, format, [rows, width], |range, numbers| {
            self.read_rows(tensor, parameter, range, numbers)
        })
    }

    /// A small matrix, row-major in f32.
    fn matrix(&self, parameter: Parameter, [rows, inputs]: [usize; 2]) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(parameter, rows, inputs)?;
        let mut numbers = vec![0.0; rows * inputs];
        self.read_rows(tensor, parameter, 0..rows, &mut numbers)?;
        Ok(numbers)
    }

    /// A vector of scalars that a model may lack; `absent` is the value that leaves it out.
    fn vector(&self, parameter: Parameter, length: usize, absent: f32) -> Result<Vec<f32>, Error> {
        let Some(tensor) = self.config.family.tensor(self.table, parameter) else {
            return Ok(vec![absent; length]);
        };
        if tensor.element_count() != length {
            let found = tensor.shape().to_vec();
            return Err(Error::WrongShape { name: self.name(parameter), found, expected: vec![length] });
        }
        let numbers = tensor.read()?;
        self.check_finite(parameter, &numbers)?;
        Ok(numbers)
    }

    fn scalar(&self, parameter: Parameter) -> Result<f32, Error> {
        Ok(self.vector(parameter, 1, 0.0)?[0])
    }

    /// Rows of a tensor, as f32.
    fn read_rows(
        &self,
        tensor: &Tensor,
        parameter: Parameter,
        rows: Range<usize>,
        numbers: &mut [f32],
    ) -> Result<(), Error> {
        tensor.read_rows(rows, numbers)?;
        self.check_finite(parameter, numbers)
    }

    fn check_finite(&self, parameter: Parameter, numbers: &[f32]) -> Result<(), Error> {
        // Zero times anything finite is zero, and the sum vectorises where `all` does not.
        if numbers.iter().map(|n| n * 0.0).sum::<f32>() == 0.0 {
            return Ok(());
        }
        Err(Error::NotFinite { name: self.name(parameter) })
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

/// The bases of the rotary frequencies, each once.
fn rope_bases(config: &Config) -> Vec<f32> {
    let mut bases: Vec<f32> = Vec::new();
    for layer in &config.layers {
        if !bases.contains(&layer.rope_base) {
            bases.push(layer.rope_base);
        }
    }
    bases
}

impl Rotary {
    /// The angles of each base that a layer has.
    fn all(config: &Config) -> Vec<Self> {
        rope_bases(config).into_iter().map(|base| Self::new(config, base)).collect()
    }

    /// Frequencies and angles in f32, as nanochat computes them.
    fn new(config: &Config, base: f32) -> Self {
        let half = config.head_dim / 2;
        let dim = config.head_dim as f32;
        let frequencies: Vec<f32> = (0..half).map(|i| 1.0 / base.powf(2.0 * i as f32 / dim)).collect();
        let angles = (0..config.sequence_len)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { base, half, cos, sin }
    }

    /// Cosines and sines of one position.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
