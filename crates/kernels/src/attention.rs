//! Causal, windowed, grouped-query attention over keys and values in pages.
//!
//! A page holds 32 consecutive positions of every layer and head it serves. Keys lie as a panel over head
//! dimensions (so 32 scores are one tile), values as panels over positions (so the weighted sum is a tile
//! too). The softmax runs page by page from the first visible position on, with blocks aligned to absolute
//! positions: how queries are grouped never changes a result.

use crate::activations::round_to_pairs;
use std::cell::Cell;

use crate::isa::dispatch;
use crate::pool::Shareable;
use crate::simd::Simd;
use crate::tile::{Ahead, Bf16Dot, Dot, F32, Finish, Out, PANEL, TileInput, Widened, rows_by_panel};
use crate::{Compute, bf16, scalar};

/// Positions in a page.
pub const PAGE: usize = PANEL;
/// The largest head dimension: scratch for a tile of queries lives on the stack.
pub const MAX_HEAD_DIM: usize = 256;
/// Below this many numbers, keys are cheaper to write than to hand out.
const SERIAL_NUMBERS: usize = 2048;
/// Query rows that share one pass over the keys.
const TILE_ROWS: usize = 12;

/// The contents of pages for some layers of one shape.
pub struct Pages {
    shape: PageShape,
    count: usize,
    words: PageWords,
}

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageShape {
    /// Layers that share a page number.
    pub layers: usize,
    /// Key/value heads of a layer.
    pub kv_heads: usize,
    /// Numbers in a head, even, at most [`MAX_HEAD_DIM`].
    pub head_dim: usize,
    /// How numbers are held.
    pub format: PageFormat,
}

/// How keys and values are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageFormat {
    /// Exact.
    F32,
    /// Half of that.
    Bf16,
}

enum PageWords {
    F32(Vec<f32>),
    Bf16(Vec<u32>),
}

/// Where the keys and values of one row go.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Page number.
    pub page: u32,
    /// Position within the page.
    pub offset: u32,
}

/// Consecutive rows of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// First row in the batch.
    pub row: usize,
    /// How many rows.
    pub rows: usize,
    /// Absolute position of the first row.
    pub position: usize,
    /// Page number of every 32 positions; only those inside the window are looked at.
    pub table: &'a [u32],
}

/// One layer's attention over a batch.
pub struct Attention<'a> {
    /// Keys and values, those of the batch's own rows already written.
    pub pages: &'a Pages,
    /// Layer within the page.
    pub layer: usize,
    /// Rows of `stride` numbers that begin with the query heads (heads, head_dim).
    pub queries: &'a [f32],
    /// Numbers from one row of `queries` to the next.
    pub stride: usize,
    /// Query heads; a multiple of the key/value heads.
    pub heads: usize,
    /// How many positions back a query sees, itself not counted.
    pub window: usize,
    /// The sequences.
    pub spans: &'a [Span<'a>],
}

impl PageShape {
    /// Words for the keys of one head of one layer.
    fn key_words(&self) -> usize {
        self.head_dim * PAGE / self.step()
    }

    fn value_words(&self) -> usize {
        self.head_dim.div_ceil(PANEL) * PANEL * PAGE / self.step()
    }

    fn step(&self) -> usize {
        match self.format {
            PageFormat::F32 => 1,
            PageFormat::Bf16 => 2,
        }
    }

    fn page_words(&self) -> usize {
        self.layers * self.kv_heads * (self.key_words() + self.value_words())
    }

    /// Bytes in a page.
    pub fn page_bytes(&self) -> usize {
        self.page_words() * 4
    }
}

impl Pages {
    /// Room for `n_pages` pages. Memory is taken from the system only as pages are written.
    pub fn new(shape: PageShape, n_pages: usize) -> Self {
        assert!(
            shape.head_dim.is_multiple_of(2) && shape.head_dim <= MAX_HEAD_DIM,
            "checked by the model's Config"
        );
        let words = match shape.format {
            PageFormat::F32 => PageWords::F32(crate::zeroed(n_pages * shape.page_words())),
            PageFormat::Bf16 => PageWords::Bf16(crate::zeroed(n_pages * shape.page_words())),
        };
        Self { shape, count: n_pages, words }
    }

