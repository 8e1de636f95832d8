//! `samosa pull`: bring a model that `models.toml` or the settings offer into the storage directory, or what its
//! source has made of it since.
//!
//! A start and a swap take what is on disk; only this asks the source for something newer. What it brings is checked as
//! a swap does, up to reading the weights.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use client::progress::{Download, Progress};
use client::text::{ByteSize, counted};
use fetch::{DownloadProgress, ProgressSnapshot};
use registry::provenance::{DownloadRequest, Provenance};
use registry::{Catalog, Entry, Error, Identity, Location, Tag, open};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::options;
use crate::settings::Values;

/// How often it is shown how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// Threads that receive; disks have others.
const NETWORK_THREADS: usize = 2;
/// Models that are named to whoever asks for another one.
const MAX_NAMED: usize = 20;

/// What `pull` was asked to do.
pub(crate) struct Options {
    tag: Tag,
    json: bool,
    settings: serving::Options,
    root: PathBuf,
}

/// The command line of `pull`.
pub(crate) fn command() -> Command {
    Command::new("pull")
        .about("Fetch a model that models.toml or HF_TAGS offers, or what is new of it")
        .after_help(
            "The model goes to MODEL_STORAGE_PATH/TAG, whole and checked or not at all. Whatever ends it, the next pull \
             goes on where it stopped. A model that is there already is compared with its source and replaced if that \
             has something else by now; a server that serves it takes the new one with the next swap to TAG.",
        )
        .arg(Arg::new("tag").value_name("TAG").required(true).value_parser(crate::tag).help("Model to fetch"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print what was fetched, from where and how fast, as JSON, and nothing else"),
        )
}

impl Options {
    /// Reads the arguments, and checks the settings.
    pub(crate) fn read(values: &Values, matches: &ArgMatches) -> Result<Self> {
        let settings = options::options(values)?.models;
        let Some(root) = settings.catalog().directory().map(PathBuf::from) else {
            bail!("MODEL_STORAGE_PATH must be set: a model that is fetched goes there");
        };
        let tag = matches.get_one::<Tag>("tag").context("TAG is missing")?.clone();
        Ok(Self { tag, json: matches.get_flag("json"), settings, root })
    }

    fn step(&self) -> Option<u64> {
        self.settings.step_of(&self.tag, self.settings.first_tag().ok().as_ref())
    }
}

/// Ctrl-C ended it.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; the next pull goes on where this one stopped")
    }
}

impl std::error::Error for Interrupted {}

/// What came of it.
struct Pulled {
    entry: Entry,
    provenance: Provenance,
    identity: Identity,
    /// All zero if there was nothing new.
    download: ProgressSnapshot,
    seconds: f64,
}

/// Fetches the model, checks it, and says so.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = wanted(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let pulled = runtime.block_on(async {
        tokio::select! {
            pulled = pull(options, &wanted) => pulled,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("Ctrl-C cannot be watched")?;
                Err(Interrupted.into())
            }
        }
    });
    // Whatever still is being written may be cut off anywhere.
    runtime.shutdown_background();
    pulled?.tell(options)
}

/// What is offered under the tag.
fn wanted(options: &Options) -> Result<DownloadRequest> {
    let (tag, catalog) = (&options.tag, options.settings.catalog());
    // The registry's errors name their sources themselves.
    let entry = match catalog.find(tag) {
        Err(Error::UnknownTag { .. }) => bail!("`{tag}` is not offered{}", offers(&catalog, options)),
        found => found.map_err(anyhow::Error::msg)?,
    };
    if let Some(wanted) = open::offered(&catalog, &entry, options.step()).map_err(anyhow::Error::msg)? {
        return Ok(wanted);
    }
    match entry.location {
        Location::Builtin => bail!("`{tag}` is built into this program: there is nothing to fetch"),
        _ if entry.source.is_remote() => {
            let (source, offers) = (&entry.source, offers(&catalog, options));
            bail!("`{tag}` is here, from {source}, and is not offered any more{offers}")
        }
        location => {
            let path = location.path().unwrap_or(&options.root).display();
            bail!(
                "`{tag}` was put into {path} by hand, and is not replaced: move it away to fetch another one"
            )
        }
    }
}

/// What else could be asked for, and how it comes to be offered.
fn offers(catalog: &Catalog, options: &Options) -> String {
    let entries = catalog.list().unwrap_or_default();
    let is_offered =
        |entry: &&Entry| open::offered(catalog, entry, options.step()).is_ok_and(|o| o.is_some());
    let tags: Vec<&str> =
        entries.iter().filter(is_offered).map(|entry| entry.tag.as_str()).take(MAX_NAMED).collect();
    if tags.is_empty() {
        return "; nothing is: name a source in models.toml, or set HF_REPO_OWNER and HF_TAGS".to_owned();
    }
    format!("; models.toml and HF_TAGS offer {}", tags.join(", "))
}

