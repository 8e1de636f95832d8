//! Sixteen f32 a vector, thirty-two registers; the same with `vpdpbusd`, and with `vdpbf16ps` besides.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T1,
    _mm_prefetch, _mm_storeu_si128, _mm256_add_ps, _mm256_max_ps, _mm512_add_epi32, _mm512_add_ps,
    _mm512_and_si512, _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8,
    _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_div_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
    _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16,
    _mm512_maddubs_epi16, _mm512_mask_blend_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_roundscale_ps,
    _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srai_epi16, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_ps,
};

use crate::simd::Simd;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// AVX-512 as above, and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Vnni;

/// AVX-512 as above, and BF16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16;

/// Runs intrinsics of this file's instruction sets.
macro_rules! avx {
    ($body:expr) => {
        // SAFETY: these types are only used inside functions compiled for their features, which run after
        // the features were detected; pointers are the caller's duty.
        unsafe { $body }
    };
}

macro_rules! implement {
    ($name:ty, $($more:tt)*) => {
        impl Simd for $name {
            const LANES: usize = 16;
            const MAX_ROWS: usize = 12;
            type V = __m512;
            type I = __m512i;

            #[inline(always)]
            fn splat(value: f32) -> __m512 {
                avx!(_mm512_set1_ps(value))
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> __m512 {
                avx!(_mm512_loadu_ps(from))
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, value: __m512) {
                avx!(_mm512_storeu_ps(to, value));
            }
            #[inline(always)]
            fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
                avx!(_mm512_fmadd_ps(a, b, c))
            }
            #[inline(always)]
            fn add(a: __m512, b: __m512) -> __m512 {
                avx!(_mm512_add_ps(a, b))
            }
            #[inline(always)]
            fn sub(a: __m512, b: __m512) -> __m512 {
                avx!(_mm512_sub_ps(a, b))
            }
            #[inline(always)]
            fn mul(a: __m512, b: __m512) -> __m512 {
                avx!(_mm512_mul_ps(a, b))
            }
            #[inline(always)]
            fn div(a: __m512, b: __m512) -> __m512 {
                avx!(_mm512_div_ps(a, b))
            }
            #[inline(always)]
            fn max(a: __m512, b: __m512) -> __m512 {
                avx!(_mm512_max_ps(a, b))
            }
            #[inline(always)]
            fn round(a: __m512) -> __m512 {
                avx!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
            }
            #[inline(always)]
            fn exp2_whole(a: __m512) -> __m512 {
                avx!({
                    let biased = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
                })
            }
            #[inline(always)]
            fn select_less(a: __m512, b: __m512, then: __m512, otherwise: __m512) -> __m512 {
                avx!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then))
            }
            #[inline(always)]
            unsafe fn load_bf16_pairs(from: *const u32) -> (__m512, __m512) {
                avx!({
                    let words = _mm512_loadu_si512(from.cast());
                    let second = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                    (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(second))
                })
            }
            #[inline(always)]
            fn sum(a: __m512) -> f32 {
                avx!({
                    let halves = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
                    super::avx2::sum(halves)
                })
            }
            #[inline(always)]
            fn largest(a: __m512) -> f32 {
                avx!({
                    let halves = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
                    super::avx2::largest(halves)
                })
            }
            #[inline(always)]
            fn prefetch(from: *const u32) {
                avx!(_mm_prefetch::<_MM_HINT_T1>(from.cast()));
            }
            #[inline(always)]
            fn splat_word(word: u32) -> __m512i {
                avx!(_mm512_set1_epi32(word as i32))
            }
            #[inline(always)]
            unsafe fn load_words(from: *const u32) -> __m512i {
                avx!(_mm512_loadu_si512(from.cast()))
            }
            #[inline(always)]
            fn add_words(a: __m512i, b: __m512i) -> __m512i {
                avx!(_mm512_add_epi32(a, b))
            }
            #[inline(always)]
            fn words_to_f32(a: __m512i) -> __m512 {
                avx!(_mm512_cvtepi32_ps(a))
            }
            #[inline(always)]
            fn nibbles(a: __m512i) -> (__m512i, __m512i) {
                avx!({
                    let mask = _mm512_set1_epi8(15);
                    (_mm512_and_si512(a, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(a), mask))
                })
            }
            #[inline(always)]
            unsafe fn store_bytes(to: *mut i8, whole: __m512) {
                avx!(_mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(whole))));
            }
            $($more)*
        }
    };
}

/// Bytes multiplied by `vpdpbusd`.
macro_rules! vnni {
    () => {
        const BYTE_BIAS: i32 = 128;
        #[inline(always)]
        fn weight_bytes(stored: __m512i) -> __m512i {
            stored
        }
        #[inline(always)]
        fn dot_bytes(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
            avx!(_mm512_dpbusd_epi32(acc, w, x))
        }
        #[inline(always)]
        fn dot_nibbles(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
            Self::dot_bytes(acc, w, x)
        }
    };
}

implement! { Avx512,
    const BYTE_BIAS: i32 = 128;
    #[inline(always)]
    fn weight_bytes(stored: __m512i) -> __m512i {
        stored
    }
    #[inline(always)]
    fn dot_bytes(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        // Even and odd bytes apart, as pairs of i16: bytes above 127 would overflow `vpmaddubsw`.
        avx!({
            let w_even = _mm512_and_si512(w, _mm512_set1_epi16(0xff));
            let w_odd = _mm512_srli_epi16::<8>(w);
            let x_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x));
            let x_odd = _mm512_srai_epi16::<8>(x);
            let acc = _mm512_add_epi32(acc, _mm512_madd_epi16(w_even, x_even));
            _mm512_add_epi32(acc, _mm512_madd_epi16(w_odd, x_odd))
        })
    }
    #[inline(always)]
    fn dot_nibbles(acc: __m512i, w: __m512i, x: __m512i) -> __m512i {
        avx!({
            let pairs = _mm512_maddubs_epi16(w, x);
            _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        })
    }
}
implement! { Avx512Vnni, vnni!(); }
implement! { Avx512Bf16,
    vnni!();
    const HAS_BF16_DOT: bool = true;
    #[inline(always)]
    unsafe fn dot_bf16(acc: __m512, weights: *const u32, pair: u32) -> __m512 {
        avx!({
            let weights: __m512bh = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(weights.cast()));
            let pair: __m512bh = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32));
            _mm512_dpbf16_ps(acc, weights, pair)
        })
    }
}
