//! A model on this machine's CPU, as the engine's backend.

use std::sync::Arc;

use engine::backend::{Backend, BatchItem, PAGE, PageClass, SampleParams, Sampled, Shape};
use kernels::{Compute, WeightFormat};
use model::Config;

use crate::forward::Session;
use crate::kv::{KvCache, KvClass, KvLayout};
use crate::sampler;
use crate::weights::Weights;

const _: () = assert!(PAGE == kernels::attention::PAGE, "engine and kernels share pages of one size");

/// Weights, the threads that compute with them, and the KV cache of one engine.
pub struct Transformer {
    shape: Shape,
    weights: Arc<Weights>,
    compute: Compute,
    session: Session,
}

impl Transformer {
    /// A transformer whose KV cache takes what [`KvPlan::new`] says.
    pub fn new(weights: Arc<Weights>, compute: Compute, plan: &KvPlan) -> Self {
        let config = &weights.config;
        let classes = plan.layout.classes.iter().zip(&plan.n_pages);
        let shape = Shape {
            vocab_size: config.vocab_size,
            sequence_len: config.sequence_len,
            classes: classes.map(|(class, &n_pages)| PageClass { window: class.window, n_pages }).collect(),
        };
        let session = Session::new(KvCache::new(&plan.layout, &plan.n_pages));
        Self { shape, weights, compute, session }
    }

    /// The logits of the last batch, (rows that asked for them, V).
    pub fn logits(&self) -> &[f32] {
        self.session.logits()
    }
}

/// Pages of the KV cache of one engine.
pub struct KvPlan {
    layout: KvLayout,
    /// Of each class.
    n_pages: Vec<usize>,
    /// Sequences of full length that fit at once.
    pub sequences: usize,
}

impl KvPlan {
    /// As many sequences of full length as fit into `kv_bytes`, at least one. `step_tokens` is that of
    /// [`engine::Limits::checked`].
    pub fn new(config: &Config, format: WeightFormat, kv_bytes: usize, step_tokens: usize) -> Self {
        let layout = KvLayout::new(config, format);
        let worst_case =
            |class: &KvClass| engine::worst_case_pages(config.sequence_len, class.window, step_tokens);
        let one: Vec<usize> = layout.classes.iter().map(worst_case).collect();
        let bytes_of_one: usize =
            layout.classes.iter().zip(&one).map(|(class, n)| class.page_bytes * n).sum();
        let sequences = (kv_bytes / bytes_of_one.max(1)).max(1);
        Self { layout, n_pages: one.iter().map(|n| n * sequences).collect(), sequences }
    }

    /// Bytes of all pages. The system hands them out as they are written.
    pub fn bytes(&self) -> usize {
        self.layout.classes.iter().zip(&self.n_pages).map(|(class, n)| class.page_bytes * n).sum()
    }
}

impl Backend for Transformer {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn forward(&mut self, batch: &[BatchItem<'_>]) {
        self.session.forward(&self.compute, &self.weights, batch);
    }

    fn sample(&mut self, rows: &[SampleParams<'_>]) -> Vec<Sampled> {
        sampler::sample(&self.compute, self.session.logits(), self.shape.vocab_size, rows)
    }

    fn scratch_bytes(&self) -> usize {
        self.session.scratch_bytes()
    }
}
