//! Grammars read and followed by a real worker process, without a model.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and waits")]

mod follow;
mod hostile;
mod support;
