//! Causal, windowed, grouped-query attention over keys and values in pages.
//!
//! A page holds 32 consecutive positions of every layer and head it serves. Keys lie as a panel over head
//! dimensions (so 32 scores are one tile), values as panels over positions (so the weighted sum is a tile
//! too). The softmax runs page by page from the first visible position on, with blocks aligned to absolute
//! positions: how queries are grouped never changes a result.

use crate::activations::round_to_pairs;
use crate::isa::dispatch;
use crate::pool::Shareable;
use crate::simd::Simd;
use crate::tile::{Ahead, Bf16Dot, Dot, F32, Finish, In, Out, PANEL, Widened, rows_by_panel};
use crate::{Compute, bf16, scalar};

/// Positions in a page.
pub const PAGE: usize = PANEL;
/// The largest head dimension: scratch for a tile of queries lives on the stack.
pub const MAX_HEAD_DIM: usize = 256;
/// Query rows that share one pass over the keys.
const TILE_ROWS: usize = 12;

/// The contents of pages for some layers of one shape.
pub struct Pages {
    shape: PageShape,
    count: usize,
    words: Words,
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

enum Words {
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
            PageFormat::F32 => Words::F32(crate::zeroed(n_pages * shape.page_words())),
            PageFormat::Bf16 => Words::Bf16(crate::zeroed(n_pages * shape.page_words())),
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
        let starts: Vec<usize> = (0..shape.kv_heads).map(|head| self.keys_at(0, layer, head)).collect();
        let (page_words, key_words) = (shape.page_words(), shape.key_words());
        let place = Place { shape, page_words, key_words };
        for slot in slots {
            assert!(
                (slot.page as usize) < self.count && (slot.offset as usize) < PAGE,
                "no such slot: {slot:?}"
            );
        }
        let n_tasks = if slots.len() * width < 16 * 1024 { 1 } else { shape.kv_heads };
        let (f32s, pairs) = match &mut self.words {
            Words::F32(words) => (Shareable(words.as_mut_ptr()), Shareable(std::ptr::null_mut())),
            Words::Bf16(words) => {
                (Shareable(std::ptr::null_mut()), Shareable(words.as_mut_ptr().cast::<u16>()))
            }
        };
        compute.pool.run(n_tasks, &|task| {
            for head in (task..shape.kv_heads).step_by(n_tasks) {
                for (i, slot) in slots.iter().enumerate() {
                    let at = i * stride + head * shape.head_dim;
                    let (k, v) = (&keys[at..][..shape.head_dim], &values[at..][..shape.head_dim]);
                    // SAFETY: the slot exists (asserted above), so every address is inside `words`; a head's
                    // block is written by one task only.
                    unsafe {
                        match shape.format {
                            PageFormat::F32 => {
                                place.put(f32s.get().add(starts[head]), *slot, (k, v), |x| x);
                            }
                            PageFormat::Bf16 => {
                                place.put(pairs.get().add(2 * starts[head]), *slot, (k, v), bf16::narrow);
                            }
                        }
                    }
                }
            }
        });
    }
}

/// Where numbers lie inside a page; addresses in numbers, not words.
struct Place {
    shape: PageShape,
    page_words: usize,
    key_words: usize,
}

