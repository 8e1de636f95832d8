//! What the binary tells the service: settings, already checked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value;

use crate::edge::Edge;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::trace::Collector;

/// Everything that may be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Models and their engines.
    pub models: serving::Options,
    /// Whether a model is loaded at start.
    pub load_at_start: bool,
    /// What a request that does not say gets.
    pub defaults: Defaults,
    /// What happens to conversations that are too long for the model.
    pub context_overflow: ContextOverflow,
    /// Fields of a request that are ignored instead of refused.
    pub ignored_fields: BTreeSet<String>,
    /// Names of what serves, whatever it is, beside its tag, for callers of OpenAI's API.
    pub model_aliases: Vec<String>,
    /// Whether browsers find a page at `/`.
    pub page: bool,
    /// Where `/metrics` is instead of the port of the service; see [`crate::serve_metrics`].
    pub metrics_address: Option<SocketAddr>,
    /// Who may call.
    pub keys: Keys,
    /// What else the network meets.
    pub edge: Edge,
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
    /// All bounds by name, durations in seconds, for `/stats`.
    pub fn limits_to_json(&self) -> Value {
        self.limits.to_json(&self.models)
    }

    /// All bounds on one line, for the log.
    pub fn limits_to_text(&self) -> String {
        let limits = self.limits_to_json();
        let pairs = limits.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
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
