//! Whether the service takes requests, how it ends, and its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::connections::Connections;

/// How a server ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It takes nothing new and says so.
    Drain,
    /// Another process has its socket: it takes no connection, but answers what comes on those it has.
    HandOver,
}

/// From the first request to the last.
pub(crate) struct Lifecycle {
    ending: watch::Sender<Option<Ending>>,
    /// Requests between their first check and their stream.
    arriving: AtomicUsize,
    pub(crate) connections: Arc<Connections>,
}

/// The server drains: it takes no new requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Draining;

/// Counts a request that has not become a stream yet.
pub(crate) struct Arriving(Arc<Lifecycle>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lifecycle {
    /// A service that takes so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        let connections = Connections::new(connections);
        Self { ending: watch::channel(None).0, arriving: AtomicUsize::new(0), connections }
    }

    /// Counts a request that is about to become streams, unless the server drains.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Arriving, Draining> {
        // Counted before it is looked whether the server drains, so that draining misses none.
        self.arriving.fetch_add(1, Ordering::AcqRel);
        let arriving = Arriving(Arc::clone(self));
        if self.is_draining() { Err(Draining) } else { Ok(arriving) }
    }

    /// Requests that have not become streams yet.
    pub(crate) fn arriving(&self) -> usize {
        self.arriving.load(Ordering::Acquire)
    }

    /// Whether the service finishes what it has and takes nothing new.
    pub(crate) fn is_draining(&self) -> bool {
        *self.ending.borrow() == Some(Ending::Drain)
    }

    /// Whether connections are closed after their next answer.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// From now on nothing new is taken.
    pub(crate) fn drain(&self) {
        self.ending.send_replace(Some(Ending::Drain));
    }

    /// From now on another process takes the connections.
    pub(crate) fn hand_over(&self) {
        self.ending.send_replace(Some(Ending::HandOver));
    }

    /// Returns once the service ends.
    pub(crate) async fn ends(&self) {
        // The sender lives as long as this.
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
    }
}
