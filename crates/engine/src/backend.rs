//! The seam between the engine and what computes: a transformer on this CPU, or a toy in tests.

use std::sync::Arc;

use model::{Compute, Config, KvCache, KvClass, KvLayout, SequenceRows, Session, WeightFormat, Weights};

/// Sizes that scheduling needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Positions of a sequence.
    pub sequence_len: usize,
    /// Classes of key/value pages.
    pub classes: Vec<PageClass>,
}

/// Pages that share a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageClass {
    /// How many positions back they are looked at.
    pub window: usize,
    /// How many there are.
    pub n_pages: usize,
}

/// Computes batches.
pub trait Backend: Send {
    /// Its sizes; they never change.
    fn shape(&self) -> &Shape;
    /// Logits of the rows that ask for them, (rows, vocab_size).
    fn forward(&mut self, batch: &[SequenceRows<'_>]) -> &[f32];
    /// Bytes of scratch held now.
    fn scratch_bytes(&self) -> usize {
        0
    }
    /// The threads it computes with, for what else there is to compute.
    fn compute(&self) -> Option<Arc<Compute>> {
        None
    }
}

/// Nanochat weights on this machine's CPU.
pub struct Transformer {
    shape: Shape,
    weights: Arc<Weights>,
    compute: Arc<Compute>,
    session: Session,
}

impl Transformer {
    /// A transformer whose keys and values take at most `kv_bytes`, but always enough for one sequence of
    /// full length. `step_tokens` is that of [`crate::Limits::checked`].
    pub fn new(weights: Arc<Weights>, compute: Compute, kv_bytes: usize, step_tokens: usize) -> Self {
        let config = &weights.config;
        let Plan { layout, n_pages, .. } = plan(config, weights.format, (kv_bytes, step_tokens));
        let classes = layout.classes.iter().zip(&n_pages);
        let shape = Shape {
            vocab_size: config.vocab_size,
            sequence_len: config.sequence_len,
            classes: classes.map(|(class, &n_pages)| PageClass { window: class.window, n_pages }).collect(),
        };
        let session = Session::new(KvCache::new(&layout, &n_pages));
        Self { shape, weights, compute: Arc::new(compute), session }
    }

    /// Bytes set aside for keys and values.
    pub fn kv_bytes(&self) -> usize {
        self.session.kv.bytes()
    }

    /// Bytes that [`Transformer::new`] would set aside.
    pub fn planned_kv_bytes(weights: &Weights, kv_bytes: usize, step_tokens: usize) -> usize {
        let Plan { layout, n_pages, .. } = plan(&weights.config, weights.format, (kv_bytes, step_tokens));
        layout.classes.iter().zip(&n_pages).map(|(class, n)| class.page_bytes * n).sum()
    }

    /// Sequences of full length that fit at once into what [`Transformer::new`] would set aside.
    pub fn planned_sequences(
        config: &Config,
        format: WeightFormat,
        kv_bytes: usize,
        step_tokens: usize,
    ) -> usize {
        plan(config, format, (kv_bytes, step_tokens)).sequences
    }
}

/// What is set aside for keys and values.
struct Plan {
    layout: KvLayout,
    /// Of each class.
    n_pages: Vec<usize>,
    /// Sequences of full length that these are for.
    sequences: usize,
}

/// Pages of each class: as many full-length sequences as fit into `kv_bytes`, at least one.
fn plan(config: &Config, format: WeightFormat, (kv_bytes, step_tokens): (usize, usize)) -> Plan {
    let layout = KvLayout::new(config, format);
    let worst_case =
        |class: &KvClass| crate::pages::worst_case(config.sequence_len, class.window, step_tokens);
    let one: Vec<usize> = layout.classes.iter().map(worst_case).collect();
    let bytes_of_one: usize = layout.classes.iter().zip(&one).map(|(class, n)| class.page_bytes * n).sum();
    let sequences = (kv_bytes / bytes_of_one.max(1)).max(1);
    Plan { layout, n_pages: one.iter().map(|n| n * sequences).collect(), sequences }
}

impl Backend for Transformer {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn forward(&mut self, batch: &[SequenceRows<'_>]) -> &[f32] {
        self.session.forward(&self.compute, &self.weights, batch)
    }

    fn scratch_bytes(&self) -> usize {
        self.session.scratch_bytes()
    }

    fn compute(&self) -> Option<Arc<Compute>> {
        Some(Arc::clone(&self.compute))
    }
}
