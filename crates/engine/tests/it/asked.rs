//! What a request may ask for beside an answer: where it ends, what it may say, how likely it was.

use std::sync::Arc;

use engine::{Allowed, Failure, FinishReason, Guide, Penalties, Request, Sampling, TokenSet};

use crate::support::run::{Event, run};
use crate::support::scripted::{
    Answer, FORMAT, PROMPT, SEQUENCE_LEN, TOKENIZER, answer_to, encode, scripted, special,
};

/// The answer to a request that asks for something, by a model that would say a text and end there.
fn asked(text: &str, ask: impl Fn(Request) -> Request) -> Answer {
    let script = [encode(text), vec![special("assistant_end")]].concat();
    let (mut engine, request) = scripted(&script, 500);
    answer_to(&mut engine, ask(request))
}

fn stopping(text: &str, stops: &[&str]) -> Answer {
    asked(text, |request| request.stopping_at(stops.iter().map(|&stop| stop.to_owned()).collect()))
}

fn sampled(prompt: &[u32], sampling: Sampling) -> Request {
    let request = Request::new(prompt.to_vec(), 500, sampling, TOKENIZER.vocab_size(), SEQUENCE_LEN);
    request.unwrap().ending_at(Arc::clone(&FORMAT.stop_tokens))
}

#[test]
fn an_answer_ends_before_its_stop_text_and_gives_its_place_back_there() {
    let whole = "One samosa, two samosas, and then some more of them.";
    let Answer { tokens, texts, reason, .. } = stopping(whole, &["sas, an", "never"]);
    assert_eq!((texts.concat().as_str(), reason), ("One samosa, two samo", FinishReason::StopText));
    // Not one token more than it takes to know.
    let told = TOKENIZER.decode(&tokens);
    let without_last = TOKENIZER.decode(&tokens[..tokens.len() - 1]);
    assert!(told.contains("sas, an") && !without_last.contains("sas, an"), "{told}");
}

#[test]
fn what_might_have_become_a_stop_text_comes_in_the_end() {
    let Answer { texts, reason, .. } = stopping("It ends with sas, a", &["sas, an"]);
    assert_eq!((texts.concat().as_str(), reason), ("It ends with sas, a", FinishReason::Stop));
    assert_eq!(texts.last().unwrap(), "sas, a");
}

#[test]
fn a_character_that_is_cut_at_the_end_may_be_a_stop_text() {
    let cut = &encode("🥟")[..1];
    let (mut engine, request) = scripted(&[encode("a"), cut.to_vec()].concat(), 2);
    let answer = answer_to(&mut engine, request.stopping_at(vec!["\u{fffd}".to_owned()]));
    assert_eq!((answer.text().as_str(), answer.reason), ("a", FinishReason::Length));
}

#[test]
fn tokens_come_with_their_log_probabilities() {
    let script = [encode("Hello there"), vec![special("assistant_end")]].concat();
    let (mut engine, request) = scripted(&script, 500);
    let events = run(&mut engine, &[request.with_logprobs(2)]).remove(0);
    let vocab_size = TOKENIZER.vocab_size() as f32;
    // The script's token has a logit of 1, all others of 0.
    let total = (1f32.exp() + vocab_size - 1.0).ln();
    let mut seen = 0;
    for event in events {
        let Event::Token { token, logprobs, .. } = event else { continue };
        let logprobs = logprobs.unwrap();
        assert!((logprobs.logprob - (1.0 - total)).abs() < 1e-4);
        assert_eq!((logprobs.top.len(), logprobs.top[0]), (2, (token, logprobs.logprob)));
        assert!((logprobs.top[1].1 + total).abs() < 1e-4 && logprobs.top[1].0 == u32::from(token == 0));
        seen += 1;
    }
    assert_eq!(seen, script.len() - 1);
}

