//! An answer that is followed through a grammar.

use engine::{Constraint, TokenSet, TooComplex};
use llguidance::Matcher;

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

    /// What may come here; only the end where nothing else may.
    fn set(&mut self) -> Result<TokenSet, TooComplex> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|_| TooComplex)?;
        Ok(TokenSet::from_words(mask.as_slice().to_vec()))
    }
}

impl Constraint for Followed {
    fn allowed(&mut self, guess: &[u32]) -> Result<Vec<TokenSet>, TooComplex> {
        let mut sets = vec![self.set()?];
        for (&token, ahead) in guess.iter().zip(0..) {
            if token == self.end || !sets[ahead].contains(token) {
                break;
            }
            self.take(token)?;
            let set = self.set()?;
            sets.push(set);
        }
        let ahead = sets.len() - 1;
        if ahead > 0 {
            self.matcher.rollback(ahead).map_err(|_| TooComplex)?;
        }
        Ok(sets)
    }

    fn take(&mut self, token: u32) -> Result<(), TooComplex> {
        self.matcher.consume_token(token).map_err(|_| TooComplex)
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Self { matcher: self.matcher.deep_clone(), end: self.end })
    }
}
