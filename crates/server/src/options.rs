//! What the binary tells the service: settings, already checked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use registry::catalog::Offer;
use registry::fetch::Fetcher;
use registry::plan::Wish;
use registry::{Catalog, LoadOptions, Tag};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::Limits;

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
    pub isa: engine::Isa,
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
    /// Fields of a request that are passed over instead of refused.
    pub ignored_fields: BTreeSet<String>,
    /// Where `/metrics` is instead of the port of the service; see [`crate::serve_metrics`].
    pub metrics_address: Option<SocketAddr>,
    /// Who may call.
    pub keys: Keys,
    /// Whether a new model is loaded beside the old one or in its place.
    pub swap_mode: Wish,
    /// How long a swap's caller waits for its end.
    pub swap_wait: Duration,
    /// How long streams may go on after the service was told to stop.
    pub drain_timeout: Duration,
    /// Bounds.
    pub limits: Limits,
    /// The settings in force, secrets masked, for `/stats`.
    pub settings: Value,
}

impl Options {
    /// The catalog of the storage directory and of what is offered beside it.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.storage.clone()).offering(self.offers.clone())
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

/// Hashes of the keys that callers may use. None at all refuses everybody.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// From one or more keys separated by commas; spaces around them and empty ones do not count.
    pub fn parse(text: &str) -> Self {
        let keys = text.split([',', '\n']).map(str::trim).filter(|key| !key.is_empty());
        Self(keys.map(|key| Sha256::digest(key.as_bytes()).into()).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash of `key` if it is one of them, in a time that depends on neither.
    pub fn find(&self, key: &[u8]) -> Option<[u8; 32]> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&hash));
        bool::from(found).then_some(hash)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_several_keys_is_allowed_and_nothing_else() {
        let keys = Keys::parse("old-key, new-key\n,");
        let (old, new) = (keys.find(b"old-key"), keys.find(b"new-key"));
        assert!(old.is_some() && new.is_some() && old != new, "callers are told apart");
        for wrong in ["", "old-key,", "OLD-KEY", " old-key", "old-key, new-key"] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        assert!(Keys::parse(" , ").is_empty() && Keys::parse("").find(b"").is_none());
        assert_eq!(format!("{keys:?}"), "2 keys");
    }
}
