//! The clock of the commands that measure or wait. The server has its own.

use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "a client that measures times reads a clock, here alone")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
