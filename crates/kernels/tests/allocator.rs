//! Memory that was given back is the system's again. A process of its own: other tests would allocate meanwhile.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use kernels::allocator;

/// Megabytes of this process that are no file's.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[test]
fn blocks_that_were_freed_do_not_stay() {
    allocator::keep_large_blocks_apart();
    let before = resident();
    let mut small = Vec::new();
    for megabytes in [3, 20, 30, 5, 31] {
        // Small blocks that stay would hold the end of an arena in its place.
        let mut block = || {
            small.push(Box::new([1u8; 64]));
            vec![1u8; megabytes << 20]
        };
        let blocks: Vec<Vec<u8>> = (0..8).map(|_| block()).collect();
        assert!(resident() > before + 7 * megabytes as u64);
        drop(blocks);
    }
    allocator::give_back();
    let after = resident();
    assert!(after < before + 8, "{before} MB before, {after} MB after");
}
