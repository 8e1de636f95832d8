//! Single kernels, each alone: `cargo bench -p kernels`. Sizes are those of a model of depth 12 (768 wide, 6
//! heads of 128). How kernels do together, against the machine's limits, is `cargo xtask bench`.

mod attention;
mod matmul;
mod pool;
mod rows;

use kernels::{Compute, Isa, WeightFormat};

/// Width of the residual stream.
const WIDTH: usize = 768;
/// The ways to hold numbers.
const FORMATS: [WeightFormat; 4] = WeightFormat::ALL;

fn main() {
    divan::main();
}

/// The fastest instruction set and a thread for every core.
fn compute() -> Compute {
    Compute::new(Isa::detect(), std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// Numbers from minus one to one without a pattern that matters.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 4001) as f32 / 2000.0 - 1.0).collect()
}
