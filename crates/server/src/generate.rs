//! `POST /generate`: a conversation to a stream of events.

use std::sync::Arc;

use axum::extract::{Request, State as FromState};
use axum::http::HeaderMap;
use axum::response::Response;
use engine::Sampling;
use tokenizer::{ChatError, Message, RenderedChat};

use crate::context::RequestIds;
use crate::frames::TokenFrames;
use crate::generation::Generation;
use crate::options::ContextOverflow;
use crate::parse::{self, GenerateRequest, Rules};
use crate::problem::{Code, Problem};
use crate::root::{Operation, Origin};
use crate::sse::{self, Events};
use crate::start::{self, Prepared};
use crate::state::{Arriving, State};

/// Share of the context that is kept for the answer when old turns have to go.
const ANSWER_SHARE: usize = 4;
const SEED: &str = "x-seed";
const OPERATION: Operation = Operation { path: "/generate", name: "chat" };

/// The handler.
pub(crate) async fn generate(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    answer(&state, request).await.unwrap_or_else(|problem| problem.response(&ids))
}

async fn answer(state: &Arc<State>, request: Request) -> Result<Response, Problem> {
    let asked = read(state, request).await?;
    for field in &asked.body.ignored {
        state.metrics.ignored_field(field);
    }
    let arriving = start::arrive(state)?;
    let origin = asked.origin.clone();
    sse::respond(state, origin, Box::pin(begin(Arc::clone(state), asked, arriving))).await
}

/// A checked request, before there is a model for it.
struct Asked {
    body: GenerateRequest,
    seed: u64,
    origin: Origin,
}

async fn read(state: &State, request: Request) -> Result<Asked, Problem> {
    let seed = seed(request.headers())?;
    let (origin, body) = start::read(state, request, OPERATION).await?;
    let options = &state.options;
    let (limits, defaults, ignored_fields) = (&options.limits, &options.defaults, &options.ignored_fields);
    let body = parse::generate(&body, &Rules { limits, defaults, ignored_fields })?;
    Ok(Asked { body, seed, origin })
}

/// From a checked request to its first event: through the gate, to the weights that serve then, into an engine.
async fn begin(state: Arc<State>, asked: Asked, arriving: Arriving) -> Result<Events, Problem> {
    let generation = start::weights(&state).await?;
    let rendered = render(&generation, &asked.body, state.options.context_overflow)?;
    let sampling = Sampling {
        temperature: asked.body.temperature,
        top_k: asked.body.top_k,
        seed: asked.seed,
        ..Sampling::default()
    };
    let request = generation
        .request(rendered.ids, asked.body.max_tokens, sampling)
        .map_err(|invalid| start::mistaken(&asked.origin.ids, invalid))?;
    let request = request.in_scope(asked.origin.scope);
    let prepared = Prepared { request, dropped_messages: rendered.dropped_messages };
    let answers = start::submit(&state, &generation, asked.origin, vec![vec![prepared]])?;
    drop((arriving, generation));
    Ok(Events::new(state, start::first(answers).await?, Box::new(TokenFrames)))
}

/// The prompt of a conversation, without its oldest turns if they do not fit.
fn render(
    generation: &Generation,
    asked: &GenerateRequest,
    overflow: ContextOverflow,
) -> Result<RenderedChat, Problem> {
    let registry::LoadedModel { tokenizer, chat, .. } = &generation.model;
    let messages: Vec<Message<'_>> =
        asked.messages.iter().map(|(role, content)| Message { role: *role, content }).collect();
    let room = generation.sequence_len() - 1;
    let kept_for_answer = asked.max_tokens.min(generation.sequence_len() / ANSWER_SHARE);
    let attempts: &[usize] = match overflow {
        ContextOverflow::DropOldest => &[generation.sequence_len() - kept_for_answer, room],
        ContextOverflow::Error => &[usize::MAX],
    };
    let mut rendered = chat.render(tokenizer, &messages, Some(attempts[0]));
    for &budget in &attempts[1..] {
        if matches!(rendered, Err(ChatError::TooLong { .. })) {
            rendered = chat.render(tokenizer, &messages, Some(budget));
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
        Err(ChatError::NoChatTokens) => Err(no_chat()),
        Err(other) => {
            Err(Problem::new(Code::InvalidRole, format!("The messages have an invalid role order: {other}.")))
        }
    }
}

/// A conversation with a base model.
pub(crate) fn no_chat() -> Problem {
    let detail = "The tokenizer of the model that serves has no chat tokens: it completes texts, by /v1/completions, \
                  and takes no messages.";
    Problem::new(Code::UnsupportedValue, detail).at("/messages")
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
