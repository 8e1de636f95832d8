//! Why a request gets no model, and why a swap failed. `Display` is a sentence that may leave the server: no path is in it.

use std::sync::Arc;
use std::time::Duration;

use engine::{Handle, Limits, Refusal};
use registry::Tag;

/// Why a request is not admitted to an engine.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdmitError {
    /// No model serves.
    #[error("no model serves")]
    NoModel {
        /// Whether one is being loaded.
        is_loading: bool,
    },
    /// Admission is paused by a serial swap, and as many requests wait as may.
    #[error("{limit} requests wait for the swap to end already")]
    SwapQueueFull {
        /// Requests that may wait.
        limit: usize,
    },
    /// Admission was paused by a serial swap for as long as a request may take.
    #[error("the swap did not end within {limit:?}")]
    SwapTimeout {
        /// How long a request may take.
        limit: Duration,
    },
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The engine's queue does not take the request.
    #[error("the engine refused the request: {refusal:?}")]
    Engine {
        /// Why.
        refusal: Refusal,
        /// The engine's bounds.
        limits: Box<Limits>,
        /// Seconds until its queue is likely to have drained.
        seconds_to_drain: u64,
    },
}

impl AdmitError {
    pub(crate) fn refused(refusal: Refusal, engine: &Handle) -> Self {
        let (limits, seconds_to_drain) = (Box::new(engine.limits().clone()), engine.seconds_to_drain());
        Self::Engine { refusal, limits, seconds_to_drain }
    }
}

/// Why a swap was not begun, or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SwapError {
    /// The model cannot be found, read or loaded, or does not fit.
    #[error("{}", sentence(&.0.public()))]
    Registry(Arc<registry::Error>),
    /// The model could not be fetched.
    #[error("{}", sentence(&.0.public()))]
    Fetch(Arc<fetch::Error>),
    /// The model has to be fetched, and there is no storage to keep it in.
    #[error("A model that has to be fetched needs MODEL_STORAGE_PATH to be set.")]
    NoStorage,
    /// A swap to another model runs.
    #[error("A swap to \"{target}\" is running.")]
    InProgress {
        /// Its target.
        target: Tag,
    },
    /// Other weights serve than the caller named.
    #[error("Other weights serve than those named.")]
    PreconditionFailed {
        /// The identity of those that serve.
        serving: Option<String>,
    },
    /// The threads of the new model's engines could not be started.
    #[error("The engines of the new model could not be started.")]
    NoEngine,
    /// A phase panicked, or ran before the one it needs: our own fault.
    #[error("The swap broke; it is logged.")]
    Broken,
}

impl From<registry::Error> for SwapError {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Arc::new(error))
    }
}

impl From<fetch::Error> for SwapError {
    fn from(error: fetch::Error) -> Self {
        Self::Fetch(Arc::new(error))
    }
}

/// Why an answer cannot have a form.
#[derive(Debug, thiserror::Error)]
pub enum GrammarError {
    /// The grammar is at fault, or costs too much.
    #[error(transparent)]
    Refused(guides::Error),
    /// Nothing could read it; it is logged.
    #[error("the grammar could not be read")]
    Unavailable,
}

/// An error's words as a sentence of its own. A name at its beginning stays as it is written.
pub fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let plain = word.bytes().all(|b| b.is_ascii_lowercase());
    let (first, rest) = text.split_at(usize::from(plain && !word.is_empty()));
    let stop = if text.ends_with('.') { "" } else { "." };
    first.to_ascii_uppercase() + rest + stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_as_its_first_word_allows() {
        for (text, expected) in [
            ("no model is loaded", "No model is loaded."),
            ("in model.pt: it is cut off.", "In model.pt: it is cut off."),
            ("someone/far does not exist", "someone/far does not exist."),
            ("`d20` has no weights", "`d20` has no weights."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }
}
