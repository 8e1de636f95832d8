//! The swap gate: pauses admission while one model has gone and the next does not serve yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::error::AdmitError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GateState {
    Open,
    Paused,
    /// The server stops: no request waits any longer.
    Stopping,
}

/// Where requests wait for a model. Open unless admission is paused.
pub(crate) struct SwapGate {
    state: watch::Sender<GateState>,
    waiting: AtomicUsize,
}

/// A slot among the requests that wait.
struct WaitSlot<'a>(&'a AtomicUsize);

impl Drop for WaitSlot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for SwapGate {
    fn default() -> Self {
        Self { state: watch::channel(GateState::Open).0, waiting: AtomicUsize::new(0) }
    }
}

impl SwapGate {
    /// From now on requests wait.
    pub(crate) fn pause(&self) {
        self.change(GateState::Paused);
    }

    /// Requests that wait go on.
    pub(crate) fn open(&self) {
        self.change(GateState::Open);
    }

    /// Requests that wait are refused, and from now on none waits.
    pub(crate) fn stop(&self) {
        self.state.send_replace(GateState::Stopping);
    }

    fn change(&self, to: GateState) {
        self.state.send_if_modified(|state| {
            let changes = *state != GateState::Stopping && *state != to;
            if changes {
                *state = to;
            }
            changes
        });
    }

    /// Whether requests wait now.
    pub(crate) fn is_paused(&self) -> bool {
        *self.state.borrow() == GateState::Paused
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Returns when a request may go on, at once if admission is not paused. No more than `limit` wait.
    pub(crate) async fn pass(&self, limit: usize) -> Result<(), AdmitError> {
        let mut state = self.state.subscribe();
        let slot = WaitSlot(&self.waiting);
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        if before >= limit && self.is_paused() {
            return Err(AdmitError::SwapQueueFull { limit });
        }
        // The sender lives as long as the gate.
        let passed = state.wait_for(|state| *state != GateState::Paused).await;
        let is_stopping = passed.is_ok_and(|state| *state == GateState::Stopping);
        drop(slot);
        if is_stopping { Err(AdmitError::Stopping) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_requests_wait_up_to_the_limit() {
        let gate = Arc::new(SwapGate::default());
        assert!(gate.pass(0).await.is_ok(), "an open gate has no limit");
        gate.pause();
        let waits = |gate: &Arc<SwapGate>| {
            let gate = Arc::clone(gate);
            tokio::spawn(async move { gate.pass(2).await })
        };
        let (first, second) = (waits(&gate), waits(&gate));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!first.is_finished() && !second.is_finished());
        assert_eq!(gate.waiting(), 2);
        assert!(matches!(gate.pass(2).await, Err(AdmitError::SwapQueueFull { limit: 2 })));
        gate.open();
        assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn stopping_ends_every_wait() {
        let gate = SwapGate::default();
        gate.pause();
        let (passed, ()) = tokio::join!(gate.pass(9), async { gate.stop() });
        assert!(matches!(passed, Err(AdmitError::Stopping)));
        gate.pause();
        let passed = tokio::time::timeout(Duration::from_millis(1), gate.pass(9)).await;
        assert!(matches!(passed, Ok(Err(AdmitError::Stopping))) && gate.waiting() == 0);
    }
}
