//! A nanochat checkpoint of random numbers: files such as training leaves, so that a load takes the path that
//! real models take. Made once a depth, from a seed, in a folder below the target directory.
//!
//! The rows of the head that belong to special tokens are zero. A random model thus never ends its turn or
//! calls its tool: the likeliest of 32,768 random logits is above zero, and runs are as long as they should be.

pub(crate) mod numbers;

mod tokenizer;
mod torch;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cpu::WeightFormat;
use registry::{Catalog, Tag, open};
use serde_json::json;
use serving::LoadedModel;

use super::formats::Format;
use super::setup::{Setup, VOCABULARY, WIDTH_OF_A_LAYER};
use crate::place;

use self::numbers::Numbers;
use self::torch::{Archive, Described, Numeric};

/// What the maker writes; a new number makes the files anew.
const EDITION: &str = "1\n";
/// Numbers in a head.
const HEAD_DIM: usize = 128;
/// Tokens of the longest sequence.
const SEQUENCE: usize = 2048;
/// Layers with a short window, three of four.
const WINDOWS: &str = "SSSL";
/// Channels that gates of value embeddings and the smear look at.
const VALUE_GATE_CHANNELS: usize = 12;
const SMEAR_CHANNELS: usize = 24;

/// Where the models are: a storage root as a server takes it.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    Ok(place::target_dir()?.join("bench-models"))
}

/// The tag of a depth.
pub(crate) fn tag(depth: usize) -> String {
    format!("d{depth}")
}

/// Loads the model of this depth as a server does, and makes it first where there is none.
pub(crate) fn load(setup: &Setup, format: &Format) -> anyhow::Result<LoadedModel> {
    let root = root()?;
    make_once(&root, setup.depth)?;
    read(&setup.compute(), &root, setup.depth, format.held)
}

/// Files to a model in memory.
pub(crate) fn read(
    compute: &kernels::Compute,
    root: &Path,
    depth: usize,
    format: WeightFormat,
) -> anyhow::Result<LoadedModel> {
    let catalog = Catalog::new(Some(root.to_owned()));
    let tag = Tag::new(&tag(depth)).context("a tag is a letter and digits")?;
    let verified = open::open(&catalog, &catalog.find(&tag)?, None)?;
    Ok(LoadedModel::load(verified, format, compute)?)
}

/// Makes the files of a depth unless they are there.
pub(crate) fn make_once(root: &Path, depth: usize) -> anyhow::Result<()> {
    let folder = root.join(tag(depth));
    let edition = folder.join("edition.txt");
    if fs::read_to_string(&edition).is_ok_and(|found| found == EDITION) {
        return Ok(());
    }
    eprintln!("making a random checkpoint of depth {depth}");
    make(&folder, ModelSize::of_depth(depth)).with_context(|| format!("making {}", folder.display()))?;
    Ok(fs::write(edition, EDITION)?)
}

/// Sizes of a model.
#[derive(Clone, Copy)]
struct ModelSize {
    layers: usize,
    width: usize,
    heads: usize,
    vocabulary: usize,
}

impl ModelSize {
    fn of_depth(depth: usize) -> Self {
        let width = depth * WIDTH_OF_A_LAYER;
        Self { layers: depth, width, heads: width.div_ceil(HEAD_DIM), vocabulary: VOCABULARY }
    }

    /// Whether a layer has value embeddings: every second one, the last included.
    fn has_values(self, layer: usize) -> bool {
        layer % 2 == (self.layers - 1) % 2
    }
}

fn make(folder: &Path, shape: ModelSize) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let ModelSize { layers, width, heads, vocabulary } = shape;
    let meta = json!({"step": 1, "val_bpb": 8.0, "model_config": {
        "sequence_len": SEQUENCE, "vocab_size": vocabulary, "n_layer": layers, "n_head": heads,
        "n_kv_head": heads, "n_embd": width, "window_pattern": WINDOWS,
    }});
    fs::write(folder.join("meta_000001.json"), serde_json::to_string_pretty(&meta)?)?;
    fs::write(folder.join("tokenizer.pkl"), tokenizer::pickle(vocabulary))?;
    let parameters = parameters(shape);
    let described: Vec<Described> = parameters.iter().map(|parameter| parameter.described.clone()).collect();
    let mut archive = Archive::create(&folder.join("model_000001.pt"), "model_000001")?;
    archive.add("data.pkl", &torch::pickle(&described))?;
    archive.add("byteorder", b"little")?;
    for (index, parameter) in parameters.iter().enumerate() {
        archive.add(&format!("data/{index}"), &parameter.bytes(index as u64))?;
    }
    archive.add("version", b"3\n")?;
    Ok(archive.finish()?)
}

/// A tensor and what is in it.
struct SyntheticTensor {
    described: Described,
    content: Content,
}

#[derive(Clone, Copy)]
enum Content {
    /// Evenly between minus this and this.
    Uniform(f32),
    /// Such, but the last rows are zero: those of the special tokens.
    Head(f32),
    /// The same number everywhere.
    Constant(f32),
}

impl SyntheticTensor {
    fn new(name: impl Into<String>, shape: &[usize], numeric: Numeric, content: Content) -> Self {
        Self { described: Described { name: name.into(), shape: shape.to_vec(), numeric }, content }
    }

    /// Its numbers, little-endian, from a seed.
    fn bytes(&self, seed: u64) -> Vec<u8> {
        let Described { shape, numeric, .. } = &self.described;
        let count: usize = shape.iter().product();
        let mut numbers = Numbers::new(seed);
        let (zeros, mut number): (usize, Box<dyn FnMut() -> f32>) = match self.content {
            Content::Constant(value) => (0, Box::new(move || value)),
            Content::Uniform(bound) => (0, Box::new(move || numbers.uniform(bound))),
            Content::Head(bound) => (tokenizer::SPECIAL * shape[1], Box::new(move || numbers.uniform(bound))),
        };
        let values = (0..count).map(|i| if i < count - zeros { number() } else { 0.0 });
        match numeric {
            Numeric::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Numeric::Bf16 => values.flat_map(|value| ::kernels::bf16::narrow(value).to_le_bytes()).collect(),
        }
    }
}

