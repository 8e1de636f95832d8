//! Softmax over the visible keys, one query at a time, then the weighted sum of values.

use crate::attention::{Attention, MAX_HEAD_DIM, PAGE, TileTask, gather, scatter};
use crate::pool::Shareable;
use crate::tile::PANEL;

pub(crate) fn attend_tile(attention: &Attention<'_>, task: &TileTask, out: Shareable<f32>) {
    let dim = attention.pages.shape().head_dim;
    let rows = task.queries * task.heads;
    let mut q = vec![0.0; rows * dim];
    gather(attention, task, &mut q);
    let padded = dim.next_multiple_of(PANEL);
    let (mut sums, mut totals) = (vec![0.0f32; rows * padded], vec![0.0f32; rows]);
    let span = &attention.spans[task.span];
    for (row, q) in q.chunks_exact(dim).enumerate() {
        let position = span.position + task.query + row / task.heads;
        let held = |key: usize, d: usize| {
            let page = span.table[key / PAGE] as usize;
            attention.pages.at((page, attention.layer, task.kv_head), key % PAGE, d)
        };
        let keys = position.saturating_sub(attention.window)..=position;
        let scores: Vec<f32> =
            keys.clone().map(|key| q.iter().enumerate().map(|(d, q)| q * held(key, d).0).sum()).collect();
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (key, score) in keys.zip(scores) {
            let weight = (score - highest).exp();
            totals[row] += weight;
            for (d, sum) in sums[row * padded..][..dim].iter_mut().enumerate() {
                *sum += weight * held(key, d).1;
            }
        }
    }
    debug_assert!(dim <= MAX_HEAD_DIM);
    scatter(attention, task, (&sums, &totals), out);
}
