//! When a pool's caller works alone: beside a busy neighbour on one of the cores.
//!
//! The system gives such a core to each in turn, for some milliseconds. A thread that is put aside inside a task makes the
//! others wait for all of the neighbour's turn; one that sleeps of its own accord for as long as it works is not put
//! aside, since it never takes more than its share, and gets the core as soon as it wakes.

use std::time::{Duration, Instant};

/// Waiting so long for a task that another thread is inside means that it was put aside.
const STALL: Duration = Duration::from_millis(1);
/// Time lost to stalls is forgiven at this share of the time that passes: what is lost to rare ones is less than turns cost.
const FORGIVEN: u32 = 4;
/// Time lost that is too much: two turns of a neighbour, one right after the other.
const TOO_MUCH: Duration = Duration::from_millis(5);
/// How long one works alone, so that the others sleep and have their share of the core to come.
const ALONE: Duration = Duration::from_millis(3);
/// How long one works with the others, from when they are seen to run: less than the system lets a thread run on.
const TOGETHER: Duration = Duration::from_millis(1);
/// How long turns are taken at first.
const WARY_FIRST: Duration = Duration::from_millis(64);
/// How long at most: twice as long each time that it was too much again soon after.
const WARY_MOST: Duration = Duration::from_millis(1024);
/// So long after the last turn it is a first time again.
const SOON: Duration = Duration::from_millis(200);

/// Whether to work alone now.
#[derive(Default)]
pub(super) struct Turns {
    /// Time lost to stalls and not forgiven yet, and when it was last counted.
    lost: Option<(Duration, Instant)>,
    /// What follows from too much of it.
    wary: Option<Wary>,
}

struct Wary {
    until: Instant,
    lasts: Duration,
    state: ContentionState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ContentionState {
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
        match wary.state {
            ContentionState::Alone { until } if now >= until => wary.state = ContentionState::Calling,
            ContentionState::Together { until } if now >= until => {
                wary.state = ContentionState::Alone { until: now + ALONE }
            }
            _ => {}
        }
        matches!(wary.state, ContentionState::Alone { .. })
    }

    /// Learns from a job of which others took tasks: the caller `ran` its own and then `waited`.
    pub(super) fn note(&mut self, ran: Duration, waited: Duration) {
        if waited >= STALL && waited >= 2 * ran {
            self.stalled(waited, now());
        } else if let Some(wary) = &mut self.wary
            && wary.state == ContentionState::Calling
        {
            wary.state = ContentionState::Together { until: now() + TOGETHER };
        }
    }

    fn stalled(&mut self, waited: Duration, now: Instant) {
        let (before, counted) = self.lost.unwrap_or((Duration::ZERO, now));
        let lost = before.saturating_sub(now.saturating_duration_since(counted) / FORGIVEN) + waited;
        self.lost = Some((lost, now));
        if lost >= TOO_MUCH {
            let lasts = self.wary.as_ref().map_or(WARY_FIRST, |last| (2 * last.lasts).min(WARY_MOST));
            self.lost = None;
            self.wary = Some(Wary {
                until: now + lasts,
                lasts,
                state: ContentionState::Alone { until: now + ALONE },
            });
        }
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
        assert!(turns.lost.is_none());
        turns.note(Duration::from_micros(40), Duration::from_millis(3));
        assert!(turns.lost.is_some() && !turns.alone());
    }

    #[test]
    fn rare_stalls_are_forgiven_and_a_neighbour_s_are_not() {
        let (mut turns, mut now) = (Turns::default(), now());
        for _ in 0..1000 {
            now += Duration::from_millis(20);
            turns.stalled(Duration::from_millis(4), now);
            assert!(!turns.alone_at(now));
        }
        now += Duration::from_millis(7);
        turns.stalled(Duration::from_millis(4), now);
        assert!(turns.alone_at(now));
    }

    #[test]
    fn the_time_together_begins_when_the_others_come() {
        let (mut turns, start) = (Turns::default(), now());
        turns.stalled(TOO_MUCH, start);
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
    fn who_is_too_slow_soon_again_is_left_alone_for_longer() {
        let (mut turns, mut now) = (Turns::default(), now());
        for lasts in [64, 128, 256, 512, 1024, 1024].map(Duration::from_millis) {
            turns.stalled(TOO_MUCH, now);
            assert_eq!(turns.wary.as_ref().map(|wary| wary.lasts), Some(lasts));
            now += lasts + Duration::from_millis(3);
            assert!(!turns.alone_at(now));
        }
        assert!(!turns.alone_at(now + SOON));
        assert!(turns.wary.is_none());
    }
}