/// Every parameter of the newest generation, as nanochat names and keeps them: matrices in f32, tables that
/// are only looked up in bf16.
fn parameters(shape: ModelSize) -> Vec<SyntheticTensor> {
    let ModelSize { layers, width: c, heads, vocabulary } = shape;
    let of_width = (3.0 / c as f32).sqrt();
    let matrix = |name: String, rows, inputs, bound| {
        SyntheticTensor::new(name, &[rows, inputs], Numeric::F32, Content::Uniform(bound))
    };
    let table = |name: String, bound| {
        SyntheticTensor::new(name, &[vocabulary, c], Numeric::Bf16, Content::Uniform(bound))
    };
    let scalars = |name: &str, shape: &[usize], value| {
        SyntheticTensor::new(name, shape, Numeric::F32, Content::Constant(value))
    };
    let mut all = vec![
        scalars("resid_lambdas", &[layers], 1.0),
        scalars("x0_lambdas", &[layers], 0.1),
        scalars("smear_lambda", &[1], 0.1),
        scalars("backout_lambda", &[1], 0.2),
        table("transformer.wte.weight".to_owned(), 1.0),
    ];
    for l in 0..layers {
        let name = |part: &str| format!("transformer.h.{l}.{part}.weight");
        for part in ["attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj"] {
            all.push(matrix(name(part), c, c, of_width));
        }
        if shape.has_values(l) {
            all.push(matrix(name("attn.ve_gate"), heads, VALUE_GATE_CHANNELS, 0.1));
        }
        all.push(matrix(name("mlp.c_fc"), 4 * c, c, of_width));
        all.push(matrix(name("mlp.c_proj"), c, 4 * c, of_width / 2.0));
    }
    let head = Content::Head(of_width);
    all.push(SyntheticTensor::new("lm_head.weight", &[vocabulary, c], Numeric::F32, head));
    let with_values = (0..layers).filter(|&l| shape.has_values(l));
    all.extend(with_values.map(|l| table(format!("value_embeds.{l}.weight"), of_width)));
    all.push(matrix("smear_gate.weight".to_owned(), 1, SMEAR_CHANNELS, 0.1));
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SMALL: ModelSize = ModelSize { layers: 3, width: 128, heads: 1, vocabulary: 300 };

    fn made() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(tag(SMALL.layers));
        make(&folder, SMALL).unwrap();
        (root, folder)
    }

    #[test]
    fn the_file_reads_back_as_it_was_made() {
        let (_root, folder) = made();
        let file = Arc::new(fs::File::open(folder.join("model_000001.pt")).unwrap());
        let table = ::formats::TensorTable::read("model_000001.pt", file).unwrap();
        let parameters = parameters(SMALL);
        assert_eq!(table.len(), parameters.len());
        for (index, parameter) in parameters.iter().enumerate() {
            let tensor = table.get(&parameter.described.name).unwrap();
            assert_eq!(tensor.shape(), parameter.described.shape);
            let bytes = parameter.bytes(index as u64);
            let expected: Vec<f32> = match parameter.described.numeric {
                Numeric::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Numeric::Bf16 => bytes.as_chunks().0.iter().map(|b| widened(*b)).collect(),
            };
            assert_eq!(tensor.read().unwrap(), expected, "{}", tensor.name());
        }
    }

    fn widened(bytes: [u8; 2]) -> f32 {
        ::kernels::bf16::widen(u16::from_le_bytes(bytes))
    }

    #[test]
    fn it_loads_as_the_newest_generation_with_all_its_parts() {
        let (root, _) = made();
        let model = read(
            &kernels::Compute::new(kernels::Isa::SCALAR, 1),
            root.path(),
            SMALL.layers,
            WeightFormat::F32,
        )
        .unwrap();
        let config = &model.weights.config;
        assert_eq!(config.architecture, "g7");
        assert_eq!((config.n_layer(), config.n_embd, config.sequence_len), (3, 128, SEQUENCE));
        let windows: Vec<usize> = config.layers.iter().map(|layer| layer.window).collect();
        assert_eq!(windows, [512, 512, 2048]);
        assert_eq!(model.tokenizer.vocab_size(), SMALL.vocabulary);
        assert!(config.notes.is_empty(), "{:?}", config.notes);
    }

    #[test]
    fn special_tokens_have_no_logits() {
        let head =
            SyntheticTensor::new("lm_head.weight", &[20, 4], Numeric::F32, Content::Head(1.0)).bytes(1);
        let (used, zeros) = head.split_at((20 - tokenizer::SPECIAL) * 4 * 4);
        assert!(zeros.iter().all(|&byte| byte == 0));
        assert!(used.as_chunks::<4>().0.iter().all(|bytes| f32::from_le_bytes(*bytes) != 0.0));
    }

    #[test]
    fn depth_12_has_the_size_that_nanochat_saves() {
        let bytes = |p: &SyntheticTensor| {
            let size = if p.described.numeric == Numeric::F32 { 4 } else { 2 };
            p.described.shape.iter().product::<usize>() * size
        };
        let total: usize = parameters(ModelSize::of_depth(12)).iter().map(bytes).sum();
        assert!((785_000_000..800_000_000).contains(&total), "{total}");
        assert_eq!(parameters(ModelSize::of_depth(12)).len(), 91);
    }
}
