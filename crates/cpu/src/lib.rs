//! The CPU backend: packed weights, KV cache blocks, the forward pass and the sampler.
//!
//! What it is not: it reads no file (see `formats` and `registry`), knows no request (see `engine`), does not ask which
//! family a model is of (see `model`), and holds no `unsafe` (see `kernels`).
//!
//! [`Weights`] are immutable and shared; a [`Session`] is what one user of them writes to: scratch and the [`KvCache`].
//! [`Transformer`] joins the two into the engine's `Backend`. Reading order: [`weights`], [`kv`], [`forward`],
//! [`sampler`], [`transformer`].

#![forbid(unsafe_code)]

pub mod forward;
pub mod kv;
pub mod sampler;
pub mod transformer;
pub mod weights;

pub use forward::Session;
pub use kernels::{Compute, Isa, WeightFormat, allocator};
pub use kv::{KvCache, KvLayout};
pub use transformer::Transformer;
pub use weights::Weights;
