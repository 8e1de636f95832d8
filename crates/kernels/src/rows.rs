//! Operations on one row at a time: norm, rotary, the residual mix, the softcap, the sum of a softmax.

use crate::isa::dispatch;
use crate::scalar;
use crate::simd::Simd;

/// The smallest step of f32 above 1: what keeps the norm of a zero row finite.
pub const NORM_EPSILON: f32 = f32::EPSILON;

/// One unsafe access per vector and the rest of the row one number at a time.
macro_rules! lanes {
    ($S:ident, $len:expr, |$i:ident| $vector:expr, |$j:ident| $single:expr) => {{
        let whole = $len / $S::LANES * $S::LANES;
        for $i in (0..whole).step_by($S::LANES) {
            // SAFETY: i + LANES is at most the length that every slice was asserted to have.
            unsafe { $vector };
        }
        for $j in whole..$len {
            $single;
        }
    }};
}

dispatch! {
    fn scaled_norm(row: &mut [f32], scale: f32) => scaled_norm_wide, scalar::rows::scaled_norm
}

/// Scales a row to a root mean square of one.
pub fn norm(isa: crate::Isa, row: &mut [f32]) {
    scaled_norm(isa, row, 1.0);
}

#[inline(always)]
fn scaled_norm_wide<S: Simd>(row: &mut [f32], scale: f32) {
    let (length, at) = (row.len(), row.as_mut_ptr());
    let mut squares = S::splat(0.0);
    let mut rest = 0.0f32;
    lanes!(S, length, |i| squares = S::mul_add(S::load(at.add(i)), S::load(at.add(i)), squares), |j| rest +=
        row[j] * row[j]);
    let mean = (S::sum(squares) + rest) / length as f32;
    let factor = scale / (mean + NORM_EPSILON).sqrt();
    lanes!(S, length, |i| S::store(at.add(i), S::mul(S::load(at.add(i)), S::splat(factor))), |j| row[j] *=
        factor);
}

dispatch! {
    fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) => rotate_wide, scalar::rows::rotate
}

/// Turns a head by minus its position's angles (its halves pair up), then norms it to `scale`.
pub fn rotate_and_norm(isa: crate::Isa, head: &mut [f32], (cos, sin): (&[f32], &[f32]), scale: f32) {
    assert!(cos.len() * 2 == head.len() && sin.len() * 2 == head.len(), "half as many angles as numbers");
    rotate(isa, head, cos, sin);
    scaled_norm(isa, head, scale);
}

#[inline(always)]
fn rotate_wide<S: Simd>(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = head.split_at_mut(cos.len());
    let (a, b, c, s) = (first.as_mut_ptr(), second.as_mut_ptr(), cos.as_ptr(), sin.as_ptr());
    lanes!(
        S,
        cos.len(),
        |i| {
            let (x, y) = (S::load(a.add(i)), S::load(b.add(i)));
            let (c, s) = (S::load(c.add(i)), S::load(s.add(i)));
            S::store(a.add(i), S::mul_add(x, c, S::mul(y, s)));
            S::store(b.add(i), S::sub(S::mul(y, c), S::mul(x, s)));
        },
        |j| {
            let (x, y) = (first[j], second[j]);
            first[j] = x.mul_add(cos[j], y * sin[j]);
            second[j] = y * cos[j] - x * sin[j];
        }
    );
}

dispatch! {
    fn mix_rows(x: &mut [f32], keep: f32, other: &[f32], share: f32) => mix_wide, scalar::rows::mix
}

/// `x = keep · x + share · other`
pub fn mix(isa: crate::Isa, x: &mut [f32], keep: f32, other: &[f32], share: f32) {
    assert_eq!(x.len(), other.len());
    mix_rows(isa, x, keep, other, share);
}

#[inline(always)]
fn mix_wide<S: Simd>(x: &mut [f32], keep: f32, other: &[f32], share: f32) {
    let (length, at, from) = (x.len(), x.as_mut_ptr(), other.as_ptr());
    let (k, s) = (S::splat(keep), S::splat(share));
    lanes!(
        S,
        length,
        |i| S::store(at.add(i), S::mul_add(S::load(from.add(i)), s, S::mul(S::load(at.add(i)), k))),
        |j| x[j] = other[j].mul_add(share, x[j] * keep)
    );
}

