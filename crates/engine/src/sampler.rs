//! From logits to a token. The only randomness is a hash of the request's seed and the token's position, so
//! a request gives the same tokens whatever else the engine is doing.

use crate::request::Sampling;

/// Picks a token; `None` if a logit is not a number.
pub(crate) fn sample(logits: &[f32], sampling: &Sampling, position: usize) -> Option<u32> {
    if logits.iter().map(|logit| u32::from(logit.is_nan())).sum::<u32>() > 0 {
        return None;
    }
    if sampling.temperature == 0.0 {
        return Some(likeliest(logits));
    }
    let k = if sampling.top_k == 0 { logits.len() } else { sampling.top_k.min(logits.len()) };
    let candidates = top(logits, k);
    let highest = candidates.iter().map(|&(_, logit)| logit).fold(f32::NEG_INFINITY, f32::max);
    let temperature = f64::from(sampling.temperature);
    let weight = |logit: f32| (f64::from(logit - highest) / temperature).exp();
    let total: f64 = candidates.iter().map(|&(_, logit)| weight(logit)).sum();
    let mut left = uniform(sampling.seed, position as u64) * total;
    for &(token, logit) in &candidates {
        left -= weight(logit);
        if left < 0.0 {
            return Some(token);
        }
    }
    candidates.last().map(|&(token, _)| token)
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
    let by_rank = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
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

/// A number in 0 .. 1 that depends on nothing but its arguments: two rounds of the SplitMix64 finaliser.
fn uniform(seed: u64, position: u64) -> f64 {
    let bits = mix(mix(seed).wrapping_add(position.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The SplitMix64 finaliser.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_k: usize, seed: u64) -> Sampling {
        Sampling { temperature, top_k, seed }
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

    #[test]
    fn seed_and_position_decide() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let draw = |seed, position| sample(&logits, &sampling(1.0, 0, seed), position);
        assert_eq!(draw(1, 1), draw(1, 1));
        let different = (0..50).filter(|&i| draw(1, i) != draw(2, i) && draw(1, i) != draw(1, i + 1)).count();
        assert!(different > 45);
    }
}
