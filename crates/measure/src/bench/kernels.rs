//! Matrix products alone: all matrices of a model one after another, as a step of decoding or a prompt takes
//! them. Each layer has weights of its own, so that none is still in a cache when it comes again.

use std::convert::Infallible;

use kernels::{Activations, Compute, Epilogue, Packed, WeightFormat, matmul};

use super::checkpoint::numbers::Numbers;
use super::clock;
use super::formats::Format;
use super::limits::{Limits, unit};
use super::report::{Figure, Report};
use super::setup::{Setup, VOCABULARY, WIDTH_OF_A_LAYER};

/// Rows of activations that are measured.
const ROWS: [usize; 7] = [1, 4, 8, 16, 32, 64, 512];
/// Queries, keys and values; the attention's output; up; down.
const MATRICES_OF_A_LAYER: usize = 4;
/// With so many rows or more it is a prompt, of which only the last row meets the head.
const PROMPT_ROWS: usize = 512;

/// (outputs, inputs) of every matrix that a token passes, the head last.
pub(crate) fn shapes(depth: usize) -> Vec<(usize, usize)> {
    let c = depth * WIDTH_OF_A_LAYER;
    let layer = [(3 * c, c), (c, c), (4 * c, c), (c, 4 * c)];
    let layers = std::iter::repeat_n(layer, depth).flatten();
    layers.chain([(VOCABULARY, c)]).collect()
}

/// Bytes that these matrices take when they are held as `format`.
pub(crate) fn bytes(depth: usize, format: WeightFormat) -> usize {
    shapes(depth).into_iter().map(|(outputs, inputs)| format.bytes(outputs, inputs)).sum()
}

/// Multiplications and additions of `rows` rows, of which `head_rows` meet the head.
pub(crate) fn operations(depth: usize, rows: usize, head_rows: usize) -> f64 {
    let shapes = shapes(depth);
    let (head, layers) = shapes.split_last().expect("there is a head");
    let products = |&(outputs, inputs): &(usize, usize)| (outputs * inputs) as f64;
    2.0 * (layers.iter().map(products).sum::<f64>() * rows as f64 + products(head) * head_rows as f64)
}

/// Measures the products for every number of rows.
pub(crate) fn measure(setup: &Setup, limits: Limits, format: &Format, report: &mut Report) {
    let compute = setup.compute();
    let matrices = matrices(&compute, setup.depth, format.held);
    let bytes: usize = matrices.iter().map(Packed::bytes).sum();
    for rows in ROWS {
        let mut pass = Pass::new(&compute, &matrices, rows);
        let taken = clock::samples(setup.runs(), setup.budget(), || pass.run(&compute));
        let seconds = clock::median(&taken);
        let name = format!("matmul, {rows} row{}", if rows == 1 { "" } else { "s" });
        report.add(Figure::new(name.clone(), format.name, rows as f64 / seconds, "tok/s"));
        let read = Figure::new(format!("{name}, weights"), format.name, bytes as f64 / seconds / 1e9, "GB/s");
        report.add(read.of_limit(limits.read / 1e9));
        let operations = operations(setup.depth, rows, pass.head_rows) / seconds;
        let unit = unit(format.arithmetic);
        let computed = Figure::new(format!("{name}, arithmetic"), format.name, operations / 1e9, unit);
        report.add(computed.of_limit(limits.operations(format.arithmetic) / 1e9));
    }
}

/// Random weights of every matrix.
fn matrices(compute: &Compute, depth: usize, format: WeightFormat) -> Vec<Packed> {
    let matrix = |(i, (outputs, inputs)): (usize, (usize, usize))| {
        let packed = Packed::new(compute, format, [outputs, inputs], |range, rows| {
            let mut numbers = Numbers::new((i * VOCABULARY + range.start) as u64);
            rows.fill_with(|| numbers.uniform(0.05));
            Ok::<(), Infallible>(())
        });
        let Ok(packed) = packed;
        packed
    };
    shapes(depth).into_iter().enumerate().map(matrix).collect()
}

/// Activations on their way through all matrices.
struct Pass<'a> {
    matrices: &'a [Packed],
    /// For each matrix, prepared for it: a product alone is measured.
    x: Vec<Activations>,
    head_rows: usize,
    y: Vec<f32>,
}

impl<'a> Pass<'a> {
    fn new(compute: &Compute, matrices: &'a [Packed], rows: usize) -> Self {
        let head_rows = if rows >= PROMPT_ROWS { 1 } else { rows };
        let mut numbers = Numbers::new(1);
        let rows_of = |index: usize| if index + 1 == matrices.len() { head_rows } else { rows };
        let mut prepared = |(i, w): (usize, &Packed)| {
            let mut x = Activations::default();
            x.resize(rows_of(i), w.inputs()).fill_with(|| numbers.uniform(1.0));
            x.prepare(compute, w, [], |_, _, []| {});
            x
        };
        let most = matrices.iter().enumerate().map(|(i, w)| rows_of(i) * w.outputs()).max();
        // Of a layer only, and the head: the layers of a model meet activations of the same shapes.
        let distinct = matrices.len().saturating_sub(1).min(MATRICES_OF_A_LAYER);
        let head = matrices.len() - 1;
        let x = (0..distinct).chain([head]).map(|i| prepared((i, &matrices[i]))).collect();
        Self { matrices, x, head_rows, y: vec![0.0; most.unwrap_or(0)] }
    }

    fn run(&mut self, compute: &Compute) {
        let (head, last) = (self.matrices.len() - 1, self.x.len() - 1);
        for (i, weights) in self.matrices.iter().enumerate() {
            let x = &self.x[if i == head { last } else { i % MATRICES_OF_A_LAYER }];
            matmul(compute, x, weights, Epilogue::Store, &mut self.y[..x.rows() * weights.outputs()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_12_has_110_million_weights() {
        let weights: usize = shapes(12).iter().map(|(outputs, inputs)| outputs * inputs).sum();
        assert_eq!(weights, 12 * 12 * 768 * 768 + 32_768 * 768);
        assert_eq!(bytes(12, WeightFormat::Bf16), 2 * weights);
        assert_eq!(operations(12, 3, 3), 6.0 * weights as f64);
        assert_eq!(operations(12, 2, 0), 4.0 * (12 * 12 * 768 * 768) as f64);
    }

    #[test]
    fn a_pass_takes_every_matrix_and_one_row_to_the_head_of_a_prompt() {
        let compute = Compute::new(kernels::Isa::SCALAR, 1);
        let zeros = |outputs, inputs| {
            let packed =
                Packed::new(&compute, WeightFormat::F32, [outputs, inputs], |_, _| Ok::<(), Infallible>(()));
            let Ok(packed) = packed;
            packed
        };
        let matrices = [zeros(6, 4), zeros(40, 6)];
        let mut pass = Pass::new(&compute, &matrices, PROMPT_ROWS);
        assert_eq!((pass.head_rows, pass.x[0].rows(), pass.y.len()), (1, PROMPT_ROWS, 6 * PROMPT_ROWS));
        pass.y.fill(1.0);
        pass.run(&compute);
        assert!(pass.y.iter().all(|&y| y == 0.0));
    }
}
