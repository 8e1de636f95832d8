//! All requests of a run: N streams at a time on one thread, and what that thread cost.

use std::cell::Cell;

use anyhow::{Result, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::LoadPlan;
use super::exchange::{RequestOutcome, ask, micros_since};
use super::target::Target;
use crate::now;

/// Clock ticks a second in `/proc`: what Linux shows to programs, whatever it counts in.
const TICKS: f64 = 100.0;

/// What came of a run.
pub(super) struct LoadRun {
    pub(super) outcomes: Vec<RequestOutcome>,
    pub(super) seconds: f64,
    /// Processor time of this process during the run, where the system tells.
    pub(super) cpu_seconds: Option<f64>,
}

/// Warms up, then keeps the streams busy until all requests are answered.
pub(super) async fn run(target: &Target, plan: &LoadPlan) -> Result<LoadRun> {
    for index in 0..plan.warm_up {
        // Prompts of their own, which no counted request repeats.
        let warm = ask(target, plan, plan.requests + index, now()).await;
        if let Some(failure) = warm.failure {
            bail!("warming up at {}: {}: {}", target.url(), failure.kind, failure.why);
        }
    }
    let next = Cell::new(0);
    let (zero, cpu) = (now(), cpu_seconds());
    let stream = async || {
        let mut outcomes = Vec::new();
        while next.get() < plan.requests {
            let index = next.replace(next.get() + 1);
            outcomes.push(ask(target, plan, index, zero).await);
        }
        outcomes
    };
    // Polls a stream when something came for it, not all of them at every token.
    let streams: FuturesUnordered<_> = (0..plan.streams).map(|_| stream()).collect();
    let outcomes = streams.collect::<Vec<_>>().await.into_iter().flatten().collect();
    let seconds = micros_since(zero) as f64 / 1e6;
    let cpu_seconds = cpu_seconds().zip(cpu).map(|(after, before)| after - before);
    Ok(LoadRun { outcomes, seconds, cpu_seconds })
}

/// Processor time that this process has used.
fn cpu_seconds() -> Option<f64> {
    cpu_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks as f64 / TICKS)
}

/// User and system time of a `/proc/PID/stat`: fields 14 and 15, the second of which is a name in brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 70 7 0 0 20 0 1 0";
        assert_eq!(cpu_ticks(stat), Some(77));
        assert_eq!(cpu_ticks("12 (a) S 1"), None);
    }
}
