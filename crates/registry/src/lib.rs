//! Which models exist on disk, and how their weights come into memory.
//!
//! Blocking `std::fs`: it knows no network, no HTTP callers and no requests. Reading order: [`tag`]
//! (names), [`catalog`] (what is in the storage directory, and the built-in model), [`checkpoint`] (which
//! files make a model), [`load`] (files to weights and tokenizer), [`self_test`], [`swap`] (the transaction
//! that replaces one model by another, as far as it does not need an engine), [`memory`], [`process`], and for whoever
//! looks for what is wrong, [`machine`], [`storage`] and [`empty`].

#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod builtin;
pub mod catalog;
pub mod checkpoint;
pub mod empty;
#[doc(hidden)]
pub mod fuzz;
pub mod identity;
pub mod last_model;
pub mod layout;
pub mod load;
pub mod machine;
pub mod memory;
pub mod models_file;
pub mod plan;
pub mod process;
pub mod provenance;
pub mod self_test;
pub mod source;
pub mod storage;
pub mod swap;
pub mod tag;

mod cgroup;
mod completeness;
mod error;
mod file_names;

pub use catalog::{Catalog, Entry, Offer};
pub use error::{Category, Error};
pub use identity::Identity;
pub use layout::Location;
pub use load::{LoadOptions, LoadedModel};
pub use source::Source;
pub use tag::Tag;
