//! Sixteen f32 a vector, thirty-two registers; and the same with `vdpbf16ps`.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtps_epi32,
    _mm512_div_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_roundscale_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use crate::simd::Simd;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

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
    ($name:ty, $($bf16:tt)*) => {
        impl Simd for $name {
            const LANES: usize = 16;
            const MAX_ROWS: usize = 12;
            type V = __m512;

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
            $($bf16)*
        }
    };
}

implement! { Avx512, }
implement! { Avx512Bf16,
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
