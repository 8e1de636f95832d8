//! `POST /generate`: a conversation to a stream of events.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use engine::{FinishReason, Output, Sampling, Usage};
use serde::Serialize;
use serving::ServedModel;
use tokenizer::{ChatError, Message, RenderedChat};

use crate::admission::{self, PreparedRequest};
use crate::app::App;
use crate::events::{self, EventStream};
use crate::fields::short;
use crate::lifecycle::Arriving;
use crate::options::ContextOverflow;
use crate::parse::{self, GenerateRequest, Rules};
use crate::problem::{Code, Problem};
use crate::random::random_u64;
use crate::request_ids::RequestIds;
use crate::request_span::{Endpoint, RequestContext};
use crate::respond::{self, Events, Frames};
use crate::sse::data;

/// Share of the context that is kept for the answer when old turns have to go.
const ANSWER_SHARE: usize = 4;
const SEED: &str = "x-seed";
const OPERATION: Endpoint = Endpoint { path: "/generate", name: "chat" };

/// The handler.
pub(crate) async fn generate(State(app): State<App>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    answer(&app, request).await.unwrap_or_else(|problem| problem.response(&ids))
}

async fn answer(app: &App, request: Request) -> Result<Response, Problem> {
    let seed = seed(request.headers())?;
    let options = &app.options;
    let (context, body) = RequestContext::read(request, OPERATION, &options.limits).await?;
    let body = parse::generate(&body, &Rules::of(options))?;
    app.telemetry.metrics.ignored_fields(&body.ignored);
    let arriving = app.lifecycle.enter()?;
    let sampling = Sampling { temperature: body.temperature, top_k: body.top_k, seed, ..Sampling::default() };
    let begun = begin(app.clone(), context.clone(), arriving, body, sampling);
    respond::respond(app, context, Box::pin(begun)).await
}

/// From a checked request to its first event: through the gate, to the model that serves then, into an engine.
async fn begin(
    app: App,
    context: RequestContext,
    arriving: Arriving,
    body: GenerateRequest,
    sampling: Sampling,
) -> Result<Events, Problem> {
    let served = app.models.admit().await?;
    let RenderedChat { ids, dropped_messages } = render(&served, &body, app.options.context_overflow)?;
    let request = served.request(ids, body.max_tokens, sampling)?.in_scope(context.scope);
    let prepared = PreparedRequest { request, dropped_messages };
    let answers = admission::submit(&app, &served, context, vec![vec![prepared]])?;
    drop((arriving, served));
    let answers = events::first(answers).await?;
    Ok(Events::new(app, answers, Box::new(TokenFrames)))
}

/// The prompt of a conversation, without its oldest turns if they do not fit.
fn render(
    served: &ServedModel,
    body: &GenerateRequest,
    overflow: ContextOverflow,
) -> Result<RenderedChat, Problem> {
    let messages: Vec<Message<'_>> =
        body.messages.iter().map(|(role, content)| Message { role: *role, content }).collect();
    let room = served.sequence_len() - 1;
    let kept_for_answer = body.max_tokens.min(served.sequence_len() / ANSWER_SHARE);
    let attempts: &[usize] = match overflow {
        ContextOverflow::DropOldest => &[served.sequence_len() - kept_for_answer, room],
        ContextOverflow::Error => &[usize::MAX],
    };
    let mut rendered = served.render_chat(&messages, Some(attempts[0]));
    for &budget in &attempts[1..] {
        if matches!(rendered, Err(ChatError::TooLong { .. })) {
            rendered = served.render_chat(&messages, Some(budget));
        }
    }
    let too_long = |tokens: usize| {
        let detail = format!("The prompt has {tokens} tokens, but this model takes at most {room}.");
        Problem::new(Code::PromptTooLong, detail).at("/messages")
    };
    match rendered {
        Ok(rendered) if rendered.ids.len() > room => Err(too_long(rendered.ids.len())),
        Ok(rendered) => Ok(rendered),
        Err(ChatError::TooLong { tokens, .. }) => Err(too_long(tokens)),
        Err(other) => Err(other.into()),
    }
}

/// `X-Seed`, or one of our own choosing that survives a reader of 53-bit numbers.
fn seed(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get(SEED) else { return Ok(random_u64() >> 11) };
    let text = value.to_str().unwrap_or("not text");
    text.trim().parse().map_err(|_| {
        let (text, most) = (short(text), u64::MAX);
        Problem::new(Code::InvalidSeed, format!("The header X-Seed is \"{text}\", but must be 0 to {most}."))
    })
}

/// Writes tokens, then one event for the end.
pub(crate) struct TokenFrames;

impl Frames for TokenFrames {
    fn write(&mut self, answer: &EventStream, output: Output, out: &mut Vec<u8>) {
        let gpu = answer.meta().worker;
        let mut write = |text: &str| {
            if !text.is_empty() {
                data(out, &TokenFrame { token: text, gpu });
            }
        };
        match output {
            Output::Tokens(tokens) => tokens.iter().for_each(|token| write(&token.text)),
            Output::Text(text) => write(&text),
            Output::Finished { reason, usage } => data(out, &DoneFrame::new(answer, reason, usage)),
            Output::Admitted | Output::Failed(_) => {}
        }
    }
}

#[derive(Serialize)]
struct TokenFrame<'a> {
    token: &'a str,
    gpu: usize,
}

#[derive(Serialize)]
struct DoneFrame<'a> {
    done: bool,
    finish_reason: &'static str,
    model_tag: &'a str,
    weights: &'a str,
    seed: u64,
    usage: UsageFields,
    timings_ms: TimingFields,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_messages: usize,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names callers read")]
struct UsageFields {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
}

#[derive(Serialize)]
struct TimingFields {
    queue: f64,
    prefill: f64,
    decode: f64,
}

impl<'a> DoneFrame<'a> {
    fn new(answer: &'a EventStream, reason: FinishReason, usage: Usage) -> Self {
        let (meta, timeline) = (answer.meta(), answer.timeline());
        // Microseconds are as fine as anybody reads.
        let ms = |duration: Duration| duration.as_micros() as f64 / 1000.0;
        Self {
            done: true,
            finish_reason: match reason {
                FinishReason::Stop | FinishReason::StopText => "stop",
                FinishReason::Length => "length",
            },
            model_tag: &meta.model_tag,
            weights: &meta.weights,
            seed: meta.seed,
            usage: UsageFields {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: usage.cached_tokens,
                completion_tokens: usage.completion_tokens,
            },
            timings_ms: TimingFields {
                queue: ms(timeline.queue()),
                prefill: ms(timeline.prefill()),
                decode: ms(timeline.decode()),
            },
            dropped_messages: meta.dropped_messages,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_seed_is_taken_as_it_is_and_a_chosen_one_is_readable_everywhere() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(SEED), HeaderValue::from_static(value))])
        };
        assert_eq!(seed(&with("18446744073709551615")).unwrap(), u64::MAX);
        for wrong in ["", "-1", "1.5", "18446744073709551616", "x"] {
            assert_eq!(seed(&with(wrong)).unwrap_err().code, Code::InvalidSeed, "{wrong}");
        }
        assert!(seed(&HeaderMap::new()).unwrap() < 1 << 53);
    }
}
