//! From a body to answers: through the gate, to the weights that serve then, into an engine; then told as they come, or
//! as a whole.
//!
//! An answer that is told as a whole has its headers when it is complete: there is nothing to say before, and no
//! heartbeat. Its caller is noticed to have gone all the same, since then nobody waits for it any more.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use engine::{Guide, Sampling};
use futures_util::future::try_join_all;
use tokenizer::Tokenizer;

use super::chat::Conversation;
use super::chunks::Chunks;
use super::common::{Common, seed_of};
use super::fields::invalid;
use super::form::constraint;
use super::likely::Waiting;
use super::whole::{self, Whole};
use super::wire::{Head, Kind};
use super::{completions, models};
use crate::context::Streams;
use crate::events::{EventStream, Said};
use crate::generation::Generation;
use crate::parse::Rules;
use crate::problem::{Code, Problem};
use crate::root::{Operation, Origin};
use crate::sse::{self, Events};
use crate::start::{self, Prepared};
use crate::state::{Arriving, State};

/// A checked body, before there are weights for it.
pub(crate) struct Asked {
    pub(crate) common: Common,
    /// Most tokens of each answer.
    pub(crate) max_tokens: usize,
    /// How many likely tokens are named beside each of an answer, if log probabilities are wanted.
    pub(crate) likely: Option<usize>,
    pub(crate) prompts: Prompts,
    /// Fields that were ignored because the settings say so.
    pub(crate) ignored: Vec<String>,
}

/// What is to be gone on with.
pub(crate) enum Prompts {
    Chat(Conversation),
    Texts(Vec<String>),
    /// Token ids, as they are.
    Tokens(Vec<u32>),
    /// The same of several prompts.
    Ids(Vec<Vec<u32>>),
}

