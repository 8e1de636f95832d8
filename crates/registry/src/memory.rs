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
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text));
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    [("/sys/fs/cgroup", "0::", V2), ("/sys/fs/cgroup/memory", ":memory:", V1)]
        .into_iter()
        .flat_map(|(root, mark, names)| {
            // In a container the root is the container's own group; elsewhere the process has one below it.
            let below = own.lines().find_map(|line| Some(line.split_once(mark)?.1.trim_start_matches('/')));
            control_groups(Path::new(root), below.unwrap_or_default(), &names)
        })
        .chain([machine])
        .flatten()
        .min()
}

/// What a group and those that it lies in leave: each may have a limit.
fn control_groups(root: &Path, own: &str, names: &Names) -> Vec<Option<u64>> {
    Path::new(own).ancestors().map(|group| control_group(&root.join(group), names)).collect()
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
    fn a_group_has_no_more_than_those_that_it_lies_in() {
        let root = tempfile::tempdir().unwrap();
        for (group, limit) in
            [("", None), ("app.slice", Some("3000")), ("app.slice/samosa.service", Some("max"))]
        {
            let write =
                |name: &str, text: &str| std::fs::write(root.path().join(group).join(name), text).unwrap();
            std::fs::create_dir_all(root.path().join(group)).unwrap();
            limit.inspect(|limit| write(V2.limit, limit));
            write(V2.used, "1000\n");
        }
        let left = |own: &str| control_groups(root.path(), own, &V2).into_iter().flatten().min();
        assert_eq!(left("app.slice/samosa.service"), Some(2000));
        assert_eq!(left(""), None);
    }

    #[test]
    fn meminfo_is_in_kilobytes() {
        assert_eq!(meminfo("MemTotal:  10 kB\nMemAvailable:   7 kB\n"), Some(7168));
    }
}