impl Place {
    /// Writes one head's key and value; `start` is its block in page 0.
    /// # Safety
    /// `start` leads into pages of this shape that contain `slot`.
    unsafe fn put<T: Copy + Default>(
        &self,
        start: *mut T,
        slot: Slot,
        (k, v): (&[f32], &[f32]),
        narrow: impl Fn(f32) -> T,
    ) {
        let step = self.shape.step();
        let offset = slot.offset as usize;
        // SAFETY: the caller's; all addresses below stay inside the head's block.
        unsafe {
            let keys = start.add(slot.page as usize * self.page_words * step);
            let values = keys.add(self.key_words * step);
            if offset == 0 {
                // What an earlier owner left would meet a weight of zero, and 0 · NaN is NaN.
                std::slice::from_raw_parts_mut(values, self.shape.value_words() * step).fill(T::default());
            }
            for (d, &number) in k.iter().enumerate() {
                *keys.add((d / step * PAGE + offset) * step + d % step) = narrow(number);
            }
            for (d, &number) in v.iter().enumerate() {
                let (panel, column) = (d / PANEL, d % PANEL);
                let row = panel * PAGE / step + offset / step;
                *values.add((row * PANEL + column) * step + offset % step) = narrow(number);
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
        Words::F32(words) => Tile::<S>::run::<F32>(attention, task, words, out),
        Words::Bf16(words) if S::HAS_BF16_DOT => Tile::<S>::run::<Bf16Dot>(attention, task, words, out),
        Words::Bf16(words) => Tile::<S>::run::<Widened>(attention, task, words, out),
    }
}

/// The running softmax of a tile of rows.
struct Tile<S> {
    rows: usize,
    /// Scores of a page, then their weights; (rows, 32).
    scores: [f32; TILE_ROWS * PAGE],
    /// Largest score so far, sum of weights so far, and what both were scaled by for this page.
    highest: [f32; TILE_ROWS],
    total: [f32; TILE_ROWS],
    scale: [f32; TILE_ROWS],
    isa: std::marker::PhantomData<S>,
}

impl<S: Simd> Tile<S> {
    #[inline(always)]
    fn run<D: Dot<S>>(attention: &Attention<'_>, task: &TileTask, words: &[D::W], out: Shareable<f32>) {
        let shape = attention.pages.shape;
        let (dim, span) = (shape.head_dim, &attention.spans[task.span]);
        let padded = dim.next_multiple_of(PANEL);
        let mut tile = Self::new(task.queries * task.heads);
        let mut q = [0.0f32; TILE_ROWS * MAX_HEAD_DIM];
        gather(attention, task, &mut q);
        let mut rounded = [0u32; TILE_ROWS * MAX_HEAD_DIM / 2];
        let mut sums = [0.0f32; TILE_ROWS * MAX_HEAD_DIM];
        if S::HAS_BF16_DOT && D::STEP == 2 {
            round_to_pairs(&q[..tile.rows * dim], &mut rounded);
        }
        let first = span.position + task.query;
        let last = first + task.queries - 1;
        for block in first.saturating_sub(attention.window) / PAGE..=last / PAGE {
            let keys = attention.pages.keys_at(span.table[block] as usize, attention.layer, task.kv_head);
            let values = keys + shape.key_words();
            // SAFETY: the slices below hold what the tiles read: `dim / STEP` steps of keys and, for each
            // panel of 32 columns, `PAGE / STEP` steps of values; rows and scratch are sized by TILE_ROWS.
            unsafe {
                let input =
                    In { x: D::pick(q.as_ptr(), rounded.as_ptr()), stride: dim / D::STEP, rows: tile.rows };
                let scores =
                    Out { y: tile.scores.as_mut_ptr(), stride: PAGE, columns: PAGE, finish: Finish::Store };
                let words_of_keys = &words[keys..values];
                rows_by_panel::<S, D>(&input, words_of_keys.as_ptr(), dim / D::STEP, scores, Ahead::NONE);
                for row in 0..tile.rows {
                    let position = first + row / task.heads;
                    tile.weigh(row, visible(position, attention.window, block));
                }
                let mut weights = [0u32; TILE_ROWS * PAGE / 2];
                if S::HAS_BF16_DOT && D::STEP == 2 {
                    round_to_pairs(&tile.scores[..tile.rows * PAGE], &mut weights);
                }
                let input = In {
                    x: D::pick(tile.scores.as_ptr(), weights.as_ptr()),
                    stride: PAGE / D::STEP,
                    rows: tile.rows,
                };
                let panel_words = PAGE / D::STEP * PANEL;
                let words_of_values = &words[values..values + shape.value_words()];
                for (panel, words) in words_of_values.chunks_exact(panel_words).enumerate() {
                    let y = sums.as_mut_ptr().add(panel * PANEL);
                    let finish = Finish::Scaled(tile.scale.as_ptr());
                    let out = Out { y, stride: padded, columns: PANEL, finish };
                    rows_by_panel::<S, D>(&input, words.as_ptr(), PAGE / D::STEP, out, Ahead::NONE);
                }
            }
        }
        scatter(attention, task, (&sums, &tile.total), out);
    }

    #[inline(always)]
    fn new(rows: usize) -> Self {
        Self {
            rows,
            scores: [0.0; TILE_ROWS * PAGE],
            highest: [f32::NEG_INFINITY; TILE_ROWS],
            total: [0.0; TILE_ROWS],
            scale: [1.0; TILE_ROWS],
            isa: std::marker::PhantomData,
        }
    }

    /// Turns a row's scores of one page into weights relative to the highest score so far.
    #[inline(always)]
    fn weigh(&mut self, row: usize, (low, high): (usize, usize)) {
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
            Words::F32(words) => {
                (words[start + d * PAGE + offset], words[values + (panel * PAGE + offset) * PANEL + column])
            }
            Words::Bf16(words) => {
                let key = words[start + d / 2 * PAGE + offset] >> (16 * (d % 2));
                let value =
                    words[values + (panel * PAGE / 2 + offset / 2) * PANEL + column] >> (16 * (offset % 2));
                (bf16::widen(key as u16), bf16::widen(value as u16))
            }
        }
    }
}
