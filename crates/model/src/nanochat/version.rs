//! The versions of the nanochat architecture. A checkpoint does not name its own; its tensors tell.

/// A version of the architecture, named by when nanochat's main branch changed it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NanochatVersion {
    /// 2025-10: the first release.
    G0,
    /// 2026-01-11: per-layer `resid_lambdas` and `x0_lambdas`; window pattern.
    G1,
    /// 2026-01-16: value embeddings on alternating layers, 32 gate channels.
    G3,
    /// 2026-03-02: softcap 20. Its tensors are G3's; only a base model's metadata can tell.
    G5,
    /// 2026-03-09: rotary base 100,000, QK scale 1.15, 12 gate channels, a third of the context for S layers.
    G6,
    /// 2026-03-14: smear and backout, or backout alone, QK scale 1.2, a quarter of the context for S layers.
    G7,
}

/// How far an S layer looks back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShortWindow {
    /// `sequence_len / 2`
    Half,
    /// A third, rounded up to 128.
    Third,
    /// A quarter, rounded up to 128.
    Quarter,
}

/// What a version's code fixes and its checkpoints do not record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Constants {
    /// Base of the rotary frequencies.
    pub(crate) rope_base: f32,
    /// Factor on queries and keys after their norm.
    pub(crate) qk_scale: f32,
    /// Logits are capped to ± this; without it they are as they come.
    pub(crate) softcap: Option<f32>,
    /// Upper end of the gate on value embeddings.
    pub(crate) value_gate_scale: f32,
    /// Reach of an S layer.
    pub(crate) short_window: ShortWindow,
}

impl NanochatVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 6] = [Self::G0, Self::G1, Self::G3, Self::G5, Self::G6, Self::G7];

    /// The name used in settings and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::G0 => "g0",
            Self::G1 => "g1",
            Self::G3 => "g3",
            Self::G5 => "g5",
            Self::G6 => "g6",
            Self::G7 => "g7",
        }
    }

    /// The version called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }

    /// What its code fixes.
    pub(crate) fn constants(self) -> Constants {
        let early = Constants {
            rope_base: 10_000.0,
            qk_scale: 1.0,
            softcap: Some(15.0),
            value_gate_scale: 2.0,
            short_window: ShortWindow::Half,
        };
        let late = Constants { rope_base: 100_000.0, value_gate_scale: 3.0, ..early };
        match self {
            Self::G0 | Self::G1 | Self::G3 => early,
            Self::G5 => Constants { softcap: Some(20.0), ..early },
            Self::G6 => Constants { qk_scale: 1.15, short_window: ShortWindow::Third, ..late },
            Self::G7 => Constants { qk_scale: 1.2, short_window: ShortWindow::Quarter, ..late },
        }
    }
}

impl ShortWindow {
    /// Positions back from a query, itself not counted.
    pub fn reach(self, sequence_len: usize) -> usize {
        match self {
            Self::Half => sequence_len / 2,
            Self::Third => sequence_len.div_ceil(3).next_multiple_of(128),
            Self::Quarter => sequence_len.div_ceil(4).next_multiple_of(128),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_windows_are_those_of_nanochat() {
        let reach = |rule: ShortWindow| [512, 1024, 2048, 4096, 16384].map(|s| rule.reach(s));
        assert_eq!(reach(ShortWindow::Half), [256, 512, 1024, 2048, 8192]);
        assert_eq!(reach(ShortWindow::Third), [256, 384, 768, 1408, 5504]);
        assert_eq!(reach(ShortWindow::Quarter), [128, 256, 512, 1024, 4096]);
    }
}
