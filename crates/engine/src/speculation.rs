//! Speculation by prompt lookup: where the last tokens stood before, what followed them is a guess at what
//! comes next. Rows of draft tokens are computed along with the last one, and hold as far as the sampled
//! tokens are the draft's; so a draft changes how many steps an answer takes, and nothing else.

use crate::random::mix;

/// How many last tokens are looked for, the better evidence first.
const ORDERS: [usize; 2] = [3, 2];
/// Tokens of the first guess.
const FIRST_GUESS: usize = 3;
/// Tokens without a guess after one that was all wrong; twice as many after each further one. Fewer where
/// guesses were right before.
const PAUSE: usize = 16;
const PAUSE_AFTER_SUCCESS: usize = 4;
const LONGEST_PAUSE: usize = 256;

/// The guesses of one sequence.
#[derive(Debug)]
pub(crate) struct Speculation {
    /// For each order, where the latest tokens of a hash end. As large as the sequence may become; of two
    /// with one place the later stays.
    ends: [Vec<u32>; 2],
    /// Leading tokens whose ends are known.
    indexed: usize,
    /// Tokens of the next guess.
    length: usize,
    /// No guess before there are so many tokens.
    resume_at: usize,
    pause: usize,
    /// The last token and the draft after it; empty without one.
    rows: Vec<u32>,
}

impl Default for Speculation {
    fn default() -> Self {
        let (ends, rows) = ([Vec::new(), Vec::new()], Vec::new());
        Self { ends, indexed: 0, length: FIRST_GUESS, resume_at: 0, pause: PAUSE, rows }
    }
}

impl Speculation {
    /// The last token and the draft after it; empty without one.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The draft tokens.
    pub(crate) fn draft(&self) -> &[u32] {
        self.rows.get(1..).unwrap_or_default()
    }

    /// The draft tokens, leaving none.
    pub(crate) fn take_draft(&mut self) -> Vec<u32> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.drain(..rows.len().min(1));
        rows
    }

    /// Guesses up to `limit` tokens after `tokens`, which may become `most`. Returns how many.
    pub(crate) fn guess(&mut self, tokens: &[u32], most: usize, limit: usize) -> usize {
        self.rows.clear();
        self.index(tokens, most);
        if tokens.len() < self.resume_at {
            return 0;
        }
        let (Some(&last), Some(from)) = (tokens.last(), self.find(tokens)) else { return 0 };
        self.rows.push(last);
        for at in from..from + self.length.min(limit) {
            // What would stand behind the last token is the guess itself: it repeats.
            let token = tokens.get(at).or_else(|| self.rows.get(at - tokens.len() + 1)).copied();
            self.rows.extend(token);
        }
        if self.rows.len() == 1 {
            self.rows.clear();
        }
        self.draft().len()
    }

    /// Adapts length and pause to how much of a draft was accepted, now that there are `n_tokens`.
    pub(crate) fn update(&mut self, drafted: usize, accepted: usize, n_tokens: usize) {
        if drafted == 0 {
            return;
        }
        if accepted == 0 {
            self.length = 1;
            self.resume_at = n_tokens + self.pause;
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        } else {
            self.length = if accepted == drafted { 2 * drafted } else { accepted + 1 };
            self.pause = PAUSE_AFTER_SUCCESS;
        }
    }

    /// Notes what ends before the last token, so that something follows it.
    fn index(&mut self, tokens: &[u32], most: usize) {
        for (order, ends) in ORDERS.into_iter().zip(&mut self.ends) {
            ends.resize(most.next_power_of_two(), 0);
            for end in (self.indexed + 1).max(order)..tokens.len() {
                let place = place(&tokens[end - order..end], ends.len());
                ends[place] = end as u32;
            }
        }
        self.indexed = tokens.len().saturating_sub(1);
    }

    /// Where the last tokens stood before: the index behind them.
    fn find(&self, tokens: &[u32]) -> Option<usize> {
        ORDERS.into_iter().zip(&self.ends).find_map(|(order, ends)| {
            let last = &tokens[tokens.len().checked_sub(order)?..];
            let end = ends[place(last, ends.len())] as usize;
            (end >= order && &tokens[end - order..end] == last).then_some(end)
        })
    }
}

/// Where tokens belong among `n` places, a power of two.
fn place(tokens: &[u32], n: usize) -> usize {
    tokens.iter().fold(0, |hash, &token| mix(hash ^ u64::from(token))) as usize & (n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(speculation: &mut Speculation, tokens: &[u32], limit: usize) -> Vec<u32> {
        let n = speculation.guess(tokens, 1000, limit);
        assert_eq!(speculation.rows().len(), if n == 0 { 0 } else { n + 1 });
        assert!(n == 0 || speculation.rows()[0] == tokens[tokens.len() - 1]);
        speculation.take_draft()
    }

    #[test]
    fn what_followed_the_last_three_tokens_latest_is_guessed_else_the_last_two() {
        let of = |tokens: &[u32]| guess(&mut Speculation::default(), tokens, 2);
        assert_eq!(of(&[1, 2, 3, 7, 7, 1, 2, 3, 8, 9, 5, 2, 3, 6, 1, 2, 3]), [8, 9]);
        assert_eq!(of(&[1, 2, 3, 7, 7, 1, 2, 3, 8, 9, 5, 2, 3, 6, 0, 2, 3]), [6, 0]);
        assert!(of(&[1, 2, 3, 4, 5]).is_empty());
        assert!(of(&[1]).is_empty());
        assert!(of(&[1, 1]).is_empty());
        assert_eq!(of(&[1, 1, 1]), [1, 1], "a guess repeats itself");
        assert_eq!(of(&[4, 5, 6, 4, 5]), [6, 4]);
    }

    #[test]
    fn the_index_grows_with_the_tokens() {
        let tokens: Vec<u32> = (0..900).map(|i| (mix(i / 9) % 7) as u32).collect();
        let mut grown = Speculation::default();
        for n in 1..tokens.len() {
            let expected = guess(&mut Speculation::default(), &tokens[..n], 7);
            assert_eq!(guess(&mut grown, &tokens[..n], 7), expected, "{n} tokens");
        }
    }

    #[test]
    fn right_guesses_grow_and_wrong_ones_pause() {
        let mut speculation = Speculation::default();
        let tokens = vec![1; 500];
        let mut length = |tokens: &[u32], right: fn(usize) -> usize| {
            let n = guess(&mut speculation, tokens, 7).len();
            speculation.update(n, right(n), tokens.len());
            n
        };
        assert_eq!([0; 3].map(|_| length(&tokens[..100], |n| n)), [3, 6, 7]);
        assert_eq!(length(&tokens[..100], |_| 2), 7);
        assert_eq!(length(&tokens[..100], |_| 0), 3);
        assert_eq!((length(&tokens[..103], |_| 0), length(&tokens[..104], |_| 0)), (0, 1));
        assert_eq!((length(&tokens[..111], |_| 0), length(&tokens[..112], |n| n)), (0, 1));
        assert_eq!(length(&tokens[..113], |n| n), 2);
    }
}
