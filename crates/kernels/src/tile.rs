//! The tile: some rows of activations times one panel of 32 columns, in registers. Matrix products,
//! attention scores and the weighted sum of values are all made of it.
//!
//! A panel holds 32 columns with K interleaved: step s of column c lies at `s * 32 + c`. A step is one
//! number (f32) or a pair of them (bf16, the first in the low half). Each output element sums over K in
//! ascending order in one accumulator, so the number of rows in the tile cannot change it.

use crate::simd::Simd;

/// Columns in a panel.
pub(crate) const PANEL: usize = 32;

/// How one step of a panel is stored and multiplied.
pub(crate) trait Dot<S: Simd>: 'static {
    /// One step of one row of activations.
    type X: Copy;
    /// One step of one column.
    type W: Copy;
    /// Numbers in a step.
    const STEP: usize;

    /// The activations to read: the exact ones, or those rounded to pairs of bf16.
    fn pick(exact: *const f32, rounded: *const u32) -> *const Self::X;

    /// `acc[r][v] += x[r] · w[v]` for one step.
    /// # Safety
    /// `x` is readable at `r * stride` for r < R, `w` at `v * LANES .. (v + 1) * LANES` for v < V.
    unsafe fn step<const R: usize, const V: usize>(
        x: *const Self::X,
        stride: usize,
        w: *const Self::W,
        acc: &mut [[S::V; V]; R],
    );
}

/// f32 panels.
pub(crate) struct F32;
/// bf16 panels, widened to f32 and multiplied with f32 activations.
pub(crate) struct Widened;
/// bf16 panels and bf16 activations, multiplied by the CPU's dot product.
pub(crate) struct Bf16Dot;

impl<S: Simd> Dot<S> for F32 {
    type X = f32;
    type W = f32;
    const STEP: usize = 1;
    fn pick(exact: *const f32, _: *const u32) -> *const f32 {
        exact
    }
    #[inline(always)]
    unsafe fn step<const R: usize, const V: usize>(
        x: *const f32,
        stride: usize,
        w: *const f32,
        acc: &mut [[S::V; V]; R],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut columns = [S::splat(0.0); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::load(w.add(v * S::LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*x.add(r * stride));
                for v in 0..V {
                    acc[v] = S::mul_add(x, columns[v], acc[v]);
                }
            }
        }
    }
}

impl<S: Simd> Dot<S> for Widened {
    type X = [f32; 2];
    type W = u32;
    const STEP: usize = 2;
    fn pick(exact: *const f32, _: *const u32) -> *const [f32; 2] {
        exact.cast()
    }
    #[inline(always)]
    unsafe fn step<const R: usize, const V: usize>(
        x: *const [f32; 2],
        stride: usize,
        w: *const u32,
        acc: &mut [[S::V; V]; R],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut columns = [(S::splat(0.0), S::splat(0.0)); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = S::load_bf16_pairs(w.add(v * S::LANES));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                S::mul_add_pair(acc, &columns, x.add(r * stride));
            }
        }
    }
}

impl<S: Simd> Dot<S> for Bf16Dot {
    type X = u32;
    type W = u32;
    const STEP: usize = 2;
    fn pick(_: *const f32, rounded: *const u32) -> *const u32 {
        rounded
    }
    #[inline(always)]
    unsafe fn step<const R: usize, const V: usize>(
        x: *const u32,
        stride: usize,
        w: *const u32,
        acc: &mut [[S::V; V]; R],
    ) {
        // SAFETY: the caller's; `Bf16Dot` is chosen only where HAS_BF16_DOT holds.
        unsafe {
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = *x.add(r * stride);
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::dot_bf16(*acc, w.add(v * S::LANES), x);
                }
            }
        }
    }
}

/// What becomes of a tile's sums.
#[derive(Clone, Copy)]
pub(crate) enum Finish {
    /// `y = sum`
    Store,
    /// `y = y + sum`
    Add,
    /// `y = y * scale[row] + sum`, the product first: the sum starts from it.
    Scaled(*const f32),
}

