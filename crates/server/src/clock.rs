//! The server's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now.
#[expect(clippy::disallowed_methods, reason = "the server may read the clock, here and nowhere else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, in seconds since 1970.
pub(crate) fn unix() -> u64 {
    unix_of(SystemTime::now()) as u64
}

/// A time of day in seconds since 1970.
pub(crate) fn unix_of(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