dispatch! {
    fn relu_squared_row(row: &mut [f32]) => relu_squared_wide, scalar::rows::relu_squared
}

/// `x = max(x, 0)²`
pub fn relu_squared(isa: crate::Isa, row: &mut [f32]) {
    relu_squared_row(isa, row);
}

#[inline(always)]
fn relu_squared_wide<S: Simd>(row: &mut [f32]) {
    let (length, at) = (row.len(), row.as_mut_ptr());
    let zero = S::splat(0.0);
    lanes!(
        S,
        length,
        |i| {
            // A comparison with NaN is false, so that NaN stays.
            let x = S::load(at.add(i));
            let positive = S::select_less(x, zero, zero, x);
            S::store(at.add(i), S::mul(positive, positive));
        },
        |j| row[j] = scalar::rows::relu_squared_of(row[j])
    );
}

dispatch! {
    fn softcap_row(logits: &mut [f32], cap: f32) => softcap_wide, scalar::rows::softcap
}

/// `cap · tanh(logits / cap)`, within 4e-7 · cap of the exact value.
pub fn softcap(isa: crate::Isa, logits: &mut [f32], cap: f32) {
    softcap_row(isa, logits, cap);
}

#[inline(always)]
fn softcap_wide<S: Simd>(logits: &mut [f32], cap: f32) {
    let (length, at) = (logits.len(), logits.as_mut_ptr());
    let whole = length / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: i + LANES is at most the length of the row.
        unsafe { S::store(at.add(i), capped::<S>(S::load(at.add(i)), cap)) };
    }
    let mut edge = [0.0f32; 16];
    edge[..length - whole].copy_from_slice(&logits[whole..]);
    // SAFETY: the buffer holds a vector of any instruction set.
    unsafe { S::store(edge.as_mut_ptr(), capped::<S>(S::load(edge.as_ptr()), cap)) };
    logits[whole..].copy_from_slice(&edge[..length - whole]);
}

/// `cap · tanh(z / cap)` with tanh t = 1 - 2 / (e^2t + 1); beyond ±40 that is ±1, and e^2t would overflow.
#[inline(always)]
fn capped<S: Simd>(z: S::V, cap: f32) -> S::V {
    let (one, limit) = (S::splat(1.0), S::splat(80.0));
    let twice = S::mul(z, S::splat(2.0 / cap));
    let twice = S::select_less(limit, twice, limit, twice);
    let tanh = S::sub(one, S::div(S::splat(2.0), S::add(S::exp(twice), one)));
    S::mul(tanh, S::splat(cap))
}

dispatch! {
    fn exp_sum_row(row: &[f32], highest: f32, factor: f32, sum: &mut f32) => exp_sum_wide, scalar::rows::exp_sum
}

/// `Σ e^((z - highest) · factor)` over a row whose largest number is `highest`; within 1e-5 of the exact value for
/// rows of up to a few thousand.
pub fn exp_sum(isa: crate::Isa, row: &[f32], highest: f32, factor: f32) -> f32 {
    let mut sum = 0.0;
    exp_sum_row(isa, row, highest, factor, &mut sum);
    sum
}

#[inline(always)]
fn exp_sum_wide<S: Simd>(row: &[f32], highest: f32, factor: f32, to: &mut f32) {
    let (length, from) = (row.len(), row.as_ptr());
    let whole = length / S::LANES * S::LANES;
    let (high, scale) = (S::splat(highest), S::splat(factor));
    let weight = |z: S::V| S::exp(S::mul(S::sub(z, high), scale));
    let mut sum = S::splat(0.0);
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: i + LANES is at most the length of the row.
        sum = S::add(sum, weight(unsafe { S::load(from.add(i)) }));
    }
    let mut edge = [f32::NEG_INFINITY; 16];
    edge[..length - whole].copy_from_slice(&row[whole..]);
    // SAFETY: the buffer holds a vector of any instruction set.
    *to = S::sum(S::add(sum, weight(unsafe { S::load(edge.as_ptr()) })));
}
