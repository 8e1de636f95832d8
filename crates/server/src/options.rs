//! What the binary tells the service: settings, already checked.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fetch::Fetcher;
use registry::catalog::Offer;
use registry::plan::SwapMode;
use registry::{Catalog, LoadOptions, Tag};
use serde_json::Value;

use crate::trace::Collector;
use crate::{Edge, Keys, Limits};

/// Everything that may be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where models are, and where fetched ones go.
    pub storage: Option<PathBuf>,
    /// Models that are offered beside those in the storage.
    pub offers: Vec<Offer>,
    /// Brings models from elsewhere.
    pub fetcher: Fetcher,
    /// The model to load at start; `None` lets the catalog choose.
    pub default_tag: Option<Tag>,
    /// Whether a model is loaded at start.
    pub load_at_start: bool,
    /// Whether that is the one that served last, if it can be.
    pub restore_last_model: bool,
    /// How models are loaded.
    pub load: LoadOptions,
    /// Instruction set of the kernels.
    pub isa: cpu::Isa,
    /// Compute threads of each worker.
    pub threads: usize,
    /// Engines that serve the same weights.
    pub workers: usize,
    /// Bytes for keys and values of each worker, if there are as many.
    pub kv_bytes: usize,
    /// What a request that does not say gets.
    pub defaults: Defaults,
    /// What happens to conversations that are too long for the model.
    pub context_overflow: ContextOverflow,
    /// Fields of a request that are ignored instead of refused.
    pub ignored_fields: BTreeSet<String>,
    /// Names of what serves, whatever it is, beside its tag, for callers of OpenAI's API.
    pub model_aliases: Vec<String>,
    /// The program and arguments of a worker that reads grammars; see [`guides::worker`].
    pub grammar_worker: Vec<OsString>,
    /// Whether browsers find a page at `/`.
    pub page: bool,
    /// Where `/metrics` is instead of the port of the service; see [`crate::serve_metrics`].
    pub metrics_address: Option<SocketAddr>,
    /// Who may call.
    pub keys: Keys,
    /// What else the network meets.
    pub edge: Edge,
    /// Whether a new model is loaded beside the old one or in its place.
    pub swap_mode: SwapMode,
    /// How long a swap's caller waits for its end.
    pub swap_wait: Duration,
    /// How long streams may go on after the service was told to stop.
    pub drain_timeout: Duration,
    /// Bounds.
    pub limits: Limits,
    /// Where spans go, if anywhere.
    pub spans: Option<Arc<dyn Collector>>,
    /// Lines of the log that were dropped since the start, counted by the writer of the log.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// The settings in force, secrets masked, for `/stats`.
    pub settings: Value,
}

impl Options {
    /// The catalog of the storage directory and of what is offered beside it.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.storage.clone()).offering(self.offers.clone())
    }

    /// How grammars are read.
    pub(crate) fn grammars(&self) -> guides::Settings {
        guides::Settings {
            command: self.grammar_worker.clone(),
            deadline: self.limits.grammar_timeout,
            slow_reads: self.limits.grammar_reads,
            memory_bytes: self.limits.grammar_bytes,
        }
    }

    /// The model to serve first: the one that is named, else the catalog's choice.
    pub fn first_tag(&self) -> Result<Tag, registry::Error> {
        self.default_tag.clone().map_or_else(|| self.catalog().default_tag(), Ok)
    }

    /// How `tag` is loaded. The step that is set is that of the `first` model; others have steps of their own.
    pub fn load_options(&self, tag: &Tag, first: Option<&Tag>) -> LoadOptions {
        let step = self.load.step.filter(|_| first == Some(tag));
        LoadOptions { step, ..self.load.clone() }
    }
}

/// What a request that does not say gets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Defaults {
    /// Sampling temperature.
    pub temperature: f64,
    /// Candidates.
    pub top_k: u64,
    /// Tokens of the answer.
    pub max_tokens: u64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 50, max_tokens: 512 }
    }
}

/// What happens to conversations that are too long for the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContextOverflow {
    /// The oldest whole turns are left out.
    DropOldest,
    /// They are refused.
    Error,
}
