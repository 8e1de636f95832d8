//! Connections: how many there are, what each is doing, and which of them have to end.
//!
//! A connection that is of no use to anybody (idle between two requests, or still sending its first bytes) may stay
//! for a while; where there are too many, the one that has been so for longest makes room. So neither forgotten
//! connections nor those that never finish a request keep others out, and no answer is ever cut.

pub(crate) mod reject;
pub(crate) mod write_timeout;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock;
use crate::limits::Limits;

/// Parts of the header timeout at which connections are looked at.
const LOOKS: u32 = 4;

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectionPhase {
    /// It sends a request's head, or has sent nothing yet.
    Head,
    /// A request is being answered.
    Busy,
    /// Nothing, after an answer.
    Idle,
}

impl ConnectionPhase {
    pub(crate) const ALL: [Self; 3] = [Self::Head, Self::Busy, Self::Idle];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Busy => "busy",
            Self::Idle => "idle",
        }
    }
}

/// Why the server ended a connection, or took none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closed {
    HeaderTimeout,
    IdleTimeout,
    /// Another needed its slot.
    Evicted,
    /// All slots were in use.
    Refused,
    /// Its peer took nothing for too long.
    SlowClient,
}

impl Closed {
    pub(crate) const ALL: [Self; 5] =
        [Self::HeaderTimeout, Self::IdleTimeout, Self::Evicted, Self::Refused, Self::SlowClient];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Evicted => "evicted",
            Self::Refused => "refused",
            Self::SlowClient => "slow_client",
        }
    }
}

/// One connection.
pub(crate) struct ConnectionState {
    /// What it does, and since when.
    phase: Mutex<(ConnectionPhase, Instant)>,
    /// Bytes wait for the peer to take them.
    sending: AtomicBool,
    evicted: Notify,
}

impl ConnectionState {
    fn new() -> Self {
        let phase = Mutex::new((ConnectionPhase::Head, clock::now()));
        Self { phase, sending: AtomicBool::new(false), evicted: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, (ConnectionPhase, Instant)> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> ConnectionPhase {
        self.lock().0
    }

    /// Bytes came.
    pub(crate) fn received(&self) {
        let mut phase = self.lock();
        if phase.0 == ConnectionPhase::Idle {
            *phase = (ConnectionPhase::Head, clock::now());
        }
    }

    /// A request's head is complete.
    pub(crate) fn began(&self) {
        *self.lock() = (ConnectionPhase::Busy, clock::now());
    }

    /// Its answer is over.
    pub(crate) fn answered(&self) {
        *self.lock() = (ConnectionPhase::Idle, clock::now());
    }

    /// The unread body of the answered request is drained. A request that began since keeps its phase.
    pub(crate) fn drained(&self) {
        let mut phase = self.lock();
        if phase.0 == ConnectionPhase::Head {
            *phase = (ConnectionPhase::Idle, clock::now());
        }
    }

    /// Bytes wait for the peer.
    pub(crate) fn waits(&self) {
        self.sending.store(true, Ordering::Release);
    }

    /// The peer took them. Only now does an answer that is over leave it idle.
    pub(crate) fn sent(&self) {
        self.sending.store(false, Ordering::Release);
        let mut phase = self.lock();
        if phase.0 == ConnectionPhase::Idle {
            phase.1 = clock::now();
        }
    }

    /// Since when it has been of no use, if it is of none.
    fn useless_since(&self) -> Option<Instant> {
        let (phase, since) = *self.lock();
        (phase != ConnectionPhase::Busy && !self.sending.load(Ordering::Acquire)).then_some(since)
    }

    /// Returns once the connection has to end.
    async fn has_to_end(&self, limits: &Limits) -> Closed {
        let look = limits.header_timeout / LOOKS;
        let mut is_evicted = false;
        loop {
            // A request may have come since another needed the slot: it is answered first.
            if is_evicted && self.useless_since().is_some() {
                return Closed::Evicted;
            }
            let is_sending = self.sending.load(Ordering::Acquire);
            let (phase, since) = *self.lock();
            let (allowed, reason) = match phase {
                ConnectionPhase::Head => (limits.header_timeout, Closed::HeaderTimeout),
                ConnectionPhase::Idle if !is_sending => (limits.idle_timeout, Closed::IdleTimeout),
                // Whoever takes nothing of an answer is ended by its socket.
                ConnectionPhase::Idle | ConnectionPhase::Busy => (Duration::MAX, Closed::IdleTimeout),
            };
            let left = allowed.saturating_sub(since.elapsed());
            if left.is_zero() {
                return reason;
            }
            tokio::select! {
                () = self.evicted.notified() => is_evicted = true,
                () = sleep(left.min(look)) => {}
            }
        }
    }
}

/// All connections.
pub(crate) struct Connections {
    limit: usize,
    open: Mutex<BTreeMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
}

/// A connection's slot, given back when it is dropped.
pub(crate) struct ConnectionSlot {
    number: u64,
    state: Arc<ConnectionState>,
    connections: Arc<Connections>,
}

impl ConnectionSlot {
    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Returns once the connection has to end.
    pub(crate) async fn has_to_end(&self, limits: &Limits) -> Closed {
        self.state.has_to_end(limits).await
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.number);
    }
}

impl Connections {
    /// Room for so many.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default(), next: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ConnectionState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for one more. Where there is none, the connection that has been of no use for longest loses its own;
    /// `None` if all are in use.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let mut open = self.lock();
        if open.len() >= self.limit {
            let useless = open.iter().filter_map(|(number, state)| Some((state.useless_since()?, *number)));
            let (_, number) = useless.min()?;
            // It keeps its socket until its task has heard of it.
            open.remove(&number)?.evicted.notify_one();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(ConnectionState::new());
        open.insert(number, Arc::clone(&state));
        Some(ConnectionSlot { number, state, connections: Arc::clone(self) })
    }

