//! What the system knows of this process: processor time, memory, files, threads. Linux only.

use std::fs;

/// This process at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProcessStats {
    /// Seconds of processor time so far, in the program and in the system for it.
    pub cpu_seconds: f64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub open_fds: u64,
    /// How many there may be.
    pub max_fds: u64,
    /// When it was started, in seconds since 1970.
    pub start_time_seconds: f64,
}

/// This process now, if the system tells.
pub fn now() -> Option<ProcessStats> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let stat = Stat::parse(&read("/proc/self/stat")?)?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    // The listing itself has one open.
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(ProcessStats {
        cpu_seconds: stat.cpu_ticks as f64 / ticks,
        resident_bytes: stat.resident_pages * rustix::param::page_size() as u64,
        virtual_bytes: stat.virtual_bytes,
        threads: stat.threads,
        open_fds: open_fds as u64,
        max_fds: max_fds(&read("/proc/self/limits")?)?,
        start_time_seconds: boot_time(&read("/proc/stat")?)? as f64 + stat.start_ticks as f64 / ticks,
    })
}

/// The fields of `/proc/self/stat` that matter here.
#[derive(PartialEq, Debug)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    /// After the system's start.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, brackets and spaces too. What follows it begins with field 3 of proc(5).
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// The soft limit of open files in `/proc/self/limits`.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// When the system was started, in seconds since 1970, in `/proc/stat`.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 5 6 20 0 11 0 8400 123456 99 18446744073709551615";
        let expected = Stat {
            cpu_ticks: 300,
            threads: 11,
            start_ticks: 8400,
            virtual_bytes: 123_456,
            resident_pages: 99,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1 2"), None);
    }

    #[test]
    fn limits_and_boot_time_are_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds(&limits.replace("1024 ", "unlimited ")), Some(u64::MAX));
        assert_eq!(boot_time("cpu  1 2 3\nbtime 1767225600\nprocesses 5\n"), Some(1_767_225_600));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_makes_sense() {
        let process = now().unwrap();
        assert!(process.cpu_seconds >= 0.0 && process.threads > 0, "{process:?}");
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes);
        assert!((3..=process.max_fds).contains(&process.open_fds), "{process:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..now + 2.0).contains(&process.start_time_seconds), "{process:?} at {now}");
    }
}
