//! The few vector operations that the kernels are written in, once; each instruction set implements
//! them. All methods inline into a function compiled for that set (see `isa::dispatch`).

/// A vector of `LANES` f32. Panels are 32 wide, so `LANES` divides 32.
pub(crate) trait Simd: Copy + 'static {
    /// Numbers in a vector.
    const LANES: usize;
    /// Rows that one register tile of two vectors may have.
    const MAX_ROWS: usize;
    /// Whether [`Simd::dot_bf16`] is an instruction here.
    const HAS_BF16_DOT: bool = false;
    /// What must be added to a signed byte of weights for [`Simd::dot_bytes`] to take it as stored, taken away
    /// again by the caller; 0 where [`Simd::weight_bytes`] makes them signed.
    const BYTE_BIAS: i32;
    /// A vector of f32.
    type V: Copy;
    /// A vector of words: i32, or four bytes each.
    type I: Copy;

    fn splat(value: f32) -> Self::V;
    /// # Safety
    /// `LANES` numbers are readable at `from`.
    unsafe fn load(from: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` numbers are writable at `to`.
    unsafe fn store(to: *mut f32, value: Self::V);
    /// `a * b + c`, rounded once.
    fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn add(a: Self::V, b: Self::V) -> Self::V;
    fn sub(a: Self::V, b: Self::V) -> Self::V;
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    fn div(a: Self::V, b: Self::V) -> Self::V;
    fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number, ties to even.
    fn round(a: Self::V) -> Self::V;
    /// 2 to the whole number `a`, which lies in -126 ..= 127.
    fn exp2_whole(a: Self::V) -> Self::V;
    /// `then` in lanes where `a < b`, `otherwise` elsewhere.
    fn select_less(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// Splits `LANES` pairs of bf16 into their first and their second halves.
    /// # Safety
    /// `LANES` words are readable at `from`.
    unsafe fn load_bf16_pairs(from: *const u32) -> (Self::V, Self::V);
    /// `acc[v] + x.0 * w[v].0 + x.1 * w[v].1`, in that order.
    /// # Safety
    /// Two numbers are readable at `x`.
    #[inline(always)]
    unsafe fn mul_add_pair<const V: usize>(
        acc: &mut [Self::V; V],
        w: &[(Self::V, Self::V); V],
        x: *const [f32; 2],
    ) {
        // SAFETY: the caller's.
        let [first, second] = unsafe { *x };
        let (first, second) = (Self::splat(first), Self::splat(second));
        for (acc, w) in acc.iter_mut().zip(w) {
            *acc = Self::mul_add(second, w.1, Self::mul_add(first, w.0, *acc));
        }
    }
    /// `acc + x.0 * w.0 + x.1 * w.1` over pairs of bf16.
    /// # Safety
    /// `LANES` words are readable at `weights`, and `HAS_BF16_DOT` holds.
    unsafe fn dot_bf16(acc: Self::V, weights: *const u32, pair: u32) -> Self::V {
        let _ = (acc, weights, pair);
        unreachable!("guarded by HAS_BF16_DOT")
    }

    fn splat_word(word: u32) -> Self::I;
    /// # Safety
    /// `LANES` words are readable at `from`.
    unsafe fn load_words(from: *const u32) -> Self::I;
    fn add_words(a: Self::I, b: Self::I) -> Self::I;
    /// i32 to f32.
    fn words_to_f32(a: Self::I) -> Self::V;
    /// Stored bytes of weights (128 added) as [`Simd::dot_bytes`] takes them.
    fn weight_bytes(stored: Self::I) -> Self::I;
    /// A word of activations as [`Simd::dot_bytes`] takes it: in every lane, or where its instruction needs no more,
    /// in the first.
    #[inline(always)]
    fn factor(word: u32) -> Self::I {
        Self::splat_word(word)
    }
    /// `acc + Σ w[i] · x[i]` over the four bytes of each word; `x` is signed and above -128, a [`Simd::factor`].
    fn dot_bytes(acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// As [`Simd::dot_bytes`], with weights in 0 ..= 15.
    fn dot_nibbles(acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// Whether there is an instruction that multiplies two rows with two columns: [`Simd::dot_pairs`].
    const PAIRS: bool = false;
    /// The words of two vectors by turns: those of their first halves, then those of their second.
    fn zip(a: Self::I, b: Self::I) -> (Self::I, Self::I) {
        let _ = (a, b);
        unreachable!("guarded by PAIRS")
    }
    /// Undoes [`Simd::zip`].
    fn unzip(a: Self::I, b: Self::I) -> (Self::I, Self::I) {
        let _ = (a, b);
        unreachable!("guarded by PAIRS")
    }
    /// Two words each of two rows of activations, the second row `stride` words after the first.
    /// # Safety
    /// They are readable, and `PAIRS` holds.
    unsafe fn load_two(from: *const u32, stride: usize) -> Self::I {
        let _ = (from, stride);
        unreachable!("guarded by PAIRS")
    }
    /// `acc[c][r] + Σ w[c][i] · x[r][i]` over eight bytes for each two columns and two rows; else as
    /// [`Simd::dot_bytes`].
    fn dot_pairs(acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
        let _ = (acc, w, x);
        unreachable!("guarded by PAIRS")
    }
    /// The low and the high four bits of every byte, as bytes.
    fn nibbles(a: Self::I) -> (Self::I, Self::I);
    /// Writes whole numbers of -127 ..= 127 as bytes.
    /// # Safety
    /// `LANES` bytes are writable at `to`.
    unsafe fn store_bytes(to: *mut i8, whole: Self::V);

    /// Asks for the cache line at `from`, which need not be readable, to be brought to the second-level cache.
    fn prefetch(from: *const u32) {
        let _ = from;
    }

    /// The sum of the lanes, halves added pairwise.
    fn sum(a: Self::V) -> f32;
    /// The largest lane.
    fn largest(a: Self::V) -> f32;

    /// e to the power `x`; within 2 units in the last place for -87.3 ≤ x ≤ 88, 0 below that range.
    #[inline(always)]
    fn exp(x: Self::V) -> Self::V {
        let low = Self::splat(EXP_LOWEST);
        let clamped = Self::select_less(x, low, low, x);
        let whole = Self::round(Self::mul(clamped, Self::splat(std::f32::consts::LOG2_E)));
        let rest = Self::mul_add(whole, Self::splat(-LN2_HIGH), clamped);
        let rest = Self::mul_add(whole, Self::splat(-LN2_LOW), rest);
        let mut sum = Self::splat(EXP_TERMS[0]);
        for &term in &EXP_TERMS[1..] {
            sum = Self::mul_add(sum, rest, Self::splat(term));
        }
        Self::select_less(x, low, Self::splat(0.0), Self::mul(sum, Self::exp2_whole(whole)))
    }
}

/// Below this e^x is treated as 0; just above it the result is still a normal number.
pub(crate) const EXP_LOWEST: f32 = -87.3;
/// ln 2 in two parts, the first with so few bits that a whole number times it is exact.
pub(crate) const LN2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// The Taylor terms of e^r for |r| ≤ ln 2 / 2, the highest power first.
pub(crate) const EXP_TERMS: [f32; 8] =
    [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
