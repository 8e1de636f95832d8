//! `samosa bench`: a load client for any server that streams answers over HTTP, ours and its rivals alike.
//!
//! What it reports is what a caller sees. It shall not take the cores that the server needs: it has one thread, and says how
//! much of a core that used. Reading order: [`target`] (whom to ask, and how), [`answer`] (events to tokens and their
//! times), [`exchange`] (one request), [`load`] (all of them), [`report`].

mod answer;
mod exchange;
mod load;
mod report;
mod target;

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use self::report::LoadReport;
use self::target::{Api, Target};
use crate::ask::temperature;
use crate::given;
use crate::http::{self, ServerConnector};

/// What `bench` was asked to do.
pub struct Options {
    target: Target,
    plan: LoadPlan,
    json: bool,
}

/// The requests of a run.
struct LoadPlan {
    streams: usize,
    requests: u64,
    warm_up: u64,
    /// Words of a prompt, and how many of them all prompts begin with.
    prompt_words: u64,
    shared_words: u64,
    answer_tokens: u64,
    temperature: f64,
    seed: u64,
    timeout: Duration,
}

/// The command line of `bench`.
pub fn command() -> Command {
    Command::new("bench")
        .about("Measure a server that streams answers: tokens/s, time to first token, time between tokens")
        .after_help(
            "Prompts are made of short common words, about one token each: --prompt-tokens and --shared-prefix count \
             words, every server gets the same text, and the report says how many tokens the server made of it, where \
             it tells. Tokens are those that the server counts, else the events that carried text. Time to first token \
             counts from before the connection is opened; tokens that arrive in one read have no time between them. \
             The exit code is 0 if every request was answered to its end, else 1.",
        )
        .args(target_arguments())
        .args(plan_arguments())
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON instead of a table"),
        )
}

fn target_arguments() -> [Arg; 5] {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    [
        http::url().required(true),
        http::ca_cert(),
        text("api", "API", "What it speaks: /generate of this server, or OpenAI's /v1/completions or chat")
            .value_parser(["generate", "completions", "chat"])
            .default_value("generate"),
        text(
            "key",
            "KEY",
            "Key to send, else the first of INTERNAL_API_KEY or its _FILE; OpenAI's APIs get it as Bearer",
        ),
        text("model", "NAME", "Model to name in requests of OpenAI's APIs; without it none is named"),
    ]
}

fn plan_arguments() -> [Arg; 9] {
    let number = |name: &'static str, default: &'static str, range: std::ops::RangeInclusive<u64>| {
        let argument =
            Arg::new(name).long(name).value_name("COUNT").value_parser(value_parser!(u64).range(range));
        if default.is_empty() { argument } else { argument.default_value(default) }
    };
    [
        number("streams", "1", 1..=4096).help("Requests at the same time"),
        number("requests", "", 1..=1_000_000).help("Requests altogether; otherwise one a stream"),
        number("prompt-tokens", "64", 1..=1_000_000).help("Words of a prompt, about one token each"),
        number("shared-prefix", "0", 0..=1_000_000)
            .value_name("TOKENS")
            .help("How many of them all prompts begin with; the rest differs from request to request"),
        number("answer-tokens", "64", 1..=1_000_000).help("Longest answer (max_tokens)"),
        number("warm-up", "1", 0..=10_000)
            .help("Requests beforehand, one by one, not counted; they carry the shared prefix too"),
        Arg::new("temperature")
            .long("temperature")
            .value_name("0–2")
            .default_value("0")
            .value_parser(temperature)
            .help("0 always takes the likeliest token; above it every request gets a seed of its own"),
        number("seed", "0", 0..=1 << 53).value_name("NUMBER").help("Makes other prompts and other draws"),
        number("timeout", "300", 1..=86_400)
            .value_name("SECONDS")
            .help("Longest time a request may take, from its connection to its last token"),
    ]
}

impl Options {
    /// Reads the arguments; `key` is asked where they name none.
    pub fn read(matches: &ArgMatches, key: impl FnOnce() -> Result<Option<String>>) -> Result<Self> {
        let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
        let number = |name: &str| given(matches, name, 0u64);
        let requests = given(matches, "requests", number("streams"));
        let plan = LoadPlan {
            // More streams than requests would wait for nothing.
            streams: number("streams").min(requests) as usize,
            requests,
            warm_up: number("warm-up"),
            prompt_words: number("prompt-tokens"),
            shared_words: number("shared-prefix"),
            answer_tokens: number("answer-tokens"),
            temperature: given(matches, "temperature", 0.0),
            seed: number("seed"),
            timeout: Duration::from_secs(number("timeout")),
        };
        if plan.shared_words > plan.prompt_words {
            let LoadPlan { shared_words, prompt_words, .. } = plan;
            bail!(
                "--shared-prefix is {shared_words}, but a prompt has only {prompt_words} (--prompt-tokens)"
            );
        }
        let key = match text("key").map(str::trim) {
            Some(key) => Some(key.to_owned()).filter(|key| !key.is_empty()),
            None => key()?,
        };
        let api = Api::named(text("api").unwrap_or_default());
        let (url, trust) = http::server_of(matches)?;
        let connector = ServerConnector::network(&url, &trust, &url.addresses())?;
        let target = Target::new(url, connector, api, key, text("model"))?;
        Ok(Self { target, plan, json: matches.get_flag("json") })
    }
}

/// Runs the load and prints what came of it; an error if any request failed.
pub fn run(options: &Options) -> Result<()> {
    let Options { target, plan, json } = options;
    let run = crate::block_on(load::run(target, plan))??;
    let report = LoadReport::new(target, plan, &run);
    let mut out = std::io::stdout().lock();
    if *json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report.to_json())?)?;
    } else {
        write!(out, "{}", report.to_table())?;
    }
    match report.failed() {
        0 => Ok(()),
        failed => bail!("{failed} of {} requests failed", plan.requests),
    }
}
