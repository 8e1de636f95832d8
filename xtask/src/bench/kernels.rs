//! Matrix products alone: all matrices of a model one after another, as a step of decoding or a prompt takes
//! them. Each layer has weights of its own, so that none is still in a cache when it comes again.

use kernels::{Compute, Epilogue, Packed, WeightFormat, matmul};

use super::checkpoint::numbers::Numbers;
use super::clock;
use super::formats::Format;
use super::limits::{Limits, unit};
use super::report::{Figure, Report};
use super::setup::Setup;

/// Width of the residual stream, a layer: nanochat's rule.
pub(crate) const WIDTH_OF_A_LAYER: usize = 64;
/// Token ids.
pub(crate) const VOCABULARY: usize = 32_768;
/// Rows of activations that are measured.
const ROWS: [usize; 7] = [1, 4, 8, 16, 32, 64, 512];
/// With so many rows or more it is a prompt, of which only the last row meets the head.
const PROMPT_ROWS: usize = 512;
/// Rows of weights that are made at a time.
const ROWS_AT_ONCE: usize = 32;

/// (outputs, inputs) of every matrix that a token passes, the head last.
pub(crate) fn shapes(depth: usize) -> Vec<(usize, usize)> {
    let c = depth * WIDTH_OF_A_LAYER;
    let layer = [(3 * c, c), (c, c), (4 * c, c), (c, 4 * c)];
    let layers = std::iter::repeat_n(layer, depth).flatten();
    layers.chain([(VOCABULARY, c)]).collect()
}

/// Bytes that these matrices take when they are held as `format`.
pub(crate) fn bytes(depth: usize, format: WeightFormat) -> usize {
    // Zeros are not written, so this takes no memory.
    shapes(depth).into_iter().map(|(outputs, inputs)| Packed::zeros(format, outputs, inputs).bytes()).sum()
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
    let matrices = matrices(setup.depth, format.held);
    let bytes: usize = matrices.iter().map(Packed::bytes).sum();
    for rows in ROWS {
        let mut pass = Pass::new(&matrices, rows);
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
fn matrices(depth: usize, format: WeightFormat) -> Vec<Packed> {
    let mut numbers = Numbers::new(depth as u64);
    let mut matrix = |(outputs, inputs): (usize, usize)| {
        let mut packed = Packed::zeros(format, outputs, inputs);
        let mut rows = vec![0.0; ROWS_AT_ONCE * inputs];
        for first in (0..outputs).step_by(ROWS_AT_ONCE) {
            let rows = &mut rows[..ROWS_AT_ONCE.min(outputs - first) * inputs];
            rows.fill_with(|| numbers.uniform(0.05));
            packed.set_rows(first, rows);
        }
        packed
    };
    shapes(depth).into_iter().map(&mut matrix).collect()
}

/// Activations on their way through all matrices.
struct Pass<'a> {
    matrices: &'a [Packed],
    rows: usize,
    head_rows: usize,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl<'a> Pass<'a> {
    fn new(matrices: &'a [Packed], rows: usize) -> Self {
        let head_rows = if rows >= PROMPT_ROWS { 1 } else { rows };
        let mut numbers = Numbers::new(1);
        let rows_of = |index: usize| if index + 1 == matrices.len() { head_rows } else { rows };
        let most = |width: fn(&Packed) -> usize| {
            matrices.iter().enumerate().map(|(i, w)| rows_of(i) * width(w)).max().unwrap_or(0)
        };
        let x = (0..most(Packed::inputs)).map(|_| numbers.uniform(1.0)).collect();
        let y = vec![0.0; most(Packed::outputs)];
        Self { matrices, rows, head_rows, x, y }
    }

    fn run(&mut self, compute: &Compute) {
        let last = self.matrices.len() - 1;
        for (i, weights) in self.matrices.iter().enumerate() {
            let rows = if i == last { self.head_rows } else { self.rows };
            multiply(compute, &self.x, weights, rows, &mut self.y);
        }
    }
}

/// The first `rows` rows of `x` times one matrix.
fn multiply(compute: &Compute, x: &[f32], weights: &Packed, rows: usize, y: &mut [f32]) {
    let (x, y) = (&x[..rows * weights.inputs()], &mut y[..rows * weights.outputs()]);
    matmul(compute, x, weights, Epilogue::Store, y);
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
        let matrices = [Packed::zeros(WeightFormat::F32, 6, 4), Packed::zeros(WeightFormat::F32, 40, 6)];
        let mut pass = Pass::new(&matrices, PROMPT_ROWS);
        assert_eq!((pass.head_rows, pass.x.len(), pass.y.len()), (1, 4 * PROMPT_ROWS, 6 * PROMPT_ROWS));
        pass.y.fill(1.0);
        pass.run(&Compute::new(kernels::Isa::SCALAR, 1));
        assert!(pass.y.iter().all(|&y| y == 0.0));
    }
}
