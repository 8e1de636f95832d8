//! How much memory this process may still take: what its control group allows, and what the machine has. And that
//! what it no longer needs goes back.

use std::path::Path;

use crate::cgroup::{ControlGroups, memory_left};
use crate::machine::kilobytes;

/// Bytes that may still be allocated, if the system tells.
pub fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = kilobytes(&meminfo, "MemAvailable:");
    let groups = ControlGroups::of(Path::new("/"), "memory").least(memory_left);
    machine.into_iter().chain(groups).min()
}

/// Arranges that memory which is freed goes back to the system. To be called once, early.
pub fn prepare() {
    cpu::allocator::keep_large_blocks_apart();
}

/// Gives what is free back to the system.
pub fn give_back() {
    cpu::allocator::give_back();
}

/// Bytes of this process in memory now.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:")
}
