//! The control groups of this process, of both versions: what they may use, and what they were refused. Linux only.

use std::path::{Path, PathBuf};

/// A limit of memory from which on it is none: control groups of the first version write such a number.
const NO_LIMIT: u64 = 1 << 62;
/// Where groups are mounted: all controllers together in the second version, each below it in the first.
const MOUNTED: &str = "sys/fs/cgroup";

/// The control groups of a process for one resource: its own and those that it lies in, each of which may have a limit.
pub(crate) struct ControlGroups(Vec<PathBuf>);

impl ControlGroups {
    /// Those of a controller on the machine whose `/proc` and `/sys` are below `root`.
    pub(crate) fn of(root: &Path, controller: &str) -> Self {
        // Without a list, the groups that are mounted are a container's own.
        let own = std::fs::read_to_string(root.join("proc/self/cgroup"))
            .unwrap_or_else(|_| format!("1:{controller}:/\n0::/\n"));
        let mut found = Vec::new();
        for line in own.lines() {
            // "4:memory:/below" of the first version, "0::/below" of the second.
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(below)) = (parts.next(), parts.next()) else { continue };
            let mounted = match controllers {
                "" => root.join(MOUNTED),
                names if names.split(',').any(|name| name == controller) => root.join(MOUNTED).join(names),
                _ => continue,
            };
            // In a container the mounted group is the container's own, and the path may lead nowhere.
            let below = Path::new(below.trim_start_matches('/'));
            found.extend(below.ancestors().map(|group| mounted.join(group)));
        }
        Self(found)
    }

    /// The least of what is known of any group.
    pub(crate) fn least<T: PartialOrd>(&self, of: impl Fn(&Path) -> Option<T>) -> Option<T> {
        let found = self.0.iter().filter_map(|group| of(group));
        found.reduce(|least, other| if other < least { other } else { least })
    }

    /// What is known of the innermost group of which it is.
    pub(crate) fn first<T>(&self, of: impl Fn(&Path) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(|group| of(group))
    }
}

/// Bytes that a group may have in memory.
pub(crate) fn memory_limit(group: &Path) -> Option<u64> {
    let text = text(group, "memory.max").or_else(|| text(group, "memory.limit_in_bytes"))?;
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// Bytes that the limit of a group leaves, page cache counted as free.
pub(crate) fn memory_left(group: &Path) -> Option<u64> {
    let limit = memory_limit(group)?;
    // Page cache that can be dropped, read once and read more often. The first version also has numbers without those
    // of the groups below.
    let (used, cache) = match text(group, "memory.current") {
        Some(used) => (used, ["inactive_file ", "active_file "]),
        None => (text(group, "memory.usage_in_bytes")?, ["total_inactive_file ", "total_active_file "]),
    };
    let stat = text(group, "memory.stat").unwrap_or_default();
    let cached: u64 = cache.iter().filter_map(|key| value(&stat, key)?.parse::<u64>().ok()).sum();
    Some(limit.saturating_sub(used.trim().parse::<u64>().ok()?.saturating_sub(cached)))
}

/// Cores' worth of time that a group may take.
pub(crate) fn cpu_quota(group: &Path) -> Option<f64> {
    let (quota, period) = match text(group, "cpu.max") {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (text(group, "cpu.cfs_quota_us")?, text(group, "cpu.cfs_period_us")?),
    };
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    // A negative quota is none.
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Periods that a group ran in, and those at whose end it was held back for having taken its quota.
pub(crate) fn throttled(group: &Path) -> Option<(u64, u64)> {
    let text = text(group, "cpu.stat")?;
    let number = |key: &str| value(&text, key)?.parse::<u64>().ok();
    let periods = number("nr_periods ").filter(|periods| *periods > 0)?;
    Some((periods, number("nr_throttled ")?))
}

fn text(group: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(group.join(name)).ok()
}

/// What follows a key at the beginning of a line.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    Some(text.lines().find_map(|line| line.strip_prefix(key))?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, contents) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
    }

    #[test]
    fn the_limit_less_what_cannot_be_dropped_is_left() {
        let second = ("memory.max", "memory.current", "inactive_file 400\nactive_file 90\n");
        let first = (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "inactive_file 1\ntotal_inactive_file 400\ntotal_active_file 90\n",
        );
        for (limit, used, stat) in [second, first] {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &[(limit, "max\n"), (used, "1000\n")]);
            assert_eq!(memory_left(root.path()), None);
            write(root.path(), &[(limit, "4000\n")]);
            assert_eq!(memory_left(root.path()), Some(3000));
            write(root.path(), &[("memory.stat", &format!("anon 5\n{stat}"))]);
            assert_eq!(memory_left(root.path()), Some(3490));
        }
    }

    #[test]
    fn a_group_has_no_more_than_those_that_it_lies_in() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("sys/fs/cgroup/memory.current", "1000\n"),
                ("sys/fs/cgroup/app.slice/memory.current", "1000\n"),
                ("sys/fs/cgroup/app.slice/memory.max", "3000\n"),
                ("sys/fs/cgroup/app.slice/samosa.service/memory.current", "1000\n"),
                ("sys/fs/cgroup/app.slice/samosa.service/memory.max", "max\n"),
            ],
        );
        let left = || ControlGroups::of(root.path(), "memory").least(memory_left);
        assert_eq!(left(), None);
        write(root.path(), &[("proc/self/cgroup", "0::/app.slice/samosa.service\n")]);
        assert_eq!(left(), Some(2000));
        write(root.path(), &[("sys/fs/cgroup/memory.max", "2500\n")]);
        assert_eq!(left(), Some(1500));
        std::fs::remove_file(root.path().join("proc/self/cgroup")).unwrap();
        assert_eq!(left(), Some(1500), "a container without the list");
    }

    #[test]
    fn quotas_and_throttling_are_read_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let groups = |list: &str| {
            write(root.path(), &[("proc/self/cgroup", list)]);
            ControlGroups::of(root.path(), "cpu")
        };
        write(
            root.path(),
            &[
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.stat", "usage_usec 9\nnr_periods 0\nnr_throttled 0\n"),
                ("sys/fs/cgroup/a/cpu.stat", "usage_usec 9\nnr_periods 10\nnr_throttled 4\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
        );
        let second = groups("0::/a/b\n");
        assert_eq!((second.least(cpu_quota), second.first(throttled)), (Some(1.5), Some((10, 4))));
        assert_eq!(groups("3:cpu,cpuacct:/elsewhere\n1:name=systemd:/\n").least(cpu_quota), Some(2.0));
        assert_eq!(groups("1:cpu:/\n").least(cpu_quota), None);
    }
}