/// Where a tile's sums go: `rows` rows of at most 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) y: *mut f32,
    pub(crate) stride: usize,
    pub(crate) columns: usize,
    pub(crate) finish: Finish,
}

/// Weights that come after these, fetched line by line while these are multiplied. A step reads two lines.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// Words from what is read to what is fetched.
    distance: usize,
    /// Which of the two lines.
    lines: [bool; 2],
}

/// Words in a cache line.
const LINE: usize = 16;
/// Words that a single block of rows looks ahead.
const NEAR: usize = 4096;
/// With fewer rows all there is to do is to read, and the CPU's own look ahead is better.
const FETCHING_ROWS: usize = 2;

impl Ahead {
    pub(crate) const NONE: Self = Self { distance: 0, lines: [false; 2] };

    /// What the first block of `rows` rows fetches while it passes a panel of `words`: some way ahead if it is the only
    /// one, otherwise half of the panel that follows, of which it leaves the rest to the second block.
    pub(crate) fn of<S: Simd>(words: &[u32], rows: usize) -> Self {
        if rows < FETCHING_ROWS {
            Self::NONE
        } else if rows <= S::MAX_ROWS {
            Self { distance: NEAR, lines: [true; 2] }
        } else {
            Self { distance: words.len(), lines: [true, false] }
        }
    }

    /// Fetches for the step that is read at `w`.
    #[inline(always)]
    pub(crate) fn fetch<S: Simd>(self, w: *const u32) {
        for (i, line) in self.lines.into_iter().enumerate() {
            if line {
                S::prefetch(w.wrapping_add(self.distance + i * LINE));
            }
        }
    }

    /// What the next block of rows fetches.
    #[inline(always)]
    pub(crate) fn next(self) -> Self {
        Self { lines: [false, self.lines[0]], ..self }
    }
}

