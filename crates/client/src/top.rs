//! `samosa top`: what a running server does, at a glance.
//!
//! It asks `/stats` and nothing else, and shows what the answer has: servers of other versions may say less or more.
//! Reading order: [`stats`] (what an answer says), [`history`] (what earlier ones said), [`view`] (the screen, a pure
//! function), [`terminal`] (keys, answers, time), [`text`] (without a terminal).

mod history;
mod stats;
mod terminal;
mod text;
mod view;
mod words;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use tokio::time::timeout;

use self::stats::Stats;
use self::view::Colours;
use crate::edge;
use crate::http;
use crate::settings::{self, Values};
use crate::swap::{Failure, Server};

/// Longest time an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bounds of the interval.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// What `top` was asked to do.
pub(crate) struct Options {
    server: Server,
    interval: Duration,
    form: Form,
}

/// How the figures are shown.
enum Form {
    Screen(Colours),
    Text,
    Json,
}

/// The command line of `top`.
pub(crate) fn command() -> Command {
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
    /// Reads the arguments; the key comes from the settings.
    pub(crate) fn read(values: &Values, matches: &ArgMatches) -> Result<Self> {
        let form = match settings::terminal() {
            _ if matches.get_flag("json") => Form::Json,
            settings::Terminal::Dumb => Form::Text,
            _ if matches.get_flag("once") || !std::io::stdout().is_terminal() => Form::Text,
            settings::Terminal::Plain => Form::Screen(Colours::No),
            settings::Terminal::Coloured => Form::Screen(Colours::Yes),
        };
        let server = Server {
            way: http::way(matches)?,
            key: edge::client_key(values)?.map(http::secret).transpose()?,
        };
        Ok(Self { server, interval: crate::given(matches, "interval", Duration::from_secs(1)), form })
    }
}

/// Shows the figures, once or until somebody has seen enough.
pub(crate) fn run(options: Options) -> Result<()> {
    let Options { mut server, interval, form } = options;
    match form {
        Form::Screen(colours) => terminal::run(server, interval, colours),
        Form::Json => Ok(writeln!(std::io::stdout(), "{:#}", once(&mut server)?)?),
        Form::Text => Ok(write!(std::io::stdout(), "{}", text::text(&Stats(once(&mut server)?)))?),
    }
}

fn once(server: &mut Server) -> Result<Value> {
    let answer = runtime()?.block_on(ask(server));
    answer.map_err(|why| anyhow!("{}: {why}", server.way.place.url("/stats")))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("the runtime could not be started")
}

/// Why there are no figures.
enum Trouble {
    /// Nobody answers, for this reason.
    Silence(String),
    /// The answer is something else.
    Refusal(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Silence(why) | Self::Refusal(why)) = self;
        f.write_str(why)
    }
}

/// The server's `/stats`, or why there are none.
async fn ask(server: &mut Server) -> Result<Value, Trouble> {
    let answer = match timeout(PATIENCE, server.stats()).await {
        Ok(Ok(stats)) => return Ok(stats),
        Ok(Err(failure @ (Failure::Lost(_) | Failure::TimedOut))) => Trouble::Silence(failure.to_string()),
        Ok(Err(failure)) => Trouble::Refusal(failure.to_string()),
        Err(_) => Trouble::Silence(format!("no answer came within {} s", PATIENCE.as_secs())),
    };
    // It may come back at another address.
    server.way.forget();
    Err(answer)
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
