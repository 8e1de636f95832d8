//! Whether a model fits beside the one that serves, instead of it, or not at all.

use registry::{Error, Tag, memory};

use crate::transaction::SwapOrder;

/// Bytes that loading takes for a while: buffers of the reader, the self-test's scratch, stacks of new threads.
pub const TRANSIENT: u64 = 64 << 20;

/// What an operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SwapMode {
    /// Beside the old model if both fit, else in its place.
    #[default]
    Auto,
    /// Beside the old model or not at all.
    Overlap,
    /// In its place.
    Serial,
}

/// Bytes a model takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// The weights as they are held.
    pub weights: u64,
    /// Keys and values as the settings ask for, all workers together.
    pub kv: u64,
    /// Keys and values of one sequence of full length, for each worker: with less it cannot serve. Not more than `kv`.
    pub kv_least: u64,
}

/// Bytes there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryBudget {
    /// Bytes that may still be allocated; `None` if the system does not tell.
    pub available: Option<u64>,
    /// Reserved by the engines that run, but never written to yet: not to be given away twice.
    pub untouched: u64,
    /// What comes back when the model that serves is freed, less what it never touched; `None` if none serves.
    pub returned: Option<u64>,
}

/// How a model takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryPlan {
    /// Beside the old one or after it.
    pub mode: SwapOrder,
    /// Bytes for keys and values, all workers together: fewer than asked for where they do not fit.
    pub kv: u64,
}

/// A model that does not fit, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// What it needs at least.
    pub needed: u64,
    /// What there would be.
    pub available: u64,
}

impl Shortage {
    /// As an error about a model.
    pub fn of(self, tag: &Tag) -> Error {
        Error::OutOfMemory { tag: tag.clone(), needed: self.needed >> 20, available: self.available >> 20 }
    }
}

impl Needs {
    /// Weights, and keys and values of one sequence for each worker.
    pub fn least(self) -> u64 {
        self.weights + self.kv_least
    }

    /// The plan for so many bytes, if they are enough.
    fn within(self, there: u64, mode: SwapOrder) -> Result<MemoryPlan, Shortage> {
        let least = self.least() + TRANSIENT;
        let rest = there.checked_sub(least).ok_or(Shortage { needed: least, available: there })?;
        // A quarter of what is left stays free: for the page cache, and for what nobody foresaw.
        let kv = if self.fits_whole(there) { self.kv } else { self.kv_least + rest / 4 * 3 };
        Ok(MemoryPlan { mode, kv: kv.min(self.kv) })
    }

    fn fits_whole(self, there: u64) -> bool {
        self.weights + self.kv + TRANSIENT <= there
    }
}

/// How a model can take over from the one that serves, if one does.
///
/// Beside it only if all that both may ever touch fits: what is reserved is a promise. In its place, or beside it where
/// that is wished, keys and values may be fewer than the settings ask for.
pub fn plan(needs: Needs, memory: MemoryBudget, wish: SwapMode) -> Result<MemoryPlan, Shortage> {
    let available = memory.available.unwrap_or(u64::MAX / 2);
    let beside = available.saturating_sub(memory.untouched);
    let Some(returned) = memory.returned else { return needs.within(beside, SwapOrder::Overlap) };
    match wish {
        SwapMode::Overlap => needs.within(beside, SwapOrder::Overlap),
        SwapMode::Auto if needs.fits_whole(beside) => needs.within(beside, SwapOrder::Overlap),
        SwapMode::Auto | SwapMode::Serial => needs.within(available + returned, SwapOrder::Serial),
    }
}

/// The plan for a model where nothing serves, with the memory that there is now.
pub fn alone(needs: Needs, tag: &Tag) -> Result<MemoryPlan, Error> {
    let memory = MemoryBudget { available: memory::available(), untouched: 0, returned: None };
    plan(needs, memory, SwapMode::Auto).map_err(|shortage| shortage.of(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn needs(weights: u64, kv: u64) -> Needs {
        Needs { weights: weights * MB, kv: kv * MB, kv_least: 50 * MB }
    }

    fn memory(available: u64, untouched: u64, returned: u64) -> MemoryBudget {
        MemoryBudget {
            available: Some(available * MB),
            untouched: untouched * MB,
            returned: Some(returned * MB),
        }
    }

    fn planned(mode: SwapOrder, kv: u64) -> MemoryPlan {
        MemoryPlan { mode, kv: kv * MB }
    }

    #[test]
    fn both_fit_or_one_fits_or_none() {
        let plan = |available, untouched, returned| {
            plan(needs(2000, 1000), memory(available, untouched, returned), SwapMode::Auto)
        };
        assert_eq!(plan(3100, 0, 2500), Ok(planned(SwapOrder::Overlap, 1000)));
        assert_eq!(
            plan(3100, 500, 2500),
            Ok(planned(SwapOrder::Serial, 1000)),
            "what the old one has reserved is not free"
        );
        assert_eq!(plan(14, 0, 2500), Ok(planned(SwapOrder::Serial, 50 + 300)), "with fewer keys and values");
        assert_eq!(plan(500, 0, 1000), Err(Shortage { needed: 2114 * MB, available: 1500 * MB }));
    }

    #[test]
    fn a_first_model_makes_do_with_what_there_is() {
        for wish in [SwapMode::Auto, SwapMode::Overlap, SwapMode::Serial] {
            let first = MemoryBudget { returned: None, ..memory(2200, 0, 0) };
            let plan = |weights| plan(needs(weights, 1000), first, wish);
            assert_eq!(
                plan(2000),
                Ok(MemoryPlan { mode: SwapOrder::Overlap, kv: 50 * MB + 86 * MB / 4 * 3 })
            );
            assert_eq!(plan(1000), Ok(planned(SwapOrder::Overlap, 1000)));
            assert!(plan(2200).is_err());
        }
    }

    #[test]
    fn a_wish_is_heeded() {
        let roomy = memory(30_000, 0, 0);
        assert_eq!(plan(needs(2000, 1000), roomy, SwapMode::Serial), Ok(planned(SwapOrder::Serial, 1000)));
        let tight = memory(500, 0, 5000);
        assert!(plan(needs(2000, 1000), tight, SwapMode::Overlap).is_err(), "nobody is made to wait");
        let unknown = MemoryBudget { available: None, ..memory(0, 0, 0) };
        assert_eq!(plan(needs(2000, 1000), unknown, SwapMode::Auto), Ok(planned(SwapOrder::Overlap, 1000)));
    }
}
