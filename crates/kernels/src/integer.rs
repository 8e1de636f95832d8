//! The tile of the integer formats: some rows of bytes times one panel of bytes or nibbles, in registers.
//!
//! Within a group of inputs everything is exact: bytes times bytes, summed in i32 in whatever order is fastest.
//! Only the groups' sums are f32, added in ascending order, each as `total + (sum · weight scale) · row scale`.
//! So the bits of a result depend neither on the number of rows nor on the instruction set.

use crate::packed::{GroupShape, SCALE_WORDS};
use crate::simd::Simd;
use crate::tile::{Ahead, Out, PANEL, block_rows, put};

/// An integer format of weights.
pub(crate) trait Integers<S: Simd>: 'static {
    const GROUP: GroupShape;
    /// What must be taken away for each unit of a row's sum.
    const BIAS: i32;

    /// `acc[r][v] += x[r] · w[v]` over one word of weights for each column.
    /// # Safety
    /// As [`rows_by_panel`]: x is readable at `r * stride`, for as many words as weights of `per_word` need.
    unsafe fn step<const R: usize, const V: usize>(
        x: *const u32,
        stride: usize,
        w: *const u32,
        acc: &mut [[S::I; V]; R],
    );

    /// The words of eight inputs for each of LANES columns: the first four, and the others.
    /// # Safety
    /// As [`Integers::step`].
    unsafe fn eight(w: *const u32) -> (S::I, S::I);
}

/// A byte a weight.
pub(crate) struct Bytes;
/// Half a byte a weight.
pub(crate) struct Nibbles;

impl<S: Simd> Integers<S> for Bytes {
    const GROUP: GroupShape = GroupShape::INT8;
    const BIAS: i32 = S::BYTE_BIAS;

