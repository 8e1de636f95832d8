//! The transformer against what the reference implementation says, and against itself.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod golden;
mod layouts;
