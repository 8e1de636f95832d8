//! Compute kernels: slices in, slices out. The only crate of the project that holds `unsafe`.
//!
//! What it is: matrix products over packed weights, paged attention, and the row operations of the
//! nanochat transformer, each for AVX-512, AVX2, NEON (with and without the dot products that such CPUs may
//! have) and portable scalar code; and the pool of threads that they run on. What it is not: it knows no model,
//! file or request, and looks at the clock only to see whether its threads are put aside.
//!
//! Reading order: [`isa`] (which instruction sets this CPU has), [`pool`] (who computes), [`mod@matmul`]
//! (packed weights, and the tile that everything else is built on), [`attention`] (keys and values in
//! pages), [`rows`] (norm, rotary, softcap). `scalar/` is the specification: one short file per
//! operation, tested against every other implementation.
//!
//! Batch invariance: every output element is one chain of operations whose order depends on the shapes
//! of the weights and on absolute positions only. How many rows share a call, how tasks fall to
//! threads, or where a prompt was cut never changes a bit.

#![expect(
    clippy::inline_always,
    reason = "generic kernels must inline into the functions that are compiled for an instruction set"
)]

pub mod activations;
pub mod allocator;
pub mod attention;
pub mod bf16;
pub mod isa;
pub mod matmul;
pub mod packed;
pub mod pool;
pub mod probe;
pub mod rows;
pub mod table;

mod integer;
mod scalar;
mod simd;
mod tile;
mod words;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::Activations;
pub use isa::Isa;
pub use matmul::{Epilogue, matmul};
pub use packed::{Packed, WeightFormat};
pub use pool::{Pool, Rows};
pub use table::{Table, TableFormat};

/// What a kernel needs besides its data: the instruction set to use and the threads to run on.
pub struct Compute {
    /// The instruction set, proved to be present.
    pub isa: Isa,
    /// The threads.
    pub pool: Pool,
}

impl Compute {
    /// A context with `threads` threads (the caller's included) on instruction set `isa`.
    pub fn new(isa: Isa, threads: usize) -> Self {
        Self { isa, pool: Pool::new(threads) }
    }
}

/// Zeros that the system hands out as they are touched. Where it has not that many, this panics, which a
/// caller can survive; Rust's own allocation would end the process.
fn zeroed<T: Clone + Default>(count: usize) -> Vec<T> {
    let possible = Vec::<T>::new().try_reserve_exact(count).is_ok();
    assert!(possible, "not enough memory for {count} numbers of {} bytes", size_of::<T>());
    vec![T::default(); count]
}
