//! Guessed tokens: that they change no event, how many steps they save where a text repeats itself, and how
//! little they cost where it does not.

use std::sync::mpsc::sync_channel;

use engine::{Counts, Engine, Handle, Limits, Output, Request, RequestId, Sampling, Timeline};
use proptest::prelude::*;

use crate::support::run::{Event, events, run};
use crate::support::toy::{Flaw, Manner, Toy, VOCAB_SIZE, mix};
use crate::support::{vocabulary, wishes};

/// Prompt and answer of the longest request here.
const SEQUENCE_LEN: usize = 2048;
const WINDOWS: [usize; 3] = [SEQUENCE_LEN, 64, 5];

fn engine(limits: &Limits, (flaw, manner): (Flaw, Manner)) -> Engine<Toy> {
    let (tokenizer, limits) = (vocabulary::bytes(), limits.clone().checked());
    let shape = Toy::shape(SEQUENCE_LEN, &WINDOWS, limits.step_tokens, 12);
    let toy = Toy::new(shape, limits.clone(), flaw).saying(manner);
    Engine::new(toy, tokenizer, limits)
}

fn plain() -> Limits {
    Limits { speculation_tokens: 0, ..Limits::default() }
}

fn request(prompt: Vec<u32>, max_tokens: usize, temperature: f32, seed: u64) -> Request {
    let sampling = Sampling { temperature, top_k: 20, seed, ..Sampling::default() };
    vocabulary::chat(Request::new(prompt, max_tokens, sampling, VOCAB_SIZE, SEQUENCE_LEN).unwrap())
}

fn text(seed: u64, len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| u32::from(b'a') + (mix(seed << 32 | i) % 9) as u32).collect()
}

/// What a request takes that has an engine to itself.
#[derive(Default)]
struct Taken {
    steps: usize,
    rows: usize,
    tokens: usize,
    counts: Counts,
}