/// An operation, and what reads its bodies.
pub(crate) type Reading = (Operation, fn(&[u8], &Rules<'_>) -> Result<Asked, Problem>);

/// Answers a request.
pub(crate) async fn answer(
    state: &Arc<State>,
    request: Request,
    (operation, read): Reading,
) -> Result<Response, Problem> {
    let (origin, body) = start::read(state, request, operation).await?;
    let asked = parsed(state, &body, read)?;
    let arriving = start::arrive(state)?;
    let (stream, of_stream) = (asked.common.stream, origin.clone());
    let begun = begin(Arc::clone(state), asked, origin, arriving);
    let Some(stream) = stream else { return tell_whole(begun.await?).await };
    let state_of_stream = Arc::clone(state);
    let beginning = async move {
        let Begun { answers, telling } = begun.await?;
        let answers = start::first(answers).await?;
        let frames = Box::new(Chunks::new(telling, stream, answers.len()));
        Ok(Events::new(state_of_stream, answers, frames))
    };
    sse::respond(state, of_stream, Box::pin(beginning)).await
}

fn parsed(
    state: &State,
    body: &[u8],
    read: fn(&[u8], &Rules<'_>) -> Result<Asked, Problem>,
) -> Result<Asked, Problem> {
    let options = &state.options;
    let (limits, defaults, ignored_fields) = (&options.limits, &options.defaults, &options.ignored_fields);
    let asked = read(body, &Rules { limits, defaults, ignored_fields })?;
    for field in &asked.ignored {
        state.metrics.ignored_field(field);
    }
    Ok(asked)
}

/// Answers that an engine works on.
struct Begun {
    answers: Vec<EventStream>,
    telling: Telling,
}

/// What is known of all answers to a request, to tell of them.
pub(super) struct Telling {
    pub(super) head: Head,
    /// Answers to each prompt.
    pub(super) choices: usize,
    /// What log probabilities are told with, if they are wanted.
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
}

impl Telling {
    /// What log probabilities of an answer wait in, if they are wanted.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        self.tokenizer.as_ref().map(|tokenizer| Waiting::new(Arc::clone(tokenizer)))
    }
}

async fn begin(
    state: Arc<State>,
    asked: Asked,
    origin: Origin,
    arriving: Arriving,
) -> Result<Begun, Problem> {
    let generation = start::weights(&state).await?;
    models::check(&state, &generation, &asked.common.model)?;
    check_bias(&generation, &asked.common.sampling)?;
    let (kind, prompts) = match &asked.prompts {
        Prompts::Chat(conversation) => (Kind::Chat, vec![conversation.render(&generation)?]),
        Prompts::Texts(_) | Prompts::Tokens(_) | Prompts::Ids(_) => {
            (Kind::Text, completions::render(&generation, &asked.prompts).await?)
        }
    };
    let constraint = constraint(&generation, &asked.common.form).await?;
    let mut groups = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let seeds = (0..asked.common.choices).map(|i| seed_of(asked.common.sampling.seed, i));
        let prepared = |seed| prepare(&generation, (&asked, &origin), &prompt, (seed, constraint.clone()));
        groups.push(seeds.map(prepared).collect::<Result<Vec<_>, _>>()?);
    }
    check_capacity(&generation, &groups)?;
    let head = Head::new(kind, &origin.ids.request, &generation);
    let tokenizer = asked.likely.map(|_| Arc::clone(&generation.model.tokenizer));
    let answers = start::submit(&state, &generation, origin, groups)?;
    drop(arriving);
    Ok(Begun { answers, telling: Telling { head, choices: asked.common.choices, tokenizer } })
}

/// A request for one of the answers to a prompt.
fn prepare(
    generation: &Generation,
    (asked, origin): (&Asked, &Origin),
    prompt: &[u32],
    (seed, constraint): (u64, Option<Box<dyn Guide>>),
) -> Result<Prepared, Problem> {
    let sampling = Sampling { seed, ..asked.common.sampling.clone() };
    check_length(generation, &asked.prompts, prompt.len())?;
    let request = generation
        .request(prompt.to_vec(), asked.max_tokens, sampling)
        .map_err(|invalid| start::mistaken(&origin.ids, invalid))?;
    let mut request = request.in_scope(origin.scope).stopping_at(asked.common.stops.clone());
    if let Some(top) = asked.likely {
        request = request.with_logprobs(top);
    }
    if let Some(constraint) = constraint {
        request = request.guided(constraint);
    }
    Ok(Prepared { request, dropped_messages: 0 })
}

/// Refuses more answers than idle engines accept, since a retry would not help. The answers to one prompt are queued with
/// one engine, before its next step moves any of them out of the queue.
fn check_capacity(generation: &Generation, groups: &[Vec<Prepared>]) -> Result<(), Problem> {
    let (limits, workers) = (generation.least_loaded().1.limits(), generation.workers.len());
    let (most, most_tokens) = (limits.max_running.max(limits.max_queued), limits.max_queued_tokens);
    let of_all =
        |of_group: fn(&[Prepared]) -> usize| groups.iter().map(|group| of_group(group)).sum::<usize>();
    let check = |at: &str, answers: usize, tokens: usize, engines: usize| {
        let (most, most_tokens) = (most * engines, most_tokens.saturating_mul(engines));
        let each = if engines > 1 { format!(" for each of {engines} workers") } else { String::new() };
        if answers > most {
            let detail = format!(
                "{answers} answers are asked for at once, but at most {most} can be: the larger of \
                 MAX_RUNNING_REQUESTS and MAX_QUEUED_REQUESTS{each}."
            );
            return Err(invalid(at, detail));
        }
        // A lone request is accepted whatever it reserves.
        if answers > engines && tokens > most_tokens {
            let detail = format!(
                "{answers} answers at once reserve {tokens} tokens with their prompts, but at most {most_tokens} may \
                 wait: MAX_QUEUED_TOKENS{each}."
            );
            return Err(invalid(at, detail));
        }
        Ok(())
    };
    for group in groups {
        check("/n", group.len(), tokens(group), 1)?;
    }
    check("/prompt", of_all(<[Prepared]>::len), of_all(tokens), workers)
}

/// Tokens that requests reserve.
fn tokens(group: &[Prepared]) -> usize {
    group.iter().map(|prepared| prepared.request.total_tokens()).sum()
}

/// Nothing is left out of a prompt here: it fits, or is refused.
fn check_length(generation: &Generation, prompts: &Prompts, tokens: usize) -> Result<(), Problem> {
    let most = generation.sequence_len();
    if tokens < most {
        return Ok(());
    }
    let detail = format!(
        "This model's maximum context length is {most} tokens, one of them at least for the answer, but the prompt has \
         {tokens}."
    );
    let field = if matches!(prompts, Prompts::Chat(_)) { "/messages" } else { "/prompt" };
    Err(Problem::new(Code::PromptTooLong, detail).at(field))
}

fn check_bias(generation: &Generation, sampling: &Sampling) -> Result<(), Problem> {
    match sampling.bias.iter().find(|(id, _)| !generation.has_token(*id)) {
        None => Ok(()),
        Some((id, _)) => Err(invalid("/logit_bias", format!("The model has no token {id}."))),
    }
}

/// Waits for all answers and tells them at once.
async fn tell_whole(begun: Begun) -> Result<Response, Problem> {
    let Begun { mut answers, telling } = begun;
    let heard = try_join_all(answers.iter_mut().map(|answer| hear(answer, &telling))).await;
    let parts = match heard {
        Ok(parts) => parts,
        Err(problem) => return Err(start::give_up(answers, problem)),
    };
    let media_type = HeaderValue::from_static("application/json");
    let mut response = ([(CONTENT_TYPE, media_type)], whole::tell(&telling, &parts)).into_response();
    // The answers have a span for the request.
    response.extensions_mut().insert(Streams);
    Ok(response)
}

/// Everything that is said of an answer.
async fn hear(answer: &mut EventStream, telling: &Telling) -> Result<Whole, Problem> {
    let mut whole = Whole::new(telling);
    loop {
        match answer.next().await {
            Said::Failed(problem) => return Err(problem),
            said => whole.add(said),
        }
        if answer.is_over() {
            return Ok(whole);
        }
    }
}
