//! From an opened model to weights in memory.

use std::sync::Arc;

use cpu::{Compute, KvLayout, WeightFormat, Weights};
use engine::backend::PAGE;
use registry::open::{Found, Opened, Verified};
use registry::{Error, Identity, Tag};
use tokenizer::{ChatFormat, Tokenizer};

use crate::plan::Needs;

/// A model in memory.
#[derive(Clone)]
pub struct LoadedModel {
    /// Its name.
    pub tag: Tag,
    /// Where it came from, as in ModelInfo.
    pub source: String,
    /// Training step in its file name.
    pub step: Option<u64>,
    /// The weights.
    pub weights: Arc<Weights>,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How its conversations are written.
    pub chat: ChatFormat,
    /// Which weights they are.
    pub identity: Identity,
    /// Its files as they were found.
    pub found: Found,
}

impl LoadedModel {
    /// Reads and packs the weights.
    pub fn load(model: Verified, format: WeightFormat, compute: &Compute) -> Result<Self, Error> {
        let Verified { opened, identity, .. } = model;
        let Opened { found, step, config, table, tokenizer, chat, .. } = opened;
        for note in &config.notes {
            tracing::warn!(model_tag = %found.tag(), "{note}");
        }
        if !config.unknown_keys.is_empty() {
            let keys = config.unknown_keys.join(", ");
            tracing::warn!(model_tag = %found.tag(), keys, "metadata keys are not known and not used");
        }
        let weights = Weights::load(compute, &table, config, format).map_err(Error::from)?;
        // What was hashed is what was read, unless somebody wrote to it meanwhile.
        found.check_unchanged()?;
        Ok(Self {
            tag: found.tag().clone(),
            source: found.source().to_string(),
            step,
            weights: Arc::new(weights),
            tokenizer: Arc::new(tokenizer),
            chat,
            identity,
            found,
        })
    }
}

impl Needs {
    /// What a model takes with so many bytes for keys and values of each of so many workers.
    pub fn of(model: &Opened, format: WeightFormat, kv_bytes: u64, workers: u64) -> Self {
        let weights = Weights::planned_bytes(&model.table, &model.config, format) as u64;
        let pages = model.config.sequence_len.div_ceil(PAGE);
        let layout = KvLayout::new(&model.config, format);
        let sequence = layout.classes.iter().map(|class| (class.page_bytes * pages) as u64).sum::<u64>();
        Self { weights, kv: workers * kv_bytes.max(sequence), kv_least: workers * sequence }
    }
}