    /// What a page holds.
    pub fn shape(&self) -> &PageShape {
        &self.shape
    }

    /// How many pages there are.
    pub fn n_pages(&self) -> usize {
        self.count
    }

    /// Where the keys of a head begin; its values follow them.
    fn keys_at(&self, page: usize, layer: usize, head: usize) -> usize {
        let block = self.shape.key_words() + self.shape.value_words();
        page * self.shape.page_words() + (layer * self.shape.kv_heads + head) * block
    }

    /// Writes the keys and values of a batch: row i goes to `slots[i]`. `keys` and `values` are rows of
    /// `stride` numbers that begin with (kv_heads, head_dim).
    pub fn write(
        &mut self,
        compute: &Compute,
        layer: usize,
        slots: &[Slot],
        [keys, values]: [&[f32]; 2],
        stride: usize,
    ) {
        let shape = self.shape;
        assert!(layer < shape.layers, "layer {layer} of {}", shape.layers);
        let width = shape.kv_heads * shape.head_dim;
        for slot in slots {
            let (page, offset) = (slot.page as usize, slot.offset as usize);
            assert!(page < self.count && offset < PAGE, "no such slot: {slot:?}");
        }
        let (first, page_words) = (self.keys_at(0, layer, 0), shape.page_words());
        let block = shape.key_words() + shape.value_words();
        let words = match &mut self.words {
            PageWords::F32(words) => Shareable(words.as_mut_ptr().cast::<u32>()),
            PageWords::Bf16(words) => Shareable(words.as_mut_ptr()),
        };
        let n_tasks = if slots.len() * width < SERIAL_NUMBERS { 1 } else { shape.kv_heads };
        compute.pool.run(n_tasks, &|task| {
            for head in (task..shape.kv_heads).step_by(n_tasks) {
                for (i, slot) in slots.iter().enumerate() {
                    let at = i * stride + head * shape.head_dim;
                    let (k, v) = (&keys[at..][..shape.head_dim], &values[at..][..shape.head_dim]);
                    let start = slot.page as usize * page_words + first + head * block;
                    // SAFETY: the slot exists (asserted above), so the block lies inside `words`; a head's block is
                    // written by one task only.
                    let block = unsafe { std::slice::from_raw_parts_mut(words.get().add(start), block) };
                    let (key_words, value_words) = block.split_at_mut(shape.key_words());
                    put(&shape, slot.offset as usize, (k, v), key_words, value_words);
                }
            }
        });
    }
}

/// Writes one head's key and value to its place in a page.
fn put(shape: &PageShape, offset: usize, (k, v): (&[f32], &[f32]), keys: &mut [u32], values: &mut [u32]) {
    if offset == 0 {
        // What an earlier owner left would meet a weight of zero, and 0 · NaN is NaN.
        values.fill(0);
    }
    match shape.format {
        PageFormat::F32 => {
            for (word, key) in keys.iter_mut().skip(offset).step_by(PAGE).zip(k) {
                *word = key.to_bits();
            }
            for (panel, v) in values.chunks_exact_mut(PAGE * PANEL).zip(v.chunks(PANEL)) {
                for (word, value) in panel[offset * PANEL..].iter_mut().zip(v) {
                    *word = value.to_bits();
                }
            }
        }
        PageFormat::Bf16 => {
            for (word, key) in keys.iter_mut().skip(offset).step_by(PAGE).zip(k.chunks_exact(2)) {
                *word = bf16::pair(key[0], key[1]);
            }
            // A word holds an even position and the one after it, which comes later and is zero until then.
            let (kept, shift) = if offset.is_multiple_of(2) { (0, 0) } else { (0xffff, 16) };
            for (panel, v) in values.chunks_exact_mut(PAGE / 2 * PANEL).zip(v.chunks(PANEL)) {
                for (word, &value) in panel[offset / 2 * PANEL..].iter_mut().zip(v) {
                    *word = *word & kept | u32::from(bf16::narrow(value)) << shift;
                }
            }
        }
    }
}

