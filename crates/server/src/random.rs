//! Unpredictable bits, for seeds and ids.

use std::time::{SystemTime, UNIX_EPOCH};

/// From the system, or, without a source there, from the clock and an address, which still tell requests apart.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let here = std::ptr::from_ref(&UNIX_EPOCH) as usize as u64;
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(here, |t| t.as_nanos() as u64 ^ here)
    })
}
