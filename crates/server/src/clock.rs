//! The server's clock.

use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the server may read the clock, here and nowhere else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
