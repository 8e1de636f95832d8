//! One matrix, the widest of a layer, small enough to stay in the cache.

use divan::Bencher;
use divan::counter::ItemsCount;
use kernels::{Epilogue, Packed, WeightFormat, matmul};

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
    let mut weights = Packed::zeros(format, OUTPUTS, WIDTH);
    weights.set_rows(0, &numbers(OUTPUTS * WIDTH));
    let x = numbers(rows * WIDTH);
    let mut y = vec![0.0; rows * OUTPUTS];
    bencher
        .counter(ItemsCount::new(2 * rows * OUTPUTS * WIDTH))
        .bench_local(|| matmul(&compute, &x, &weights, Epilogue::Store, &mut y));
}

/// Counts weights.
#[divan::bench(args = FORMATS)]
fn pack(bencher: Bencher<'_, '_>, format: WeightFormat) {
    let mut weights = Packed::zeros(format, OUTPUTS, WIDTH);
    let rows = numbers(OUTPUTS * WIDTH);
    bencher.counter(ItemsCount::new(OUTPUTS * WIDTH)).bench_local(|| weights.set_rows(0, &rows));
}
