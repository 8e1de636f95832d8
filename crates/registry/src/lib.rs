//! Which models exist on disk, and which files they are.
//!
//! Blocking `std::fs`: it knows no network, no HTTP callers and no requests. Reading order: [`tag`]
//! (names), [`catalog`] (what is in the storage directory, and the built-in model), [`checkpoint`] (which
//! files make a model), [`open`] (from names of files to checked metadata, tensors and tokenizer), [`memory`], [`process`],
//! and for diagnosis [`machine`], [`storage`] and [`empty`]. What holds weights in memory is `serving`.

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
pub mod machine;
pub mod memory;
pub mod models_file;
pub mod open;
pub mod process;
pub mod provenance;
pub mod source;
pub mod storage;
pub mod tag;

mod cgroup;
mod completeness;
mod error;
mod file_names;

pub use catalog::{Catalog, Entry, Offer};
pub use error::{Category, Error};
pub use identity::Identity;
pub use layout::Location;
pub use source::Source;
pub use tag::Tag;
