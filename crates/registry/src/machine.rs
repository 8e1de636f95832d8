//! What this machine has, and how much of it a process may use: processor, cores, memory, swap. Linux only; what the
//! system does not tell is `None`.

use std::path::Path;

use crate::cgroup::{ControlGroups, cpu_quota, memory_limit, throttled, value};

/// A machine as a process sees it. Bytes are bytes, cores are what the system calls processors.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Machine {
    /// The processor's name.
    pub cpu: Option<String>,
    /// Cores there are.
    pub cores: Option<usize>,
    /// Cores that the process may run on.
    pub allowed: Option<usize>,
    /// Cores' worth of time that the control group may take.
    pub quota: Option<f64>,
    /// Periods that the control group ran in, and those at whose end it was held back for having taken its quota.
    pub held_back: Option<(u64, u64)>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of it that may still be allocated, page cache included.
    pub memory_available: Option<u64>,
    /// Bytes that the control group may have in memory.
    pub memory_limit: Option<u64>,
    /// Bytes of swap space.
    pub swap: Option<u64>,
    /// Bytes of it in use.
    pub swap_used: Option<u64>,
}

/// This machine.
pub fn now() -> Machine {
    Machine::below(Path::new("/"))
}

impl Machine {
    /// The machine whose `/proc` and `/sys` are below a directory.
    fn below(root: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let meminfo = read("proc/meminfo").unwrap_or_default();
        let memory = |key: &str| kilobytes(&meminfo, key);
        let groups_of_cpu = ControlGroups::of(root, "cpu");
        let swap = memory("SwapTotal:");
        Self {
            cpu: read("proc/cpuinfo").and_then(|text| processor(&text)),
            cores: read("sys/devices/system/cpu/online").and_then(|text| listed(&text)),
            allowed: read("proc/self/status").and_then(|text| listed(value(&text, "Cpus_allowed_list:")?)),
            quota: groups_of_cpu.least(cpu_quota),
            held_back: groups_of_cpu.first(throttled),
            memory: memory("MemTotal:"),
            memory_available: memory("MemAvailable:"),
            memory_limit: ControlGroups::of(root, "memory").least(memory_limit),
            swap,
            swap_used: swap.zip(memory("SwapFree:")).map(|(all, free)| all.saturating_sub(free)),
        }
    }
}

/// The name of the first processor.
fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// How many numbers `0-3,8` stands for.
fn listed(text: &str) -> Option<usize> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)?.saturating_add(1))
    };
    text.trim().split(',').map(count).sum()
}

/// Bytes in a line of kilobytes.
pub(crate) fn kilobytes(text: &str, key: &str) -> Option<u64> {
    Some(value(text, key)?.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
        Machine::below(root.path())
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let found = machine(&[
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nprocessor\t: 1\n"),
            ("proc/self/status", "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-1,3\n"),
            ("sys/devices/system/cpu/online", "0-7\n"),
            ("proc/meminfo", "MemTotal: 64 kB\nMemAvailable:   32 kB\nSwapTotal: 8 kB\nSwapFree: 6 kB\n"),
        ]);
        let expected = Machine {
            cpu: Some("Some CPU @ 2 GHz".to_owned()),
            cores: Some(8),
            allowed: Some(3),
            memory: Some(65_536),
            memory_available: Some(32_768),
            swap: Some(8192),
            swap_used: Some(2048),
            ..Machine::default()
        };
        assert_eq!(found, expected);
        assert_eq!(machine(&[]), Machine::default());
    }

    #[test]
    fn the_least_limit_of_all_control_groups_counts_in_both_versions() {
        let second = machine(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "4096\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!((second.memory_limit, second.quota), (Some(4096), Some(1.5)));
        let first = machine(&[
            ("proc/self/cgroup", "4:memory:/pod\n3:cpu,cpuacct:/elsewhere\n1:name=systemd:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "8192\n"),
        ]);
        assert_eq!((first.memory_limit, first.quota), (Some(8192), None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_makes_sense() {
        let found = now();
        assert!(found.cores >= Some(1) && found.allowed >= Some(1), "{found:?}");
        assert!(found.memory_available > Some(0) && found.memory >= found.memory_available, "{found:?}");
    }
}
