//! Rows of activations in the form in which the weights that they meet are multiplied.

use crate::isa::dispatch;
use crate::packed::{GroupShape, Packed, WeightFormat};
use crate::pool::{Rows, Shareable};
use crate::simd::Simd;
use crate::{Compute, bf16, scalar};

/// A group whose largest number is below this is taken for zeros: 127 over it might overflow.
pub(crate) const SMALLEST: f32 = 1e-30;

/// Rows of numbers: in f32, and prepared for one format of weights. Buffers grow to the largest batch and stay.
#[derive(Default)]
pub struct Activations {
    rows: usize,
    width: usize,
    exact: Vec<f32>,
    prepared: Prepared,
}

/// What the kernels read besides f32.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Pairs of bf16 (rows, width / 2), or four signed bytes a word (rows, groups · group / 4).
    pub(crate) words: Vec<u32>,
    /// (rows, groups): what the bytes of a group are multiplied with.
    pub(crate) scales: Vec<f32>,
    /// (rows, groups): the sum of a group's bytes.
    pub(crate) sums: Vec<i32>,
    /// Words and groups of a row.
    pub(crate) row_words: usize,
    pub(crate) groups: usize,
}

/// One row of [`Prepared`], to be written.
pub(crate) struct PreparedRow<'a> {
    pub(crate) words: &'a mut [u32],
    pub(crate) scales: &'a mut [f32],
    pub(crate) sums: &'a mut [i32],
}

impl Activations {
    /// The numbers, (rows, width), to be written before [`Activations::prepare`].
    pub fn resize(&mut self, rows: usize, width: usize) -> &mut [f32] {
        (self.rows, self.width) = (rows, width);
        self.exact.resize(rows * width, 0.0);
        &mut self.exact
    }