/// Attends every query row; `out` is (rows, heads · head_dim).
pub fn attend(compute: &Compute, attention: &Attention<'_>, out: &mut [f32]) {
    let shape = attention.pages.shape;
    let mut rows = 0;
    for span in attention.spans {
        assert_eq!(span.row, rows, "spans follow one another");
        rows += span.rows;
    }
    assert_eq!(out.len(), rows * attention.heads * shape.head_dim, "out is (rows, heads · head_dim)");
    assert!(attention.queries.len() >= rows * attention.stride, "queries are rows of `stride` numbers");
    let tasks = tasks(attention);
    let out = Shareable(out.as_mut_ptr());
    compute.pool.run(tasks.len(), &|i| attend_tile(compute.isa, attention, &tasks[i], out));
}

/// A tile of query rows that share a key/value head: `queries` positions of `heads` heads.
pub(crate) struct TileTask {
    pub(crate) span: usize,
    pub(crate) query: usize,
    pub(crate) queries: usize,
    pub(crate) head: usize,
    pub(crate) heads: usize,
    pub(crate) kv_head: usize,
}

fn tasks(attention: &Attention<'_>) -> Vec<TileTask> {
    let shape = attention.pages.shape;
    let group = attention.heads / shape.kv_heads;
    assert_eq!(group * shape.kv_heads, attention.heads, "heads are a multiple of key/value heads");
    let (heads, queries) = (group.min(TILE_ROWS), (TILE_ROWS / group).max(1));
    let mut tasks = Vec::new();
    for (span, s) in attention.spans.iter().enumerate() {
        for query in (0..s.rows).step_by(queries) {
            for head in (0..attention.heads).step_by(group) {
                for part in (head..head + group).step_by(heads) {
                    tasks.push(TileTask {
                        span,
                        query,
                        queries: queries.min(s.rows - query),
                        head: part,
                        heads: heads.min(head + group - part),
                        kv_head: head / group,
                    });
                }
            }
        }
    }
    tasks
}

