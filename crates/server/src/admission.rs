//! The step from a prepared request to its answers: a place in an engine's queue for each.

use std::sync::Arc;

use serving::{AdmitError, ServedModel};

use crate::app::App;
use crate::events::{self, AnswerMeta, EventStream};
use crate::request_span::{RequestContext, RequestSpan};

/// A request for one answer, ready for an engine.
pub(crate) struct PreparedRequest {
    pub(crate) request: engine::Request,
    pub(crate) dropped_messages: usize,
}

/// Gives requests to the engines, those of one group to one engine: what they have in common is computed once.
/// If one of them is refused, so are all.
pub(crate) fn submit(
    app: &App,
    served: &ServedModel,
    context: RequestContext,
    groups: Vec<Vec<PreparedRequest>>,
) -> Result<Vec<EventStream>, AdmitError> {
    let span = RequestSpan::new(Arc::clone(&app.telemetry), context);
    let mut answers = Vec::new();
    for group in groups {
        let worker = served.least_loaded();
        for prepared in group {
            let PreparedRequest { request, dropped_messages } = prepared;
            let meta = AnswerMeta {
                index: answers.len(),
                worker,
                model_tag: served.model.tag.to_string(),
                weights: served.model.identity.as_str().to_owned(),
                seed: request.sampling().seed,
                dropped_messages,
                prompt_tokens: request.prompt_tokens(),
                max_tokens: request.max_tokens(),
                span: Arc::clone(&span),
            };
            let (sink, answer) = events::channel(app, meta);
            match served.submit(worker, request, Box::new(sink)) {
                Ok(abort) => answers.push(answer.began(abort)),
                Err(error) => {
                    events::give_up(&mut answers);
                    return Err(error);
                }
            }
        }
    }
    Ok(answers)
}
