//! An answer that is followed through a grammar, by the library, in the worker.

use llguidance::Matcher;

/// Following has failed: the grammar is too costly here, or the library is at a loss.
pub(crate) struct Lost;

/// Where an answer stands in its grammar.
pub(crate) struct Followed {
    matcher: Matcher,
    /// The token that ends an answer.
    end: u32,
}

impl Followed {
    pub(crate) fn new(matcher: Matcher, end: u32) -> Self {
        Self { matcher, end }
    }

    /// The bits of the tokens that may come after what was accepted; then, for each of `guess` in turn as long as it is
    /// allowed, of those after it.
    pub(crate) fn allowed(&mut self, guess: &[u32]) -> Result<Vec<Vec<u32>>, Lost> {
        let mut sets = vec![self.set()?];
        for (&token, ahead) in guess.iter().zip(0..) {
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
        }
        Ok(sets)
    }

    /// Accepts a token, which was allowed.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), Lost> {
        self.matcher.consume_token(token).map_err(|_| Lost)
    }

    /// The same grammar at the same place, for another answer.
    pub(crate) fn fork(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), end: self.end }
    }

    /// What may come here; only the end where nothing else may.
    fn set(&mut self) -> Result<Vec<u32>, Lost> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|_| Lost)?;
        Ok(mask.as_slice().to_vec())
    }
}

fn contains(set: &[u32], id: u32) -> bool {
    set.get((id / u32::BITS) as usize).is_some_and(|word| (word >> (id % u32::BITS)) & 1 == 1)
}
