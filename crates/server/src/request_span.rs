//! Where a request comes from, and the one span for all of its answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use engine::Usage;

use axum::body::Bytes;
use axum::extract::Request;

use crate::auth::Caller;
use crate::clock;
use crate::connections::write_timeout::WriteTimeout;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::request_body;
use crate::request_ids::RequestIds;
use crate::statistics::streams::StreamEnd;
use crate::telemetry::Telemetry;
use crate::trace::Stages;

/// An operation that answers with generated text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    /// OpenTelemetry's name of it.
    pub(crate) name: &'static str,
}

impl Endpoint {
    /// The name of its spans.
    pub(crate) fn span(self) -> String {
        format!("POST {}", self.path)
    }
}

/// Where a request comes from, and since when it is answered.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub(crate) operation: Endpoint,
    pub(crate) ids: RequestIds,
    pub(crate) begun: Instant,
    pub(crate) write_timeout: WriteTimeout,
    pub(crate) scope: engine::Scope,
}

impl RequestContext {
    /// Reads the body of a request, and notes where it came from.
    pub(crate) async fn read(
        request: Request,
        operation: Endpoint,
        limits: &Limits,
    ) -> Result<(Self, Bytes), Problem> {
        let ids = RequestIds::of(&request);
        let write_timeout = request.extensions().get::<WriteTimeout>().cloned().unwrap_or_default();
        let scope = request.extensions().get::<Caller>().map(|caller| caller.scope).unwrap_or_default();
        let body = request_body::read(request, limits).await?;
        // From here on it is the server that takes its time.
        Ok((Self { operation, ids, begun: clock::now(), write_timeout, scope }, body))
    }
}

/// A request that answers belong to. When the last of them is over, its span is collected.
pub(crate) struct RequestSpan {
    pub(crate) context: RequestContext,
    telemetry: Arc<Telemetry>,
    /// Its caller got an answer that says why there is none; whoever wrote that has a span for the request.
    refused: AtomicBool,
    ended: Mutex<Vec<EndedAnswer>>,
}

/// An answer that is over.
pub(crate) struct EndedAnswer {
    pub(crate) index: usize,
    pub(crate) end: StreamEnd,
    pub(crate) worker: usize,
    pub(crate) model_tag: String,
    pub(crate) prompt_tokens: usize,
    pub(crate) usage: Usage,
}

impl RequestSpan {
    pub(crate) fn new(telemetry: Arc<Telemetry>, context: RequestContext) -> Arc<Self> {
        Arc::new(Self { context, telemetry, refused: AtomicBool::new(false), ended: Mutex::default() })
    }

    /// The request is answered with an error.
    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// An answer is over: its stages are spans, and what it was counts in the request's.
    pub(crate) fn ended(&self, answer: EndedAnswer, stages: Stages) {
        let context = &self.context.ids.context;
        let Some(spans) = self.telemetry.spans.as_ref().filter(|_| context.sampled) else { return };
        stages.spans(context).for_each(|span| spans.collect(span));
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        let RequestContext { operation, ids, begun, .. } = &self.context;
        let Some(spans) = self.telemetry.spans.as_ref() else { return };
        let mut ended = std::mem::take(self.ended.get_mut().unwrap_or_else(PoisonError::into_inner));
        ended.sort_unstable_by_key(|ended| ended.index);
        let (Some(first), false) = (ended.first(), *self.refused.get_mut()) else { return };
        let mut reasons: Vec<&str> = ended.iter().map(|ended| ended.end.as_str()).collect();
        reasons.dedup();
        let failed = |end: StreamEnd| {
            matches!(
                end,
                StreamEnd::Error | StreamEnd::QueueTimeout | StreamEnd::Deadline | StreamEnd::Aborted
            )
        };
        let failure = ended.iter().map(|ended| ended.end).find(|end| failed(*end));
        let sum = |count: fn(&EndedAnswer) -> usize| ended.iter().map(count).sum::<usize>();
        let mut span = ids
            .context
            .root(operation.span(), *begun, clock::now())
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
