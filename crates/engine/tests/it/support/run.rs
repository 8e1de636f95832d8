//! Requests through an engine until it is idle.

use engine::{Backend, Engine, Event, Request, RequestId};

/// Submits all requests at once and returns the events of each.
pub(crate) fn run<B: Backend>(engine: &mut Engine<B>, requests: &[Request]) -> Vec<Vec<Event>> {
    for (id, request) in requests.iter().enumerate() {
        engine.submit(RequestId(id as u64), request.clone());
    }
    let mut events = vec![Vec::new(); requests.len()];
    let steps: usize = requests.iter().map(Request::total_tokens).sum();
    // Constraints that answer late need up to three steps more for a token.
    for _ in 0..=4 * steps {
        for (id, event) in engine.step().events {
            events[id.0 as usize].push(event);
        }
    }
    assert!(engine.is_idle(), "every step comes closer to the end");
    assert_eq!(engine.page_usage().0, 0, "pages come back");
    engine.audit();
    events
}