    #[inline(always)]
    unsafe fn step<const R: usize, const V: usize>(
        x: *const u32,
        stride: usize,
        w: *const u32,
        acc: &mut [[S::I; V]; R],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut columns = [S::splat_word(0); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::weight_bytes(S::load_words(w.add(v * S::LANES)));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = S::factor(*x.add(r * stride));
                for v in 0..V {
                    acc[v] = S::dot_bytes(acc[v], columns[v], x);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn eight(w: *const u32) -> (S::I, S::I) {
        // SAFETY: the caller's.
        unsafe { (S::weight_bytes(S::load_words(w)), S::weight_bytes(S::load_words(w.add(PANEL)))) }
    }
}

impl<S: Simd> Integers<S> for Nibbles {
    const GROUP: GroupShape = GroupShape::INT4;
    const BIAS: i32 = GroupShape::INT4.bias;

    #[inline(always)]
    unsafe fn step<const R: usize, const V: usize>(
        x: *const u32,
        stride: usize,
        w: *const u32,
        acc: &mut [[S::I; V]; R],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut columns = [(S::splat_word(0), S::splat_word(0)); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::nibbles(S::load_words(w.add(v * S::LANES)));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let low = S::factor(*x.add(r * stride));
                let high = S::factor(*x.add(r * stride + 1));
                for v in 0..V {
                    acc[v] = S::dot_nibbles(acc[v], columns[v].0, low);
                    acc[v] = S::dot_nibbles(acc[v], columns[v].1, high);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn eight(w: *const u32) -> (S::I, S::I) {
        // SAFETY: the caller's.
        unsafe { S::nibbles(S::load_words(w)) }
    }
}

/// Rows of bytes, with what belongs to each group of them.
#[derive(Clone, Copy)]
pub(crate) struct QuantisedInput {
    /// (rows, groups · group / 4) words.
    pub(crate) x: *const u32,
    /// (rows, groups)
    pub(crate) scales: *const f32,
    /// (rows, groups)
    pub(crate) sums: *const i32,
    pub(crate) groups: usize,
    pub(crate) rows: usize,
}

impl QuantisedInput {
    /// Without the first `rows` rows of `row_words` words.
    #[inline(always)]
    fn skip(self, rows: usize, row_words: usize) -> Self {
        Self {
            x: self.x.wrapping_add(rows * row_words),
            scales: self.scales.wrapping_add(rows * self.groups),
            sums: self.sums.wrapping_add(rows * self.groups),
            rows: self.rows - rows,
            ..self
        }
    }
}

/// Multiplies all rows of `input` with the panel at `w`.
/// # Safety
/// `input` is readable as it says, `w` for `groups` groups of F, and `out` writable for `rows` rows of `columns`
/// columns; S's features are on.
#[inline(always)]
pub(crate) unsafe fn rows_by_panel<S: Simd, F: Integers<S>>(
    mut input: QuantisedInput,
    w: *const u32,
    mut out: Out,
    mut ahead: Ahead,
) {
    let row_words = input.groups * F::GROUP.inputs / 4;
    while input.rows > 0 {
        // SAFETY: as many rows as are taken exist; the rest is the caller's.
        let taken = unsafe {
            match block_rows(input.rows, S::MAX_ROWS) {
                12 => block::<S, F, 12, 1>(input, w, out, ahead),
                10 => block::<S, F, 10, 1>(input, w, out, ahead),
                8 => block::<S, F, 8, 1>(input, w, out, ahead),
                6 => block::<S, F, 6, 1>(input, w, out, ahead),
                5 => block::<S, F, 5, 1>(input, w, out, ahead),
                4 => block::<S, F, 4, 1>(input, w, out, ahead),
                3 => block::<S, F, 3, 1>(input, w, out, ahead),
                2 => block::<S, F, 2, 1>(input, w, out, ahead),
                _ => block::<S, F, 1, 2>(input, w, out, ahead),
            }
        };
        ahead = ahead.next();
        input = input.skip(taken, row_words);
        out.y = out.y.wrapping_add(taken * out.stride);
    }
}

/// One block of R rows over the whole panel, as wide as the registers allow, in C chains of sums. Returns R.
/// # Safety
/// As [`rows_by_panel`], with R rows.
#[inline(always)]
unsafe fn block<S: Simd, F: Integers<S>, const R: usize, const C: usize>(
    input: QuantisedInput,
    w: *const u32,
    out: Out,
    mut ahead: Ahead,
) -> usize {
    let mut column = 0;
    while column < PANEL {
        // SAFETY: the columns lie inside the panel; the rest is the caller's.
        unsafe { tile::<S, F, R, 2, C>(input, w, out, column, ahead) };
        ahead = Ahead::NONE;
        column += 2 * S::LANES;
    }
    R
}

/// # Safety
/// As [`rows_by_panel`], with R rows and the V vectors of columns from `column` on.
#[inline(always)]
unsafe fn tile<S: Simd, F: Integers<S>, const R: usize, const V: usize, const C: usize>(
    input: QuantisedInput,
    w: *const u32,
    out: Out,
    column: usize,
    ahead: Ahead,
) {
    let per_word = F::GROUP.per_word / 4;
    let group_words = F::GROUP.inputs / 4;
    let stride = input.groups * group_words;
    let steps = F::GROUP.inputs / F::GROUP.per_word;
    let mut totals = [[S::splat(0.0); V]; R];
    // SAFETY: all addresses are inside what the caller vouches for; a group's steps are a multiple of C.
    unsafe {
        for g in 0..input.groups {
            let block = w.add(g * F::GROUP.words());
            let words = block.add(SCALE_WORDS + column);
            let x = input.x.add(g * group_words);
            let mut acc = [[[S::splat_word(0); V]; R]; C];
            for (r, acc) in acc[0].iter_mut().enumerate() {
                let bias = -F::BIAS * *input.sums.add(r * input.groups + g);
                *acc = [S::splat_word(bias as u32); V];
            }
            if S::PAIRS && R > 2 && R.is_multiple_of(2) {
                group_by_pairs::<S, F, R, V>(x, stride, words, &mut acc[0]);
            } else {
                for step in (0..steps).step_by(C) {
                    for (c, acc) in acc.iter_mut().enumerate() {
                        let words = words.add((step + c) * PANEL);
                        ahead.fetch::<S>(words);
                        F::step(x.add((step + c) * per_word), stride, words, acc);
                    }
                }
            }
            let scales = scales::<S, V>(block, column);
            for (r, totals) in totals.iter_mut().enumerate() {
                let row_scale = S::splat(*input.scales.add(r * input.groups + g));
                for v in 0..V {
                    let mut sum = acc[0][r][v];
                    for acc in &acc[1..] {
                        sum = S::add_words(sum, acc[r][v]);
                    }
                    let scaled = S::mul(S::words_to_f32(sum), scales[v]);
                    totals[v] = S::mul_add(scaled, row_scale, totals[v]);
                }
            }
        }
        for (r, totals) in totals.iter().enumerate() {
            for (v, &total) in totals.iter().enumerate() {
                put::<S>(&out, r, column + v * S::LANES, total);
            }
        }
    }
}

/// `acc[r][v] += x[r] · w[v]` over one group, two rows and two columns at a time.
/// # Safety
/// As [`rows_by_panel`], with R rows and the V vectors of columns at `w`; `S::PAIRS` holds.
#[inline(always)]
unsafe fn group_by_pairs<S: Simd, F: Integers<S>, const R: usize, const V: usize>(
    x: *const u32,
    stride: usize,
    w: *const u32,
    acc: &mut [[S::I; V]; R],
) {
    for [first, second] in acc.as_chunks_mut().0 {
        for (first, second) in first.iter_mut().zip(second) {
            (*first, *second) = S::zip(*first, *second);
        }
    }
    for eight in 0..F::GROUP.inputs / 8 {
        // SAFETY: the caller's.
        unsafe {
            let w = w.add(eight * 8 / F::GROUP.per_word * PANEL);
            let mut columns = [(S::splat_word(0), S::splat_word(0)); V];
            for (v, column) in columns.iter_mut().enumerate() {
                let (first, second) = F::eight(w.add(v * S::LANES));
                *column = S::zip(first, second);
            }
            for (pair, [first, second]) in acc.as_chunks_mut().0.iter_mut().enumerate() {
                let x = S::load_two(x.add(2 * pair * stride + 2 * eight), stride);
                for v in 0..V {
                    first[v] = S::dot_pairs(first[v], columns[v].0, x);
                    second[v] = S::dot_pairs(second[v], columns[v].1, x);
                }
            }
        }
    }
    for [first, second] in acc.as_chunks_mut().0 {
        for (first, second) in first.iter_mut().zip(second) {
            (*first, *second) = S::unzip(*first, *second);
        }
    }
}

/// The scales of V vectors of columns: the low halves of 16 words are columns 0 … 15, the high ones 16 … 31.
/// # Safety
/// 16 words are readable at `block`.
#[inline(always)]
unsafe fn scales<S: Simd, const V: usize>(block: *const u32, column: usize) -> [S::V; V] {
    let mut scales = [S::splat(0.0); V];
    for (v, scale) in scales.iter_mut().enumerate() {
        let column = column + v * S::LANES;
        // SAFETY: the words lie among the 16; the rest is the caller's.
        let (low, high) = unsafe { S::load_bf16_pairs(block.add(column % SCALE_WORDS)) };
        *scale = if column < SCALE_WORDS { low } else { high };
    }
    scales
}
