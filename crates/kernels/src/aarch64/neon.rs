//! Four f32 a vector, thirty-two registers; the same with the byte dot product, and with that of unsigned bytes.
//!
//! Rust has no stable intrinsics for the dot products, so each is one instruction of inline assembly.

use std::arch::aarch64::{
    float32x4_t, int32x4_t, vadd_f32, vaddq_f32, vaddq_s32, vandq_u8, vandq_u32, vbslq_f32, vcltq_f32,
    vcombine_s16, vcombine_u32, vcvtnq_s32_f32, vcvtq_f32_s32, vdivq_f32, vdupq_n_f32, vdupq_n_s32,
    vdupq_n_u8, vdupq_n_u32, veorq_u8, vfmaq_f32, vfmaq_lane_f32, vget_high_f32, vget_lane_f32, vget_low_f32,
    vget_low_s8, vld1_f32, vld1_u32, vld1q_f32, vld1q_u32, vmaxnmq_f32, vmaxnmvq_f32, vmovn_s16, vmovn_s32,
    vmull_high_s8, vmull_s8, vmulq_f32, vpadalq_s16, vpaddq_s16, vreinterpret_u32_s8, vreinterpretq_f32_s32,
    vreinterpretq_f32_u32, vreinterpretq_s8_s32, vreinterpretq_s32_u8, vreinterpretq_s32_u32,
    vreinterpretq_u8_s32, vrndnq_f32, vsetq_lane_s32, vshlq_n_s32, vshlq_n_u32, vshrq_n_u8, vst1_lane_u32,
    vst1q_f32, vsubq_f32, vuzp1q_s32, vuzp2q_s32, vzip1q_s32, vzip2q_s32,
};
use std::arch::asm;

use crate::simd::Simd;

/// Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// Advanced SIMD, and `sdot` (FEAT_DotProd).
#[derive(Clone, Copy)]
pub(crate) struct NeonDotprod;

/// Advanced SIMD, and `usdot` and `usmmla` (FEAT_I8MM).
#[derive(Clone, Copy)]
pub(crate) struct NeonI8mm;

/// Runs instructions of this file's sets.
macro_rules! neon {
    ($body:expr) => {
        // SAFETY: every aarch64 CPU that runs this program has NEON; the types with more are only used inside
        // functions compiled for it, which run after it was detected. Pointers are the caller's duty.
        unsafe { $body }
    };
}

/// Bytes multiplied by a dot product that takes one word, so that none has to be copied to all lanes.
macro_rules! dot_products {
    ($instruction:literal) => {
        #[inline(always)]
        fn factor(word: u32) -> int32x4_t {
            neon!(vsetq_lane_s32::<0>(word as i32, vdupq_n_s32(0)))
        }
        #[inline(always)]
        fn dot_bytes(mut acc: int32x4_t, w: int32x4_t, x: int32x4_t) -> int32x4_t {
            neon!(asm!(
                concat!($instruction, " {acc:v}.4s, {w:v}.16b, {x:v}.4b[0]"),
                acc = inout(vreg) acc,
                w = in(vreg) w,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            ));
            acc
        }
        #[inline(always)]
        fn dot_nibbles(acc: int32x4_t, w: int32x4_t, x: int32x4_t) -> int32x4_t {
            Self::dot_bytes(acc, w, x)
        }
    };
}

