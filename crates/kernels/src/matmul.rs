//! `y = x Wᵀ` over weights packed once at load.
//!
//! One packed layout serves any number of rows: panels of 32 outputs with K interleaved (see `tile`).

use crate::isa::dispatch;
use crate::pool::Shareable;
use crate::simd::Simd;
use crate::tile::{self, Bf16Dot, Dot, F32, Finish, In, Out, PANEL, Widened, rows_by_panel};
use crate::{Compute, bf16, scalar};

/// How weights are held in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightFormat {
    /// Four bytes a weight, exact.
    F32,
    /// Two bytes a weight.
    Bf16,
}

/// A weight matrix (outputs, inputs), packed. Immutable once built.
pub struct Packed {
    outputs: usize,
    inputs: usize,
    words: Words,
}

enum Words {
    /// (panels, inputs, 32)
    F32(Vec<f32>),
    /// (panels, inputs / 2, 32) pairs of bf16.
    Bf16(Vec<u32>),
}

/// What [`matmul`] does with the products.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Epilogue {
    /// `y = x Wᵀ`
    Store,
    /// `y += x Wᵀ`
    Add,
    /// `y = max(x Wᵀ, 0)²`
    ReluSquared,
}

impl Packed {
    /// A matrix of zeros, to be filled by [`Packed::set_rows`].
    pub fn zeros(format: WeightFormat, outputs: usize, inputs: usize) -> Self {
        assert!(inputs > 0 && inputs.is_multiple_of(2), "an even number of inputs, not {inputs}");
        let panels = outputs.div_ceil(PANEL);
        let words = match format {
            WeightFormat::F32 => Words::F32(crate::zeroed(panels * inputs * PANEL)),
            WeightFormat::Bf16 => Words::Bf16(crate::zeroed(panels * inputs / 2 * PANEL)),
        };
        Self { outputs, inputs, words }
    }

    /// Packs outputs `first ..` from `rows`, row-major (n, inputs).
    pub fn set_rows(&mut self, first: usize, rows: &[f32]) {
        assert!(rows.len().is_multiple_of(self.inputs), "whole rows of {} inputs", self.inputs);
        for (i, row) in rows.chunks_exact(self.inputs).enumerate() {
            let output = first + i;
            assert!(output < self.outputs, "output {output} of {}", self.outputs);
            let (panel, column) = (output / PANEL, output % PANEL);
            match &mut self.words {
                Words::F32(words) => {
                    let base = panel * self.inputs * PANEL + column;
                    for (k, &weight) in row.iter().enumerate() {
                        words[base + k * PANEL] = weight;
                    }
                }
                Words::Bf16(words) => {
                    let base = panel * self.inputs / 2 * PANEL + column;
                    for (k, pair) in row.chunks_exact(2).enumerate() {
                        words[base + k * PANEL] = bf16::pair(pair[0], pair[1]);
                    }
                }
            }
        }
    }

    /// Outputs: columns of the product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs: the dimension summed over.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.words {
            Words::F32(words) => words.len() * 4,
            Words::Bf16(words) => words.len() * 4,
        }
    }
}

/// Multiplies `rows` rows of `x` (rows, inputs) with `w` into `y` (rows, outputs).
pub fn matmul(compute: &Compute, x: &[f32], w: &Packed, epilogue: Epilogue, y: &mut [f32]) {
    let rows = x.len() / w.inputs;
    assert_eq!(x.len(), rows * w.inputs, "x holds whole rows");
    assert_eq!(y.len(), rows * w.outputs, "y is (rows, outputs)");
    let pairs = match w.words {
        Words::Bf16(_) if compute.isa.rounds_activations() => pairs_of(compute, x, w.inputs),
        _ => Vec::new(),
    };
    let panels = w.outputs.div_ceil(PANEL);
    // Several tasks a thread, so that whoever runs takes what another has left; but for many rows tasks of
    // several panels, so that a block of rows stays in the first-level cache while they pass.
    let per_task = (panels / (compute.pool.threads() * 8)).clamp(1, 8);
    let out = Shareable(y.as_mut_ptr());
    compute.pool.run(panels.div_ceil(per_task), &|task| {
        let first = task * per_task;
        let job =
            Panels { x, pairs: &pairs, w, rows, first, last: (first + per_task).min(panels), epilogue, out };
        multiply(compute.isa, &job);
    });
}