dispatch! {
    fn attend_tile(attention: &Attention<'_>, task: &TileTask, out: Shareable<f32>)
        => attend_tile_wide, scalar::attention::attend_tile
}

#[inline(always)]
fn attend_tile_wide<S: Simd>(attention: &Attention<'_>, task: &TileTask, out: Shareable<f32>) {
    match &attention.pages.words {
        PageWords::F32(words) => attend_tile_with::<S, F32>(attention, task, words, out),
        PageWords::Bf16(words) if S::HAS_BF16_DOT => {
            attend_tile_with::<S, Bf16Dot>(attention, task, words, out);
        }
        PageWords::Bf16(words) => attend_tile_with::<S, Widened>(attention, task, words, out),
    }
}

/// What a tile of rows computes with: 34 kB that each thread keeps, rather than have them cleared for every tile.
struct Scratch {
    /// The queries, (rows, head_dim): exact, and as pairs of bf16.
    queries: [f32; TILE_ROWS * MAX_HEAD_DIM],
    rounded: [u32; TILE_ROWS * MAX_HEAD_DIM / 2],
    /// Sums of weighted values, (rows, head_dim rounded up to whole panels).
    sums: [f32; TILE_ROWS * MAX_HEAD_DIM],
    /// Scores of a page, then their weights, (rows, 32): exact, and as pairs of bf16.
    scores: [f32; TILE_ROWS * PAGE],
    weights: [u32; TILE_ROWS * PAGE / 2],
    /// Largest score so far, sum of weights so far, and what both were scaled by for this page.
    highest: [f32; TILE_ROWS],
    total: [f32; TILE_ROWS],
    scale: [f32; TILE_ROWS],
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// This thread's, ready for the first page of `rows` rows of `padded` sums.
    fn take(rows: usize, padded: usize) -> Box<Self> {
        let mut scratch = SCRATCH.take().unwrap_or_else(|| {
            Box::new(Self {
                queries: [0.0; TILE_ROWS * MAX_HEAD_DIM],
                rounded: [0; TILE_ROWS * MAX_HEAD_DIM / 2],
                sums: [0.0; TILE_ROWS * MAX_HEAD_DIM],
                scores: [0.0; TILE_ROWS * PAGE],
                weights: [0; TILE_ROWS * PAGE / 2],
                highest: [0.0; TILE_ROWS],
                total: [0.0; TILE_ROWS],
                scale: [0.0; TILE_ROWS],
            })
        });
        scratch.sums[..rows * padded].fill(0.0);
        scratch.highest = [f32::NEG_INFINITY; TILE_ROWS];
        scratch.total = [0.0; TILE_ROWS];
        scratch
    }
}

/// The softmax of a tile of rows, page by page.
#[inline(always)]
fn attend_tile_with<S: Simd, D: Dot<S>>(
    attention: &Attention<'_>,
    task: &TileTask,
    words: &[D::W],
    out: Shareable<f32>,
) {
    let shape = attention.pages.shape;
    let (dim, rows, span) = (shape.head_dim, task.queries * task.heads, &attention.spans[task.span]);
    let (padded, rounds) = (dim.next_multiple_of(PANEL), S::HAS_BF16_DOT && D::STEP == 2);
    let mut scratch = Scratch::take(rows, padded);
    let tile = &mut *scratch;
    gather(attention, task, &mut tile.queries);
    if rounds {
        round_to_pairs(&tile.queries[..rows * dim], &mut tile.rounded);
    }
    let first = span.position + task.query;
    let last = first + task.queries - 1;
    for block in first.saturating_sub(attention.window) / PAGE..=last / PAGE {
        let keys = attention.pages.keys_at(span.table[block] as usize, attention.layer, task.kv_head);
        let values = keys + shape.key_words();
        let (words_of_keys, words_of_values) =
            words[keys..][..shape.key_words() + shape.value_words()].split_at(values - keys);
        // SAFETY: the slices hold what the tiles read: `dim / STEP` steps of keys and, for each panel of 32 columns,
        // `PAGE / STEP` steps of values; rows and scratch are sized by TILE_ROWS.
        unsafe {
            let x = D::pick(tile.queries.as_ptr(), tile.rounded.as_ptr());
            let input = TileInput { x, stride: dim / D::STEP, rows };
            let y = tile.scores.as_mut_ptr();
            let scores = Out { y, stride: PAGE, columns: PAGE, finish: Finish::Store };
            rows_by_panel::<S, D>(&input, words_of_keys.as_ptr(), dim / D::STEP, scores, Ahead::NONE);
            for row in 0..rows {
                let position = first + row / task.heads;
                tile.weigh::<S>(row, visible(position, attention.window, block));
            }
            if rounds {
                round_to_pairs(&tile.scores[..rows * PAGE], &mut tile.weights);
            }
            let x = D::pick(tile.scores.as_ptr(), tile.weights.as_ptr());
            let input = TileInput { x, stride: PAGE / D::STEP, rows };
            let panel_words = PAGE / D::STEP * PANEL;
            for (panel, words) in words_of_values.chunks_exact(panel_words).enumerate() {
                let y = tile.sums.as_mut_ptr().add(panel * PANEL);
                let finish = Finish::Scaled(tile.scale.as_ptr());
                let out = Out { y, stride: padded, columns: PANEL, finish };
                rows_by_panel::<S, D>(&input, words.as_ptr(), PAGE / D::STEP, out, Ahead::NONE);
            }
        }
    }
    scatter(attention, task, (&tile.sums, &tile.total), out);
    SCRATCH.set(Some(scratch));
}

impl Scratch {
    /// Turns a row's scores of one page into weights relative to the highest score so far.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, row: usize, (low, high): (usize, usize)) {
        let scores = &mut self.scores[row * PAGE..][..PAGE];
        scores[..low].fill(f32::NEG_INFINITY);
        scores[high..].fill(f32::NEG_INFINITY);
        if low >= high {
            // Nothing of this page is visible: it leaves the row exactly as it was.
            scores.fill(0.0);
            self.scale[row] = 1.0;
            return;
        }
        // SAFETY: `scores` has 32 numbers, a multiple of LANES.
        unsafe {
            let from = scores.as_mut_ptr();
            let mut highest = S::load(from);
            for i in (S::LANES..PAGE).step_by(S::LANES) {
                highest = S::max(highest, S::load(from.add(i)));
            }
            let highest = S::largest(highest).max(self.highest[row]);
            let mut total = S::splat(0.0);
            for i in (0..PAGE).step_by(S::LANES) {
                let weight = S::exp(S::sub(S::load(from.add(i)), S::splat(highest)));
                S::store(from.add(i), weight);
                total = S::add(total, weight);
            }
            let mut lanes = [0.0f32; 16];
            S::store(lanes.as_mut_ptr(), S::exp(S::splat(self.highest[row] - highest)));
            self.scale[row] = lanes[0];
            self.total[row] = self.total[row] * lanes[0] + S::sum(total);
            self.highest[row] = highest;
        }
    }
}

