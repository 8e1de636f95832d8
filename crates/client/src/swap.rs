//! `samosa swap`: ask a running server for another model, and watch it come.
//!
//! The server does the work; this asks for it without waiting, and then looks at `/stats` until the swap has ended.
//! [`record`] is what the answers say.

mod record;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

pub use self::record::SwapRecord;
use self::record::{SwapEnd, serving};
use crate::CtrlC;
use crate::api::{ApiClient, QuestionFailure, SwapReply};
use crate::http;
use crate::progress::Progress;
use crate::text::sentence;

/// How often the server is asked how it goes.
const LOOK: Duration = Duration::from_millis(200);
/// So many looks in a row without an answer, and the server is gone.
const MAX_BLIND_LOOKS: u32 = 3;
/// Longest time a swap is watched where nothing else was said.
const LONGEST: Duration = Duration::from_hours(168);
/// The phase that has a bar.
const DOWNLOAD: &str = "download";

/// What `swap` was asked to do.
pub struct Options {
    client: ApiClient,
    wanted: SwapRequest,
}

/// The model that shall serve, and how that is watched.
pub(crate) struct SwapRequest {
    tag: String,
    /// The identity that what serves must have, in quotes.
    if_match: Option<HeaderValue>,
    wait: Duration,
    json: bool,
}

impl SwapRequest {
    /// Shown to a person, for as long as it takes.
    pub(crate) fn of(tag: String) -> Self {
        Self { tag, if_match: None, wait: LONGEST, json: false }
    }
}

/// The command line of `swap`.
pub fn command() -> Command {
    Command::new("swap")
        .about("Swap the model that a running server serves, and watch it come")
        .after_help(
            "The server fetches, checks, loads and tests the model before anybody gets an answer from it; if anything \
             fails, the model that serves stays. The key is the first of INTERNAL_API_KEY. The swap goes on at the \
             server if --wait is over or Ctrl-C ends the watching, and the same command joins it again. The exit code \
             is 0 once TAG serves, 130 after Ctrl-C, else 1.",
        )
        .arg(Arg::new("tag").value_name("TAG").required(true).value_parser(crate::tag).help("Model to serve"))
        .arg(http::url().required(true))
        .arg(http::ca_cert())
        .arg(
            Arg::new("if-match")
                .long("if-match")
                .value_name("IDENTITY")
                .value_parser(identity)
                .help("Swap only if what serves now has this identity: 64 hex digits, in /stats and --json"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .value_name("SECONDS")
                .default_value("3600")
                .value_parser(value_parser!(u64).range(0..=604_800))
                .help("Longest time to watch the swap"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the record of the swap, as /stats has it at its end, and nothing else"),
        )
}

fn identity(text: &str) -> Result<String, String> {
    let is_whole = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_whole { Ok(text.to_ascii_lowercase()) } else { Err("an identity has 64 hex digits".to_owned()) }
}

impl Options {
    /// Reads the arguments; this key is sent.
    pub fn read(matches: &ArgMatches, key: Option<String>) -> Result<Self> {
        let identity = matches.get_one::<String>("if-match").map(|identity| format!("\"{identity}\""));
        let wanted = SwapRequest {
            tag: matches.get_one::<String>("tag").context("TAG is missing")?.clone(),
            if_match: identity.map(HeaderValue::try_from).transpose()?,
            wait: Duration::from_secs(crate::given(matches, "wait", 0)),
            json: matches.get_flag("json"),
        };
        Ok(Self { client: ApiClient::of_arguments(matches, key)?, wanted })
    }
}

/// Swaps, and prints what came of it; an error if the model does not serve in the end.
pub fn run(options: &Options) -> Result<()> {
    crate::block_on(swap(&options.client, &options.wanted))?
}

/// Asks for a model and watches it come; prints what came of it.
pub(crate) async fn swap(client: &ApiClient, wanted: &SwapRequest) -> Result<()> {
    let tag = &wanted.tag;
    let asked = match client.swap(tag, wanted.if_match.as_ref()).await {
        Ok(asked) => asked,
        Err(QuestionFailure::Problem(said)) => return refused(client, wanted, &said).await,
        Err(failure) => bail!("{}: {failure}", client.swap_url()),
    };
    let swap_id = match asked {
        SwapReply::AlreadyLive => return already_live(client, wanted).await,
        SwapReply::Swapping(id) => id,
    };
    let mut watch = SwapWatch::new(client, wanted, swap_id);
    let ended = tokio::select! {
        ended = timeout(wanted.wait, watch.follow()) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("Ctrl-C cannot be watched")?;
            drop(watch);
            let what = format!("the swap to {tag} goes on at the server, and the same command joins it");
            return Err(anyhow::Error::new(CtrlC).context(what));
        }
    };
    let Ok(ended) = ended else {
        let (phase, seconds) = (watch.phase.clone(), wanted.wait.as_secs());
        drop(watch);
        bail!("after {seconds} s the swap to {tag} still runs{phase}; it goes on at the server")
    };
    // The bar goes before anything else is said.
    drop(watch);
    let (record, stats) = ended?;
    told(wanted, &record, &stats)
}

/// A swap that was refused, or that failed before the answer to it went out.
async fn refused(client: &ApiClient, wanted: &SwapRequest, said: &str) -> Result<()> {
    let said = sentence(said);
    // What serves is worth knowing, and not worth another error.
    let Ok(stats) = client.stats().await else { bail!("{said}") };
    match SwapRecord::of_failure(&stats, &wanted.tag, &said) {
        Some(record) => told(wanted, &record, &stats),
        None => bail!("{said} {}", serving(&stats, SwapEnd::Failed)),
    }
}

async fn already_live(client: &ApiClient, wanted: &SwapRequest) -> Result<()> {
    let tag = &wanted.tag;
    let mut out = std::io::stdout().lock();
    if !wanted.json {
        return Ok(writeln!(out, "{tag} serves already")?);
    }
    let stats = client.stats().await.map_err(|failure| anyhow!("{}: {failure}", client.swap_url()))?;
    // A server forgets old swaps.
    let record = SwapRecord::of_live(&stats, tag)
        .map_or_else(|| json!({ "swap_id": null, "target_model": tag, "outcome": "ok" }), |record| record.0);
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&record)?)?)
}

