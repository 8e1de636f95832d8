//! When a pool's caller works alone: beside a busy neighbour on one of the cores.
//!
//! The system gives such a core to each in turn, for some milliseconds. A thread that is put aside inside a task makes the
//! others wait for all of the neighbour's turn; one that sleeps of its own accord for as long as it works is not put
//! aside, since it never takes more than its share, and gets the core as soon as it wakes.

use std::time::{Duration, Instant};

/// Waiting so long for a task that another thread is inside means that it was put aside.
const STALL: Duration = Duration::from_millis(1);
/// How long one works alone, so that the others sleep and have their share of the core to come.
const ALONE: Duration = Duration::from_millis(3);
/// How long one works with the others, from when they are seen to run: less than the system lets a thread run on.
const TOGETHER: Duration = Duration::from_millis(1);
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
    turn: Turn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Alone {
        until: Instant,
    },
    /// The others are called, and may come or not.
    Calling,
    Together {
        until: Instant,
    },
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
        match wary.turn {
            Turn::Alone { until } if now >= until => wary.turn = Turn::Calling,
            Turn::Together { until } if now >= until => wary.turn = Turn::Alone { until: now + ALONE },
            _ => {}
        }
        matches!(wary.turn, Turn::Alone { .. })
    }

    /// Learns from a job of which others took tasks: the caller `ran` its own and then `waited`.
    pub(super) fn note(&mut self, ran: Duration, waited: Duration) {
        if waited >= STALL && waited >= 2 * ran {
            self.stalled(now());
        } else if let Some(wary) = &mut self.wary
            && wary.turn == Turn::Calling
        {
            wary.turn = Turn::Together { until: now() + TOGETHER };
        }
    }

    fn stalled(&mut self, now: Instant) {
        let lasts = self.wary.as_ref().map_or(WARY_FIRST, |last| (2 * last.lasts).min(WARY_MOST));
        self.wary = Some(Wary { until: now + lasts, lasts, turn: Turn::Alone { until: now + ALONE } });
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
    fn the_time_together_begins_when_the_others_come() {
        let (mut turns, start) = (Turns::default(), now());
        turns.stalled(start);
        assert!(turns.alone_at(start));
        assert!(!turns.alone_at(start + ALONE));
        assert!(!turns.alone_at(start + 10 * TOGETHER), "they are called until they come");
        turns.note(Duration::ZERO, Duration::ZERO);
        assert!(!turns.alone());
        let later = now() + TOGETHER;
        assert!(turns.alone_at(later));
        assert!(turns.alone_at(later + ALONE / 2) && !turns.alone_at(later + ALONE));
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
