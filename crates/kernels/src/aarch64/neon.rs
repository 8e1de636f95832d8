//! Four f32 a vector, thirty-two registers.

use std::arch::aarch64::{
    float32x4_t, vadd_f32, vaddq_f32, vaddq_s32, vandq_u32, vbslq_f32, vcltq_f32, vcvtnq_s32_f32, vdivq_f32,
    vdupq_n_f32, vdupq_n_s32, vdupq_n_u32, vfmaq_f32, vget_high_f32, vget_lane_f32, vget_low_f32, vld1q_f32,
    vld1q_u32, vmaxnmq_f32, vmaxnmvq_f32, vmulq_f32, vreinterpretq_f32_s32, vreinterpretq_f32_u32,
    vrndnq_f32, vshlq_n_s32, vshlq_n_u32, vst1q_f32, vsubq_f32,
};

use crate::simd::Simd;

/// Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// Runs NEON intrinsics.
macro_rules! neon {
    ($body:expr) => {
        // SAFETY: every aarch64 CPU that runs this program has NEON; pointers are the caller's duty.
        unsafe { $body }
    };
}

impl Simd for Neon {
    const LANES: usize = 4;
    const MAX_ROWS: usize = 12;
    type V = float32x4_t;

    #[inline(always)]
    fn splat(value: f32) -> float32x4_t {
        neon!(vdupq_n_f32(value))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        neon!(vld1q_f32(from))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: float32x4_t) {
        neon!(vst1q_f32(to, value));
    }
    #[inline(always)]
    fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        neon!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // A number wins over NaN, as in `f32::max` of the specification.
        neon!(vmaxnmq_f32(a, b))
    }
    #[inline(always)]
    fn round(a: float32x4_t) -> float32x4_t {
        neon!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn exp2_whole(a: float32x4_t) -> float32x4_t {
        neon!(vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(vcvtnq_s32_f32(a), vdupq_n_s32(127)))))
    }
    #[inline(always)]
    fn select_less(a: float32x4_t, b: float32x4_t, then: float32x4_t, otherwise: float32x4_t) -> float32x4_t {
        neon!(vbslq_f32(vcltq_f32(a, b), then, otherwise))
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u32) -> (float32x4_t, float32x4_t) {
        neon!({
            let words = vld1q_u32(from);
            let second = vandq_u32(words, vdupq_n_u32(0xffff_0000));
            (vreinterpretq_f32_u32(vshlq_n_u32::<16>(words)), vreinterpretq_f32_u32(second))
        })
    }
    #[inline(always)]
    fn sum(a: float32x4_t) -> f32 {
        neon!({
            let two = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        })
    }
    #[inline(always)]
    fn largest(a: float32x4_t) -> f32 {
        neon!(vmaxnmvq_f32(a))
    }
}