macro_rules! implement {
    ($name:ty, $($bytes:tt)*) => {
impl Simd for $name {
    const LANES: usize = 4;
    const MAX_ROWS: usize = 8;
    type V = float32x4_t;
    type I = int32x4_t;

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

    #[inline(always)]
    unsafe fn mul_add_pair<const V: usize>(
        acc: &mut [float32x4_t; V],
        w: &[(float32x4_t, float32x4_t); V],
        x: *const [f32; 2],
    ) {
        neon!({
            let pair = vld1_f32(x.cast());
            for (acc, w) in acc.iter_mut().zip(w) {
                *acc = vfmaq_lane_f32::<1>(vfmaq_lane_f32::<0>(*acc, w.0, pair), w.1, pair);
            }
        });
    }

    #[inline(always)]
    fn splat_word(word: u32) -> int32x4_t {
        neon!(vdupq_n_s32(word as i32))
    }
    #[inline(always)]
    unsafe fn load_words(from: *const u32) -> int32x4_t {
        neon!(vreinterpretq_s32_u32(vld1q_u32(from)))
    }
    #[inline(always)]
    fn add_words(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        neon!(vaddq_s32(a, b))
    }
    #[inline(always)]
    fn words_to_f32(a: int32x4_t) -> float32x4_t {
        neon!(vcvtq_f32_s32(a))
    }
    #[inline(always)]
    fn nibbles(a: int32x4_t) -> (int32x4_t, int32x4_t) {
        neon!({
            let bytes = vreinterpretq_u8_s32(a);
            let low = vandq_u8(bytes, vdupq_n_u8(15));
            (vreinterpretq_s32_u8(low), vreinterpretq_s32_u8(vshrq_n_u8::<4>(bytes)))
        })
    }
    #[inline(always)]
    unsafe fn store_bytes(to: *mut i8, whole: float32x4_t) {
        neon!({
            let halves = vmovn_s32(vcvtnq_s32_f32(whole));
            let bytes = vmovn_s16(vcombine_s16(halves, halves));
            vst1_lane_u32::<0>(to.cast(), vreinterpret_u32_s8(bytes));
        });
    }
    $($bytes)*
}
    };
}

/// Bytes of weights as they are stored, less 128.
macro_rules! signed_weights {
    () => {
        const BYTE_BIAS: i32 = 0;
        #[inline(always)]
        fn weight_bytes(stored: int32x4_t) -> int32x4_t {
            neon!(vreinterpretq_s32_u8(veorq_u8(vreinterpretq_u8_s32(stored), vdupq_n_u8(128))))
        }
    };
}

implement! { Neon,
    signed_weights!();
    #[inline(always)]
    fn dot_bytes(acc: int32x4_t, w: int32x4_t, x: int32x4_t) -> int32x4_t {
        neon!({
            let (w, x) = (vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
            // Sums of two products of at most 127 · 128 stay below 2^15.
            let pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
            vpadalq_s16(acc, pairs)
        })
    }
    #[inline(always)]
    fn dot_nibbles(acc: int32x4_t, w: int32x4_t, x: int32x4_t) -> int32x4_t {
        Self::dot_bytes(acc, w, x)
    }
}
implement! { NeonDotprod,
    signed_weights!();
    dot_products!("sdot");
}
implement! { NeonI8mm,
    const BYTE_BIAS: i32 = 128;
    #[inline(always)]
    fn weight_bytes(stored: int32x4_t) -> int32x4_t {
        stored
    }
    dot_products!("usdot");
    const PAIRS: bool = true;
    #[inline(always)]
    fn zip(a: int32x4_t, b: int32x4_t) -> (int32x4_t, int32x4_t) {
        neon!((vzip1q_s32(a, b), vzip2q_s32(a, b)))
    }
    #[inline(always)]
    fn unzip(a: int32x4_t, b: int32x4_t) -> (int32x4_t, int32x4_t) {
        neon!((vuzp1q_s32(a, b), vuzp2q_s32(a, b)))
    }
    #[inline(always)]
    unsafe fn load_two(from: *const u32, stride: usize) -> int32x4_t {
        neon!(vreinterpretq_s32_u32(vcombine_u32(vld1_u32(from), vld1_u32(from.add(stride)))))
    }
    #[inline(always)]
    fn dot_pairs(mut acc: int32x4_t, w: int32x4_t, x: int32x4_t) -> int32x4_t {
        neon!(asm!(
            "usmmla {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        ));
        acc
    }
}
