//! Downloads over real sockets, from servers that behave and from servers that do not.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod faults;
mod pulls;
mod refusals;
mod resume;
mod stores;
mod support;
