//! From logits to tokens. The only randomness is a hash of the request's seed and the token's position, so
//! a request gives the same tokens whatever else the engine is doing.
//!
//! In this order: allowed tokens, biases and penalties, temperature, `top_k`, `top_p`, `min_p`, the draw.

use std::cmp::Ordering;
use std::sync::OnceLock;

use engine::backend::{NoToken, SampleParams, Sampled};
use engine::random::uniform;
use engine::{Logprobs, Penalties, Sampling};
use kernels::rows::exp_sum;
use kernels::{Compute, Isa};

/// Logits whose weights are summed at once.
const BLOCK: usize = 1024;
/// Candidates that are looked at first where only a share of all probability is wanted: most often enough.
const FIRST_LOOK: usize = 64;

/// Samples a token from each of the given rows of `logits`, (rows, vocab_size), on all threads.
pub fn sample(
    compute: &Compute,
    logits: &[f32],
    vocab_size: usize,
    rows: &[SampleParams<'_>],
) -> Vec<Sampled> {
    let sampled: Vec<OnceLock<Sampled>> = rows.iter().map(|_| OnceLock::new()).collect();
    compute.pool.run(rows.len(), &|i| {
        let params = &rows[i];
        let row = &logits[params.row * vocab_size..][..vocab_size];
        sampled[i].get_or_init(|| sample_row(compute.isa, row, params));
    });
    // The pool has run every row.
    sampled.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Samples a token from a row of logits.
fn sample_row(isa: Isa, logits: &[f32], params: &SampleParams<'_>) -> Sampled {
    if logits.iter().map(|logit| u32::from(logit.is_nan())).sum::<u32>() > 0 {
        return Sampled { token: Err(NoToken::NotFinite), logprobs: None };
    }
    let token = match params.forced {
        Some(token) => Ok(token),
        None => choose(isa, logits, params),
    };
    let logprobs =
        params.logprobs.zip(token.ok()).map(|(n, token)| Box::new(logprobs(isa, logits, token, n)));
    Sampled { token, logprobs }
}

/// The token of a row whose logits are numbers.
fn choose(isa: Isa, logits: &[f32], params: &SampleParams<'_>) -> Result<u32, NoToken> {
    let SampleParams { sampling, position, counts, allowed, .. } = *params;
    if counts.is_none() && allowed.is_none() && sampling.bias.is_empty() {
        return draw(isa, logits, sampling, position).ok_or(NoToken::NotFinite);
    }
    let mut adjusted = logits.to_vec();
    if let Some(allowed) = allowed
        && !allowed.keep(&mut adjusted)
    {
        return Err(NoToken::NothingAllowed);
    }
    for &(token, bias) in sampling.bias.iter() {
        adjusted[token as usize] += bias;
    }
    for (token, count) in counts.into_iter().flat_map(|counts| counts.with_draft(params.draft)) {
        if let Some(logit) = adjusted.get_mut(token as usize) {
            penalise(logit, count, &sampling.penalties);
        }
    }
    let none = if allowed.is_some() { NoToken::NothingAllowed } else { NoToken::NotFinite };
    draw(isa, &adjusted, sampling, position).ok_or(none)
}

/// Penalises the logit of a token that occurs `count` times in the answer, or in the prompt alone.
fn penalise(logit: &mut f32, count: u32, penalties: &Penalties) {
    *logit = if *logit > 0.0 { *logit / penalties.repetition } else { *logit * penalties.repetition };
    if count > 0 {
        *logit -= penalties.frequency * count as f32 + penalties.presence;
    }
}

/// Draws a token, the likeliest one at temperature 0.
fn draw(isa: Isa, logits: &[f32], sampling: &Sampling, position: usize) -> Option<u32> {
    if sampling.temperature == 0.0 {
        return Some(likeliest(logits));
    }
    let share = uniform(sampling.seed, position as u64);
    let weights = Softmax::new(isa, logits, sampling.temperature);
    if sampling.top_k == 0 {
        return Some(weights.pick_likely(sampling, share));
    }
    let mut candidates = top(logits, sampling.top_k.min(logits.len()));
    if sampling.top_p < 1.0 {
        let total = candidates.iter().map(|&(_, logit)| weights.of(logit)).sum::<f64>();
        candidates.sort_unstable_by(by_rank);
        if let Some((last, _)) = weights.share_ends(&candidates, f64::from(sampling.top_p) * total) {
            candidates.truncate(last + 1);
        }
        candidates.sort_unstable_by_key(|&(token, _)| token);
    }
    // What is not allowed has no weight at all.
    let least = weights.least(sampling.min_p);
    candidates.retain(|&(_, logit)| logit > f32::NEG_INFINITY && logit >= least);
    let total: f64 = candidates.iter().map(|&(_, logit)| weights.of(logit)).sum();
    let mut left = share * total;
    for &(token, logit) in &candidates {
        left -= weights.of(logit);
        if left < 0.0 {
            return Some(token);
        }
    }
    candidates.last().map(|&(token, _)| token)
}

/// A softmax without its division: the likeliest token weighs 1.
#[derive(Clone, Copy)]
struct Softmax<'a> {
    isa: Isa,
    logits: &'a [f32],
    highest: f32,
    temperature: f32,
}

impl<'a> Softmax<'a> {
    fn new(isa: Isa, logits: &'a [f32], temperature: f32) -> Self {
        Self { isa, logits, highest: highest(logits), temperature }
    }

    fn of(&self, logit: f32) -> f64 {
        (f64::from(logit - self.highest) / f64::from(self.temperature)).exp()
    }

    /// The weight of each block of logits.
    fn blocks(&self) -> impl Iterator<Item = f64> {
        let factor = 1.0 / self.temperature;
        self.logits.chunks(BLOCK).map(move |block| f64::from(exp_sum(self.isa, block, self.highest, factor)))
    }

    /// The token at a share of the weight of all, in order of id.
    fn pick(&self, share: f64) -> u32 {
        let blocks: Vec<f64> = self.blocks().collect();
        let mut left = share * blocks.iter().sum::<f64>();
        let mut last = 0;
        for (i, (block, weight)) in self.logits.chunks(BLOCK).zip(blocks).enumerate() {
            if weight > 0.0 && left < weight {
                for (j, &logit) in block.iter().enumerate() {
                    let weight = self.of(logit);
                    left -= weight;
                    last = if weight > 0.0 { i * BLOCK + j } else { last };
                    if left < 0.0 {
                        return last as u32;
                    }
                }
                // The sum was a little larger than its parts.
                return last as u32;
            }
            left -= weight;
        }
        // Only rounding leads here: the share is below 1.
        likeliest(self.logits)
    }

    /// As [`Self::pick`], of the tokens that `top_p` and `min_p` leave.
    fn pick_likely(&self, sampling: &Sampling, share: f64) -> u32 {
        if sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
            return self.pick(share);
        }
        let least = self.least(sampling.min_p);
        let last = if sampling.top_p < 1.0 { self.last_of_share(sampling.top_p) } else { None };
        let stays = |token: u32, logit: f32| {
            logit >= least && last.is_none_or(|last| by_rank(&(token, logit), &last) != Ordering::Greater)
        };
        let keep =
            |(i, &logit): (usize, &f32)| if stays(i as u32, logit) { logit } else { f32::NEG_INFINITY };
        let kept: Vec<f32> = self.logits.iter().enumerate().map(keep).collect();
        Softmax { logits: &kept, ..*self }.pick(share)
    }

    /// The lowest logit of a token that is so likely, compared with the likeliest.
    fn least(&self, min_p: f32) -> f32 {
        self.highest + self.temperature * min_p.ln()
    }

    /// The last of the fewest likeliest tokens that have this share of the weight of all.
    fn last_of_share(&self, share: f32) -> Option<(u32, f32)> {
        let mut wanted = f64::from(share) * self.blocks().sum::<f64>();
        let mut first = top(self.logits, FIRST_LOOK.min(self.logits.len()));
        first.sort_unstable_by(by_rank);
        if let Some((_, last)) = self.share_ends(&first, wanted) {
            return Some(last);
        }
        let mut all: Vec<(u32, f32)> = self.logits.iter().enumerate().map(|(i, &z)| (i as u32, z)).collect();
        let mut rest = all.as_mut_slice();
        // Either the likelier half has what is wanted, or all of it is kept and the other half has the rest.
        while rest.len() > FIRST_LOOK {
            let half = rest.len() / 2;
            rest.select_nth_unstable_by(half, by_rank);
            let (likelier, others) = rest.split_at_mut(half);
            let weight = self.total(likelier);
            if weight >= wanted {
                rest = likelier;
            } else {
                wanted -= weight;
                rest = others;
            }
        }
        rest.sort_unstable_by(by_rank);
        // Rounding may leave a little too much to be wanted.
        self.share_ends(rest, wanted).map(|(_, last)| last).or(rest.last().copied())
    }

    /// What tokens weigh together.
    fn total(&self, tokens: &[(u32, f32)]) -> f64 {
        let mut block = Vec::with_capacity(BLOCK);
        let weight = |tokens: &[(u32, f32)]| {
            block.clear();
            block.extend(tokens.iter().map(|&(_, logit)| logit));
            f64::from(exp_sum(self.isa, &block, self.highest, 1.0 / self.temperature))
        };
        tokens.chunks(BLOCK).map(weight).sum()
    }

    /// Where candidates weigh as much as is wanted, the likeliest first.
    fn share_ends(&self, candidates: &[(u32, f32)], wanted: f64) -> Option<(usize, (u32, f32))> {
        let mut sum = 0.0;
        candidates.iter().copied().enumerate().find(|&(_, (_, logit))| {
            sum += self.of(logit);
            sum >= wanted
        })
    }
}

