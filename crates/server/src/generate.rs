//! `POST /generate`: a conversation to a stream of events.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as FromState};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::{Handle, Refusal, Sampling, StreamEvent};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokenizer::{ChatError, Message, RenderedChat};

use crate::auth::Caller;
use crate::clock;
use crate::context::{RequestIds, Streams};
use crate::deadline::Missed;
use crate::gate::Refused;
use crate::generation::Generation;
use crate::limits::Limits;
use crate::options::ContextOverflow;
use crate::parse::{self, GenerateRequest, Rules};
use crate::problem::{Code, Problem};
use crate::sse::{self, About, Beginning, EventStream};
use crate::state::{Arriving, State};

/// Share of the context that is kept for the answer when old turns have to go.
const ANSWER_SHARE: usize = 4;
const SEED: &str = "x-seed";

/// The handler.
pub(crate) async fn generate(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    answer(&state, request, &ids).await.unwrap_or_else(|problem| problem.response(&ids))
}

async fn answer(state: &Arc<State>, request: Request, ids: &RequestIds) -> Result<Response, Problem> {
    let asked = read(state, request, ids).await?;
    for field in &asked.body.ignored {
        state.metrics.ignored_field(field);
    }
    let arriving = state.arrive();
    if state.is_draining() {
        let detail = "The server is stopping and takes no new requests.";
        return Err(Problem::new(Code::Draining, detail).retry_after(30));
    }
    let (ids, begun) = (asked.ids.clone(), asked.begun);
    respond(state, (ids, begun), Box::pin(begin(Arc::clone(state), asked, arriving))).await
}

/// A checked request, before there is a model for it.
struct Asked {
    body: GenerateRequest,
    seed: u64,
    scope: engine::Scope,
    begun: Instant,
    missed: Missed,
    ids: RequestIds,
}

async fn read(state: &State, request: Request, ids: &RequestIds) -> Result<Asked, Problem> {
    let seed = seed(request.headers())?;
    let missed = request.extensions().get::<Missed>().cloned().unwrap_or_default();
    let scope = request.extensions().get::<Caller>().map(|caller| caller.scope).unwrap_or_default();
    let options = &state.options;
    let body = read_json_body(request, &options.limits).await?;
    // From here on it is the server that takes its time.
    let begun = clock::now();
    let (limits, defaults, ignored_fields) = (&options.limits, &options.defaults, &options.ignored_fields);
    let body = parse::generate(&body, &Rules { limits, defaults, ignored_fields })?;
    Ok(Asked { body, seed, scope, begun, missed, ids: ids.clone() })
}

/// From a checked request to its first event: through the gate, to the weights that serve then, into an engine.
async fn begin(state: Arc<State>, asked: Asked, arriving: Arriving) -> Result<EventStream, Problem> {
    let most = state.options.limits.engine.request_timeout;
    let generation = tokio::time::timeout(most, serving(&state)).await.unwrap_or_else(|_| {
        let detail = format!("The weights were not exchanged within {} s.", most.as_secs_f64());
        Err(Problem::new(Code::DeadlineExceeded, detail).retry_after(5))
    })?;
    let rendered = render(&generation, &asked.body, state.options.context_overflow)?;
    let sampling = Sampling {
        temperature: asked.body.temperature,
        top_k: asked.body.top_k,
        seed: asked.seed,
        ..Sampling::default()
    };
    let config = &generation.model.weights.config;
    let sizes = (config.vocab_size, config.sequence_len);
    let request =
        engine::Request::new(rendered.ids, asked.body.max_tokens, sampling, sizes).map_err(|invalid| {
            tracing::error!(
                trace_id = asked.ids.trace,
                ?invalid,
                "a checked request was refused by the engine"
            );
            Problem::new(Code::Internal, "The request could not be given to the engine.")
        })?;
    let request = request.in_scope(asked.scope);
    let (worker, handle) = generation.least_loaded();
    let about = About {
        worker,
        model_tag: generation.model.tag.to_string(),
        weights: generation.model.identity.as_str().to_owned(),
        seed: asked.seed,
        dropped_messages: rendered.dropped_messages,
        prompt_tokens: request.prompt_tokens(),
        ids: asked.ids,
        begun: asked.begun,
        missed: asked.missed,
    };
    let (sink, stream) = sse::channel(Arc::clone(&state), about, request.max_tokens());
    let submitted = generation.submit(worker, request, Box::new(sink));
    let abort = submitted.map_err(|refusal| refused(refusal, handle))?;
    let mut stream = stream.began(abort);
    drop((arriving, generation));
    match stream.first().await {
        Some(StreamEvent::Failed(failure)) => {
            let (code, message) = sse::failure(failure);
            Err(Problem::new(code, message).retry_after(state.seconds_to_drain()))
        }
        None => Err(Problem::new(Code::Internal, "The engine gave the request up.")),
        Some(_) => Ok(stream),
    }
}

