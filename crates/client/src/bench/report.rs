//! What a run shows: rates, percentiles, errors by kind; as a table and as JSON. Only whole answers are in the
//! figures, the others are counted under errors.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::LoadPlan;
use super::exchange::RequestOutcome;
use super::load::LoadRun;
use super::target::Target;

/// The figures of a run.
pub(super) struct LoadReport {
    about: Value,
    seconds: f64,
    tokens: u64,
    /// Whether the server counted them all.
    counted: bool,
    /// Microseconds in which every stream was between its first and its last token, and the tokens of them.
    steady: (u64, f64),
    first_token: Spread,
    gap: Spread,
    prompt_tokens: Spread,
    cached_tokens: Spread,
    /// Whole answers by the server's word for why they ended.
    ended: BTreeMap<String, usize>,
    /// Failures by kind: how many, and the words of the first.
    errors: BTreeMap<String, (usize, String)>,
    client_cpu: Option<f64>,
}

/// Numbers in ascending order.
struct Spread(Vec<f64>);

impl Spread {
    fn new(numbers: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self(sorted)
    }

    /// The smallest number that at least this share of all do not exceed.
    fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    fn percentiles(&self) -> [Option<f64>; 4] {
        [0.5, 0.95, 0.99, 1.0].map(|share| self.quantile(share))
    }

    fn to_json(&self) -> Value {
        let [p50, p95, p99, max] = self.percentiles();
        json!({ "p50": p50, "p95": p95, "p99": p99, "max": max })
    }

    fn bounds_to_json(&self) -> Value {
        json!({ "min": self.0.first(), "mean": self.mean(), "max": self.0.last() })
    }
}

impl LoadReport {
    /// Adds a run up.
    pub(super) fn new(target: &Target, plan: &LoadPlan, run: &LoadRun) -> Self {
        let whole: Vec<&RequestOutcome> =
            run.outcomes.iter().filter(|outcome| outcome.failure.is_none()).collect();
        let mut ended = BTreeMap::new();
        for outcome in &whole {
            let reason = outcome.answer.reason.clone().unwrap_or_else(|| "done".to_owned());
            *ended.entry(reason).or_default() += 1;
        }
        let mut errors = BTreeMap::new();
        for failure in run.outcomes.iter().filter_map(|outcome| outcome.failure.as_ref()) {
            let (count, _) = errors.entry(failure.kind.clone()).or_insert_with(|| (0, failure.why.clone()));
            *count += 1;
        }
        let usage = || whole.iter().map(|outcome| outcome.answer.usage);
        let first = |outcome: &&RequestOutcome| {
            let first = *outcome.answer.text_at.first()?;
            Some((first - outcome.begun) as f64 / 1e3)
        };
        let gaps = |outcome: &&RequestOutcome| -> Vec<f64> {
            outcome.answer.text_at.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e3).collect()
        };
        Self {
            about: about(target, plan),
            seconds: run.seconds,
            tokens: whole.iter().map(|outcome| outcome.answer.tokens()).sum(),
            counted: usage().all(|usage| usage.answer.is_some()),
            steady: steady(&whole, plan.streams),
            first_token: Spread::new(whole.iter().filter_map(first)),
            gap: Spread::new(whole.iter().flat_map(gaps)),
            prompt_tokens: Spread::new(usage().filter_map(|usage| Some(usage.prompt? as f64))),
            cached_tokens: Spread::new(usage().filter_map(|usage| Some(usage.cached? as f64))),
            ended,
            errors,
            client_cpu: run.cpu_seconds.map(|cpu| cpu / run.seconds.max(1e-9)),
        }
    }

    /// Requests without a whole answer.
    pub(super) fn failed(&self) -> usize {
        self.errors.values().map(|(count, _)| count).sum()
    }

    fn rate(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }

    fn steady_rate(&self) -> Option<f64> {
        let (_, tokens) = self.steady;
        let seconds = self.steady_seconds();
        (seconds > 0.0).then(|| tokens / seconds)
    }

    fn steady_seconds(&self) -> f64 {
        self.steady.0 as f64 / 1e6
    }

    pub(super) fn to_json(&self) -> Value {
        let errors: BTreeMap<&String, Value> = self
            .errors
            .iter()
            .map(|(kind, (count, first))| (kind, json!({ "count": count, "first": first })))
            .collect();
        json!({
            "run": self.about,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "tokens_counted_by": if self.counted { "usage" } else { "events" },
            "tokens_per_s": {
                "total": self.rate(),
                "steady": self.steady_rate(),
                "steady_seconds": self.steady_seconds(),
            },
            "first_token_ms": self.first_token.to_json(),
            "between_tokens_ms": self.gap.to_json(),
            "prompt_tokens": self.prompt_tokens.bounds_to_json(),
            "cached_tokens": self.cached_tokens.bounds_to_json(),
            "ended": self.ended,
            "failed": self.failed(),
            "errors": errors,
            "client_cpu": self.client_cpu,
        })
    }

    pub(super) fn to_table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<18}{text}");
        };
        let about = |name: &str| self.about[name].to_string();
        let url = self.about["url"].as_str().unwrap_or_default();
        line("server", format!("{url}, {} requests, {} at a time", about("requests"), about("streams")));
        let prompts = format!("{} words, the first {} shared", about("prompt_words"), about("shared_words"));
        line("prompts", format!("{prompts}; {}", self.measured_prompts()));
        let steady = self.steady_rate().map_or("never were all streams decoding".to_owned(), |rate| {
            format!("{rate:.1} while all streams decode ({:.2} s)", self.steady_seconds())
        });
        line("tokens/s", format!("{:.1} over {:.2} s; {steady}", self.rate(), self.seconds));
        let by = if self.counted { "by the server's count" } else { "by events that carried text" };
        line("tokens", format!("{} {by}; at most {} an answer", self.tokens, about("answer_tokens")));
        line("", format!("{:>10}{:>10}{:>10}{:>10}", "p50", "p95", "p99", "max"));
        for (name, spread) in [("first token, ms", &self.first_token), ("between tokens, ms", &self.gap)] {
            let cells =
                spread.percentiles().map(|number| number.map_or("–".to_owned(), |n| format!("{n:.2}")));
            line(name, cells.iter().fold(String::new(), |row, cell| row + &format!("{cell:>10}")));
        }
        let ended: Vec<String> =
            self.ended.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        line("answers ended by", if ended.is_empty() { "–".to_owned() } else { ended.join(", ") });
        for (kind, (count, first)) in &self.errors {
            line("failed", format!("{count} × {kind}: {first}"));
        }
        let cpu =
            self.client_cpu.map_or("unknown".to_owned(), |cpu| format!("{:.1} % of a core", 100.0 * cpu));
        line("this client", cpu);
        out
    }

    fn measured_prompts(&self) -> String {
        let (Some(mean), Some(most)) = (self.prompt_tokens.mean(), self.prompt_tokens.0.last()) else {
            return "the server does not tell their tokens".to_owned();
        };
        let least = self.prompt_tokens.0[0];
        let cached =
            self.cached_tokens.mean().map_or(String::new(), |mean| format!(", {mean:.1} of them cached"));
        format!("{mean:.1} tokens each ({least} to {most}){cached}")
    }
}

