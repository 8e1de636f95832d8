//! Norm, rotary, residual mix and softcap, as nanochat; the sum of a softmax.

use crate::rows::NORM_EPSILON;

pub(crate) fn scaled_norm(row: &mut [f32], scale: f32) {
    let mean = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
    let factor = scale / (mean + NORM_EPSILON).sqrt();
    for x in row {
        *x *= factor;
    }
}

pub(crate) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for i in 0..half {
        let (x, y) = (head[i], head[i + half]);
        head[i] = x * cos[i] + y * sin[i];
        head[i + half] = y * cos[i] - x * sin[i];
    }
}

pub(crate) fn mix(x: &mut [f32], keep: f32, other: &[f32], share: f32) {
    for (x, &other) in x.iter_mut().zip(other) {
        *x = *x * keep + other * share;
    }
}

pub(crate) fn softcap(logits: &mut [f32], cap: f32) {
    for z in logits {
        *z = cap * (*z / cap).tanh();
    }
}

pub(crate) fn exp_sum(row: &[f32], highest: f32, factor: f32, to: &mut f32) {
    *to = row.iter().map(|z| ((z - highest) * factor).exp()).sum();
}

pub(crate) fn relu_squared(row: &mut [f32]) {
    for x in row {
        *x = relu_squared_of(*x);
    }
}

pub(crate) fn relu_squared_of(x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive * positive
}
