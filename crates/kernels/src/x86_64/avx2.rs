//! Eight f32 a vector, sixteen registers; and the same with the byte dot product of AVX-VNNI.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T1, _mm_add_ps,
    _mm_add_ss, _mm_cvtss_f32, _mm_max_ps, _mm_max_ss, _mm_movehdup_ps, _mm_movehl_ps, _mm_packs_epi16,
    _mm_packs_epi32, _mm_prefetch, _mm_storel_epi64, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_blendv_ps, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_dpbusd_avx_epi32,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_mul_ps, _mm256_round_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_sign_epi8, _mm256_slli_epi32,
    _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_ps, _mm256_xor_si256,
};

use crate::simd::Simd;

/// AVX2 with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Runs intrinsics of this file's instruction set.
macro_rules! avx {
    ($body:expr) => {
        // SAFETY: this trait is only used inside functions compiled for AVX2 and FMA, which run after both
        // were detected; pointers are the caller's duty.
        unsafe { $body }
    };
}

/// The sum of the lanes, halves added pairwise.
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn sum(a: __m256) -> f32 {
    avx!({
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    })
}

/// The largest lane.
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn largest(a: __m256) -> f32 {
    avx!({
        let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    })
}

/// AVX2 with FMA, and the byte dot product of AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni;

macro_rules! implement {
    ($name:ty, $($bytes:tt)*) => {
impl Simd for $name {
    const LANES: usize = 8;
    // Six rows would fit into sixteen registers, but the compiler then keeps one sum in memory, at half the speed.
    const MAX_ROWS: usize = 5;
    type V = __m256;
    type I = __m256i;

    #[inline(always)]
    fn splat(value: f32) -> __m256 {
        avx!(_mm256_set1_ps(value))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        avx!(_mm256_loadu_ps(from))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        avx!(_mm256_storeu_ps(to, value));
    }
    #[inline(always)]
    fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        avx!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn add(a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn max(a: __m256, b: __m256) -> __m256 {
        avx!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn round(a: __m256) -> __m256 {
        avx!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn exp2_whole(a: __m256) -> __m256 {
        avx!({
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn select_less(a: __m256, b: __m256, then: __m256, otherwise: __m256) -> __m256 {
        avx!(_mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u32) -> (__m256, __m256) {
        avx!({
            let words = _mm256_loadu_si256(from.cast());
            let second = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(second))
        })
    }

    #[inline(always)]
    fn sum(a: __m256) -> f32 {
        avx!(sum(a))
    }
    #[inline(always)]
    fn largest(a: __m256) -> f32 {
        avx!(largest(a))
    }
    #[inline(always)]
    fn prefetch(from: *const u32) {
        avx!(_mm_prefetch::<_MM_HINT_T1>(from.cast()));
    }
    #[inline(always)]
    fn splat_word(word: u32) -> __m256i {
        avx!(_mm256_set1_epi32(word as i32))
    }
    #[inline(always)]
    unsafe fn load_words(from: *const u32) -> __m256i {
        avx!(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    fn add_words(a: __m256i, b: __m256i) -> __m256i {
        avx!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn words_to_f32(a: __m256i) -> __m256 {
        avx!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn nibbles(a: __m256i) -> (__m256i, __m256i) {
        avx!({
            let mask = _mm256_set1_epi8(15);
            (_mm256_and_si256(a, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(a), mask))
        })
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, whole: __m256) {
        avx!({
            let words = _mm256_cvtps_epi32(whole);
            let halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storel_epi64(to.cast(), _mm_packs_epi16(halves, halves));
        });
    }
    $($bytes)*
}
    };
}

implement! { Avx2,
    const BYTE_BIAS: i32 = 0;
    #[inline(always)]
    fn weight_bytes(stored: __m256i) -> __m256i {
        avx!(_mm256_xor_si256(stored, _mm256_set1_epi8(-128)))
    }
    #[inline(always)]
    fn dot_bytes(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // The magnitude of one and the sign of both on the other: pairs of products stay below 2^15.
        Self::dot_nibbles(acc, avx!(_mm256_abs_epi8(w)), avx!(_mm256_sign_epi8(x, w)))
    }
    #[inline(always)]
    fn dot_nibbles(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        avx!({
            let pairs = _mm256_maddubs_epi16(w, x);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
}
implement! { AvxVnni,
    const BYTE_BIAS: i32 = 128;
    #[inline(always)]
    fn weight_bytes(stored: __m256i) -> __m256i {
        stored
    }
    #[inline(always)]
    fn dot_bytes(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        avx!(_mm256_dpbusd_avx_epi32(acc, w, x))
    }
    #[inline(always)]
    fn dot_nibbles(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        Self::dot_bytes(acc, w, x)
    }
}
