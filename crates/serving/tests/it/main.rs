//! Checkpoints as people have them, and the goldens: found by tag, opened, verified, loaded.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod files;
mod golden;