    /// Rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The numbers as they are, (rows, width).
    pub fn exact(&self) -> &[f32] {
        &self.exact
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Whether [`Activations::prepare`] was called for weights of this format.
    pub(crate) fn is_prepared_for(&self, w: &Packed, isa: crate::Isa) -> bool {
        let layout = Prepared::layout(self.width, w.format(), isa);
        (self.prepared.row_words, self.prepared.groups) == layout
            && self.prepared.words.len() == self.rows * layout.0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let Prepared { words, scales, sums, .. } = &self.prepared;
        4 * (self.exact.capacity() + words.capacity() + scales.capacity() + sums.capacity())
    }

    /// Lets `make(i, row i, [row i of each buffer beside it])` write or change each row, and prepares it, still in
    /// the first-level cache, for products with `w`.
    pub fn prepare<const N: usize>(
        &mut self,
        compute: &Compute,
        w: &Packed,
        beside: [Rows<'_>; N],
        make: impl Fn(usize, &mut [f32], [&mut [f32]; N]) + Sync,
    ) {
        assert_eq!(self.width, w.inputs(), "rows are as wide as the weights' inputs");
        let group = w.format().group();
        self.prepared.resize(self.rows, Prepared::layout(self.width, w.format(), compute.isa));
        let pairs = group.is_none() && self.prepared.row_words > 0;
        let parts = self.prepared.parts();
        let exact = Rows { data: &mut self.exact, width: self.width };
        compute.pool.rows_beside(self.rows, exact, beside, |i, row, beside| {
            make(i, row, beside);
            // SAFETY: row i of `prepared` exists, and only the task that row i falls to touches it.
            let mut prepared = unsafe { parts.row(i) };
            match group {
                Some(group) => quantise(compute.isa, row, &mut prepared, group),
                None if pairs => to_pairs(compute.isa, row, prepared.words),
                None => {}
            }
        });
    }
}

impl Prepared {
    /// Words and groups of a row of `width` numbers.
    fn layout(width: usize, format: WeightFormat, isa: crate::Isa) -> (usize, usize) {
        match format.group() {
            Some(group) => {
                let groups = width.div_ceil(group.inputs);
                (groups * group.inputs / 4, groups)
            }
            None if format == WeightFormat::Bf16 && isa.rounds_activations() => (width / 2, 0),
            None => (0, 0),
        }
    }

    fn resize(&mut self, rows: usize, (row_words, groups): (usize, usize)) {
        (self.row_words, self.groups) = (row_words, groups);
        self.words.resize(rows * row_words, 0);
        self.scales.resize(rows * groups, 0.0);
        self.sums.resize(rows * groups, 0);
    }

    fn parts(&mut self) -> Parts {
        Parts {
            words: Shareable(self.words.as_mut_ptr()),
            scales: Shareable(self.scales.as_mut_ptr()),
            sums: Shareable(self.sums.as_mut_ptr()),
            row_words: self.row_words,
            groups: self.groups,
        }
    }
}

/// The buffers of [`Prepared`], to be written row by row.
struct Parts {
    words: Shareable<u32>,
    scales: Shareable<f32>,
    sums: Shareable<i32>,
    row_words: usize,
    groups: usize,
}

impl Parts {
    /// # Safety
    /// Row i exists, and nobody else uses it.
    unsafe fn row<'a>(&self, i: usize) -> PreparedRow<'a> {
        // SAFETY: the caller's.
        unsafe {
            PreparedRow {
                words: std::slice::from_raw_parts_mut(
                    self.words.get().add(i * self.row_words),
                    self.row_words,
                ),
                scales: std::slice::from_raw_parts_mut(self.scales.get().add(i * self.groups), self.groups),
                sums: std::slice::from_raw_parts_mut(self.sums.get().add(i * self.groups), self.groups),
            }
        }
    }
}

dispatch! {
    fn to_pairs(row: &[f32], to: &mut [u32]) => to_pairs_wide, round_to_pairs
}

#[inline(always)]
fn to_pairs_wide<S: Simd>(row: &[f32], to: &mut [u32]) {
    // The loop vectorises by itself once it is compiled for the instruction set.
    round_to_pairs(row, to);
}

/// Rounds numbers to pairs of bf16.
pub(crate) fn round_to_pairs(from: &[f32], to: &mut [u32]) {
    for (pair, numbers) in to.iter_mut().zip(from.chunks_exact(2)) {
        *pair = bf16::pair(numbers[0], numbers[1]);
    }
}

dispatch! {
    /// Bytes `round(x · 127 / largest)` of each group, and the scale that undoes it.
    fn quantise(row: &[f32], to: &mut PreparedRow<'_>, group: GroupShape) => quantise_wide, scalar::activations::quantise
}

#[inline(always)]
fn quantise_wide<S: Simd>(row: &[f32], to: &mut PreparedRow<'_>, group: GroupShape) {
    let mut poison = S::splat(0.0);
    let words = to.words.chunks_exact_mut(group.inputs / 4);
    let places = words.zip(to.scales.iter_mut()).zip(to.sums.iter_mut());
    for (numbers, ((words, scale), sum)) in row.chunks(group.inputs).zip(places) {
        let mut padded = [0.0f32; GroupShape::INT8.inputs];
        let from = if numbers.len() == group.inputs {
            numbers.as_ptr()
        } else {
            padded[..numbers.len()].copy_from_slice(numbers);
            padded.as_ptr()
        };
        // SAFETY: both hold `group.inputs` numbers, a multiple of LANES; no group is longer than that of int8.
        (*scale, *sum) = unsafe { quantise_group::<S>(from, words.as_mut_ptr(), group.inputs, &mut poison) };
    }
    let poison = S::sum(poison);
    if poison != 0.0 {
        to.scales.fill(poison);
    }
}

/// Adds nothing to `poison`, unless a number is infinite or none.
/// # Safety
/// `count` numbers are readable and bytes writable; `count` is a multiple of LANES.
#[inline(always)]
unsafe fn quantise_group<S: Simd>(
    from: *const f32,
    to: *mut u32,
    count: usize,
    poison: &mut S::V,
) -> (f32, i32) {
    // SAFETY: the caller's.
    unsafe {
        let zero = S::splat(0.0);
        let mut largest = zero;
        for i in (0..count).step_by(S::LANES) {
            let x = S::load(from.add(i));
            largest = S::max(largest, S::max(x, S::sub(zero, x)));
            *poison = S::mul_add(x, zero, *poison);
        }
        let largest = S::largest(largest);
        let inverse = if largest < SMALLEST { 0.0 } else { 127.0 / largest };
        let mut sum = zero;
        for i in (0..count).step_by(S::LANES) {
            let whole = S::round(S::mul(S::load(from.add(i)), S::splat(inverse)));
            // Sums of so small whole numbers are exact in any order.
            sum = S::add(sum, whole);
            S::store_bytes(to.cast::<i8>().add(i), whole);
        }
        (largest / 127.0, S::sum(sum) as i32)
    }
}
