//! The specification: every operation in plain Rust, one short file each. It runs where no vector unit is
//! known, and every fast implementation is tested against it.

pub(crate) mod activations;
pub(crate) mod attention;
pub(crate) mod matmul;
pub(crate) mod rows;
