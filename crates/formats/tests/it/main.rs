//! The readers: real files, files made up in each way they are written, and files made to hurt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocation;
mod build;
mod files;
mod hostile;
mod memory;
mod properties;
mod small_files;
