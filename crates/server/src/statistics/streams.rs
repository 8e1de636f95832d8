//! The answers that are on their way, for the table in `/stats`: whose request, which weights, how far. Nothing of
//! what is said in them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::events::progress::StreamProgress;
use crate::trace::Stages;

/// Streams from when an engine took their request until they are dropped.
#[derive(Default)]
pub(crate) struct OpenStreams(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    count: u64,
    /// By the order in which they began.
    open: BTreeMap<u64, Arc<OpenStream>>,
}

/// One of them.
pub(crate) struct OpenStream {
    pub(crate) request_id: String,
    /// Its place among the answers to one request.
    pub(crate) index: usize,
    pub(crate) operation: &'static str,
    pub(crate) model_tag: String,
    pub(crate) worker: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) max_tokens: usize,
    pub(crate) progress: Arc<StreamProgress>,
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamEnd {
    Stop,
    Length,
    ClientGone,
    SlowClient,
    QueueTimeout,
    Deadline,
    Aborted,
    Error,
}

impl StreamEnd {
    pub(crate) const ALL: [Self; 8] = [
        Self::Stop,
        Self::Length,
        Self::ClientGone,
        Self::SlowClient,
        Self::QueueTimeout,
        Self::Deadline,
        Self::Aborted,
        Self::Error,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ClientGone => "client_gone",
            Self::SlowClient => "slow_client",
            Self::QueueTimeout => "queue_timeout",
            Self::Deadline => "deadline",
            Self::Aborted => "aborted",
            Self::Error => "error",
        }
    }
}

impl OpenStreams {
    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a stream until [`OpenStreams::remove`] is told this number.
    pub(crate) fn add(&self, stream: OpenStream) -> u64 {
        let mut inner = self.lock();
        inner.count += 1;
        let number = inner.count;
        inner.open.insert(number, Arc::new(stream));
        number
    }

    /// The stream is over.
    pub(crate) fn remove(&self, number: u64) {
        self.lock().open.remove(&number);
    }

    /// How many there are, and the oldest of them. Who begins or ends meanwhile waits for a copy of pointers only.
    pub(crate) fn to_json(&self, listed: usize) -> Value {
        let inner = self.lock();
        let total = inner.open.len();
        let oldest: Vec<Arc<OpenStream>> = inner.open.values().take(listed).map(Arc::clone).collect();
        drop(inner);
        let listed: Vec<Value> = oldest.iter().map(|stream| stream.to_json()).collect();
        json!({ "total": total, "listed": listed })
    }
}

impl OpenStream {
    fn to_json(&self) -> Value {
        let tokens = self.progress.tokens();
        let stages = self.progress.stages();
        let Stages { begun, ended, .. } = stages;
        let first_token = stages.first_token.filter(|_| tokens > 0);
        let ms = |since: std::time::Duration| since.as_secs_f64() * 1e3;
        json!({
            "request_id": self.request_id,
            "index": self.index,
            "operation": self.operation,
            "model_tag": self.model_tag,
            "worker": self.worker,
            "phase": phase(&stages),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "max_tokens": self.max_tokens,
            "elapsed_ms": ms(ended.duration_since(begun)),
            "first_token_ms": first_token.map(|at| ms(at.duration_since(begun))),
            "tokens_per_second": rate(tokens, &stages),
        })
    }
}

/// Where an answer is. One that is whole and still being read stays in its last phase.
fn phase(stages: &Stages) -> &'static str {
    match (stages.admitted, stages.first_token) {
        (None, _) => "queued",
        (Some(_), None) => "prefill",
        (Some(_), Some(_)) => "decode",
    }
}

/// Tokens a second since the first one, which has a time of its own; nothing before there is a second one.
fn rate(tokens: u64, stages: &Stages) -> Option<f64> {
    let decoding = stages.ended.duration_since(stages.first_token?).as_secs_f64();
    let more = tokens.checked_sub(1).filter(|more| *more > 0)?;
    (decoding > 0.0).then(|| more as f64 / decoding)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_rate_needs_two_tokens_and_time_between_them() {
        let begun = clock::now();
        let after = |ms| Some(begun + Duration::from_millis(ms));
        let at = |admitted, first_token, ended: u64| Stages {
            begun,
            admitted,
            first_token,
            ended: begun + Duration::from_millis(ended),
        };
        let decoding = at(after(10), after(100), 600);
        assert_eq!((rate(11, &decoding), rate(1, &decoding), rate(0, &decoding)), (Some(20.0), None, None));
        assert_eq!(rate(2, &at(after(10), after(100), 100)), None);
        let phases = [at(None, None, 5), at(after(10), None, 50), decoding].map(|stages| phase(&stages));
        assert_eq!(phases, ["queued", "prefill", "decode"]);
        assert_eq!(rate(5, &at(after(10), None, 50)), None, "a token that came between two looks");
    }
}
