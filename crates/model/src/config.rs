//! The blueprint of a model: sizes and constants, checked against the tensors that are there. Backends branch on what
//! stands here and never on a family's name.

use std::fmt;

use formats::{Meta, TensorTable};

use crate::{Error, FAMILIES, Family, NanochatVersion, ShortWindow};

/// Upper bounds of the sizes this server takes on; a file that asks for more is refused before anything is
/// allocated.
pub const MAX_LAYERS: usize = 1024;
/// Most numbers of the residual stream.
pub const MAX_WIDTH: usize = 65_536;
/// Most token ids.
pub const MAX_VOCAB: usize = 1 << 20;
/// Most positions of a sequence.
pub const MAX_SEQUENCE: usize = 1 << 20;
/// Fewest positions of a sequence.
pub const MIN_SEQUENCE: usize = 32;
/// Most numbers of a head.
pub const MAX_HEAD_DIM: usize = 256;

/// What an operator says instead of a checkpoint.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Overrides {
    /// Constants of this version of nanochat instead of the detected one's.
    pub generation: Option<NanochatVersion>,
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
#[derive(Clone, Debug)]
pub struct Config {
    /// Knows the names of the tensors.
    pub family: &'static dyn Family,
    /// Version of the family's architecture, as it is shown.
    pub architecture: &'static str,
    /// Longest sequence.
    pub sequence_len: usize,
    /// Token ids the model knows.
    pub vocab_size: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_kv_head: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the MLP.
    pub n_hidden: usize,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// A share of the embedding of the token before, added to each token's.
    pub smear: Option<Smear>,
    /// A middle layer whose output is subtracted at the end.
    pub backout: Option<Backout>,
    /// Logits are capped to ± this; without it they are as they come.
    pub softcap: Option<f32>,
    /// What was assumed because the file does not tell, in sentences for the log.
    pub notes: Vec<String>,
    /// Keys of the metadata that are neither used nor known to be harmless, with their values.
    pub unknown_keys: Vec<String>,
}

/// One layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerSpec {
    /// How many positions back it attends to, the token's own not counted.
    pub window: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Factor on queries and keys after their norm.
    pub qk_scale: f32,
    /// Embeddings of its own, added to the values of attention.
    pub value_gate: Option<ValueGate>,
}

/// The gate on a layer's value embeddings: `scale · sigmoid(gate · input[..channels])`, one for each key/value head.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ValueGate {
    /// Leading channels of the layer's input that it reads.
    pub channels: usize,
    /// Its upper end.
    pub scale: f32,
}

/// How the embedding of the token before is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Smear {
    /// Leading channels of a token's embedding that the gate reads.
    pub channels: usize,
}

/// What is subtracted at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backout {
    /// The layer whose output it is.
    pub layer: usize,
}

impl Config {
    /// Reads the blueprint off a checkpoint's metadata and tensors.
    pub fn read(table: &TensorTable, meta: &Meta, overrides: &Overrides) -> Result<Self, Error> {
        // Where no family claims a checkpoint, the first one says what it misses.
        let claiming = FAMILIES.into_iter().find(|family| family.claims(table, meta));
        claiming.unwrap_or(FAMILIES[0]).config(table, meta, overrides)
    }

    /// Layers.
    pub fn n_layer(&self) -> usize {
        self.layers.len()
    }
}

impl fmt::Debug for dyn Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
