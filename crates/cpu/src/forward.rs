//! The forward pass: rows of token ids to logits, read top to bottom.
//!
//! A batch is any mix of sequences at any positions: one row each for those that decode, many for those
//! whose prompt is being read. A row's result does not depend on the rows beside it.

use engine::backend::{BatchItem, LogitRows, PAGE};
use kernels::attention::{Attention, Slot, Span};
use kernels::{Activations, Compute, Epilogue, Packed, Rows, matmul, rows};

use crate::kv::KvCache;
use crate::weights::{Layer, Weights};

/// What one user of the weights writes to between calls. Buffers grow to the largest batch and stay.
pub struct Session {
    /// Keys and values.
    pub kv: KvCache,
    /// The residual stream, and the embedding it began as; (rows, C).
    x: Vec<f32>,
    first: Vec<f32>,
    /// The stream after the middle layer, for models with backout; (rows, C).
    middle: Vec<f32>,
    /// A normed copy of the stream; (rows, C).
    normed: Activations,
    /// (rows, (H + 2K) · D)
    qkv: Vec<f32>,
    /// (rows, C)
    attended: Activations,
    /// (rows, F)
    hidden: Activations,
    /// (rows that need them, V)
    logits: Vec<f32>,
}

/// One token of a batch.
struct BatchRow {
    token: u32,
    previous: Option<u32>,
    position: usize,
}

impl Session {
    /// Empty buffers around `kv`.
    pub fn new(kv: KvCache) -> Self {
        let empty = Vec::new;
        Self {
            kv,
            x: empty(),
            first: empty(),
            middle: empty(),
            normed: Activations::default(),
            qkv: empty(),
            attended: Activations::default(),
            hidden: Activations::default(),
            logits: empty(),
        }
    }

    /// The logits of the last batch, (rows that asked for them, V).
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Bytes of scratch held now.
    pub fn scratch_bytes(&self) -> usize {
        let buffers = [&self.x, &self.first, &self.middle, &self.qkv, &self.logits];
        let activations = [&self.normed, &self.attended, &self.hidden];
        4 * buffers.iter().map(|b| b.capacity()).sum::<usize>()
            + activations.iter().map(|a| a.bytes()).sum::<usize>()
    }

