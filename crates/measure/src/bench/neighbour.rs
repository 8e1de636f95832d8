//! What the engine does beside a process that keeps one core busy, and what it takes when it has nothing to do.

use std::time::Duration;

use super::child::Child;
use super::decode;
use super::formats::Format;
use super::report::{Figure, Report};
use super::setup::Setup;
use super::streams::Service;
use super::{clock, machine};

/// Streams at a time, and tokens of each.
const STREAMS: [(usize, usize); 2] = [(1, 96), (8, 48)];

/// Decoding with a busy core as a part of decoding without.
pub(crate) fn busy(
    setup: &Setup,
    format: &Format,
    service: &Service,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (n, tokens) in STREAMS {
        let rate = || -> anyhow::Result<f64> {
            let rates = (0..setup.runs()).map(|_| Ok(decode::decode(service, n, tokens)?.rate));
            Ok(clock::median(&rates.collect::<anyhow::Result<Vec<f64>>>()?))
        };
        let quiet = rate()?;
        let spinning = Child::spin(setup)?;
        let beside = rate()?;
        drop(spinning);
        let s = if n == 1 { "" } else { "s" };
        let name = format!("decode beside a busy thread, {n} stream{s}");
        report.add(Figure::new(name, format.name, beside, "tok/s").of_limit(quiet));
    }
    Ok(())
}

/// CPU time of this process while its engine waits for a request.
pub(crate) fn idle(setup: &Setup, format: &Format, report: &mut Report) {
    let wait = Duration::from_secs(if setup.quick { 1 } else { 2 });
    let Some(before) = machine::cpu_seconds() else { return };
    std::thread::sleep(wait);
    let used = machine::cpu_seconds().unwrap_or(before) - before;
    let share = used / wait.as_secs_f64() * 100.0;
    report.add(Figure::new("idle engine", format.name, share, "% of a core"));
}
