//! What all engines counted since the service began, those of earlier weights included.

use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use engine::driver::{Snapshot, Watch};
use engine::{Counts, Handle, Pace};

/// Follows engines over swaps.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    engines: Vec<Watch>,
    /// Of engines that have ended.
    ended: Total,
}

/// What engines counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Total {
    /// What they were spared.
    pub(crate) counts: Counts,
    /// Their steps.
    pub(crate) pace: Pace,
}

impl AddAssign<Snapshot> for Total {
    fn add_assign(&mut self, engine: Snapshot) {
        self.counts += engine.counts;
        self.pace += engine.pace;
    }
}

impl Tally {
    /// Counts these from now on, until they end.
    pub(crate) fn follow(&self, engines: &[Handle]) {
        // So that nothing piles up where nobody asks.
        self.total();
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.engines.extend(engines.iter().map(Handle::watch));
    }

    /// Everything counted so far.
    pub(crate) fn total(&self) -> Total {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { engines, ended } = &mut *inner;
        engines.retain(|engine| {
            // In this order: whoever has ended counts no more.
            let has_ended = engine.ended();
            if has_ended {
                *ended += engine.snapshot();
            }
            !has_ended
        });
        let mut total = *ended;
        for engine in engines {
            total += engine.snapshot();
        }
        total
    }
}