    /// Runs a batch: writes its keys and values to the pages and returns the logits asked for, in order,
    /// (rows, V).
    pub fn forward(&mut self, compute: &Compute, weights: &Weights, batch: &[BatchItem<'_>]) -> &[f32] {
        let config = &weights.config;
        let batch_rows = batch_rows(batch, config.sequence_len);
        let slots = slots(batch, self.kv.classes.len());
        self.resize(weights, batch_rows.len());
        self.embed(compute, weights, &batch_rows);
        for (l, layer) in weights.layers.iter().enumerate() {
            self.mix_and_norm(compute, &layer.qkv, layer.keep, layer.first);
            matmul(compute, &self.normed, &layer.qkv, Epilogue::Store, &mut self.qkv);
            self.turn(compute, weights, layer, &batch_rows);
            self.attend(compute, weights, l, batch, &slots);
            self.attended.prepare(compute, &layer.attention_out, [], |_, _, []| {});
            matmul(compute, &self.attended, &layer.attention_out, Epilogue::Add, &mut self.x);
            self.mix_and_norm(compute, &layer.up, 1.0, 0.0);
            let hidden = self.hidden.resize(batch_rows.len(), config.n_hidden);
            matmul(compute, &self.normed, &layer.up, Epilogue::Store, hidden);
            self.hidden.prepare(compute, &layer.down, [], |_, row, []| rows::relu_squared(compute.isa, row));
            matmul(compute, &self.hidden, &layer.down, Epilogue::Add, &mut self.x);
            if weights.backout.as_ref().is_some_and(|backout| backout.layer == l) {
                self.middle.clone_from(&self.x);
            }
        }
        self.read_logits(compute, weights, batch)
    }

    fn resize(&mut self, weights: &Weights, n_rows: usize) {
        let config = &weights.config;
        let set = |buffer: &mut Vec<f32>, width: usize| buffer.resize(n_rows * width, 0.0);
        for buffer in [&mut self.x, &mut self.first] {
            set(buffer, config.n_embd);
        }
        set(&mut self.qkv, (config.n_head + 2 * config.n_kv_head) * config.head_dim);
    }

    /// Normed embeddings with a gated share of the previous token's mixed in.
    fn embed(&mut self, compute: &Compute, weights: &Weights, batch: &[BatchRow]) {
        let width = weights.config.n_embd;
        let buffers = [Rows { data: &mut self.x, width }, Rows { data: &mut self.first, width }];
        compute.pool.rows(batch.len(), buffers, |i, [x, first]| {
            weights.embedding.look_up(batch[i].token, x);
            rows::norm(compute.isa, x);
            if let (Some(smear), Some(previous)) = (&weights.smear, batch[i].previous) {
                weights.embedding.look_up(previous, first);
                rows::norm(compute.isa, first);
                let share = smear.scale * sigmoid(dot(&smear.gate, x));
                rows::mix(compute.isa, x, 1.0, first, share);
            }
            first.copy_from_slice(x);
        });
    }

    /// `x = keep · x + share · first`, and its norm beside it, ready for products with `w`.
    fn mix_and_norm(&mut self, compute: &Compute, w: &Packed, keep: f32, share: f32) {
        let (first, width) = (&self.first, w.inputs());
        self.normed.resize(self.x.len() / width, width);
        let x = Rows { data: &mut self.x, width };
        self.normed.prepare(compute, w, [x], |i, normed, [x]| {
            if (keep, share) != (1.0, 0.0) {
                rows::mix(compute.isa, x, keep, &first[i * width..][..width], share);
            }
            normed.copy_from_slice(x);
            rows::norm(compute.isa, normed);
        });
    }

    /// Rotary, norm and scale on queries and keys; gated value embeddings on values.
    fn turn(&mut self, compute: &Compute, weights: &Weights, layer: &Layer, batch: &[BatchRow]) {
        let config = &weights.config;
        let dim = config.head_dim;
        let rotary = &weights.rotary[layer.rotary];
        let (turned, width) = ((config.n_head + config.n_kv_head) * dim, config.n_embd);
        let normed = self.normed.exact();
        let qkv = Rows { width: turned + config.n_kv_head * dim, data: &mut self.qkv };
        compute.pool.rows(batch.len(), [qkv], |i, [qkv]| {
            let (queries_and_keys, values) = qkv.split_at_mut(turned);
            for head in queries_and_keys.chunks_exact_mut(dim) {
                rows::rotate_and_norm(compute.isa, head, rotary.at(batch[i].position), layer.qk_scale);
            }
            let Some(embedding) = &layer.values else { return };
            let mut added = vec![0.0; values.len()];
            embedding.table.look_up(batch[i].token, &mut added);
            let gates = embedding.gate.chunks_exact(embedding.gate.len() / config.n_kv_head);
            for ((gate, value), added) in gates.zip(values.chunks_exact_mut(dim)).zip(added.chunks_exact(dim))
            {
                let share = embedding.scale * sigmoid(dot(gate, &normed[i * width..]));
                rows::mix(compute.isa, value, 1.0, added, share);
            }
        });
    }

    fn attend(
        &mut self,
        compute: &Compute,
        weights: &Weights,
        l: usize,
        batch: &[BatchItem<'_>],
        slots: &[Vec<Slot>],
    ) {
        let config = &weights.config;
        let dim = config.head_dim;
        let (class, layer) = self.kv.layers[l];
        let (keys, stride) = (config.n_head * dim, (config.n_head + 2 * config.n_kv_head) * dim);
        let values = keys + config.n_kv_head * dim;
        let parts = [&self.qkv[keys..], &self.qkv[values..]];
        self.kv.classes[class].write(compute, layer, &slots[class], parts, stride);
        let mut row = 0;
        let spans: Vec<Span<'_>> = batch
            .iter()
            .map(|sequence| {
                let (rows, first) = (sequence.tokens.len(), row);
                row += rows;
                Span { row: first, rows, position: sequence.history.len(), table: &sequence.tables[class] }
            })
            .collect();
        let attention = Attention {
            pages: &self.kv.classes[class],
            layer,
            queries: &self.qkv,
            stride,
            heads: config.n_head,
            window: weights.layers[l].window,
            spans: &spans,
        };
        let attended = self.attended.resize(row, config.n_head * dim);
        kernels::attention::attend(compute, &attention, attended);
    }

    /// Takes the middle out of the end, norms, and multiplies with the head: only rows that need it.
    fn read_logits(&mut self, compute: &Compute, weights: &Weights, batch: &[BatchItem<'_>]) -> &[f32] {
        let (width, vocab) = (weights.config.n_embd, weights.config.vocab_size);
        let wanted = wanted_rows(batch);
        let (x, middle) = (&self.x, &self.middle);
        self.normed.resize(wanted.len(), width);
        self.normed.prepare(compute, &weights.head, [], |i, normed, []| {
            let row = wanted[i] * width..(wanted[i] + 1) * width;
            normed.copy_from_slice(&x[row.clone()]);
            if let Some(backout) = &weights.backout {
                rows::mix(compute.isa, normed, 1.0, &middle[row], -backout.scale);
            }
            rows::norm(compute.isa, normed);
        });
        self.logits.resize(wanted.len() * vocab, 0.0);
        matmul(compute, &self.normed, &weights.head, Epilogue::Store, &mut self.logits);
        if let Some(cap) = weights.config.softcap {
            let logits = Rows { data: &mut self.logits, width: vocab };
            compute.pool.rows(wanted.len(), [logits], |_, [logits]| rows::softcap(compute.isa, logits, cap));
        }
        &self.logits
    }
}

fn batch_rows(batch: &[BatchItem<'_>], sequence_len: usize) -> Vec<BatchRow> {
    let mut all = Vec::new();
    for sequence in batch {
        let start = sequence.history.len();
        let end = start + sequence.tokens.len();
        assert!(
            !sequence.tokens.is_empty() && end <= sequence_len,
            "the engine keeps sequences within sequence_len"
        );
        for (i, &token) in sequence.tokens.iter().enumerate() {
            let previous = if i == 0 { sequence.history.last() } else { sequence.tokens.get(i - 1) };
            all.push(BatchRow { token, previous: previous.copied(), position: start + i });
        }
    }
    all
}

/// Where each row's keys and values go, for each class.
fn slots(batch: &[BatchItem<'_>], classes: usize) -> Vec<Vec<Slot>> {
    let slot = |table: &[u32], position: usize| Slot {
        page: table[position / PAGE],
        offset: (position % PAGE) as u32,
    };
    let of_class = |class: usize| {
        let positions = |item: &BatchItem<'_>| item.history.len()..item.history.len() + item.tokens.len();
        let rows = batch.iter().flat_map(|item| positions(item).map(move |position| (item, position)));
        rows.map(|(sequence, position)| slot(&sequence.tables[class], position)).collect()
    };
    (0..classes).map(of_class).collect()
}

fn wanted_rows(batch: &[BatchItem<'_>]) -> Vec<usize> {
    let mut wanted = Vec::new();
    let mut row = 0;
    for sequence in batch {
        let end = row + sequence.tokens.len();
        match sequence.logits {
            LogitRows::None => {}
            LogitRows::Last => wanted.push(end - 1),
            LogitRows::All => wanted.extend(row..end),
        }
        row = end;
    }
    wanted
}

/// A dot product with the first numbers of a row; gates have at most 32 inputs.
fn dot(gate: &[f32], row: &[f32]) -> f32 {
    gate.iter().zip(row).map(|(g, x)| g * x).sum()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
