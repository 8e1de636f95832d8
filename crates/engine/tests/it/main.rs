//! The engine with toy models, scripted models and real ones.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod asked;
mod batch_invariance;
mod calculator;
mod driver;
mod prefix_cache;
mod simulation;
mod speculation;
mod support;
