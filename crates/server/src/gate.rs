//! Holds requests back while one model has gone and the next is not there yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// What becomes of a request that comes now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Passage {
    Open,
    Held,
    /// The server stops: nobody is kept waiting any longer.
    Ending,
}

/// Why a request may not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// As many wait as may.
    Full,
    /// The server stops.
    Ending,
}

/// Where requests wait for weights. Open unless it is held.
pub(crate) struct Gate {
    passage: watch::Sender<Passage>,
    waiting: AtomicUsize,
}

/// A place among those that wait.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { passage: watch::channel(Passage::Open).0, waiting: AtomicUsize::new(0) }
    }
}

impl Gate {
    /// From now on requests wait.
    pub(crate) fn hold(&self) {
        self.change(Passage::Held);
    }

    /// Those that wait go on.
    pub(crate) fn open(&self) {
        self.change(Passage::Open);
    }

    /// Those that wait are refused, and from now on nobody waits.
    pub(crate) fn end(&self) {
        self.passage.send_replace(Passage::Ending);
    }

    fn change(&self, to: Passage) {
        self.passage.send_if_modified(|passage| {
            let changes = *passage != Passage::Ending && *passage != to;
            if changes {
                *passage = to;
            }
            changes
        });
    }

    /// Whether requests wait now.
    pub(crate) fn is_held(&self) -> bool {
        *self.passage.borrow() == Passage::Held
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Returns when a request may go on, at once if it is not held. No more than `limit` wait.
    pub(crate) async fn pass(&self, limit: usize) -> Result<(), Refused> {
        let mut passage = self.passage.subscribe();
        let place = Place(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        if before >= limit && self.is_held() {
            return Err(Refused::Full);
        }
        // The sender lives as long as the gate.
        let passed = passage.wait_for(|passage| *passage != Passage::Held).await;
        let ending = passed.is_ok_and(|passage| *passage == Passage::Ending);
        drop(place);
        if ending { Err(Refused::Ending) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_it_is_held_waits_and_no_more_than_the_limit() {
        let gate = Arc::new(Gate::default());
        assert_eq!(gate.pass(0).await, Ok(()), "an open gate has no limit");
        gate.hold();
        let waits = |gate: &Arc<Gate>| {
            let gate = Arc::clone(gate);
            tokio::spawn(async move { gate.pass(2).await })
        };
        let (first, second) = (waits(&gate), waits(&gate));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!first.is_finished() && !second.is_finished());
        assert_eq!((gate.waiting(), gate.pass(2).await), (2, Err(Refused::Full)));
        gate.open();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(()), Ok(())));
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn a_server_that_stops_keeps_nobody_waiting() {
        let gate = Gate::default();
        gate.hold();
        let (passed, ()) = tokio::join!(gate.pass(9), async { gate.end() });
        assert_eq!(passed, Err(Refused::Ending));
        gate.hold();
        assert_eq!(gate.pass(9).await, Err(Refused::Ending));
        let gone = tokio::time::timeout(Duration::from_millis(1), gate.pass(9)).await;
        assert!(gone.is_ok() && gate.waiting() == 0);
    }
}