fn take(limits: &Limits, manner: Manner, request: &Request) -> Taken {
    let mut engine = engine(limits, (Flaw::None, manner));
    engine.submit(RequestId(0), request.clone());
    let mut taken = Taken::default();
    while !engine.is_idle() {
        let stepped = engine.step();
        taken.steps += usize::from(stepped.decode_rows > 0);
        taken.rows += stepped.decode_rows;
        taken.tokens +=
            events(stepped.outputs).iter().filter(|(_, e)| matches!(e, Event::Token { .. })).count();
        taken.counts += stepped.counts;
        engine.audit();
    }
    taken
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let temperature = prop_oneof![Just(0.0f32), Just(0.3), Just(1.0), Just(2.0)];
    let max_tokens = prop_oneof![1..10usize, 10..150usize];
    let one = (0..4u64, 1..120usize, max_tokens, temperature, any::<u64>()).prop_map(
        |(stem, len, max_tokens, temperature, seed)| {
            let plain = Sampling { temperature, top_k: 20, seed, ..Sampling::default() };
            let sampling = wishes::sampling(seed, &plain);
            let request = Request::new(text(stem, len), max_tokens, sampling, VOCAB_SIZE, SEQUENCE_LEN);
            wishes::request(seed, vocabulary::chat(request.unwrap()))
        },
    );
    prop::collection::vec(one, 1..5)
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![Just(Manner::Varied), Just(Manner::Chant), Just(Manner::Random)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_are_the_same_with_guesses_and_without(
        requests in requests(),
        manner in manner(),
        speculation_tokens in 1..9usize,
        speculative_rows in 2..12usize,
        step_tokens in prop_oneof![Just(2usize), Just(40), Just(256)],
    ) {
        // Nothing is shared, so that even the usage is the same.
        let base = Limits { max_running: 4, step_tokens, prefix_cache: false, ..plain() };
        let limits = Limits { speculation_tokens, speculative_rows, ..base.clone() };
        let expected = run(&mut engine(&base, (Flaw::None, manner)), &requests);
        prop_assert_eq!(run(&mut engine(&limits, (Flaw::None, manner)), &requests), expected);
    }
}

#[test]
fn logits_that_depend_on_guesses_are_noticed() {
    let requests: Vec<Request> = (0..4).map(|seed| request(text(seed, 50), 100, 1.0, seed)).collect();
    let [plain, guessing] = [plain(), Limits::default()].map(|limits| {
        let mut engine = engine(&limits, (Flaw::SeesGuesses, Manner::Chant));
        requests.iter().map(|request| run(&mut engine, std::slice::from_ref(request))).collect::<Vec<_>>()
    });
    assert_ne!(plain, guessing);
}

#[test]
fn a_text_that_repeats_itself_takes_less_than_half_the_steps() {
    for temperature in [0.0, 0.7] {
        let mut total = Taken::default();
        for seed in 0..10 {
            let request = request(text(seed, 40), 400, temperature, seed);
            let taken = take(&Limits::default(), Manner::Chant, &request);
            total.steps += taken.steps;
            total.tokens += taken.tokens;
            total.counts += taken.counts;
        }
        let per_token = total.steps as f64 / total.tokens as f64;
        println!("{per_token:.3} steps a token at {temperature}, {:?}", total.counts);
        assert_eq!(total.tokens, 4000);
        assert!(per_token < 0.5, "{per_token} steps a token at {temperature}");
    }
}

#[test]
fn a_text_that_does_not_repeat_costs_hardly_a_row() {
    let (mut rows, mut tokens) = (0, 0);
    for seed in 0..10 {
        // Nine letters at random: the last three always stood there before, and say nothing.
        let request = request(text(seed, 900), 1000, 0.0, seed);
        let taken = take(&Limits::default(), Manner::Random, &request);
        rows += taken.rows - taken.counts.accepted_tokens as usize;
        tokens += taken.tokens;
    }
    println!("{rows} rows for {tokens} tokens");
    assert_eq!(tokens, 10_000);
    assert!((rows as f64) < 1.02 * tokens as f64, "{rows} rows for {tokens} tokens");
}

#[test]
fn guesses_share_the_rows_that_decoding_leaves() {
    for n in [1, 2, 3, 5, 7, 8, 12] {
        let limits = Limits { max_running: 16, ..Limits::default() };
        let mut engine = engine(&limits, (Flaw::None, Manner::Chant));
        for id in 0..n {
            engine.submit(RequestId(id), request(text(id, 40), 60, 0.0, id));
        }
        let mut most = 0;
        while !engine.is_idle() {
            let (running, stepped) = (engine.counts().0, engine.step());
            assert!(stepped.decode_rows <= running.max(limits.speculative_rows));
            assert!(stepped.prompt_rows == 0 || stepped.counts.drafted_tokens == 0, "not beside prompts");
            most = most.max(stepped.decode_rows);
        }
        assert_eq!(most, (n as usize).max(limits.speculative_rows), "{n} at once");
    }
}

#[test]
fn the_tokens_of_a_step_come_in_one_output() {
    let limits = Limits::default().checked();
    let build = move || {
        let shape = Toy::shape(SEQUENCE_LEN, &WINDOWS, limits.step_tokens, 12);
        Toy::new(shape, limits.clone(), Flaw::None).saying(Manner::Chant)
    };
    let handle = Handle::start("listening", vocabulary::bytes(), Limits::default(), build).unwrap();
    let (sender, received) = sync_channel(4096);
    let sink = move |output, _: &Timeline| sender.send(output).is_ok();
    handle.submit(request(text(1, 40), 400, 0.0, 1), Box::new(sink)).unwrap();
    let tokens = |output| if let Output::Tokens(tokens) = output { Some(tokens.len()) } else { None };
    let steps: Vec<usize> = received.iter().filter_map(tokens).collect();
    assert!(steps.iter().any(|tokens| *tokens > 2), "it repeats itself, or this shows nothing");
    assert_eq!(steps.iter().sum::<usize>(), 400);
    let pace = handle.snapshot().pace;
    assert_eq!((pace.rows.count(), pace.seconds.count()), (steps.len() as u64, steps.len() as u64));
    assert!(pace.seconds.sum() > 0.0 && pace.rows.sum() >= 439.0, "{pace:?}");
}
