//! From a request to its answers: its body, the gate, the weights that serve then, a place in an engine.

use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, header};
use engine::{Handle, InvalidRequest, Refusal};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::auth::Caller;
use crate::clock;
use crate::context::RequestIds;
use crate::deadline::Missed;
use crate::events::{self, About, EventStream};
use crate::gate::Refused;
use crate::generation::Generation;
use crate::limits::Limits;
use crate::parse;
use crate::problem::{Code, Problem};
use crate::root::{Operation, Origin, Root};
use crate::state::{Arriving, State};

/// Reads the body of a request, and notes where it came from.
pub(crate) async fn read(
    state: &State,
    request: Request,
    operation: Operation,
) -> Result<(Origin, Bytes), Problem> {
    let ids = RequestIds::of(&request);
    let missed = request.extensions().get::<Missed>().cloned().unwrap_or_default();
    let scope = request.extensions().get::<Caller>().map(|caller| caller.scope).unwrap_or_default();
    let body = read_json_body(request, &state.options.limits).await?;
    // From here on it is the server that takes its time.
    Ok((Origin { operation, ids, begun: clock::now(), missed, scope }, body))
}

/// A JSON body within the limits of size and time.
pub(crate) async fn read_json_body(request: Request, limits: &Limits) -> Result<Bytes, Problem> {
    check_media(request.headers())?;
    let (body, most) = (request.into_body(), limits.body_bytes);
    // Checked before the first read, which would send `100 Continue`.
    let length = body.size_hint().lower();
    if length > most as u64 {
        let detail = format!("The body has {length} bytes, but at most {most} are allowed.");
        return Err(Problem::new(Code::BodyTooLarge, detail));
    }
    let body = Limited::new(body, most).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("The body has more than {most} bytes, which are allowed at most.");
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

/// Refuses bodies that are not declared as JSON, and encoded ones.
fn check_media(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let found = if media_type.is_empty() { "nothing".to_owned() } else { parse::short(media_type) };
        let detail = format!("The Content-Type is {found}, but must be application/json.");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let Some(coding) = other_coding(headers, &header::CONTENT_ENCODING, "identity") else { return Ok(()) };
    let detail = format!("The Content-Encoding is {coding}, but must be identity: bodies are not decoded.");
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// The first coding in the list of a header that is not the `supported` one, shortened.
pub(crate) fn other_coding(headers: &HeaderMap, name: &HeaderName, supported: &str) -> Option<String> {
    let other = codings(headers, name).find(|coding| !coding.eq_ignore_ascii_case(supported.as_bytes()))?;
    Some(parse::short(&String::from_utf8_lossy(other)))
}

/// The codings that a header lists, on one line or several.
pub(crate) fn codings<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lists = headers.get_all(name).iter();
    let items = lists.flat_map(|list| list.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    items.filter(|coding| !coding.is_empty())
}

/// Counts a request that is about to become streams, unless the server takes no more.
pub(crate) fn arrive(state: &Arc<State>) -> Result<Arriving, Problem> {
    let arriving = state.arrive();
    if state.is_draining() {
        let detail = "The server is stopping and takes no new requests.";
        return Err(Problem::new(Code::Draining, detail).retry_after(30));
    }
    Ok(arriving)
}

/// The weights that serve, waiting for those that are on their way in the place of others; no longer than a request
/// may take.
pub(crate) async fn weights(state: &State) -> Result<Arc<Generation>, Problem> {
    let most = state.options.limits.engine.request_timeout;
    tokio::time::timeout(most, serving(state)).await.unwrap_or_else(|_| {
        let detail = format!("The weights were not exchanged within {} s.", most.as_secs_f64());
        Err(Problem::new(Code::DeadlineExceeded, detail).retry_after(5))
    })
}

/// Seconds after which another process may serve.
const COME_BACK_S: u64 = 30;

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
            Refused::Ending => {
                Problem::new(Code::ShuttingDown, "The server is stopping.").retry_after(COME_BACK_S)
            }
        })?;
        match state.generation() {
            Some(generation) => return Ok(generation),
            // It was held again between the two.
            None if state.gate.is_held() => {}
            None => return Err(no_model(state)),
        }
    }
}

/// A request for one answer, ready for an engine.
pub(crate) struct Prepared {
    pub(crate) request: engine::Request,
    pub(crate) dropped_messages: usize,
}

/// Gives requests to the engines, those that are one group to one engine: what they have in common is computed once.
/// If one of them is refused, so are all.
pub(crate) fn submit(
    state: &Arc<State>,
    generation: &Generation,
    origin: Origin,
    groups: Vec<Vec<Prepared>>,
) -> Result<Vec<EventStream>, Problem> {
    let root = Root::new(Arc::clone(state), origin);
    let mut answers = Vec::new();
    for group in groups {
        let (worker, handle) = generation.least_loaded();
        for prepared in group {
            match queue(state, generation, (worker, answers.len()), &root, prepared) {
                Ok(answer) => answers.push(answer),
                Err(refusal) => return Err(give_up(answers, refused(refusal, handle))),
            }
        }
    }
    Ok(answers)
}

/// Queues one request with a worker. `index` is its answer's.
fn queue(
    state: &Arc<State>,
    generation: &Generation,
    (worker, index): (usize, usize),
    root: &Arc<Root>,
    prepared: Prepared,
) -> Result<EventStream, Refusal> {
    let Prepared { request, dropped_messages } = prepared;
    let about = About {
        index,
        worker,
        model_tag: generation.model.tag.to_string(),
        weights: generation.model.identity.as_str().to_owned(),
        seed: request.sampling().seed,
        dropped_messages,
        prompt_tokens: request.prompt_tokens(),
        max_tokens: request.max_tokens(),
        root: Arc::clone(root),
    };
    let (sink, answer) = events::channel(Arc::clone(state), about);
    Ok(answer.began(generation.submit(worker, request, Box::new(sink))?))
}

/// Waits until the first of the answers has begun: what fails before has a status of its own.
pub(crate) async fn first(mut answers: Vec<EventStream>) -> Result<Vec<EventStream>, Problem> {
    match answers[0].first().await {
        Ok(()) => Ok(answers),
        Err(problem) => Err(give_up(answers, problem)),
    }
}

/// Ends all answers, since their request is answered with an error.
pub(crate) fn give_up(mut answers: Vec<EventStream>, problem: Problem) -> Problem {
    for answer in &mut answers {
        answer.give_up();
        answer.about().root.refuse();
    }
    problem
}

/// A checked request was refused by the engine: a mistake of ours.
pub(crate) fn mistaken(ids: &RequestIds, invalid: InvalidRequest) -> Problem {
    tracing::error!(trace_id = ids.trace, ?invalid, "a checked request was refused by the engine");
    Problem::new(Code::Internal, "The request could not be given to the engine.")
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

/// Nothing serves.
pub(crate) fn no_model(state: &State) -> Problem {
    let seconds = if state.swapper.is_running() { 2 } else { 30 };
    Problem::new(Code::NoModel, "No model is loaded; see /health.").retry_after(seconds)
}