/// Prints how it ended; an error if the model does not serve.
fn told(wanted: &SwapRequest, record: &SwapRecord, stats: &Value) -> Result<()> {
    let tag = &wanted.tag;
    let mut out = std::io::stdout().lock();
    if wanted.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&record.0)?)?;
    }
    match record.end() {
        Some(SwapEnd::Live) if wanted.json => Ok(()),
        Some(SwapEnd::Live) => Ok(writeln!(out, "{tag} serves ({})", record.summary())?),
        end => {
            let serving = serving(stats, end.unwrap_or(SwapEnd::Failed));
            bail!("the swap to {tag} failed{} {serving}", record.failure())
        }
    }
}

/// A swap as it goes on.
struct SwapWatch<'a> {
    client: &'a ApiClient,
    tag: &'a str,
    swap_id: u64,
    progress: Progress,
    /// Phases that were shown as over.
    shown: usize,
    /// Where it is, as ` in load`; empty as long as that is not known.
    phase: String,
}

impl<'a> SwapWatch<'a> {
    fn new(client: &'a ApiClient, wanted: &'a SwapRequest, swap_id: u64) -> Self {
        let progress = if wanted.json { Progress::silent() } else { Progress::on_stderr() };
        Self { client, tag: &wanted.tag, swap_id, progress, shown: 0, phase: String::new() }
    }

    /// Looks until it has ended. Returns its record, and the `/stats` that had it.
    async fn follow(&mut self) -> Result<(SwapRecord, Value)> {
        let mut blind = 0;
        loop {
            match self.client.stats().await {
                Ok(stats) => {
                    blind = 0;
                    let Some(record) = SwapRecord::of(&stats, self.swap_id, self.tag) else {
                        bail!(
                            "the server knows nothing any more of the swap to {}: it was restarted",
                            self.tag
                        )
                    };
                    self.show(&record);
                    if record.end().is_some() {
                        return Ok((record, stats));
                    }
                }
                Err(failure) => {
                    blind += 1;
                    if blind == MAX_BLIND_LOOKS {
                        let Self { client, tag, phase, .. } = self;
                        bail!("{}: lost sight of the swap to {tag}{phase}: {failure}", client.swap_url())
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    fn show(&mut self, record: &SwapRecord) {
        let (phases, download) = (record.phases(), record.download());
        for (name, took) in phases.iter().skip(self.shown) {
            self.progress.phase_ended(name, *took, download.as_ref().filter(|_| name == DOWNLOAD));
        }
        self.shown = phases.len();
        let phase = record.phase();
        // Between two phases the one that is over still is the latest.
        if record.end().is_some() || phases.iter().any(|(name, _)| *name == phase) {
            return;
        }
        self.progress.phase(&phase);
        if let Some(download) = download.filter(|_| phase == DOWNLOAD) {
            self.progress.download(&download);
        }
        self.phase = format!(" in {phase}");
    }
}
