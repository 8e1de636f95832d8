//! How much memory this process may still take: what its control group allows, and what the machine has. And that
//! what it no longer needs goes back.

use std::path::Path;

/// The files of a control group, by version.
struct Names {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: page cache that can be dropped, read once and read more often.
    cache: [&'static str; 2],
}

const V2: Names =
    Names { limit: "memory.max", used: "memory.current", cache: ["inactive_file ", "active_file "] };
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file ", "total_active_file "],
};

/// Bytes that may still be allocated, if the system tells.
pub fn available() -> Option<u64> {
    let machine = meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    [("/sys/fs/cgroup", "0::", V2), ("/sys/fs/cgroup/memory", ":memory:", V1)]
        .into_iter()
        .flat_map(|(root, mark, names)| {
            // In a container the root is the container's own group; elsewhere the process has one below it.
            let below = own.lines().find_map(|line| Some(line.split_once(mark)?.1.trim_start_matches('/')));
            let below = below.and_then(|path| control_group(&Path::new(root).join(path), &names));
            [control_group(Path::new(root), &names), below]
        })
        .chain([machine])
        .flatten()
        .min()
}

/// Arranges that memory which is freed goes back to the system. To be called once, early.
pub fn prepare() {
    model::allocator::keep_large_blocks_apart();
}

/// Gives what is free back to the system.
pub fn give_back() {
    model::allocator::give_back();
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
fn control_group(root: &Path, names: &Names) -> Option<u64> {
    let number =
        |name: &str| -> Option<u64> { std::fs::read_to_string(root.join(name)).ok()?.trim().parse().ok() };
    let (limit, used) = (number(names.limit)?, number(names.used)?);
    let stat = std::fs::read_to_string(root.join("memory.stat")).unwrap_or_default();
    let cached = |name: &&str| -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix(*name)?.trim().parse().ok())
    };
    let cache = names.cache.iter().filter_map(cached).sum();
    Some(limit.saturating_sub(used.saturating_sub(cache)))
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
        for names in [V2, V1] {
            let root = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
            write(names.limit, "max\n");
            write(names.used, "1000\n");
            assert_eq!(control_group(root.path(), &names), None);
            write(names.limit, "4000\n");
            assert_eq!(control_group(root.path(), &names), Some(3000));
            let [once, often] = names.cache;
            write("memory.stat", &format!("anon 5\n{once}400\n{often}90\n"));
            assert_eq!(control_group(root.path(), &names), Some(3490));
        }
    }

    #[test]
    fn meminfo_is_in_kilobytes() {
        assert_eq!(meminfo("MemTotal:  10 kB\nMemAvailable:   7 kB\n"), Some(7168));
    }
}