async fn pull(options: &Options, wanted: &DownloadRequest) -> Result<Pulled> {
    let tag = &options.tag;
    let mut display = PullDisplay::new(if options.json { Progress::silent() } else { Progress::on_stderr() });
    let counts = DownloadProgress::default();
    let fetching = options.settings.fetcher.refresh(wanted, &options.root, &counts);
    let provenance = display.until(&counts, fetching).await.map_err(anyhow::Error::msg)?;
    display.enter("verify");
    let (catalog, step, wanted) = (options.settings.catalog(), options.step(), tag.clone());
    let verifying = tokio::task::spawn_blocking(move || -> Result<(Entry, Identity), Error> {
        let entry = catalog.find(&wanted)?;
        let verified = open::open(&catalog, &entry, step)?;
        Ok((entry, verified.identity))
    });
    let (entry, identity) = match display.until(&counts, verifying).await? {
        Ok(verified) => verified,
        Err(error @ Error::DigestMismatch { .. }) => {
            bail!("{error}: remove {} and pull again", options.root.join(tag.as_str()).display())
        }
        Err(error) => bail!("`{tag}` is here, but cannot be used: {error}"),
    };
    display.end();
    let seconds = display.begun.elapsed().as_secs_f64();
    Ok(Pulled { entry, provenance, identity, download: counts.snapshot(), seconds })
}

impl Pulled {
    fn is_new(&self) -> bool {
        self.download.files_total > 0
    }

    fn tell(&self, options: &Options) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if options.json {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&self.to_json(options))?)?);
        }
        let (tag, source, identity) = (&options.tag, &self.entry.source, self.identity.as_str());
        let did = if self.is_new() { "was pulled from" } else { "is up to date with" };
        let commit = self.provenance.commit.iter().map(|commit| format!("commit {commit:.12}, "));
        let commit = commit.collect::<String>();
        let files = counted(self.provenance.files.len() as u64, "file", "files");
        let (size, seconds) = (ByteSize(self.bytes()), self.seconds);
        Ok(writeln!(
            out,
            "{tag} {did} {source} ({commit}{files}, {size}, {seconds:.1} s, identity {identity:.12}…)"
        )?)
    }

    fn bytes(&self) -> u64 {
        self.provenance.files.values().map(|file| file.size).sum()
    }

    fn to_json(&self, options: &Options) -> serde_json::Value {
        json!({
            "model_tag": options.tag.as_str(),
            "outcome": if self.is_new() { "pulled" } else { "up_to_date" },
            "identity": self.identity.as_str(),
            "seconds": self.seconds,
            "bytes": self.bytes(),
            "bytes_resumed": self.download.bytes_resumed,
            "retries": self.download.retries,
            "provenance": self.provenance,
        })
    }
}

/// Work as it is shown: finding out what there is, fetching it, checking it.
struct PullDisplay {
    shown: Progress,
    phase: &'static str,
    begun: Instant,
    /// When the phase began.
    since: Instant,
    /// How far the download was when it was looked at last.
    download: Download,
}

impl PullDisplay {
    fn new(shown: Progress) -> Self {
        let now = clock::now();
        Self { shown, phase: "resolve", begun: now, since: now, download: Download::default() }
    }

    /// Shows how it goes until it is done.
    async fn until<T>(&mut self, counts: &DownloadProgress, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.look(&counts.snapshot());
                    return done;
                }
                _ = looks.tick() => self.look(&counts.snapshot()),
            }
        }
    }

    fn look(&mut self, now: &ProgressSnapshot) {
        if self.phase == "resolve" && now.files_total > 0 {
            self.enter("download");
        }
        self.shown.phase(self.phase);
        if self.phase == "download" {
            let ProgressSnapshot { files_done, files_total, bytes_done, bytes_total, bytes_resumed, retries } =
                *now;
            self.download =
                Download { files_done, files_total, bytes_done, bytes_total, bytes_resumed, retries };
            self.shown.download(&self.download);
        }
    }

    fn enter(&mut self, phase: &'static str) {
        self.end();
        (self.phase, self.since) = (phase, clock::now());
    }

    fn end(&mut self) {
        let download = Some(&self.download).filter(|_| self.phase == "download");
        self.shown.phase_ended(self.phase, self.since.elapsed().as_secs_f64(), download);
    }
}
