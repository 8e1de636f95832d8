//! The blueprint of a model: what a checkpoint says of itself, and the families of models that are known.
//!
//! What it is not: it computes nothing and knows no device (see `cpu`), and it reads no file (see `formats`).
//!
//! A [`Config`] is what a backend needs to know, layer by layer. A [`Family`] reads one off a checkpoint and names its
//! tensors; a new family is one file and a row in [`FAMILIES`]. Reading order: [`config`], [`family`], [`nanochat`].

#![forbid(unsafe_code)]

pub mod config;
pub mod family;
pub mod nanochat;

mod error;

pub use config::{Backout, Config, LayerSpec, Overrides, Smear, ValueGate};
pub use error::Error;
pub use family::{FAMILIES, Family, Parameter};
pub use nanochat::version::{NanochatVersion, ShortWindow};