/// Rows of activations, `stride` steps apart.
#[derive(Clone, Copy)]
pub(crate) struct TileInput<X> {
    pub(crate) x: *const X,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

/// How many of `left` rows the next block takes, at most `most` (5, 8 or 12): blocks as equal as the sizes that exist
/// allow, since a block of few rows takes as long to read the weights as one of many.
pub(crate) fn block_rows(left: usize, most: usize) -> usize {
    const SIZES: [usize; 13] = [0, 1, 2, 3, 4, 5, 6, 4, 8, 5, 10, 6, 12];
    if left <= most {
        return SIZES[left];
    }
    let fair = left.div_ceil(left.div_ceil(most));
    [1, 2, 3, 4, 5, 6, 8, 10, 12].into_iter().find(|&size| size >= fair).unwrap_or(most)
}

/// Multiplies all rows of `input` with the panel at `w`.
/// # Safety
/// `input` is readable for `rows` rows of `steps` steps, `w` for `steps * 32` words, and `out` writable
/// for `rows` rows of `columns` columns (32 if it is `Scaled`); S's features are on.
#[inline(always)]
pub(crate) unsafe fn rows_by_panel<S: Simd, D: Dot<S>>(
    input: &TileInput<D::X>,
    w: *const D::W,
    steps: usize,
    out: Out,
    mut ahead: Ahead,
) {
    let mut done = 0;
    while done < input.rows {
        // SAFETY: rows done .. done + taken exist; the rest is the caller's.
        let taken = unsafe {
            let input = TileInput { x: input.x.add(done * input.stride), rows: input.rows - done, ..*input };
            let mut out = out;
            out.y = out.y.add(done * out.stride);
            if let Finish::Scaled(scale) = out.finish {
                out.finish = Finish::Scaled(scale.add(done));
            }
            match block_rows(input.rows, S::MAX_ROWS) {
                12 => block::<S, D, 12>(input, w, steps, out, ahead),
                10 => block::<S, D, 10>(input, w, steps, out, ahead),
                8 => block::<S, D, 8>(input, w, steps, out, ahead),
                6 => block::<S, D, 6>(input, w, steps, out, ahead),
                5 => block::<S, D, 5>(input, w, steps, out, ahead),
                4 => block::<S, D, 4>(input, w, steps, out, ahead),
                3 => block::<S, D, 3>(input, w, steps, out, ahead),
                2 => block::<S, D, 2>(input, w, steps, out, ahead),
                _ => block::<S, D, 1>(input, w, steps, out, ahead),
            }
        };
        done += taken;
        ahead = ahead.next();
    }
}

/// One block of R rows over the whole panel, as wide as the registers allow. Returns R.
/// # Safety
/// As [`rows_by_panel`], with R rows.
#[inline(always)]
unsafe fn block<S: Simd, D: Dot<S>, const R: usize>(
    input: TileInput<D::X>,
    w: *const D::W,
    steps: usize,
    out: Out,
    mut ahead: Ahead,
) -> usize {
    let mut column = 0;
    while column < PANEL {
        // SAFETY: the columns lie inside the panel; the rest is the caller's.
        unsafe {
            if S::LANES * 4 <= PANEL && R <= 2 {
                tile::<S, D, R, 4>(input, w.add(column), steps, out, column, ahead);
                column += 4 * S::LANES;
            } else {
                tile::<S, D, R, 2>(input, w.add(column), steps, out, column, ahead);
                column += 2 * S::LANES;
            }
        }
        ahead = Ahead::NONE;
    }
    R
}

/// # Safety
/// As [`rows_by_panel`], with R rows and the V vectors of columns from `column` on.
#[inline(always)]
unsafe fn tile<S: Simd, D: Dot<S>, const R: usize, const V: usize>(
    input: TileInput<D::X>,
    mut w: *const D::W,
    steps: usize,
    out: Out,
    column: usize,
    ahead: Ahead,
) {
    let (mut x, mut acc) = (input.x, [[S::splat(0.0); V]; R]);
    // SAFETY: all addresses are inside what the caller vouches for.
    unsafe {
        if let Finish::Scaled(scale) = out.finish {
            for (r, acc) in acc.iter_mut().enumerate() {
                let scale = S::splat(*scale.add(r));
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::mul(S::load(out.y.add(r * out.stride + column + v * S::LANES)), scale);
                }
            }
        }
        for _ in 0..steps {
            ahead.fetch::<S>(w.cast());
            D::step(x, input.stride, w, &mut acc);
            // After the last step these point past the end, and are not used.
            x = x.wrapping_add(1);
            w = w.wrapping_add(PANEL);
        }
        // A copy: the rows below are told apart while the program runs, and would keep `acc` out of registers above.
        let sums = acc;
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                put::<S>(&out, r, column + v * S::LANES, sum);
            }
        }
    }
}

/// Finishes one vector of sums and stores the columns that exist.
/// # Safety
/// As [`rows_by_panel`].
#[inline(always)]
pub(crate) unsafe fn put<S: Simd>(out: &Out, row: usize, column: usize, sum: S::V) {
    let width = out.columns.saturating_sub(column).min(S::LANES);
    if width == 0 {
        return;
    }
    // SAFETY: columns below `out.columns` are writable; a partial vector goes through a buffer.
    unsafe {
        let y = out.y.add(row * out.stride + column);
        let mut edge = [0.0f32; 16];
        let target = if width == S::LANES {
            y
        } else {
            std::ptr::copy_nonoverlapping(y.cast_const(), edge.as_mut_ptr(), width);
            edge.as_mut_ptr()
        };
        let value = match out.finish {
            Finish::Store | Finish::Scaled(_) => sum,
            Finish::Add => S::add(S::load(target), sum),
        };
        S::store(target, value);
        if width < S::LANES {
            std::ptr::copy_nonoverlapping(edge.as_ptr(), y, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_in_even_sizes() {
        for most in [5, 6, 8, 12] {
            for rows in 1..200 {
                let (mut left, mut blocks) = (rows, Vec::new());
                while left > 0 {
                    let taken = block_rows(left, most);
                    assert!((1..=most.min(left)).contains(&taken), "{taken} of {left}");
                    blocks.push(taken);
                    left -= taken;
                }
                assert!(blocks.len() <= rows.div_ceil(most) + 1, "{rows} rows in {blocks:?}");
            }
        }
    }
}
