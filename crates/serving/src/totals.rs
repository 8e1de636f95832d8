//! Counts of all engines since the service began, those of earlier models included.

use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use engine::driver::{Snapshot, Watch};
use engine::{Counts, Handle, Pace};

/// Follows engines over swaps.
#[derive(Default)]
pub(crate) struct EngineTotals(Mutex<FollowedEngines>);

#[derive(Default)]
struct FollowedEngines {
    engines: Vec<Watch>,
    /// Of engines that have ended.
    ended: EngineCounts,
}

/// What engines counted.
#[derive(Clone, Copy, Default)]
pub struct EngineCounts {
    /// Work that was saved.
    pub counts: Counts,
    /// Steps, by duration and by tokens.
    pub pace: Pace,
}

impl AddAssign<Snapshot> for EngineCounts {
    fn add_assign(&mut self, engine: Snapshot) {
        self.counts += engine.counts;
        self.pace += engine.pace;
    }
}

impl EngineTotals {
    /// Counts these from now on, until they end.
    pub(crate) fn follow(&self, engines: &[Handle]) {
        // So that nothing piles up where nobody asks.
        self.total();
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        followed.engines.extend(engines.iter().map(Handle::watch));
    }

    /// Everything counted so far.
    pub(crate) fn total(&self) -> EngineCounts {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let FollowedEngines { engines, ended } = &mut *followed;
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