/// The panels that one task multiplies all rows with.
pub(crate) struct Panels<'a> {
    pub(crate) x: &'a [f32],
    /// `x` as pairs of bf16, where the instruction set multiplies those.
    pub(crate) pairs: &'a [u32],
    pub(crate) w: &'a Packed,
    pub(crate) rows: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) epilogue: Epilogue,
    pub(crate) out: Shareable<f32>,
}

/// Rounds `x` (rows, inputs) to bf16 pairs (rows, inputs / 2).
fn pairs_of(compute: &Compute, x: &[f32], inputs: usize) -> Vec<u32> {
    let width = inputs / 2;
    let rows = x.len() / inputs;
    let mut pairs = vec![0u32; rows * width];
    let out = Shareable(pairs.as_mut_ptr());
    let n_tasks = if x.len() < 64 * 1024 { 1 } else { rows.min(compute.pool.threads() * 4) };
    compute.pool.run(n_tasks, &|task| {
        for row in task * rows / n_tasks..(task + 1) * rows / n_tasks {
            // SAFETY: row lies inside `pairs` and belongs to this task alone.
            let pairs = unsafe { std::slice::from_raw_parts_mut(out.get().add(row * width), width) };
            to_pairs(compute.isa, &x[row * inputs..][..inputs], pairs);
        }
    });
    pairs
}

dispatch! {
    fn to_pairs(from: &[f32], to: &mut [u32]) => to_pairs_wide, tile::round_to_pairs
}

#[inline(always)]
fn to_pairs_wide<S: Simd>(from: &[f32], to: &mut [u32]) {
    // The loop vectorises by itself once it is compiled for the instruction set.
    tile::round_to_pairs(from, to);
}

dispatch! {
    fn multiply(job: &Panels<'_>) => multiply_wide, scalar::matmul::multiply
}

#[inline(always)]
fn multiply_wide<S: Simd>(job: &Panels<'_>) {
    match &job.w.words {
        Words::F32(words) => panels::<S, F32>(job, words),
        Words::Bf16(words) if S::HAS_BF16_DOT => panels::<S, Bf16Dot>(job, words),
        Words::Bf16(words) => panels::<S, Widened>(job, words),
    }
}

#[inline(always)]
fn panels<S: Simd, D: Dot<S>>(job: &Panels<'_>, words: &[D::W]) {
    let x = D::pick(job.x.as_ptr(), job.pairs.as_ptr());
    let steps = job.w.inputs / D::STEP;
    let finish = match job.epilogue {
        Epilogue::Store => Finish::Store,
        Epilogue::Add => Finish::Add,
        Epilogue::ReluSquared => Finish::ReluSquared,
    };
    // A block of rows passes all panels of the task before the next block does.
    let block = S::MAX_ROWS * 2;
    for row in (0..job.rows).step_by(block) {
        for panel in job.first..job.last {
            let words = &words[panel * steps * PANEL..(panel + 1) * steps * PANEL];
            let column = panel * PANEL;
            // SAFETY: `x` has `rows` rows of `steps` steps and `out` has `rows` rows of `outputs` columns
            // (asserted in `matmul`), of which this task owns those of its panels.
            unsafe {
                let input = In { x: x.add(row * steps), stride: steps, rows: block.min(job.rows - row) };
                let out = Out {
                    y: job.out.get().add(row * job.w.outputs + column),
                    stride: job.w.outputs,
                    columns: (job.w.outputs - column).min(PANEL),
                    finish,
                };
                rows_by_panel::<S, D>(&input, words.as_ptr(), steps, out);
            }
        }
    }
}

impl Packed {
    /// Weight `input` of `output` as it is held.
    pub(crate) fn at(&self, output: usize, input: usize) -> f32 {
        let (panel, column) = (output / PANEL, output % PANEL);
        match &self.words {
            Words::F32(words) => words[(panel * self.inputs + input) * PANEL + column],
            Words::Bf16(words) => {
                let word = words[(panel * self.inputs / 2 + input / 2) * PANEL + column];
                bf16::widen((word >> (16 * (input % 2))) as u16)
            }
        }
    }
}
