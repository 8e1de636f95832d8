//! Prefixes that are computed once and shared: how many rows that saves, for whom, and that nobody can tell
//! from the answers. The toy backend reads tokens back through the page tables, so a wrong page shows.

use engine::backend::Shape;
use engine::{Engine, Limits, Request, RequestId, Sampling, Scope, Usage};

use crate::support::run::{self, Event, run};
use crate::support::toy::{Flaw, Toy, VOCAB_SIZE, mix};
use crate::support::vocabulary;

const SEQUENCE_LEN: usize = 1024;
/// One that sees everything, and two that do not.
const WINDOWS: [usize; 3] = [SEQUENCE_LEN, 100, 32];

fn engine_with(limits: &Limits, shape: Shape) -> Engine<Toy> {
    let tokenizer = vocabulary::bytes();
    let toy = Toy::new(shape, limits.clone(), Flaw::None);
    Engine::new(toy, tokenizer, limits.clone())
}

fn engine(limits: &Limits) -> Engine<Toy> {
    engine_with(limits, Toy::shape(SEQUENCE_LEN, &WINDOWS, limits.step_tokens, 8))
}

fn without_cache() -> Limits {
    Limits { prefix_cache: false, ..Limits::default() }
}

fn text(seed: u64, len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| (mix(seed << 32 | i) % 256) as u32).collect()
}

fn request(prompt: Vec<u32>, max_tokens: usize, seed: u64) -> Request {
    let sampling = Sampling { temperature: 1.0, top_k: 20, seed, ..Sampling::default() };
    vocabulary::chat(Request::new(prompt, max_tokens, sampling, VOCAB_SIZE, SEQUENCE_LEN).unwrap())
}

fn tokens(events: &[Event]) -> Vec<u32> {
    events
        .iter()
        .filter_map(|event| if let Event::Token { token, .. } = event { Some(*token) } else { None })
        .collect()
}

fn usage(events: &[Event]) -> Usage {
    match events.last() {
        Some(Event::Finished { usage, .. }) => *usage,
        other => panic!("{other:?}"),
    }
}

/// The answer of an engine that does nothing else and caches nothing.
fn alone(request: &Request) -> Vec<u32> {
    tokens(&run(&mut engine(&without_cache()), std::slice::from_ref(request))[0])
}

/// Rows of prompts and all events of `requests` that come at once.
fn rows_and_events(engine: &mut Engine<Toy>, requests: &[Request]) -> (usize, Vec<Vec<Event>>) {
    for (id, request) in (0..).zip(requests) {
        engine.submit(RequestId(id), request.clone());
    }
    let (mut rows, mut events) = (0, vec![Vec::new(); requests.len()]);
    while !engine.is_idle() {
        let stepped = engine.step();
        rows += stepped.prompt_rows;
        for (id, event) in run::events(stepped.outputs) {
            events[id.0 as usize].push(event);
        }
        engine.audit();
    }
    (rows, events)
}

#[test]
fn a_prompt_that_eight_share_is_computed_once() {
    let requests: Vec<Request> = (0..8).map(|seed| request(text(1, 200), 20, seed)).collect();
    for step_tokens in [64, 256] {
        let limits = Limits { max_running: 16, step_tokens, ..Limits::default() };
        let (rows, events) = rows_and_events(&mut engine(&limits), &requests);
        // 192 are six pages.
        assert_eq!(rows, 200 + 7 * 8, "in steps of {step_tokens}");
        let cached: Vec<usize> = events.iter().map(|events| usage(events).cached_tokens).collect();
        assert_eq!(cached, [0, 192, 192, 192, 192, 192, 192, 192]);
        for (request, events) in requests.iter().zip(&events) {
            assert_eq!(tokens(events), alone(request));
        }
    }
    let (rows, _) = rows_and_events(&mut engine(&without_cache()), &requests);
    assert_eq!(rows, 8 * 200, "the control");
}

#[test]
fn prompts_that_part_share_what_they_have_in_common() {
    let prompt = |seed, shared: usize| [&text(1, 500)[..shared], &text(seed, 60)].concat();
    let requests: Vec<Request> =
        [0, 40, 100, 256, 300, 300].into_iter().zip(2..).map(|(n, i)| request(prompt(i, n), 10, i)).collect();
    let (_, events) = rows_and_events(&mut engine(&Limits::default()), &requests);
    let cached: Vec<usize> = events.iter().map(|events| usage(events).cached_tokens).collect();
    assert_eq!(cached, [0, 0, 32, 96, 256, 288]);
    for (request, events) in requests.iter().zip(&events) {
        assert_eq!(tokens(events), alone(request));
    }
}

