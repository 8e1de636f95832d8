//! Families of models: each reads the blueprint off its checkpoints and knows what they call their tensors.

use formats::{Meta, Tensor, TensorTable};

use crate::nanochat::Nanochat;
use crate::{Config, Error, Overrides};

/// Every family that is known. The first one that claims a checkpoint reads it.
pub const FAMILIES: [&dyn Family; 1] = [&Nanochat];

/// Models that share names of tensors and the way their sizes and constants are told.
pub trait Family: Sync {
    /// Its name in settings and logs.
    fn name(&self) -> &'static str;

    /// Whether a checkpoint is of this family, by its metadata and the names of its tensors.
    fn claims(&self, table: &TensorTable, meta: &Meta) -> bool;

    /// Reads the blueprint, and refuses what is not computed as the checkpoint asks for.
    fn config(&self, table: &TensorTable, meta: &Meta, overrides: &Overrides) -> Result<Config, Error>;

    /// What the family itself calls a parameter.
    fn tensor_name(&self, parameter: Parameter) -> String;

    /// A parameter's tensor, by whatever name its exporter gave it.
    fn tensor<'t>(&self, table: &'t TensorTable, parameter: Parameter) -> Option<&'t Tensor> {
        table.get(&self.tensor_name(parameter))
    }
}

/// A parameter of the decoder; those of a layer with its index. Shapes as in `cpu::Weights`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parameter {
    /// Token embeddings.
    Embedding,
    /// The output matrix.
    Head,
    /// For each layer, the factor on the residual stream that enters it.
    ResidualScales,
    /// For each layer, the share of the token embedding that is added to what enters it.
    EmbeddingScales,
    /// The gate on the embedding of the token before.
    SmearGate,
    /// The factor on that gate.
    SmearScale,
    /// The share of a middle layer that is subtracted at the end.
    BackoutScale,
    /// Queries.
    Query(usize),
    /// Keys.
    Key(usize),
    /// Values.
    Value(usize),
    /// From the heads back to the residual stream.
    AttentionOut(usize),
    /// Into the MLP.
    Up(usize),
    /// Out of the MLP.
    Down(usize),
    /// Embeddings that are added to the values of attention.
    ValueEmbedding(usize),
    /// The gate on them.
    ValueGate(usize),
}

impl Parameter {
    /// The layer it belongs to, if to one.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Embedding
            | Self::Head
            | Self::ResidualScales
            | Self::EmbeddingScales
            | Self::SmearGate
            | Self::SmearScale
            | Self::BackoutScale => None,
            Self::Query(layer)
            | Self::Key(layer)
            | Self::Value(layer)
            | Self::AttentionOut(layer)
            | Self::Up(layer)
            | Self::Down(layer)
            | Self::ValueEmbedding(layer)
            | Self::ValueGate(layer) => Some(layer),
        }
    }

    /// Whether its rows are token ids, so that a padded vocabulary may have more of them than the model.
    pub fn is_per_token(self) -> bool {
        matches!(self, Self::Embedding | Self::Head | Self::ValueEmbedding(_))
    }
}
