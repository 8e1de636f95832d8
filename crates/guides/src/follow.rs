//! An answer that is followed through a grammar, by the library, in the worker.

use std::collections::VecDeque;

use llguidance::Matcher;

/// Following has failed: the grammar is too costly here, or the library is at a loss.
pub(crate) struct Lost;

/// What may come next.
pub(crate) struct Next {
    /// The bits of the tokens that may come after the accepted ones; then, for each draft token in turn as long as it is
    /// allowed, of those after it.
    pub(crate) sets: Vec<Vec<u32>>,
    /// The tokens that must come after the accepted ones.
    pub(crate) forced: Vec<u32>,
}

/// The state of an answer in its grammar.
pub(crate) struct Followed {
    matcher: Matcher,
    /// The token that ends an answer.
    end: u32,
    /// The tokens that must come next. A function of the accepted tokens alone: those that the library forced at an
    /// earlier token are kept, though it might cut the rest of their text into other tokens here.
    forced: VecDeque<u32>,
    /// Whether `forced` is that of this token.
    is_settled: bool,
}

impl Followed {
    pub(crate) fn new(matcher: Matcher, end: u32) -> Self {
        Self { matcher, end, forced: VecDeque::new(), is_settled: false }
    }

    /// What may come after the accepted tokens and the tokens of `draft`.
    pub(crate) fn next(&mut self, draft: &[u32]) -> Result<Next, Lost> {
        let mut sets = vec![self.set()?];
        let forced = self.forced.clone();
        for (&token, ahead) in draft.iter().zip(0..) {
            if token == self.end || !contains(&sets[ahead], token) {
                break;
            }
            self.accept(token)?;
            let set = self.set()?;
            sets.push(set);
        }
        let ahead = sets.len() - 1;
        if ahead > 0 {
            self.matcher.rollback(ahead).map_err(|_| Lost)?;
            self.forced.clone_from(&forced);
            self.is_settled = true;
        }
        Ok(Next { sets, forced: forced.into() })
    }

    /// Accepts a token, which was allowed.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), Lost> {
        self.settle();
        if self.forced.pop_front() != Some(token) {
            self.forced.clear();
        }
        self.is_settled = !self.forced.is_empty();
        self.matcher.consume_token(token).map_err(|_| Lost)
    }

    /// The same grammar at the same position, for another answer.
    pub(crate) fn fork(&self) -> Self {
        let Self { end, is_settled, .. } = *self;
        Self { matcher: self.matcher.deep_clone(), end, forced: self.forced.clone(), is_settled }
    }

    /// What may come here: a forced token alone, and only the end where nothing else may.
    fn set(&mut self) -> Result<Vec<u32>, Lost> {
        self.settle();
        let mask = match self.forced.front() {
            Some(&token) => self.matcher.tok_env().map_err(|_| Lost)?.tok_trie().singleton_token_set(token),
            None => self.matcher.compute_mask_or_eos().map_err(|_| Lost)?,
        };
        Ok(mask.as_slice().to_vec())
    }

    /// Finds out which tokens are forced here, unless that is known.
    fn settle(&mut self) {
        if !self.is_settled {
            self.forced = self.matcher.compute_ff_tokens().into();
            self.is_settled = true;
        }
    }
}

fn contains(set: &[u32], id: u32) -> bool {
    set.get((id / u32::BITS) as usize).is_some_and(|word| (word >> (id % u32::BITS)) & 1 == 1)
}