/// The keys of a block that `position` sees: from, to (exclusive), within the block.
pub(crate) fn visible(position: usize, window: usize, block: usize) -> (usize, usize) {
    let start = block * PAGE;
    let low = position.saturating_sub(window).saturating_sub(start).min(PAGE);
    let high = (position + 1).saturating_sub(start).min(PAGE);
    (low, high)
}

/// The queries of a tile, scaled by 1/√head_dim; rows are (query, head).
pub(crate) fn gather(attention: &Attention<'_>, task: &TileTask, q: &mut [f32]) {
    let dim = attention.pages.shape.head_dim;
    let scale = 1.0 / (dim as f32).sqrt();
    let first = attention.spans[task.span].row + task.query;
    for (row, to) in q.chunks_exact_mut(dim).take(task.queries * task.heads).enumerate() {
        let (query, head) = (first + row / task.heads, task.head + row % task.heads);
        for (to, &from) in
            to.iter_mut().zip(&attention.queries[query * attention.stride + head * dim..][..dim])
        {
            *to = from * scale;
        }
    }
}

/// Divides the sums of a tile by their total weights and writes them out.
pub(crate) fn scatter(
    attention: &Attention<'_>,
    task: &TileTask,
    (sums, total): (&[f32], &[f32]),
    out: Shareable<f32>,
) {
    let dim = attention.pages.shape.head_dim;
    let first = attention.spans[task.span].row + task.query;
    for (row, sums) in
        sums.chunks_exact(dim.next_multiple_of(PANEL)).take(task.queries * task.heads).enumerate()
    {
        let (query, head) = (first + row / task.heads, task.head + row % task.heads);
        for (d, &sum) in sums[..dim].iter().enumerate() {
            // SAFETY: (query, head) is inside `out` (asserted in `attend`) and in this tile alone.
            unsafe { *out.get().add((query * attention.heads + head) * dim + d) = sum / total[row] };
        }
    }
}

impl Pages {
    /// Key and value number `d` at a position of a page, as they are held.
    pub(crate) fn at(
        &self,
        (page, layer, head): (usize, usize, usize),
        offset: usize,
        d: usize,
    ) -> (f32, f32) {
        let start = self.keys_at(page, layer, head);
        let values = start + self.shape.key_words();
        let (panel, column) = (d / PANEL, d % PANEL);
        match &self.words {
            PageWords::F32(words) => {
                (words[start + d * PAGE + offset], words[values + (panel * PAGE + offset) * PANEL + column])
            }
            PageWords::Bf16(words) => {
                let key = words[start + d / 2 * PAGE + offset] >> (16 * (d % 2));
                let value =
                    words[values + (panel * PAGE / 2 + offset / 2) * PANEL + column] >> (16 * (offset % 2));
                (bf16::widen(key as u16), bf16::widen(value as u16))
            }
        }
    }
}