/// The weights that serve. While they are exchanged one after the other, this waits for the next ones.
async fn serving(state: &State) -> Result<Arc<Generation>, Problem> {
    let options = &state.options;
    let most = options.limits.engine.max_queued * options.workers.max(1);
    loop {
        state.gate.pass(most).await.map_err(|refused| match refused {
            Refused::Full => {
                let detail =
                    format!("The weights are being exchanged, and the places to wait ({most}) are taken.");
                Problem::new(Code::QueueFull, detail).retry_after(5)
            }
            Refused::Ending => Problem::new(Code::ShuttingDown, "The server is stopping."),
        })?;
        match state.generation() {
            Some(generation) => return Ok(generation),
            // It was held again between the two.
            None if state.gate.is_held() => {}
            None => return Err(no_model(state)),
        }
    }
}

/// Waits for the first event, so that what fails before it has a real status; but no longer than a stream may
/// be silent.
async fn respond(
    state: &Arc<State>,
    asked: (RequestIds, Instant),
    mut beginning: Beginning,
) -> Result<Response, Problem> {
    let silence = state.options.limits.heartbeat;
    let body = match tokio::time::timeout(silence, &mut beginning).await {
        Ok(begun) => Body::from_stream(begun?),
        Err(_) => Body::from_stream(sse::late(Arc::clone(state), asked, beginning)),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, body).into_response();
    response.extensions_mut().insert(Streams);
    Ok(response)
}

fn refused(refusal: Refusal, handle: &Handle) -> Problem {
    let limits = handle.limits();
    let detail = match refusal {
        Refusal::QueueFull => {
            let (running, queued) = (limits.max_running, limits.max_queued);
            format!("The places for running requests ({running}) and for waiting ones ({queued}) are taken.")
        }
        Refusal::QueueTokens => {
            let limit = limits.max_queued_tokens;
            format!("The requests that wait stand for {limit} tokens with this one, or more; no more may.")
        }
        Refusal::QueueTime { wait } => {
            let (wait, limit) = (wait.as_secs_f64().ceil(), limits.queue_timeout.as_secs_f64());
            let detail =
                format!("A place would be free in about {wait} s, but requests wait {limit} s at most.");
            return Problem::new(Code::QueueTimeout, detail).retry_after(handle.seconds_to_drain());
        }
        Refusal::Gone => {
            let detail = "The engine has ended; the model has to be swapped in again.";
            return Problem::new(Code::NoModel, detail).retry_after(30);
        }
    };
    Problem::new(Code::QueueFull, detail).retry_after(handle.seconds_to_drain())
}

fn no_model(state: &State) -> Problem {
    let seconds = if state.swapper.is_running() { 2 } else { 30 };
    Problem::new(Code::NoModel, "No model is loaded; see /health.").retry_after(seconds)
}

/// The prompt of a conversation, without its oldest turns if they do not fit.
fn render(
    generation: &Generation,
    asked: &GenerateRequest,
    overflow: ContextOverflow,
) -> Result<RenderedChat, Problem> {
    let tokenizer = &generation.model.tokenizer;
    let messages: Vec<Message<'_>> =
        asked.messages.iter().map(|(role, content)| Message { role: *role, content }).collect();
    let room = generation.sequence_len() - 1;
    let kept_for_answer = asked.max_tokens.min(generation.sequence_len() / ANSWER_SHARE);
    let attempts: &[usize] = match overflow {
        ContextOverflow::DropOldest => &[generation.sequence_len() - kept_for_answer, room],
        ContextOverflow::Error => &[usize::MAX],
    };
    let mut rendered = tokenizer.render_chat(&messages, Some(attempts[0]));
    for &budget in &attempts[1..] {
        if matches!(rendered, Err(ChatError::TooLong { .. })) {
            rendered = tokenizer.render_chat(&messages, Some(budget));
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
        Err(other) => {
            Err(Problem::new(Code::InvalidRole, format!("The messages have an invalid role order: {other}.")))
        }
    }
}

/// `X-Seed`, or one of our own choosing that survives a reader of 53-bit numbers.
fn seed(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get(SEED) else { return Ok(random_u64() >> 11) };
    let text = value.to_str().unwrap_or("not text");
    text.trim().parse().map_err(|_| {
        let (text, most) = (parse::short(text), u64::MAX);
        Problem::new(Code::InvalidSeed, format!("The header X-Seed is \"{text}\", but must be 0 to {most}."))
    })
}

/// Unpredictable bits, for seeds and ids.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without a system source, the clock and an address still tell requests apart.
        let here = std::ptr::from_ref(&SEED) as usize as u64;
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(here, |t| t.as_nanos() as u64 ^ here)
    })
}

/// A JSON body within the limits of size and time.
pub(crate) async fn read_json_body(request: Request, limits: &Limits) -> Result<Bytes, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let found = if media_type.is_empty() { "nothing".to_owned() } else { parse::short(media_type) };
        let detail = format!("The Content-Type is {found}, but must be application/json.");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let body = Limited::new(request.into_body(), limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("The body is larger than {} bytes.", limits.body_bytes);
            Err(Problem::new(Code::BodyTooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(Code::InvalidJson, "The body ended before it was complete.")),
        Err(_) => {
            let seconds = limits.body_timeout.as_secs();
            Err(Problem::new(
                Code::RequestTimeout,
                format!("The body did not arrive within {seconds} seconds."),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
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
