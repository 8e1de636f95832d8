//! What waits for admission: how much may, and how long one more would.
//!
//! A request stands for the tokens that it may come to hold, and frees as many places when it ends. How fast places
//! become free while somebody waits for them is measured; it foretells how long a new request would wait, whatever
//! it is that places are short of.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits::Limits;

/// Half-life of the measured pace, in time in which somebody waited.
const PACE_HALF_LIFE_S: f64 = 20.0;
/// Requests that must have left before their pace is believed.
const PACE_REQUESTS: f64 = 8.0;
/// The same for `Retry-After`, where a wrong estimate costs one more retry and no refusal.
const RETRY_PACE_REQUESTS: f64 = 0.5;

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// As many requests as allowed are waiting.
    QueueFull,
    /// Those that wait stand for as many tokens as allowed.
    QueueTokens,
    /// It would wait longer than any request may.
    QueueTime {
        /// How long it would wait, as far as can be told.
        wait: Duration,
    },
    /// The engine has ended.
    Gone,
}

/// Requests that left an engine after they were admitted.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Left {
    requests: usize,
    tokens: usize,
}

impl Left {
    /// One more, which had so many places.
    pub(crate) fn add(&mut self, tokens: usize) {
        self.requests += 1;
        self.tokens += tokens;
    }
}

/// Requests between `submit` and admission.
#[derive(Default)]
pub(crate) struct Backlog {
    requests: AtomicUsize,
    tokens: AtomicUsize,
    /// Somebody found no place in the last step. Whoever waits otherwise only waits for the next one.
    held_up: AtomicBool,
    pace: Mutex<ServiceRate>,
}

/// What became free, and in how long, older times counting less.
#[derive(Clone, Copy, Default)]
struct ServiceRate {
    requests: f64,
    tokens: f64,
    seconds: f64,
}

impl ServiceRate {
    /// Time in which so many reserved tokens are released.
    fn time_for(&self, tokens: usize) -> Duration {
        Duration::from_secs_f64((tokens as f64 * self.seconds / self.tokens.max(1.0)).min(1e6))
    }
}

