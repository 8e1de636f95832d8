//! The nanochat transformer: what a checkpoint says of itself, its weights in memory, and the forward pass.
//!
//! What it is not: it reads no file (see `formats` and `registry`), knows no request (see `engine`) and
//! holds no `unsafe` (see `kernels`).
//!
//! Three structs: [`Config`] is the blueprint, [`Weights`] are immutable and shared, and a [`Session`] holds
//! what one user of the weights writes to: scratch and the [`KvCache`]. Reading order: [`generation`] (six
//! architectures, told apart by their tensors), [`config`], [`weights`], [`kv`], [`forward`].

#![forbid(unsafe_code)]

pub mod config;
pub mod forward;
pub mod generation;
pub mod kv;
pub mod weights;

mod error;
mod metadata;
mod names;

pub use config::{Config, Overrides};
pub use error::Error;
pub use forward::{LogitRows, SequenceRows, Session};
pub use generation::{Generation, ShortWindow};
pub use kernels::rows::exp_sum;
pub use kernels::{Compute, Isa, WeightFormat, allocator};
pub use kv::{KvCache, KvClass, KvLayout, NO_PAGE, PAGE};
pub use weights::Weights;
