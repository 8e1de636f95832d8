//! What fuzzing found worth keeping, replayed.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod corpus;
