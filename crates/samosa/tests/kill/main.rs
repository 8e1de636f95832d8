//! SIGKILL at every moment of a download and of a swap: what is on the disk afterwards is what was there before or what
//! was to come, and never anything between.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../it/support/hub.rs"]
mod hub;
mod model;
mod pulls;
#[expect(dead_code, reason = "each test file uses its part of it")]
#[path = "../it/support/running.rs"]
mod running;
mod swaps;
mod wide;

use std::thread::sleep;
use std::time::Duration;

/// Waits for half a minute until something holds, looking every now and then.
fn wait_for(what: &str, every: Duration, mut holds: impl FnMut() -> bool) {
    let looks = (Duration::from_secs(30).as_nanos() / every.as_nanos()) as usize;
    for _ in 0..looks {
        if holds() {
            return;
        }
        sleep(every);
    }
    panic!("never came: {what}");
}

/// Numbers that look random, the same ones each time (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }
}
