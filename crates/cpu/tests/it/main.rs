//! The forward pass and the loader, against nanochat's reference.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod golden;
mod layouts;
