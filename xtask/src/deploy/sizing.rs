//! The table of sizes in `deploy/SIZING.md`: what a nanochat model of each depth takes, by the same arithmetic that the
//! server plans with.

use std::fmt::Write as _;

use kernels::attention::{PAGE, PageFormat, PageShape};
use kernels::{TableFormat, WeightFormat};

const DEPTHS: [usize; 8] = [4, 8, 12, 16, 20, 24, 28, 32];
const VOCABULARY: usize = 32_768;
const SEQUENCE: usize = 2_048;
/// What layers with a short window see, and the rows of a step: both decide how many pages such a layer keeps.
const WINDOW: usize = 512;
const STEP: usize = 128;
const HEAD_DIM: usize = 128;
const GIB: usize = 1 << 30;

/// A model of nanochat's present architecture (G7): width 64 · depth, value embeddings on every other layer, SSSL.
struct Model {
    depth: usize,
}

impl Model {
    fn width(&self) -> usize {
        64 * self.depth
    }

    /// Bytes that are multiplied with for each token.
    fn matrices(&self, format: WeightFormat) -> usize {
        let n = self.width();
        let layer = [(3 * n, n), (n, n), (4 * n, n), (n, 4 * n)];
        let layer: usize = layer.iter().map(|&(outputs, inputs)| format.bytes(outputs, inputs)).sum();
        self.depth * layer + format.bytes(VOCABULARY, n)
    }

    /// Bytes that are looked up.
    fn embeddings(&self, format: TableFormat) -> usize {
        (1 + self.depth.div_ceil(2)) * format.bytes(VOCABULARY, self.width())
    }

    fn parameters(&self) -> usize {
        let n = self.width();
        12 * self.depth * n * n + (2 + self.depth.div_ceil(2)) * VOCABULARY * n
    }

    /// Bytes of a page of one layer: keys and values of 32 positions.
    fn page(&self) -> usize {
        let kv_heads = self.width().div_ceil(HEAD_DIM);
        let head_dim = self.width() / kv_heads;
        PageShape { layers: 1, kv_heads, head_dim, format: PageFormat::Bf16 }.page_bytes()
    }

    /// Bytes of keys and values of one chat as long as the context.
    fn chat(&self) -> usize {
        let long = self.depth / 4;
        let short = self.depth - long;
        let pages = |seen: usize| SEQUENCE.div_ceil(PAGE).min((seen + STEP).div_ceil(PAGE) + 1);
        self.page() * (long * pages(SEQUENCE) + short * pages(WINDOW))
    }
}

/// The table, in Markdown.
pub(crate) fn table() -> String {
    let mut text = "\
| depth | parameters | int8 | int4 | bf16 | read a token, int8 | keys and values a token | a chat of 2,048 | such chats in 1 GiB |
|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    for depth in DEPTHS {
        let model = Model { depth };
        let held = |weights, tables| giga(model.matrices(weights) + model.embeddings(tables));
        // A String takes everything.
        let _ = writeln!(
            text,
            "| d{depth} | {} M | {} | {} | {} | {} | {} KiB | {} | {} |",
            model.parameters() / 1_000_000,
            held(WeightFormat::Int8, TableFormat::Bf16),
            held(WeightFormat::Int4, TableFormat::Int8),
            held(WeightFormat::Bf16, TableFormat::Bf16),
            giga(model.matrices(WeightFormat::Int8)),
            model.page() * depth / PAGE / 1024,
            giga(model.chat()),
            GIB / model.chat(),
        );
    }
    text
}

fn giga(bytes: usize) -> String {
    if bytes < 1_000_000_000 {
        return format!("{} MB", (bytes + 500_000) / 1_000_000);
    }
    format!("{:.2} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `/stats` says of the checkpoints that `cargo xtask bench` makes, with KV_CACHE_MB=1024.
    #[test]
    fn the_arithmetic_is_that_of_a_running_server() {
        for (depth, int8, int4, bf16) in [
            (12, [113_541_120, 352_321_536], [61_931_520, 187_170_816], 220_200_960),
            (24, [752_615_424, 1_308_622_848], [410_517_504, 695_205_888], 1_459_617_792),
        ] {
            let model = Model { depth };
            let of = |weights, tables| [model.matrices(weights), model.embeddings(tables)];
            assert_eq!(of(WeightFormat::Int8, TableFormat::Bf16), int8);
            assert_eq!(of(WeightFormat::Int4, TableFormat::Int8), int4);
            assert_eq!(model.matrices(WeightFormat::Bf16), bf16);
            let chats = GIB / model.chat();
            assert_eq!((chats, chats * model.chat()), (if depth == 12 { 28 } else { 7 }, 1_048_707_072));
        }
    }
}
