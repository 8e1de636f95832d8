//! Numbers that look random and follow from a seed alone.

/// A sequence of them: SplitMix64, of which every output is a hash of its place in the sequence.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        // Far apart, so that two small seeds do not give one sequence with a few numbers of delay.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Evenly between minus `bound` and `bound`, and never zero.
    pub(crate) fn uniform(&mut self, bound: f32) -> f32 {
        let odd = (self.next() >> 40) as f32 * 2.0 + 1.0;
        (odd / (1 << 24) as f32 - 1.0) * bound
    }

    /// A whole number below `limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        (self.next() % u64::from(limit)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_their_seed_and_fill_their_range() {
        let take = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..10_000).map(|_| numbers.uniform(2.0)).collect::<Vec<_>>()
        };
        let (a, b) = (take(1), take(2));
        assert_eq!(a, take(1));
        assert_ne!(a, b);
        assert!(a.iter().all(|x| x.abs() <= 2.0 && *x != 0.0));
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        assert!(mean.abs() < 0.1, "{mean}");
        assert!((0..100).all(|seed| Numbers::new(seed).below(3) < 3));
    }
}
