//! Requests through an engine until it is idle.

use engine::{Backend, Engine, Event, Request, RequestId};

/// Submits all requests at once and returns the events of each.
pub(crate) fn run<B: Backend>(engine: &mut Engine<B>, requests: &[Request]) -> Vec<Vec<Event>> {
    for (id, request) in requests.iter().enumerate() {
        engine.submit(RequestId(id as u64), request.clone());
    }
    let mut events = vec![Vec::new(); requests.len()];
    let steps: usize = requests.iter().map(Request::total_tokens).sum();
    for _ in 0..=steps {
        for (id, event) in engine.step().events {
            events[id.0 as usize].push(event);
        }
    }
    assert!(engine.is_idle(), "every step computes a row");
    assert_eq!(engine.page_usage().0, 0, "pages come back");
    engine.audit();
    events
}