impl Backlog {
    /// Requests that wait.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Tokens that they stand for.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens.load(Ordering::Acquire)
    }

    /// Takes a place in the queue. A request that may run at once needs none that is counted.
    pub(crate) fn reserve(&self, tokens: usize, running: usize, limits: &Limits) -> Result<(), Refusal> {
        let queued = self.requests.fetch_add(1, Ordering::AcqRel);
        if queued >= limits.max_queued && queued + running >= limits.max_running {
            self.requests.fetch_sub(1, Ordering::AcqRel);
            return Err(Refusal::QueueFull);
        }
        // A lone request is taken however large: it would be refused for ever otherwise.
        let before = self.tokens.fetch_add(tokens, Ordering::AcqRel);
        let is_held_up = self.held_up.load(Ordering::Acquire);
        let wait = self.wait_behind(before).filter(|_| is_held_up);
        let too_long = wait.filter(|wait| *wait > limits.queue_timeout);
        let refusal = match too_long {
            _ if before == 0 => None,
            _ if before + tokens > limits.max_queued_tokens => Some(Refusal::QueueTokens),
            too_long => too_long.map(|wait| Refusal::QueueTime { wait }),
        };
        refusal.map_or(Ok(()), |refusal| {
            self.release(tokens);
            Err(refusal)
        })
    }

    /// A request that stands for so many tokens waits no longer.
    pub(crate) fn release(&self, tokens: usize) {
        self.requests.fetch_sub(1, Ordering::AcqRel);
        self.tokens.fetch_sub(tokens, Ordering::AcqRel);
    }

    /// How long one more request would wait; `None` while nothing is known about that.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait_behind(self.tokens())
    }

    /// Estimate for `Retry-After`: how long until the requests that wait now have left the queue. One request that left is
    /// enough for a rate. Before that only the time waited so far is known, and the estimate is as long again, so that it
    /// doubles with each retry. The tokens reserved per request are no estimate: most answers end long before them.
    pub(crate) fn time_to_drain(&self) -> Duration {
        let pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = Duration::from_secs_f64(pace.seconds);
        if pace.requests < RETRY_PACE_REQUESTS { waited } else { pace.time_for(self.tokens()) }
    }

    fn wait_behind(&self, tokens: usize) -> Option<Duration> {
        let pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pace.requests >= PACE_REQUESTS && pace.tokens > 0.0;
        known.then(|| pace.time_for(tokens))
    }

    /// A step is over, after which so many wait, and in which these `left`. While nobody waits nothing is learned.
    pub(crate) fn note_step(&self, waiting: usize, took: Duration, left: Left) {
        self.held_up.store(waiting > 0, Ordering::Release);
        if waiting > 0 {
            self.note_pace(took, left);
        }
    }

    /// Everybody has a place.
    pub(crate) fn note_idle(&self) {
        self.held_up.store(false, Ordering::Release);
    }

    /// Requests `left` in a time in which others waited.
    fn note_pace(&self, took: Duration, left: Left) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = 0.5f64.powf(took.as_secs_f64() / PACE_HALF_LIFE_S);
        pace.requests = pace.requests * keep + left.requests as f64;
        pace.tokens = pace.tokens * keep + left.tokens as f64;
        pace.seconds = pace.seconds * keep + took.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A backlog that has seen ten requests of a hundred tokens leave in ten seconds.
    fn paced() -> Backlog {
        let backlog = Backlog::default();
        for _ in 0..10 {
            backlog.note_step(1, SECOND, Left { requests: 1, tokens: 100 });
        }
        backlog
    }

    #[test]
    fn a_wait_is_foretold_only_after_enough_have_left() {
        let backlog = Backlog::default();
        backlog.reserve(1_000, 0, &Limits::default()).unwrap();
        for _ in 0..5 {
            backlog.note_pace(SECOND, Left { requests: 1, tokens: 100 });
        }
        assert_eq!(backlog.wait(), None);
        let backlog = paced();
        assert_eq!(backlog.wait(), Some(Duration::ZERO), "nobody waits");
        backlog.reserve(1_000, 0, &Limits::default()).unwrap();
        let wait = backlog.wait().unwrap().as_secs_f64();
        assert!((wait - 10.0).abs() < 1e-6, "a thousand tokens at a hundred a second: {wait}");
    }

    #[test]
    fn who_would_wait_too_long_is_refused_at_once_and_holds_nothing() {
        let limits = Limits { queue_timeout: 5 * SECOND, ..Limits::default() };
        let backlog = paced();
        backlog.reserve(400, 64, &limits).unwrap();
        backlog.reserve(400, 64, &limits).unwrap();
        let refusal = backlog.reserve(100, 64, &limits).unwrap_err();
        let Refusal::QueueTime { wait } = refusal else { panic!("{refusal:?}") };
        assert!((7.9..8.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!((backlog.requests(), backlog.tokens()), (2, 800));
        backlog.release(400);
        backlog.reserve(100, 64, &limits).unwrap();
    }

    #[test]
    fn retry_after_follows_the_time_waited_until_a_request_has_left() {
        let backlog = Backlog::default();
        backlog.reserve(500_000, 0, &Limits::default()).unwrap();
        assert_eq!(backlog.time_to_drain(), Duration::ZERO, "no rate yet, whatever the queue has reserved");
        let waited = |backlog: &Backlog| backlog.time_to_drain().as_secs_f64();
        for second in 1..=4 {
            backlog.note_step(1, SECOND, Left::default());
            assert!((waited(&backlog) - f64::from(second)).abs() < 0.3, "{}", waited(&backlog));
        }
        backlog.note_step(1, SECOND, Left { requests: 1, tokens: 50_000 });
        assert!(
            (45.0..=50.0).contains(&waited(&backlog)),
            "ten times 50,000 in 5 s each: {}",
            waited(&backlog)
        );
        backlog.note_step(1, 100 * SECOND, Left::default());
        assert!(waited(&backlog) < 120.0, "a departure long ago is no rate: {}", waited(&backlog));
    }

    #[test]
    fn a_long_silence_makes_the_old_pace_count_less() {
        let backlog = paced();
        backlog.note_pace(100 * SECOND, Left::default());
        assert_eq!(backlog.wait(), None, "too few are left that count");
    }
}
