//! All that a request may ask for beside an answer, by a number.

use std::sync::Arc;

use engine::{Allowed, Guide, Penalties, Request, Sampling, TokenSet};

/// Sampling with what is asked for.
pub(crate) fn sampling(wish: u64, plain: &Sampling) -> Sampling {
    let is = |every: u64| wish.is_multiple_of(every);
    Sampling {
        top_p: if is(2) { 0.9 } else { 1.0 },
        min_p: if is(3) { 0.05 } else { 0.0 },
        penalties: if is(5) {
            Penalties { frequency: 0.4, presence: -0.2, repetition: 1.3 }
        } else {
            Penalties::default()
        },
        bias: if is(7) { Arc::new([(3, 1.5), (97, -100.0)]) } else { Arc::default() },
        ..plain.clone()
    }
}

/// Whether the constraint of a request answers late at times.
pub(crate) fn is_late(wish: u64) -> bool {
    wish.is_multiple_of(2 * CONSTRAINED)
}

/// One in so many has a constraint.
const CONSTRAINED: u64 = 17;

/// A request with what is asked for.
pub(crate) fn request(wish: u64, plain: Request) -> Request {
    let mut request = plain;
    if wish.is_multiple_of(11) {
        request = request.with_logprobs(wish as usize % 5);
    }
    if wish.is_multiple_of(13) {
        request = request.stopping_at(vec!["gh".to_owned(), "c".to_owned(), "aab".to_owned()]);
    }
    if wish.is_multiple_of(CONSTRAINED) {
        request = request.guided(Box::new(Thirds { is_late: is_late(wish), ..Thirds::default() }));
    }
    request
}

/// Of three tokens one may not come, and which depends on all that came; now and then some must come.
#[derive(Clone, Default)]
pub(crate) struct Thirds {
    state: u32,
    /// Those that must come next, and those of them that were said to.
    due: Vec<u32>,
    forced: Vec<u32>,
    guess: Vec<u32>,
    is_late: bool,
    /// Looks until the sets are there.
    late: u32,
}

impl Thirds {
    fn set(&self) -> TokenSet {
        TokenSet::from_words(
            (0..64)
                .map(|word| (0..32).filter(|bit| self.allows(word * 32 + bit)).map(|bit| 1 << bit).sum())
                .collect(),
        )
    }

    fn allows(&self, token: u32) -> bool {
        match self.due.first() {
            Some(&due) => token == due,
            None => token % 3 != self.state % 3,
        }
    }

    fn follow(&mut self, token: u32) {
        self.state = (self.state * 31 + token + 1) % 1009;
        if !self.due.is_empty() {
            assert_eq!(self.due.remove(0), token);
        } else if self.state.is_multiple_of(6) {
            self.due = (0..=self.state % 5).map(|i| (self.state + 7 * i) % 256).collect();
        }
    }
}

impl Guide for Thirds {
    fn forced(&self) -> &[u32] {
        &self.forced
    }

    fn prepare(&mut self, guess: &[u32]) {
        self.guess = guess.to_vec();
        self.late = if self.is_late { (self.state / 7) % 4 } else { 0 };
    }

    fn is_ready(&mut self) -> bool {
        self.late = self.late.saturating_sub(1);
        self.late == 0
    }

    fn allowed(&mut self) -> Allowed {
        if self.late > 0 {
            return Allowed::NotYet;
        }
        self.forced.clone_from(&self.due);
        let mut ahead = self.clone();
        let mut sets = vec![ahead.set()];
        for &token in &self.guess {
            if !ahead.allows(token) {
                break;
            }
            ahead.follow(token);
            sets.push(ahead.set());
        }
        Allowed::Sets(sets)
    }

    fn accept(&mut self, token: u32) {
        self.follow(token);
        if !self.forced.is_empty() {
            assert_eq!(self.forced.remove(0), token);
        }
    }

    fn fork(&self) -> Box<dyn Guide> {
        Box::new(self.clone())
    }
}
