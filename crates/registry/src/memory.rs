//! How much memory this process may still take: what its control group allows, and what the machine has.

use std::path::Path;

/// Bytes that may still be allocated, if the system tells.
pub fn available() -> Option<u64> {
    let machine = meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?);
    let root = Path::new("/sys/fs/cgroup");
    // In a container the root is the container's own group; elsewhere the process has one below it.
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).map(|path| root.join(path));
    [machine, control_group(root), own.and_then(|path| control_group(&path))].into_iter().flatten().min()
}

/// Bytes of this process in memory now.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:")
}

fn meminfo(text: &str) -> Option<u64> {
    kilobytes(text, "MemAvailable:")
}

/// What the limit of the control group leaves, page cache counted as free.
fn control_group(root: &Path) -> Option<u64> {
    let number =
        |name: &str| -> Option<u64> { std::fs::read_to_string(root.join(name)).ok()?.trim().parse().ok() };
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    let stat = std::fs::read_to_string(root.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok());
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_less_what_cannot_be_dropped_is_left() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write("memory.max", "max\n");
        write("memory.current", "1000\n");
        assert_eq!(control_group(root.path()), None);
        write("memory.max", "4000\n");
        assert_eq!(control_group(root.path()), Some(3000));
        write("memory.stat", "anon 5\ninactive_file 400\n");
        assert_eq!(control_group(root.path()), Some(3400));
    }

    #[test]
    fn meminfo_is_in_kilobytes() {
        assert_eq!(meminfo("MemTotal:  10 kB\nMemAvailable:   7 kB\n"), Some(7168));
    }
}