fn about(target: &Target, plan: &LoadPlan) -> Value {
    json!({
        "url": target.url(),
        "streams": plan.streams,
        "requests": plan.requests,
        "warm_up": plan.warm_up,
        "prompt_words": plan.prompt_words,
        "shared_words": plan.shared_words,
        "answer_tokens": plan.answer_tokens,
        "temperature": plan.temperature,
        "seed": plan.seed,
    })
}

/// How long all `streams` were between their first and last token at once, in microseconds, and how many tokens came
/// then. An answer whose events carry several tokens counts as many for each.
fn steady(whole: &[&RequestOutcome], streams: usize) -> (u64, f64) {
    /// What happens at a moment; the order of cases is that of counting.
    #[derive(PartialEq, PartialOrd)]
    enum Moment {
        Token(f64),
        Last,
        First,
    }
    let mut moments = Vec::new();
    for outcome in whole {
        let times = &outcome.answer.text_at;
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else { continue };
        let weight = outcome.answer.tokens() as f64 / times.len() as f64;
        moments.push((first, Moment::First));
        moments.push((last, Moment::Last));
        moments.extend(times[1..].iter().map(|&at| (at, Moment::Token(weight))));
    }
    moments.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal)));
    let streams = streams as isize;
    // An answer of one token ends, in the order above, before it begins.
    let (mut decoding, mut since, mut micros, mut tokens) = (0, 0, 0, 0.0);
    for (at, moment) in moments {
        if decoding == streams {
            micros += at - since;
        }
        since = at;
        match moment {
            Moment::Token(weight) if decoding == streams => tokens += weight,
            Moment::Token(_) => {}
            Moment::First => decoding += 1,
            Moment::Last => decoding -= 1,
        }
    }
    (micros, tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::answer::MeasuredAnswer;
    use crate::bench::target::Api;

    fn outcome(text_at: &[u64], counted: Option<u64>) -> RequestOutcome {
        let mut answer = MeasuredAnswer::new(Api::Chat, 8);
        answer.text_at = text_at.to_vec();
        answer.usage.answer = counted;
        RequestOutcome { begun: 0, answer, failure: None }
    }

    #[test]
    fn only_the_time_in_which_all_streams_decode_is_steady() {
        let answers = [outcome(&[10, 20, 30, 40], None), outcome(&[25, 35, 45, 55], Some(8))];
        let both: Vec<&RequestOutcome> = answers.iter().collect();
        // From 25 to 40: tokens at 30 and 40 of the first, and at 35 of the second, whose events hold two each.
        assert_eq!(steady(&both, 2), (15, 4.0));
        assert_eq!(steady(&both[..1], 1), (30, 3.0));
        assert_eq!(steady(&both, 3), (0, 0.0));
        assert_eq!(steady(&[&outcome(&[5], None)], 1), (0, 0.0));
    }

    #[test]
    fn quantiles_are_numbers_that_were_measured() {
        let spread = Spread::new([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(spread.percentiles(), [Some(2.0), Some(4.0), Some(4.0), Some(4.0)]);
        assert_eq!(Spread::new(std::iter::empty()).percentiles(), [None; 4]);
    }
}