/// The log probability of `token`, and those of the `n` likeliest tokens.
fn logprobs(isa: Isa, logits: &[f32], token: u32, n: usize) -> Logprobs {
    let softmax = Softmax::new(isa, logits, 1.0);
    let log_sum_exp = softmax.highest + softmax.blocks().sum::<f64>().ln() as f32;
    let mut likeliest = if n == 0 { Vec::new() } else { top(logits, n.min(logits.len())) };
    likeliest.sort_unstable_by(by_rank);
    let logprob = logits.get(token as usize).map_or(f32::NEG_INFINITY, |&logit| logit - log_sum_exp);
    Logprobs { logprob, top: likeliest.into_iter().map(|(id, logit)| (id, logit - log_sum_exp)).collect() }
}

/// The token with the highest logit, the lowest id on ties.
fn likeliest(logits: &[f32]) -> u32 {
    let highest = highest(logits);
    logits.iter().position(|&logit| logit >= highest).unwrap_or(0) as u32
}

/// The highest logit; sixteen maxima side by side, since the compiler must not reorder one.
fn highest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = logits.chunks_exact(lanes.len());
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Exactly `k` tokens with the highest logits (lower ids first on ties), in order of id. One pass that keeps
/// at most `2k` candidates: whatever is not above the k-th best so far can never get in.
fn top(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut kept: Vec<(u32, f32)> = Vec::with_capacity(2 * k);
    let mut threshold = f32::NEG_INFINITY;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > threshold || kept.len() < k {
            kept.push((i as u32, logit));
            if kept.len() == 2 * k {
                let (_, worst, _) = kept.select_nth_unstable_by(k - 1, by_rank);
                threshold = worst.1;
                kept.truncate(k);
            }
        }
    }
    if kept.len() > k {
        kept.select_nth_unstable_by(k - 1, by_rank);
        kept.truncate(k);
    }
    kept.sort_unstable_by_key(|&(token, _)| token);
    kept
}

