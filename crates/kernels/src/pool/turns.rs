//! When a pool's caller works alone: beside a busy neighbour on one of the cores.
//!
//! The system gives such a core to each in turn, for some milliseconds. A thread that is put aside inside a task makes the
//! others wait for all of the neighbour's turn; one that sleeps of its own accord for as long as it works is not put
//! aside, since it never takes more than its share, and gets the core as soon as it wakes.

use std::time::{Duration, Instant};

/// Waiting so long for a task that another thread is inside means that it was put aside.
const STALL: Duration = Duration::from_millis(1);
/// How long one works alone, and then with the others: less than the system lets a thread run on.
const TURN: Duration = Duration::from_millis(2);
/// How long turns are taken after a first stall, which may have been the only one.
const WARY_FIRST: Duration = Duration::from_millis(64);
/// How long at most: twice as long after each stall that follows soon.
const WARY_MOST: Duration = Duration::from_millis(1024);
/// A stall so long after the last turn is a first one again.
const SOON: Duration = Duration::from_millis(200);

/// Whether to work alone now.
#[derive(Default)]
pub(super) struct Turns {
    /// What follows from the last stall, if there was one.
    wary: Option<Wary>,
}

struct Wary {
    until: Instant,
    lasts: Duration,
    alone: bool,
    turn_ends: Instant,
}

#[expect(clippy::disallowed_methods, reason = "what the system does to threads can only be seen in time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl Turns {
    /// Whether the next job is the caller's alone.
    pub(super) fn alone(&mut self) -> bool {
        self.wary.is_some() && self.alone_at(now())
    }

    fn alone_at(&mut self, now: Instant) -> bool {
        let Some(wary) = &mut self.wary else { return false };
        if now >= wary.until {
            if now >= wary.until + SOON {
                self.wary = None;
            }
            return false;
        }
        if now >= wary.turn_ends {
            wary.alone = !wary.alone;
            wary.turn_ends = now + TURN;
        }
        wary.alone
    }

    /// Learns from a job of which the caller `ran` its tasks and then `waited` for those of others.
    pub(super) fn note(&mut self, ran: Duration, waited: Duration) {
        if waited >= STALL && waited >= 2 * ran {
            self.stalled(now());
        }
    }

    fn stalled(&mut self, now: Instant) {
        let lasts = self.wary.as_ref().map_or(WARY_FIRST, |last| (2 * last.lasts).min(WARY_MOST));
        self.wary = Some(Wary { until: now + lasts, lasts, alone: true, turn_ends: now + TURN });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_works_alone_before_a_stall_and_long_tasks_are_none() {
        let mut turns = Turns::default();
        turns.note(Duration::from_millis(5), Duration::from_millis(8));
        turns.note(Duration::ZERO, Duration::from_micros(900));
        assert!(!turns.alone());
        turns.note(Duration::from_micros(40), Duration::from_millis(3));
        assert!(turns.wary.is_some());
    }

    #[test]
    fn turns_alternate_for_a_while() {
        let (mut turns, start) = (Turns::default(), now());
        turns.stalled(start);
        let alone: Vec<bool> = (0..8).map(|ms| turns.alone_at(start + Duration::from_millis(ms))).collect();
        assert_eq!(alone, [true, true, false, false, true, true, false, false]);
        assert!(!turns.alone_at(start + WARY_FIRST));
    }

    #[test]
    fn stalls_that_follow_soon_make_wary_for_longer() {
        let (mut turns, mut now) = (Turns::default(), now());
        for lasts in [64, 128, 256, 512, 1024, 1024].map(Duration::from_millis) {
            turns.stalled(now);
            assert_eq!(turns.wary.as_ref().map(|wary| wary.lasts), Some(lasts));
            now += lasts + Duration::from_millis(3);
            assert!(!turns.alone_at(now));
        }
        assert!(!turns.alone_at(now + SOON));
        assert!(turns.wary.is_none());
    }
}
