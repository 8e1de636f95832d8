//! Operations on single rows, on one thread.

use divan::Bencher;
use kernels::{Isa, rows};

use crate::{WIDTH, numbers};

const HEAD_DIM: usize = 128;
const VOCABULARY: usize = 32_768;

#[divan::bench]
fn norm(bencher: Bencher<'_, '_>) {
    let (isa, mut row) = (Isa::detect(), numbers(WIDTH));
    bencher.bench_local(|| rows::norm(isa, &mut row));
}

#[divan::bench]
fn rotate_and_norm(bencher: Bencher<'_, '_>) {
    let (isa, mut head) = (Isa::detect(), numbers(HEAD_DIM));
    let angles = numbers(HEAD_DIM);
    let angles = angles.split_at(HEAD_DIM / 2);
    bencher.bench_local(|| rows::rotate_and_norm(isa, &mut head, angles, 1.2));
}

#[divan::bench]
fn mix(bencher: Bencher<'_, '_>) {
    let (isa, mut x, other) = (Isa::detect(), numbers(WIDTH), numbers(WIDTH));
    bencher.bench_local(|| rows::mix(isa, &mut x, 0.5, &other, 0.5));
}

#[divan::bench]
fn softcap(bencher: Bencher<'_, '_>) {
    let (isa, mut logits) = (Isa::detect(), numbers(VOCABULARY));
    bencher.bench_local(|| rows::softcap(isa, &mut logits, 15.0));
}
