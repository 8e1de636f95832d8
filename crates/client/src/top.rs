//! `samosa top`: what a running server does, at a glance.
//!
//! It asks `/stats` and nothing else, and shows what the answer has: servers of other versions may say less or more.
//! Reading order: [`stats`] (what an answer says), [`history`] (what earlier ones said), [`view`] (the screen, a pure
//! function), [`terminal`] (keys, answers, time), then this: the figures as text.

mod history;
mod stats;
mod terminal;
mod view;
mod words;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use tokio::time::timeout;

use self::stats::Stats;
use self::words::{count, figure, ms, percent, rate};
use crate::api::{ApiClient, QuestionFailure};
use crate::http;
use crate::text::{Palette, Terminal};

/// Longest time an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bounds of the interval.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// What `top` was asked to do.
pub struct Options {
    client: ApiClient,
    interval: Duration,
    show: Show,
}

/// How the figures are shown.
enum Show {
    Screen(Palette),
    Text,
    Json,
}

/// The command line of `top`.
pub fn command() -> Command {
    Command::new("top")
        .about("Watch what a running server does")
        .after_help(
            "Keys: q quits, p pauses, + and - change the interval, ? explains. The key to the server is the first of \
             INTERNAL_API_KEY. Without a terminal it prints the figures once, as --once does; then the exit code is 1 if \
             no answer came.",
        )
        .arg(http::url().required(true))
        .arg(http::ca_cert())
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .default_value("1s")
                .value_parser(interval)
                .help("How often the server is asked, such as 500ms or 2s"),
        )
        .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print the figures once, as text"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the server's /stats once, as JSON"),
        )
}

fn interval(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let unit = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        _ => return Err("it must be like 500ms or 2s".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "it must be like 500ms or 2s")? * unit;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if (SHORTEST..=LONGEST).contains(&interval) => Ok(interval),
        _ => Err("it must be from 100ms to 60s".to_owned()),
    }
}

impl Options {
    /// Reads the arguments; this key is sent.
    pub fn read(matches: &ArgMatches, key: Option<String>, terminal: Terminal) -> Result<Self> {
        let is_text = matches.get_flag("once") || !std::io::stdout().is_terminal();
        let show = match terminal {
            _ if matches.get_flag("json") => Show::Json,
            Terminal::Dumb => Show::Text,
            _ if is_text => Show::Text,
            Terminal::Plain => Show::Screen(Palette::Monochrome),
            Terminal::Coloured => Show::Screen(Palette::Coloured),
        };
        let interval = crate::given(matches, "interval", Duration::from_secs(1));
        Ok(Self { client: ApiClient::of_arguments(matches, key)?, interval, show })
    }
}

/// Shows the figures, once or until the user quits.
pub fn run(options: Options) -> Result<()> {
    let Options { client, interval, show } = options;
    match show {
        Show::Screen(palette) => terminal::run(client, interval, palette),
        Show::Json => Ok(writeln!(std::io::stdout(), "{:#}", once(&client)?)?),
        Show::Text => Ok(write!(std::io::stdout(), "{}", text(&Stats(once(&client)?)))?),
    }
}

fn once(client: &ApiClient) -> Result<Value> {
    crate::block_on(ask(client))?
        .map_err(|trouble| anyhow!("{}: {}", client.url.shown("/stats"), trouble.why))
}

/// Why there are no figures.
struct Trouble {
    /// What there is none of: an answer, or figures in it.
    missing: &'static str,
    why: String,
}

/// The server's `/stats`, or why there are none.
async fn ask(client: &ApiClient) -> Result<Value, Trouble> {
    let late =
        |_| Trouble { missing: "answer", why: format!("no answer came within {} s", PATIENCE.as_secs()) };
    timeout(PATIENCE, client.stats()).await.map_err(late)?.map_err(|failure| {
        let is_silence = matches!(failure, QuestionFailure::Exchange(_) | QuestionFailure::TimedOut);
        Trouble { missing: if is_silence { "answer" } else { "figures" }, why: failure.to_string() }
    })
}

/// All figures, a line each.
fn text(stats: &Stats) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<14} {value}");
        }
    };
    let model = std::iter::once(stats.model()).chain(stats.about_model());
    line("model", model.collect::<Vec<_>>().join(" · "));
    line(
        "status",
        [Some(stats.status()), stats.reason()].into_iter().flatten().collect::<Vec<_>>().join(": "),
    );
    line("server", stats.about_server().join(" · "));
    let [short, long] = stats.tokens_per_second().map(|number| figure(number, rate));
    line("tokens/s", format!("{short} over 10 s, {long} over 60 s"));
    for meter in stats.meters() {
        let share = meter.share.map_or(String::new(), |share| format!(" ({})", percent(share)));
        line(meter.name, meter.text + &share);
    }
    for (name, values) in stats.latencies() {
        let [p50, p95, p99] = values.map(|value| figure(value, ms));
        line(name, format!("p50 {p50}, p95 {p95}, p99 {p99} ms"));
    }
    for (name, value) in stats.facts().into_iter().chain(stats.inside()) {
        line(name, value);
    }
    let counts = |pointer: &str| {
        let counts = stats.counts(pointer).into_iter().map(|(name, n)| format!("{name} {}", count(n)));
        counts.collect::<Vec<_>>().join(", ")
    };
    line("requests", counts("/requests"));
    line("refused", counts("/refusals"));
    for (name, swap) in [("swap", stats.swap()), ("last swap", stats.last_swap())] {
        let Some(swap) = swap else { continue };
        let download =
            swap.download.map_or(String::new(), |(share, text)| format!(" ({}, {text})", percent(share)));
        line(name, format!("{}, {}{download}", swap.what, swap.state));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_bounds() {
        let millis = |text| interval(text).map(|interval| interval.as_millis());
        assert_eq!(
            (millis("500ms"), millis("2s"), millis("0.5"), millis("60s")),
            (Ok(500), Ok(2000), Ok(500), Ok(60_000))
        );
        for wrong in ["", "s", "1m", "0", "99ms", "61s", "-1s", "nan", "inf", "1e300"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
