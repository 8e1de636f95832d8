//! What all engines counted since the service began, those of earlier weights included.

use std::sync::{Mutex, PoisonError};

use engine::driver::Watch;
use engine::{Counts, Handle};

/// Follows engines over swaps.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    engines: Vec<Watch>,
    /// Of engines that have ended.
    ended: Counts,
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
    pub(crate) fn total(&self) -> Counts {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { engines, ended } = &mut *inner;
        let mut live = Counts::default();
        engines.retain(|engine| {
            // In this order: whoever has ended counts no more.
            let has_ended = engine.ended();
            let sum = if has_ended { &mut *ended } else { &mut live };
            *sum += engine.snapshot().counts;
            !has_ended
        });
        live += *ended;
        live
    }
}
