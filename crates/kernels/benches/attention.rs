//! Attention of one layer over pages of keys and values.

use divan::Bencher;
use divan::counter::ItemsCount;
use kernels::Compute;
use kernels::attention::{Attention, PAGE, PageFormat, PageShape, Pages, Slot, Span, attend};

use crate::{WIDTH, compute, numbers};

const FORMATS: [PageFormat; 2] = [PageFormat::F32, PageFormat::Bf16];
const HEADS: usize = 6;
const HEAD_DIM: usize = WIDTH / HEADS;
/// Positions of every sequence.
const CONTEXT: usize = 1024;
/// Positions that a layer with a short window looks back, and that one with a long window does.
const WINDOWS: [usize; 2] = [512, 2048];

/// Pages of as many sequences, all positions written, and which pages are whose.
fn written(compute: &Compute, format: PageFormat, sequences: usize) -> (Pages, Vec<Vec<u32>>) {
    let of_one = CONTEXT / PAGE;
    let shape = PageShape { layers: 1, kv_heads: HEADS, head_dim: HEAD_DIM, format };
    let mut pages = Pages::new(shape, sequences * of_one);
    let slot = |i: usize| Slot { page: (i / PAGE) as u32, offset: (i % PAGE) as u32 };
    let slots: Vec<Slot> = (0..sequences * CONTEXT).map(slot).collect();
    let rows = numbers(sequences * CONTEXT * WIDTH);
    pages.write(compute, 0, &slots, [&rows, &rows], WIDTH);
    let table = |sequence: usize| (0..of_one).map(|page| (sequence * of_one + page) as u32).collect();
    (pages, (0..sequences).map(table).collect())
}

/// `rows` rows at the end of each of some sequences. Counts query rows.
fn run(bencher: Bencher<'_, '_>, format: PageFormat, window: usize, (sequences, rows): (usize, usize)) {
    let compute = compute();
    let (pages, tables) = written(&compute, format, sequences);
    let span = |(i, table)| Span { row: i * rows, rows, position: CONTEXT - rows, table };
    let spans: Vec<Span<'_>> = tables.iter().map(Vec::as_slice).enumerate().map(span).collect();
    let queries = numbers(sequences * rows * WIDTH);
    let attention = Attention {
        pages: &pages,
        layer: 0,
        queries: &queries,
        stride: WIDTH,
        heads: HEADS,
        window,
        spans: &spans,
    };
    let mut out = vec![0.0; queries.len()];
    bencher.counter(ItemsCount::new(sequences * rows)).bench_local(|| attend(&compute, &attention, &mut out));
}

fn cases() -> impl Iterator<Item = (PageFormat, usize)> {
    FORMATS.into_iter().flat_map(|format| WINDOWS.map(|window| (format, window)))
}

#[divan::bench(args = cases())]
fn decode_8(bencher: Bencher<'_, '_>, (format, window): (PageFormat, usize)) {
    run(bencher, format, window, (8, 1));
}

#[divan::bench(args = cases())]
fn prefill_256(bencher: Bencher<'_, '_>, (format, window): (PageFormat, usize)) {
    run(bencher, format, window, (1, 256));
}