    /// How many there are in each phase, as in [`ConnectionPhase::ALL`].
    pub(crate) fn by_phase(&self) -> [usize; 3] {
        let open = self.lock();
        ConnectionPhase::ALL.map(|phase| open.values().filter(|state| state.phase() == phase).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let (header_timeout, idle_timeout) = (Duration::from_millis(40), Duration::from_millis(120));
        Limits { header_timeout, idle_timeout, ..Limits::default() }
    }

    #[tokio::test]
    async fn the_one_that_has_been_useless_for_longest_makes_room() {
        let connections = Connections::new(3);
        let slots: Vec<ConnectionSlot> = (0..3).map(|_| connections.admit().unwrap()).collect();
        slots[0].state().began();
        slots[1].state().began();
        slots[1].state().answered();
        // The third has not finished a head since before the second was answered.
        let fourth = connections.admit().unwrap();
        assert_eq!(slots[2].has_to_end(&Limits::default()).await, Closed::Evicted);
        let fifth = connections.admit().unwrap();
        assert_eq!(slots[1].has_to_end(&Limits::default()).await, Closed::Evicted);
        fourth.state().began();
        fifth.state().began();
        assert!(connections.admit().is_none(), "an answer is never cut for a newcomer");
        fifth.state().answered();
        fifth.state().waits();
        assert!(connections.admit().is_none(), "nor is its last part");
        assert_eq!(connections.by_phase(), [0, 2, 1]);
        drop(slots);
        assert_eq!(connections.by_phase(), [0, 1, 1], "the evicted gave their slots up before");
    }

    #[tokio::test]
    async fn each_phase_has_its_patience() {
        let (connections, limits) = (Connections::new(1), limits());
        let slot = connections.admit().unwrap();
        let begun = clock::now();
        assert_eq!(slot.has_to_end(&limits).await, Closed::HeaderTimeout);
        assert!(begun.elapsed() >= Duration::from_millis(40));
        slot.state().began();
        let busy = tokio::time::timeout(Duration::from_millis(200), slot.has_to_end(&limits));
        assert!(busy.await.is_err(), "an answer may take as long as it likes");
        slot.state().answered();
        let begun = clock::now();
        assert_eq!(slot.has_to_end(&limits).await, Closed::IdleTimeout);
        assert!(begun.elapsed() >= Duration::from_millis(120));
        slot.state().answered();
        slot.state().received();
        assert_eq!(slot.has_to_end(&limits).await, Closed::HeaderTimeout, "its first byte starts the head");
    }

    #[tokio::test]
    async fn a_request_that_comes_while_its_place_is_taken_is_still_answered() {
        let (connections, limits) = (Connections::new(1), limits());
        let slot = connections.admit().unwrap();
        slot.state().began();
        slot.state().answered();
        let newcomer = connections.admit().unwrap();
        // Its task has not heard of it yet.
        slot.state().began();
        let answering = tokio::time::timeout(Duration::from_millis(100), slot.has_to_end(&limits));
        assert!(answering.await.is_err(), "no answer is cut");
        slot.state.evicted.notify_one();
        slot.state().answered();
        assert_eq!(slot.has_to_end(&limits).await, Closed::Evicted);
        assert_eq!(connections.by_phase(), [1, 0, 0], "the slot is the newcomer's");
        drop(newcomer);
    }

    #[tokio::test]
    async fn an_answer_that_is_still_being_taken_leaves_nobody_idle() {
        let (connections, limits) = (Connections::new(1), limits());
        let slot = connections.admit().unwrap();
        slot.state().began();
        slot.state().waits();
        slot.state().answered();
        let sending = tokio::time::timeout(Duration::from_millis(240), slot.has_to_end(&limits));
        assert!(sending.await.is_err(), "its last part may take longer than a connection may idle");
        slot.state().sent();
        let begun = clock::now();
        assert_eq!(slot.has_to_end(&limits).await, Closed::IdleTimeout);
        assert!(begun.elapsed() >= Duration::from_millis(110), "that is counted from its end");
    }
}
