//! What this machine and this process are, as far as the system tells.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use super::setup::{Setup, WIDTH_OF_A_LAYER};
use super::{clock, targets};

/// The machine in a line, and what is measured on it in another.
pub(crate) fn describe(setup: &Setup) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let Setup { depth, threads, isa, .. } = setup;
    let width = WIDTH_OF_A_LAYER * depth;
    format!(
        "{}, {cores} cores, {}, {threads} compute threads\n\
         model: {depth} layers of width {width}, random weights\n{}",
        cpu(),
        isa.name(),
        targets::MACHINE
    )
}

/// The same for programs.
pub(crate) fn to_json(setup: &Setup) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    json!({
        "cpu": cpu(),
        "cores": cores,
        "isa": setup.isa.name(),
        "threads": setup.threads,
        "depth": setup.depth,
        "quick": setup.quick,
    })
}

/// The most memory that this process ever had at once, in bytes.
pub(crate) fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = value_of(&status, "VmHWM")?.strip_suffix(" kB")?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}

/// Seconds of CPU that this process took so far, all threads together.
pub(crate) fn cpu_seconds() -> Option<f64> {
    Some(own_cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)?[0])
}

/// Of this process, and of its children that have ended. The fields 14 to 17 of the system's line about a
/// process are hundredths of a second; the second field is a name in parentheses, which may hold anything.
fn own_cpu_seconds(stat: &str) -> Option<[f64; 2]> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields = rest.split_whitespace().skip(11).take(4).map(str::parse::<f64>);
    let fields: Vec<f64> = fields.collect::<Result<_, _>>().ok()?;
    let [own_user, own_system, child_user, child_system] = fields[..] else { return None };
    Some([own_user + own_system, child_user + child_system].map(|hundredths| hundredths / 100.0))
}

/// Watches what processes that are not ours take, since that is missing from every figure.
pub(crate) struct Others {
    begun: Instant,
    seconds: Option<f64>,
}

impl Others {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        Self { begun: clock::now(), seconds: Self::seconds() }
    }

    /// What they took since then, in percent of a core.
    pub(crate) fn share(&self) -> Option<f64> {
        let taken = Self::seconds()? - self.seconds?;
        Some((taken / self.begun.elapsed().as_secs_f64() * 100.0).max(0.0))
    }

    fn seconds() -> Option<f64> {
        let own = own_cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(all_cpu_seconds(&fs::read_to_string("/proc/stat").ok()?)? - own.iter().sum::<f64>())
    }
}

/// What all processes took on all cores: the first three numbers of the line `cpu`, in hundredths of a second.
fn all_cpu_seconds(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(3);
    let hundredths = fields.map(str::parse::<f64>).sum::<Result<f64, _>>().ok()?;
    Some(hundredths / 100.0)
}

/// The CPU as the system calls it.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key| value_of(&info, key);
    let name = of("model name").unwrap_or(std::env::consts::ARCH);
    match (of("cpu family"), of("model\t")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name.to_owned(),
    }
}

/// The value of the first line that begins with `key`, behind its colon.
fn value_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_behind_their_keys() {
        let text = "model\t\t: 2\nmodel name\t: A CPU: fast\ncpu family\t: 26\n";
        assert_eq!(value_of(text, "model name"), Some("A CPU: fast"));
        assert_eq!(value_of(text, "model\t"), Some("2"));
        assert_eq!(value_of(text, "VmHWM"), None);
    }

    #[test]
    fn cpu_time_is_that_of_the_system_and_the_user() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 30 10 20 0";
        assert_eq!(own_cpu_seconds(stat), Some([3.0, 0.4]));
        assert_eq!(own_cpu_seconds("7 (cut"), None);
        assert_eq!(all_cpu_seconds("cpu  100 20 30 4000 5 6\ncpu0 1 2 3 4\n"), Some(1.5));
        assert_eq!(all_cpu_seconds(""), None);
    }
}
