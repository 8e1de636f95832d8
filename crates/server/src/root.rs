//! A request that answers belong to: where it came from, and the one span for all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use engine::Usage;

use crate::clock;
use crate::context::RequestIds;
use crate::deadline::Missed;
use crate::events::{About, End};
use crate::state::State;
use crate::trace::Stages;

/// An operation that answers with generated text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) path: &'static str,
    /// OpenTelemetry's name of it.
    pub(crate) name: &'static str,
}

impl Operation {
    /// The name of its spans.
    pub(crate) fn span(self) -> String {
        format!("POST {}", self.path)
    }
}

/// Where a request comes from, and since when it is answered.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) operation: Operation,
    pub(crate) ids: RequestIds,
    pub(crate) begun: Instant,
    pub(crate) missed: Missed,
    pub(crate) scope: engine::Scope,
}

/// A request that answers belong to. When the last of them is over, its span is collected.
pub(crate) struct Root {
    pub(crate) origin: Origin,
    state: Arc<State>,
    /// Its caller got an answer that says why there is none; whoever wrote that has a span for the request.
    refused: AtomicBool,
    ended: Mutex<Vec<Ended>>,
}

/// An answer that is over.
struct Ended {
    index: usize,
    end: End,
    worker: usize,
    model_tag: String,
    prompt_tokens: usize,
    usage: Usage,
}

impl Root {
    pub(crate) fn new(state: Arc<State>, origin: Origin) -> Arc<Self> {
        Arc::new(Self { origin, state, refused: AtomicBool::new(false), ended: Mutex::default() })
    }

    /// The request is answered with an error.
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// An answer is over: its stages are spans, and what it was counts in the request's.
    pub(crate) fn ended(&self, about: &About, end: End, usage: Usage, stages: Stages) {
        let context = &self.origin.ids.context;
        let Some(spans) = self.state.options.spans.as_ref().filter(|_| context.sampled) else { return };
        stages.spans(context).for_each(|span| spans.collect(span));
        let About { index, worker, prompt_tokens, .. } = *about;
        let model_tag = about.model_tag.clone();
        let ended = Ended { index, end, worker, model_tag, prompt_tokens, usage };
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let Origin { operation, ids, begun, .. } = &self.origin;
        let Some(spans) = self.state.options.spans.as_ref() else { return };
        let mut ended = std::mem::take(self.ended.get_mut().unwrap_or_else(PoisonError::into_inner));
        ended.sort_unstable_by_key(|ended| ended.index);
        let (Some(first), false) = (ended.first(), *self.refused.get_mut()) else { return };
        let mut reasons: Vec<&str> = ended.iter().map(|ended| ended.end.as_str()).collect();
        reasons.dedup();
        let failed = |end: End| matches!(end, End::Error | End::QueueTimeout | End::Deadline | End::Aborted);
        let failure = ended.iter().map(|ended| ended.end).find(|end| failed(*end));
        let sum = |count: fn(&Ended) -> usize| ended.iter().map(count).sum::<usize>();
        let mut span = ids
            .context
            .root(operation.span(), (*begun, clock::now()))
            .text("http.request.method", "POST")
            .text("http.route", operation.path)
            .count("http.response.status_code", 200)
            .text("gen_ai.operation.name", operation.name)
            .text("gen_ai.response.model", first.model_tag.as_str())
            .text("gen_ai.response.finish_reasons", reasons.join(","))
            .count("gen_ai.usage.input_tokens", sum(|ended| ended.prompt_tokens))
            .count("gen_ai.usage.output_tokens", sum(|ended| ended.usage.completion_tokens))
            .count("samosa.cached_tokens", sum(|ended| ended.usage.cached_tokens))
            .count("samosa.worker", first.worker)
            .text("samosa.request_id", ids.request.as_str());
        span.error = failure.map(|end| end.as_str().to_owned());
        spans.collect(span);
    }
}
