//! One matrix, the widest of a layer, small enough to stay in the cache.

use std::convert::Infallible;

use divan::Bencher;
use divan::counter::ItemsCount;
use kernels::{Activations, Compute, Epilogue, Packed, WeightFormat, matmul};

use crate::{FORMATS, WIDTH, compute, numbers};

const OUTPUTS: usize = 4 * WIDTH;
const ROWS: [usize; 7] = [1, 4, 8, 16, 32, 64, 512];

fn cases() -> impl Iterator<Item = (WeightFormat, usize)> {
    FORMATS.into_iter().flat_map(|format| ROWS.map(|rows| (format, rows)))
}

/// Counts multiplications and additions.
#[divan::bench(args = cases())]
fn product(bencher: Bencher<'_, '_>, (format, rows): (WeightFormat, usize)) {
    let compute = compute();
    let weights = packed(&compute, format, &numbers(OUTPUTS * WIDTH));
    let mut x = Activations::default();
    x.resize(rows, WIDTH).copy_from_slice(&numbers(rows * WIDTH));
    x.prepare(&compute, &weights, [], |_, _, []| {});
    let mut y = vec![0.0; rows * OUTPUTS];
    bencher
        .counter(ItemsCount::new(2 * rows * OUTPUTS * WIDTH))
        .bench_local(|| matmul(&compute, &x, &weights, Epilogue::Store, &mut y));
}

/// Counts weights.
#[divan::bench(args = FORMATS)]
fn pack(bencher: Bencher<'_, '_>, format: WeightFormat) {
    let (compute, rows) = (compute(), numbers(OUTPUTS * WIDTH));
    bencher.counter(ItemsCount::new(OUTPUTS * WIDTH)).bench_local(|| packed(&compute, format, &rows));
}

/// Counts numbers.
#[divan::bench(args = FORMATS)]
fn prepare(bencher: Bencher<'_, '_>, format: WeightFormat) {
    let compute = compute();
    let weights = packed(&compute, format, &numbers(OUTPUTS * WIDTH));
    let mut x = Activations::default();
    x.resize(16, WIDTH).copy_from_slice(&numbers(16 * WIDTH));
    bencher
        .counter(ItemsCount::new(16 * WIDTH))
        .bench_local(|| x.prepare(&compute, &weights, [], |_, _, []| {}));
}

fn packed(compute: &Compute, format: WeightFormat, weights: &[f32]) -> Packed {
    let packed = Packed::new(compute, format, [OUTPUTS, WIDTH], |range, rows| {
        rows.copy_from_slice(&weights[range.start * WIDTH..range.end * WIDTH]);
        Ok::<(), Infallible>(())
    });
    let Ok(packed) = packed;
    packed
}
