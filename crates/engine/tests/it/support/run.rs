//! Requests through an engine until it is idle.

use engine::{
    Backend, Engine, Failure, FinishReason, GeneratedToken, Logprobs, Output, Request, RequestId, Usage,
};

/// An output with the tokens of a step one by one: how many come together depends on drafts and on what others do.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    Admitted,
    Token { token: u32, text: String, logprobs: Option<Box<Logprobs>> },
    Text(String),
    Finished { reason: FinishReason, usage: Usage },
    Failed(Failure),
}

/// The outputs of a step, token by token.
pub(crate) fn events(outputs: Vec<(RequestId, Output)>) -> Vec<(RequestId, Event)> {
    let token = |GeneratedToken { token, text, logprobs }| Event::Token { token, text, logprobs };
    let each = |(id, output)| {
        let events = match output {
            Output::Admitted => vec![Event::Admitted],
            Output::Tokens(tokens) => tokens.into_iter().map(token).collect(),
            Output::Text(text) => vec![Event::Text(text)],
            Output::Finished { reason, usage } => vec![Event::Finished { reason, usage }],
            Output::Failed(failure) => vec![Event::Failed(failure)],
        };
        events.into_iter().map(move |event| (id, event))
    };
    outputs.into_iter().flat_map(each).collect()
}

/// Submits all requests at once and returns the events of each.
pub(crate) fn run<B: Backend>(engine: &mut Engine<B>, requests: &[Request]) -> Vec<Vec<Event>> {
    for (id, request) in requests.iter().enumerate() {
        engine.submit(RequestId(id as u64), request.clone());
    }
    let mut of_each = vec![Vec::new(); requests.len()];
    let steps: usize = requests.iter().map(Request::total_tokens).sum();
    // Guides that answer late need up to three steps more for a token.
    for _ in 0..=4 * steps {
        for (id, event) in events(engine.step().outputs) {
            of_each[id.0 as usize].push(event);
        }
    }
    assert!(engine.is_idle(), "every step comes closer to the end");
    assert_eq!(engine.page_usage().0, 0, "pages come back");
    engine.audit();
    of_each
}