#[test]
fn what_was_said_is_said_less_and_what_is_banned_never() {
    let [a, b] = [encode("a")[0], encode("b")[0]];
    let script = [a; 6];
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let tokens = |sampling: Sampling| {
        let (mut engine, _) = scripted(&script, 6);
        let request = Request::new(PROMPT.to_vec(), 6, sampling, TOKENIZER.vocab_size(), SEQUENCE_LEN);
        answer_to(&mut engine, request.unwrap()).tokens
    };
    assert_eq!(tokens(greedy.clone()), script);
    // 1 is taken off after each, so that the second time it is not above the others any more.
    let penalties = Penalties { frequency: 1.01, ..Penalties::default() };
    let frequent = tokens(Sampling { penalties, ..greedy.clone() });
    assert_eq!(frequent.iter().filter(|&&token| token == a).count(), 1, "{frequent:?}");
    assert_eq!(tokens(Sampling { bias: [(a, -1.5), (b, 0.5)].into(), ..greedy }), [b; 6]);
    let unknown = Sampling { bias: [(TOKENIZER.vocab_size() as u32, 1.0)].into(), ..Sampling::default() };
    assert!(Request::new(PROMPT.to_vec(), 6, unknown, TOKENIZER.vocab_size(), SEQUENCE_LEN).is_err());
}

/// Lets pass a text and the end of the turn, and gives up where it is told to.
#[derive(Clone)]
struct Only {
    rest: Vec<u32>,
    gives_up_at: usize,
    guess: Vec<u32>,
    /// Looks until the sets are there.
    late: usize,
}

impl Only {
    fn boxed(tokens: &[u32], gives_up_at: usize) -> Box<dyn Guide> {
        let end = [special("assistant_end")];
        Box::new(Self { rest: [tokens, &end].concat(), gives_up_at, guess: Vec::new(), late: 0 })
    }
}

impl Guide for Only {
    fn prepare(&mut self, guess: &[u32]) {
        self.guess = guess.to_vec();
        self.late = self.rest.len() % 3;
    }

    fn is_ready(&mut self) -> bool {
        self.late = self.late.saturating_sub(1);
        self.late == 0
    }

    fn allowed(&mut self) -> Allowed {
        if self.late > 0 {
            return Allowed::NotYet;
        }
        if self.rest.len() == self.gives_up_at {
            return Allowed::Unknown;
        }
        let set = |&id: &u32| {
            TokenSet::from_words(
                (0..=id / 32).map(|i| if i == id / 32 { 1 << (id % 32) } else { 0 }).collect(),
            )
        };
        let right = self.rest.iter().zip(&self.guess).take_while(|(one, other)| one == other).count();
        Allowed::Sets(self.rest.iter().take(right + 1).map(set).collect())
    }

    fn accept(&mut self, token: u32) {
        assert_eq!(self.rest.remove(0), token);
    }

    fn fork(&self) -> Box<dyn Guide> {
        Box::new(self.clone())
    }
}

#[test]
fn nothing_is_said_that_is_not_allowed_and_no_tool_adds_to_it() {
    let said =
        [&[special("python_start")][..], &encode("6*7"), &[special("python_end")], &encode(" yes")].concat();
    for temperature in [0.0, 1.0] {
        let (mut engine, _) = scripted(&encode("something else altogether"), 500);
        let sampling = Sampling { temperature, ..Sampling::default() };
        let answer = answer_to(&mut engine, sampled(&PROMPT, sampling).guided(Only::boxed(&said, 0)));
        assert_eq!((&answer.tokens, answer.reason), (&said, FinishReason::Stop));
    }
}

#[test]
fn a_form_that_cannot_be_followed_any_further_fails_its_request_alone() {
    let said = encode("yes, and no");
    let (mut engine, plain) = scripted(&encode("something else altogether"), 4);
    let constrained = sampled(&PROMPT, Sampling::default()).guided(Only::boxed(&said, said.len() - 1));
    let events = run(&mut engine, &[plain.clone(), constrained]);
    assert_eq!(events[1].last(), Some(&Event::Failed(Failure::Constraint)));
    assert_eq!(events[1].len(), 4, "admitted, two tokens and the end: {:?}", events[1]);
    assert_eq!(events[0].len(), 6, "{:?}", events[0]);
}