#[test]
fn the_next_turn_goes_on_from_the_answer() {
    let mut engine = engine(&Limits::default());
    let mut prompt = text(3, 70);
    let mut computed = 0;
    for turn in 0..6 {
        let request = request(prompt.clone(), 90, turn);
        let (rows, events) = rows_and_events(&mut engine, std::slice::from_ref(&request));
        let answer = tokens(&events[0]);
        assert_eq!(answer, alone(&request), "turn {turn}");
        assert_eq!(usage(&events[0]).cached_tokens, computed / 32 * 32, "turn {turn}");
        assert_eq!(rows, prompt.len() - computed / 32 * 32);
        // What was sampled last has no keys and values yet, unless the end of the turn was sampled after it.
        let is_full = answer.len() == request.max_tokens();
        computed = prompt.len() + answer.len() - usize::from(is_full);
        prompt.extend(answer);
        prompt.extend(text(turn + 10, 25));
    }
    assert!(computed > 300);
}

#[test]
fn callers_share_within_their_scope_only() {
    let mut engine = engine(&Limits::default());
    let in_scope = |scope: Scope| request(text(1, 200), 5, 0).in_scope(scope);
    for (scope, cached) in [([0; 32], 0), ([1; 32], 0), ([0; 32], 192), ([1; 32], 192), ([2; 32], 0)] {
        let (_, events) = rows_and_events(&mut engine, &[in_scope(scope)]);
        assert_eq!(usage(&events[0]).cached_tokens, cached, "{}", scope[0]);
    }
    // At the same time neither.
    let both = [in_scope([3; 32]), in_scope([4; 32])];
    assert_eq!(rows_and_events(&mut engine, &both).0, 400);
}

#[test]
fn who_waits_for_a_prefix_goes_on_when_its_reader_leaves() {
    let limits = Limits { step_tokens: 65, max_running: 4, ..Limits::default() };
    let mut engine = engine(&limits);
    let request = request(text(1, 300), 10, 5);
    for id in 0..4 {
        engine.submit(RequestId(id), request.clone());
    }
    assert_eq!(engine.step().prompt_rows, 65, "one reads, three wait");
    engine.cancel(RequestId(0));
    let mut events = vec![Vec::new(); 4];
    let mut rows = 0;
    while !engine.is_idle() {
        let stepped = engine.step();
        rows += stepped.prompt_rows;
        for (id, event) in run::events(stepped.outputs) {
            events[id.0 as usize].push(event);
        }
    }
    assert_eq!(rows, (300 - 64) + 2 * (300 - 288));
    for events in &events[1..] {
        assert_eq!(tokens(events), alone(&request));
    }
}

/// A pool for three sequences: what is cached is evicted again and again.
#[test]
fn a_cache_under_pressure_evicts_and_stays_right() {
    let limits = Limits { max_running: 3, step_tokens: 50, ..Limits::default() };
    let shape = Toy::shape(SEQUENCE_LEN, &WINDOWS, limits.step_tokens, 3);
    let mut engine = engine_with(&limits, shape);
    let (mut hits, mut evictions) = (0, 0);
    for round in 0..40u64 {
        let prompt = |i: u64| [text(i % 5, 250), text(round * 10 + i, 40)].concat();
        let requests: Vec<Request> = (round..round + 3).map(|i| request(prompt(i), 60, i)).collect();
        for (id, request) in (0..).zip(&requests) {
            engine.submit(RequestId(id), request.clone());
        }
        let mut events = vec![Vec::new(); 3];
        while !engine.is_idle() {
            let stepped = engine.step();
            hits += stepped.counts.cache_hits;
            evictions += stepped.counts.cache_evictions;
            for (id, event) in run::events(stepped.outputs) {
                events[id.0 as usize].push(event);
            }
            engine.audit();
        }
        for (request, events) in requests.iter().zip(&events) {
            assert_eq!(tokens(events), alone(request));
        }
    }
    assert!(hits > 5000 && evictions > 500, "{hits} hits, {evictions} evictions");
}