/// The higher logit first, the lower id on ties.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as sorting asks for it")]
fn by_rank(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use engine::TokenSet;
    use engine::backend::TokenCounts;
    use engine::random::mix;

    use super::*;

    fn params(sampling: &Sampling, position: usize) -> SampleParams<'_> {
        let (counts, allowed, forced, logprobs) = (None, None, None, None);
        SampleParams { row: 0, sampling, position, counts, draft: &[], allowed, forced, logprobs }
    }

    fn sample(logits: &[f32], sampling: &Sampling, position: usize) -> Option<u32> {
        sample_row(Isa::SCALAR, logits, &params(sampling, position)).token.ok()
    }

    fn sampling(temperature: f32, top_k: usize, seed: u64) -> Sampling {
        Sampling { temperature, top_k, seed, ..Sampling::default() }
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest_and_ignores_top_k() {
        assert_eq!(sample(&[0.0, 3.0, 3.0, 1.0], &sampling(0.0, 1, 9), 4), Some(1));
    }

    #[test]
    fn not_a_number_is_refused() {
        assert_eq!(sample(&[0.0, f32::NAN], &sampling(0.0, 0, 0), 0), None);
        assert_eq!(sample(&[0.0, f32::NAN], &sampling(1.0, 1, 0), 0), None);
    }

    #[test]
    fn top_k_keeps_exactly_k_candidates_lower_ids_first_on_ties() {
        let logits = [1.0, 5.0, 5.0, 5.0, -2.0];
        let seen: std::collections::BTreeSet<u32> =
            (0..200).filter_map(|seed| sample(&logits, &sampling(1.0, 2, seed), 7)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(sample(&logits, &sampling(1.0, 1, 3), 0), Some(1));
    }

    #[test]
    fn one_pass_finds_what_sorting_finds() {
        for (n, k) in [(1, 1), (10, 3), (500, 499), (500, 500), (4000, 50), (4000, 1)] {
            // Few distinct values, so that ties abound.
            let logits: Vec<f32> =
                (0..n).map(|i| (mix(i as u64 + 31 * n as u64) % 97) as f32 - 48.0).collect();
            let mut sorted: Vec<(u32, f32)> =
                logits.iter().enumerate().map(|(i, &z)| (i as u32, z)).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            sorted.truncate(k);
            sorted.sort_by_key(|&(token, _)| token);
            assert_eq!(top(&logits, k), sorted, "{k} of {n}");
        }
    }

    #[test]
    fn frequencies_follow_the_softmax_at_the_given_temperature() {
        let logits: [f32; 3] = [0.0, 1.0, 2.0];
        for temperature in [0.5f32, 1.0, 2.0] {
            let mut counts = [0.0f64; 3];
            let n = 40_000;
            for position in 0..n {
                let token = sample(&logits, &sampling(temperature, 0, 42), position).unwrap();
                counts[token as usize] += 1.0 / n as f64;
            }
            let weights = logits.map(|z| f64::from(z / temperature).exp());
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                assert!((count - weight / total).abs() < 0.01, "{counts:?} at {temperature}");
            }
        }
    }

    /// What can be drawn at all, over many positions.
    fn drawn(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
        let drawn: std::collections::BTreeSet<u32> =
            (0..4000).filter_map(|position| sample(logits, sampling, position)).collect();
        drawn.into_iter().collect()
    }

    #[test]
    fn a_share_of_all_probability_is_kept_or_of_what_top_k_leaves() {
        // Probabilities 0.1, 0.4, 0.3, 0.2.
        let logits = [0.1f32, 0.4, 0.3, 0.2].map(f32::ln);
        let with = |top_p, top_k| drawn(&logits, &Sampling { top_k, top_p, ..Sampling::default() });
        assert_eq!(with(0.39, 0), [1]);
        assert_eq!(with(0.41, 0), [1, 2]);
        assert_eq!(with(0.71, 0), [1, 2, 3]);
        assert_eq!(with(1.0, 0), [0, 1, 2, 3]);
        // Of 0.4 and 0.3 the first has 0.57.
        assert_eq!((with(0.56, 2), with(0.58, 2)), (vec![1], vec![1, 2]));
        assert_eq!(with(1e-9, 0), [1]);
    }

    #[test]
    fn a_share_is_found_however_many_tokens_have_it() {
        let n = 5000;
        let logits = vec![0.0f32; n];
        let sampling = Sampling { top_p: 0.5, ..Sampling::default() };
        let weights = Softmax::new(Isa::SCALAR, &logits, 1.0);
        assert_eq!(weights.last_of_share(sampling.top_p), Some((n as u32 / 2 - 1, 0.0)), "lower ids first");
        assert!(drawn(&logits, &sampling).iter().all(|&token| token < n as u32 / 2));
    }

    #[test]
    fn halving_finds_what_sorting_finds() {
        for (n, seed) in [(65, 1), (500, 2), (4000, 3)] {
            let logits: Vec<f32> = (0..n).map(|i| (mix(i + seed * 7919) % 97) as f32 / 40.0).collect();
            let mut sorted: Vec<(u32, f32)> =
                logits.iter().enumerate().map(|(i, &z)| (i as u32, z)).collect();
            sorted.sort_by(by_rank);
            let total: f64 = sorted.iter().map(|&(_, z)| f64::from(z).exp()).sum();
            for share in [0.011f32, 0.31, 0.503, 0.899, 0.997] {
                let mut sum = 0.0;
                let last = sorted.iter().find(|(_, z)| {
                    sum += f64::from(*z).exp() / total;
                    sum >= f64::from(share)
                });
                for isa in Isa::available() {
                    let found = Softmax::new(isa, &logits, 1.0).last_of_share(share);
                    assert_eq!(found.as_ref(), last, "{share} of {n} with {isa:?}");
                }
            }
        }
    }

    #[test]
    fn candidates_that_are_much_less_likely_than_the_likeliest_go() {
        let logits = [0.1f32, 0.4, 0.3, 0.2].map(f32::ln);
        let with = |min_p| drawn(&logits, &Sampling { min_p, ..Sampling::default() });
        assert_eq!(
            (with(0.2), with(0.3), with(0.6), with(1.0)),
            (vec![0, 1, 2, 3], vec![1, 2, 3], vec![1, 2], vec![1])
        );
    }

    #[test]
    fn penalties_follow_the_counts_of_prompt_answer_and_draft() {
        let penalties = Penalties { frequency: 0.5, presence: 0.25, repetition: 2.0 };
        let sampling = Sampling { penalties, ..Sampling::default() };
        let mut counts = TokenCounts::new(&[0, 1], &sampling).unwrap();
        for token in [1, 2, 2] {
            counts.add(token);
        }
        let penalised = |counts: &TokenCounts, draft: &[u32]| {
            let mut logits = [4.0, -4.0, 4.0, 4.0];
            for (token, count) in counts.with_draft(draft) {
                penalise(&mut logits[token as usize], count, &penalties);
            }
            logits
        };
        assert_eq!(penalised(&counts, &[]), [2.0, -8.0 - 0.75, 2.0 - 1.25, 4.0]);
        let drafted = penalised(&counts, &[3, 1, 3]);
        for token in [3, 1, 3] {
            counts.add(token);
        }
        assert_eq!(drafted, penalised(&counts, &[]), "a draft counts like the answer");
        assert!(TokenCounts::new(&[0, 1], &Sampling::default()).is_none(), "without penalties");
        let answer_only = Penalties { repetition: 1.0, ..penalties };
        let counts = TokenCounts::new(&[0, 1], &Sampling { penalties: answer_only, ..Sampling::default() });
        assert_eq!(counts.unwrap().with_draft(&[]).count(), 0, "prompts count for repetition alone");
    }

    #[test]
    fn a_bias_moves_and_bans_and_what_is_not_allowed_never_comes() {
        let logits = [1.0f32, 2.0, 3.0, 2.5];
        let biased =
            |bias: &[(u32, f32)]| Sampling { temperature: 0.0, bias: bias.into(), ..Sampling::default() };
        assert_eq!(sample(&logits, &biased(&[(2, -100.0)]), 0), Some(3));
        assert_eq!(sample(&logits, &biased(&[(0, 100.0), (1, 0.1)]), 0), Some(0));
        let of = |words: Vec<u32>, sampling: &Sampling, position| {
            let allowed = TokenSet::from_words(words);
            let params = SampleParams { allowed: Some(&allowed), ..params(sampling, position) };
            sample_row(Isa::SCALAR, &logits, &params).token
        };
        for sampling in [
            Sampling::default(),
            Sampling { top_k: 3, ..Sampling::default() },
            Sampling { top_p: 0.99, ..Sampling::default() },
            Sampling { min_p: 0.01, ..Sampling::default() },
            biased(&[(2, 100.0)]),
        ] {
            assert!((0..500).all(|at| matches!(of(vec![0b1001], &sampling, at), Ok(0 | 3))), "{sampling:?}");
            let none = Err(NoToken::NothingAllowed);
            assert_eq!((of(vec![], &sampling, 0), of(vec![0b10000], &sampling, 0)), (none, none));
        }
    }

    #[test]
    fn log_probabilities_are_those_of_the_logits_alone() {
        let logits: Vec<f32> = (0..3000).map(|i| ((i * 37) % 101) as f32 / 10.0).collect();
        let total: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        let exact = |token: u32| (f64::from(logits[token as usize]) - total.ln()) as f32;
        for isa in Isa::available() {
            let sampling = Sampling { temperature: 0.3, bias: [(5, 9.0)].into(), ..Sampling::default() };
            let params = SampleParams { logprobs: Some(4), ..params(&sampling, 3) };
            let Sampled { token, logprobs } = sample_row(isa, &logits, &params);
            let (token, Logprobs { logprob, top }) = (token.unwrap(), *logprobs.unwrap());
            assert!((logprob - exact(token)).abs() < 1e-4);
            let ids: Vec<u32> = top.iter().map(|&(token, _)| token).collect();
            assert_eq!(ids, super::top(&logits, 4).iter().map(|&(token, _)| token).collect::<Vec<_>>());
            assert!(top.iter().all(|&(token, logprob)| (logprob - exact(token)).abs() < 1e-4));
        }
    }

    #[test]
    fn every_instruction_set_draws_by_the_same_probabilities() {
        let logits: Vec<f32> = (0..3000).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let weights: Vec<f64> = logits.iter().map(|&z| f64::from(z).exp()).collect();
        let total: f64 = weights.iter().sum();
        for isa in Isa::available() {
            for share in [0.0, 0.1, 0.5, 0.9, 0.999_999] {
                let token = Softmax::new(isa, &logits, 1.0).pick(share) as usize;
                let [before, with] = [token, token + 1].map(|n| weights[..n].iter().sum::<f64>() / total);
                assert!(
                    before - 1e-6 <= share && share <= with + 1e-6,
                    "{isa:?} {share}: {before} to {with}"
                );
            }
        }
    }

    #[test]
    fn a_forced_token_is_taken_with_its_own_log_probability() {
        let (logits, sampling) = ([0.0, 3.0, 1.0], Sampling::default());
        let params = SampleParams { forced: Some(2), logprobs: Some(1), ..params(&sampling, 0) };
        let Sampled { token, logprobs } = sample_row(Isa::SCALAR, &logits, &params);
        let Logprobs { logprob, top } = *logprobs.unwrap();
        assert_eq!((token, top[0].0), (Ok(2), 1));
        assert!((top[0].1 - logprob - 2.0).abs() < 1e-6);
        assert_eq!(sample_row(Isa::SCALAR, &[f32::NAN; 3], &params).token, Err(NoToken::NotFinite));
    }

    #[test]
    fn seed_and_position_decide() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let draw = |seed, position| sample(&logits, &sampling(1.0, 0, seed), position);
        assert_eq!(draw(1, 1), draw(1, 1));
        let different = (0..50).filter(|&i| draw(1, i) != draw(2, i) && draw(1, i) != draw(1, i + 1)).count();
        assert!(different > 45);
    }
}
