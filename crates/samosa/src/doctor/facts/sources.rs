//! Where models come from: the storage directory, and the servers that are asked for what is not there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fetch::{Fetcher, SourceServer};
use futures_util::future::join_all;
use registry::provenance::DownloadRequest;
use registry::storage::{self, Storage};
use registry::{Catalog, Source, Tag};
use server::Options;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::handshake::shake_hands;
use crate::clock;
use crate::settings::{self, Values};

/// Longest time for all that one source is asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sources that are asked, all at once.
const MAX_ASKED: usize = 16;

/// Storage and sources.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SourcesFacts {
    /// The storage directory and what is there; `None` if none is set.
    pub(crate) storage: Option<(String, Storage)>,
    /// What is wrong with `models.toml`, or how many models it names.
    pub(crate) models_file: Option<Result<usize, String>>,
    /// Why a start has no model to load, and whether it would load one.
    pub(crate) empty: Option<(String, bool)>,
    /// Models that are there in part, with what is wrong with each.
    pub(crate) partial: Vec<(String, String)>,
    pub(crate) sources: Vec<SourceFacts>,
    /// Sources beyond those that are asked.
    pub(crate) left_out: usize,
    pub(crate) has_token: bool,
    pub(crate) hub_is_off: bool,
}

/// One source.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SourceFacts {
    pub(crate) source: String,
    /// Models that come from there.
    pub(crate) tags: Vec<String>,
    pub(crate) reach: Reach,
}

/// How far it was got.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reach {
    /// Nobody was asked: `--offline`, or the Hub with HF_HUB_OFFLINE.
    NotAsked,
    /// Name resolution, connection and TLS, of a source that no proxy stands before; then the list. What comes after a
    /// failure is not there.
    Asked { way: Vec<Step>, files: usize },
}

/// One step on the way.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    pub(crate) error: Option<String>,
}

impl SourcesFacts {
    /// Looks at the storage, and asks every source unless that shall not be.
    pub(crate) fn look(values: &Values, options: &Options, ask: Ask) -> Result<Self> {
        let catalog = options.models.catalog();
        let storage = catalog.directory().map(|root| (root.display().to_string(), storage::look(root)));
        let models_file = catalog
            .directory()
            .map(|_| catalog.models_file().map(|file| file.models.len()).map_err(|error| error.to_string()));
        let partial = catalog.partial().unwrap_or_default();
        let hub_is_off = values.boolean("hf_hub_offline").unwrap_or_default();
        let mut wanted: Vec<(Source, Vec<DownloadRequest>)> =
            offered(options, &catalog).into_values().collect();
        let left_out = wanted.len().saturating_sub(MAX_ASKED);
        wanted.truncate(MAX_ASKED);
        let is_asked = |source: &Source| {
            ask == Ask::Everybody && !(hub_is_off && matches!(source, Source::HuggingFace { .. }))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime could not be started")?;
        let asked = wanted.iter().map(|(source, wanted)| async {
            let asked = is_asked(source);
            if asked { reach(&options.models.fetcher, &wanted[0]).await } else { Reach::NotAsked }
        });
        let reached = runtime.block_on(join_all(asked));
        // Looking a name up cannot be broken off.
        runtime.shutdown_background();
        let tags = |wanted: &[DownloadRequest]| wanted.iter().map(|wanted| wanted.tag.to_string()).collect();
        let sources = wanted.iter().zip(reached).map(|((source, wanted), reach)| SourceFacts {
            source: source.to_string(),
            tags: tags(wanted),
            reach,
        });
        Ok(Self {
            storage,
            models_file,
            empty: crate::storage::nothing_to_load(&options.models).map(|why| (why, options.load_at_start)),
            partial: partial.into_iter().map(|(tag, error)| (tag.to_string(), error.to_string())).collect(),
            sources: sources.collect(),
            left_out,
            has_token: values.text("hf_token").is_some(),
            hub_is_off,
        })
    }
}

/// Whether sources are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Everybody,
    Nobody,
}

/// What `models.toml` and the settings offer from elsewhere, fetched already or not, by source.
fn offered(options: &Options, catalog: &Catalog) -> BTreeMap<String, (Source, Vec<DownloadRequest>)> {
    let named = catalog.models_file().map(|file| file.models).unwrap_or_default();
    let named = named.into_iter().filter_map(|said| {
        let (source, shown) = (said.source.clone()?, said.shown_source()?);
        let has_tokenizer = said.has_tokenizer();
        let wanted = DownloadRequest {
            has_tokenizer,
            revision: said.revision,
            directory: said.directory,
            step: said.step,
            sha256: said.sha256,
            ..wanted(said.tag, source)
        };
        Some((shown, wanted))
    });
    let set = options
        .models
        .offers
        .iter()
        .map(|offer| (offer.source.clone(), wanted(offer.tag.clone(), offer.source.clone())));
    let mut found: BTreeMap<String, (Source, Vec<DownloadRequest>)> = BTreeMap::new();
    for (source, wanted) in named.chain(set).filter(|(source, _)| source.is_remote()) {
        found.entry(source.to_string()).or_insert_with(|| (source, Vec::new())).1.push(wanted);
    }
    found
}

fn wanted(tag: Tag, source: Source) -> DownloadRequest {
    DownloadRequest {
        tag,
        source,
        revision: None,
        directory: None,
        step: None,
        sha256: None,
        has_tokenizer: false,
    }
}

/// Asks one source, step by step.
async fn reach(fetcher: &Fetcher, wanted: &DownloadRequest) -> Reach {
    let mut way = Way { steps: Vec::new(), begun: clock::now() };
    let mut open = true;
    // Behind a proxy, that one looks names up and connects.
    if let Some(origin) = fetcher.origin(&wanted.source).filter(|_| !settings::has_proxy()) {
        open = connect(&mut way, &origin).await.is_some();
    }
    let mut files = 0;
    if open {
        let listing = async { fetcher.list(wanted).await.map_err(|error| told(&error)) };
        files = way.step("list", listing).await.unwrap_or_default();
    }
    Reach::Asked { way: way.steps, files }
}

async fn connect(way: &mut Way, origin: &SourceServer) -> Option<()> {
    let SourceServer { host, port, is_encrypted } = origin;
    let looked_up = async {
        let found = lookup_host((host.as_str(), *port)).await.map_err(|error| format!("{host}: {error}"))?;
        Ok(found.collect::<Vec<SocketAddr>>())
    };
    let addresses = way.step("name", looked_up).await?;
    let connecting =
        async { TcpStream::connect(&addresses[..]).await.map_err(|error| format!("{host}:{port}: {error}")) };
    let socket = way.step("connect", connecting).await?;
    if *is_encrypted {
        way.step("TLS", shake_hands(host, socket)).await?;
    }
    Some(())
}

/// The steps that were made, within the time that there is for all.
struct Way {
    steps: Vec<Step>,
    begun: Instant,
}

impl Way {
    async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<T, String>>,
    ) -> Option<T> {
        let since = clock::now();
        let left = PATIENCE.saturating_sub(self.begun.elapsed());
        let outcome = timeout(left, work).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let (done, error) = match outcome {
            Ok(done) => (Some(done), None),
            Err(error) => (None, Some(error)),
        };
        self.steps.push(Step { name, seconds: since.elapsed().as_secs_f64(), error });
        done
    }
}

/// Why a source could not be listed; that it was asked once only is no news.
fn told(error: &fetch::Error) -> String {
    match error {
        fetch::Error::Unreachable { host, reason, .. } => format!("{host}: {reason}"),
        error => error.to_string(),
    }
}
