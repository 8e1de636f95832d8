//! What may be set about models and their engines.

use std::path::PathBuf;

use fetch::Fetcher;
use registry::catalog::Offer;
use registry::open::Opened;
use registry::{Catalog, Tag};

use crate::plan::{Needs, SwapMode};

/// Settings of models and engines, already checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where models are, and where fetched ones go.
    pub storage: Option<PathBuf>,
    /// Models that are offered beside those in the storage.
    pub offers: Vec<Offer>,
    /// Brings models from elsewhere.
    pub fetcher: Fetcher,
    /// The model to load at start; `None` lets the catalog choose.
    pub default_tag: Option<Tag>,
    /// Whether the first model is the one that served last, if it can be loaded.
    pub restore_last_model: bool,
    /// Whether the tag of a model that went live is kept in the storage for the next start.
    pub remember_last_model: bool,
    /// How weights are held.
    pub format: cpu::WeightFormat,
    /// Training step of the model to load first, where `models.toml` names none.
    pub step: Option<u64>,
    /// Instruction set of the kernels.
    pub isa: cpu::Isa,
    /// Compute threads of each worker.
    pub threads: usize,
    /// Engines that serve the same weights.
    pub workers: usize,
    /// KV cache bytes of each worker; fewer where memory is short.
    pub kv_bytes: usize,
    /// Whether a new model is loaded beside the old one or in its place.
    pub swap_mode: SwapMode,
    /// How grammars of answers are read.
    pub grammar: guides::Settings,
    /// Bounds of each engine.
    pub engine: engine::Limits,
}

impl Options {
    /// The catalog of the storage directory and of what is offered beside it.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.storage.clone()).offering(self.offers.clone())
    }

    /// The model to serve first: the one that is named, else the catalog's choice.
    pub fn first_tag(&self) -> Result<Tag, registry::Error> {
        self.default_tag.clone().map_or_else(|| self.catalog().default_tag(), Ok)
    }

    /// The training step of `tag` that is asked for. The step that is set is that of the `first` model; others have steps
    /// of their own.
    pub fn step_of(&self, tag: &Tag, first: Option<&Tag>) -> Option<u64> {
        self.step.filter(|_| first == Some(tag))
    }

    /// Bytes that a model will take.
    pub fn needs(&self, model: &Opened) -> Needs {
        Needs::of(model, self.format, self.kv_bytes as u64, self.workers as u64)
    }
}
