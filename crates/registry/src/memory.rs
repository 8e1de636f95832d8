//! How much memory this process may still take: what its control group allows, and what the machine has.

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

/// Bytes of this process in memory now.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:")
}
