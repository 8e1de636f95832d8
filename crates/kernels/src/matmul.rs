//! `y = x Wᵀ` over weights packed once at load.
//!
//! One packed layout serves any number of rows (see [`crate::packed`]).

use crate::activations::Activations;
use crate::isa::dispatch;
use crate::packed::{Packed, WeightFormat};
use crate::pool::Shareable;
use crate::simd::Simd;
use crate::tile::{self, Ahead, Bf16Dot, Dot, F32, Finish, Out, PANEL, Widened};
use crate::{Compute, integer, scalar};

/// What [`matmul`] does with the products.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Epilogue {
    /// `y = x Wᵀ`
    Store,
    /// `y += x Wᵀ`
    Add,
}

/// Multiplies the rows of `x`, prepared for `w`, with `w` into `y` (rows, outputs).
pub fn matmul(compute: &Compute, x: &Activations, w: &Packed, epilogue: Epilogue, y: &mut [f32]) {
    assert_eq!(x.width(), w.inputs(), "rows are as wide as the weights' inputs");
    assert_eq!(y.len(), x.rows() * w.outputs(), "y is (rows, outputs)");
    assert!(x.is_prepared_for(w, compute.isa), "activations are prepared for these weights");
    let panels = w.panels();
    // Sixteen tasks a thread, so that at the end none waits long for another's last one; of at most eight panels, which
    // stay in the second-level cache while one block of rows after the other passes them.
    let per_task = (panels / (compute.pool.threads() * 16)).clamp(1, 8);
    let out = Shareable(y.as_mut_ptr());
    compute.pool.run(panels.div_ceil(per_task), &|task| {
        let first = task * per_task;
        let job = Panels { x, w, first, last: (first + per_task).min(panels), epilogue, out };
        multiply(compute.isa, &job);
    });
}

/// The panels that one task multiplies all rows with.
pub(crate) struct Panels<'a> {
    pub(crate) x: &'a Activations,
    pub(crate) w: &'a Packed,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) epilogue: Epilogue,
    pub(crate) out: Shareable<f32>,
}

dispatch! {
    fn multiply(job: &Panels<'_>) => multiply_wide, scalar::matmul::multiply
}

#[inline(always)]
fn multiply_wide<S: Simd>(job: &Panels<'_>) {
    match job.w.format() {
        WeightFormat::F32 => panels::<S, F32>(job),
        WeightFormat::Bf16 if S::HAS_BF16_DOT => panels::<S, Bf16Dot>(job),
        WeightFormat::Bf16 => panels::<S, Widened>(job),
        WeightFormat::Int8 => integer_panels::<S, integer::Bytes>(job),
        WeightFormat::Int4 => integer_panels::<S, integer::Nibbles>(job),
    }
}

impl Panels<'_> {
    /// Rows of a block from `row` on, the words of a panel, and where their products go.
    fn place(&self, row: usize, block: usize, panel: usize) -> (usize, &[u32], Out) {
        let (outputs, column) = (self.w.outputs(), panel * PANEL);
        let finish = match self.epilogue {
            Epilogue::Store => Finish::Store,
            Epilogue::Add => Finish::Add,
        };
        let y = self.out.get().wrapping_add(row * outputs + column);
        let out = Out { y, stride: outputs, columns: (outputs - column).min(PANEL), finish };
        (block.min(self.x.rows() - row), self.w.panel(panel), out)
    }
}

/// Bytes of activations that stay in the second-level cache while panels pass.
const ROW_BYTES: usize = 256 * 1024;

/// Rows of `bytes` bytes that pass all panels of a task together.
fn rows_at_once<S: Simd>(bytes: usize) -> usize {
    (ROW_BYTES / bytes).max(1).next_multiple_of(S::MAX_ROWS)
}

// In both loops below a block of rows passes all panels of the task before the next block does.

#[inline(always)]
fn panels<S: Simd, D: Dot<S>>(job: &Panels<'_>) {
    let x = D::pick(job.x.exact().as_ptr(), job.x.prepared().words.as_ptr());
    let steps = job.w.inputs() / D::STEP;
    let block = rows_at_once::<S>(steps * size_of::<D::X>());
    for row in (0..job.x.rows()).step_by(block) {
        for panel in job.first..job.last {
            let (rows, words, out) = job.place(row, block, panel);
            let ahead = Ahead::of::<S>(words, rows);
            // SAFETY: `x` has `rows` rows of `steps` steps, a panel as many words of 32, and `out` has the
            // panel's columns of those rows (asserted in `matmul`), which belong to this task.
            unsafe {
                let input = tile::TileInput { x: x.add(row * steps), stride: steps, rows };
                tile::rows_by_panel::<S, D>(&input, words.as_ptr().cast(), steps, out, ahead);
            }
        }
    }
}

#[inline(always)]
fn integer_panels<S: Simd, F: integer::Integers<S>>(job: &Panels<'_>) {
    let x = job.x.prepared();
    let block = rows_at_once::<S>(x.row_words * size_of::<u32>());
    for row in (0..job.x.rows()).step_by(block) {
        for panel in job.first..job.last {
            let (rows, words, out) = job.place(row, block, panel);
            let ahead = Ahead::of::<S>(words, rows);
            // SAFETY: `x` has `groups` groups for each row, made for this format (asserted in `matmul`), and a
            // panel as many; the rest as in `panels`.
            unsafe {
                let input = integer::QuantisedInput {
                    x: x.words.as_ptr().add(row * x.row_words),
                    scales: x.scales.as_ptr().add(row * x.groups),
                    sums: x.sums.as_ptr().add(row * x.groups),
                    groups: x.groups,
                    rows,
                };
                integer::rows_by_panel::<S, F>(input, words.as_ptr(), out, ahead);
            }
        }
    }
}
