//! Replacing the model that serves, as a state machine without input or output.
//!
//! Everything that can fail happens while the old model serves, if both fit in memory:
//! `resolve → download → verify → load → selftest → cutover → drain → free`. If they do not, as much as can be
//! known beforehand is: `resolve → download → verify → drain → free → load → selftest → cutover`, and what fails
//! after the old model is gone is followed by `restore`, which loads it again. Who does the work of a phase, and
//! keeps the time, is the server; this module says what comes next.

/// Where a swap is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwapPhase {
    /// Finding the tag.
    Resolve,
    /// Fetching its files, if they are elsewhere.
    Download,
    /// Hashing the files; reading names, shapes, metadata and tokenizer; comparing with the memory there is.
    Verify,
    /// Reading and packing the weights.
    Load,
    /// A short answer; engines are started.
    SelfTest,
    /// New requests go to the new model.
    CutOver,
    /// The old model finishes what it began.
    Drain,
    /// The old model's memory is given back.
    Free,
    /// The old model is loaded again, because the new one failed after the old one was gone.
    Restore,
}

impl SwapPhase {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Resolve,
        Self::Download,
        Self::Verify,
        Self::Load,
        Self::SelfTest,
        Self::CutOver,
        Self::Drain,
        Self::Free,
        Self::Restore,
    ];

    /// The name used in `/stats` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Download => "download",
            Self::Verify => "verify",
            Self::Load => "load",
            Self::SelfTest => "selftest",
            Self::CutOver => "cutover",
            Self::Drain => "drain",
            Self::Free => "free",
            Self::Restore => "restore",
        }
    }
}

/// In which order the old model goes and the new one comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwapOrder {
    /// The new one is loaded beside the old one, which serves meanwhile.
    Overlap,
    /// The old one ends first; requests wait meanwhile.
    Serial,
}

impl SwapOrder {
    /// The name used in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Serial => "serial",
        }
    }

    fn order(self) -> &'static [SwapPhase] {
        use SwapPhase::{CutOver, Download, Drain, Free, Load, Resolve, SelfTest, Verify};
        match self {
            Self::Overlap => &[Resolve, Download, Verify, Load, SelfTest, CutOver, Drain, Free],
            Self::Serial => &[Resolve, Download, Verify, Drain, Free, Load, SelfTest, CutOver],
        }
    }
}

/// How a swap ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwapOutcome {
    /// The new model serves.
    Live,
    /// It failed, and what served before serves on.
    Failed,
    /// It failed after the old model was gone, and the old model was loaded again.
    Restored,
    /// It failed, and so did loading the old model again: nothing serves.
    Lost,
}

impl SwapOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Live, Self::Failed, Self::Restored, Self::Lost];

    /// The name used in `/stats` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "ok",
            Self::Failed => "failed",
            Self::Restored => "restored",
            Self::Lost => "lost",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwapStep {
    /// This phase, and then to tell how it went.
    Run(SwapPhase),
    /// Nothing more.
    End(SwapOutcome),
}

/// One swap.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transaction {
    phase: SwapPhase,
    mode: SwapOrder,
    /// Whether a model served when it began.
    had_old: bool,
}

impl Transaction {
    /// A swap where nothing serves. It begins with [`SwapPhase::Resolve`].
    pub fn first() -> Self {
        Self { phase: SwapPhase::Resolve, mode: SwapOrder::Overlap, had_old: false }
    }

    /// A swap of the model that serves. It begins with [`SwapPhase::Resolve`].
    pub fn replacing() -> Self {
        Self { had_old: true, ..Self::first() }
    }

    /// Chooses the order of what follows [`SwapPhase::Verify`]; to be called within it.
    pub fn plan(&mut self, mode: SwapOrder) {
        assert_eq!(self.phase, SwapPhase::Verify, "the plan is made where memory is compared");
        // Where nothing serves, nothing has to go first.
        self.mode = if self.had_old { mode } else { SwapOrder::Overlap };
    }

    /// The order chosen.
    pub fn mode(&self) -> SwapOrder {
        self.mode
    }

    /// The phase succeeded.
    pub fn succeeded(&mut self) -> SwapStep {
        if self.phase == SwapPhase::Restore {
            return SwapStep::End(SwapOutcome::Restored);
        }
        let order = self.mode.order();
        let place = order.iter().position(|phase| *phase == self.phase);
        match place.and_then(|place| order.get(place + 1)) {
            Some(&next) => {
                self.phase = next;
                SwapStep::Run(next)
            }
            None => SwapStep::End(SwapOutcome::Live),
        }
    }

    /// The phase failed.
    pub fn failed(&mut self) -> SwapStep {
        match (self.mode, self.phase) {
            (_, SwapPhase::Restore) => SwapStep::End(SwapOutcome::Lost),
            (
                SwapOrder::Serial,
                SwapPhase::Free | SwapPhase::Load | SwapPhase::SelfTest | SwapPhase::CutOver,
            ) => {
                self.phase = SwapPhase::Restore;
                SwapStep::Run(SwapPhase::Restore)
            }
            // The new model serves already: what is left is only tidied up worse.
            (SwapOrder::Overlap, SwapPhase::Drain | SwapPhase::Free) => SwapStep::End(SwapOutcome::Live),
            _ => SwapStep::End(SwapOutcome::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a swap does to the world, as far as anybody outside would notice.
    #[expect(clippy::struct_excessive_bools, reason = "each is one thing that is so or not")]
    struct World {
        old_serves: bool,
        old_in_memory: bool,
        new_in_memory: bool,
        new_serves: bool,
        requests_wait: bool,
        most_in_memory: usize,
    }

    impl World {
        fn new(swap: &Transaction) -> Self {
            let had_old = swap.had_old;
            Self {
                old_serves: had_old,
                old_in_memory: had_old,
                new_in_memory: false,
                new_serves: false,
                requests_wait: false,
                most_in_memory: usize::from(had_old),
            }
        }

        fn perform(&mut self, phase: SwapPhase, mode: SwapOrder) {
            match (phase, mode) {
                (SwapPhase::Load, _) => self.new_in_memory = true,
                (SwapPhase::SelfTest, _) => assert!(self.new_in_memory),
                (SwapPhase::CutOver, _) => {
                    assert!(self.new_in_memory);
                    (self.new_serves, self.old_serves, self.requests_wait) = (true, false, false);
                }
                (SwapPhase::Drain, SwapOrder::Serial) => {
                    (self.requests_wait, self.old_serves) = (true, false);
                }
                (SwapPhase::Drain, SwapOrder::Overlap) => {
                    assert!(self.new_serves, "old streams end beside the new");
                }
                (SwapPhase::Free, _) => {
                    assert!(!self.old_serves, "what serves is not freed");
                    self.old_in_memory = false;
                }
                (SwapPhase::Restore, _) => {
                    (self.new_in_memory, self.requests_wait) = (false, false);
                    (self.old_serves, self.old_in_memory) = (true, true);
                }
                _ => {}
            }
            let in_memory = usize::from(self.old_in_memory) + usize::from(self.new_in_memory);
            self.most_in_memory = self.most_in_memory.max(in_memory);
        }
    }

    /// Plays a swap in which the phases in `broken` fail. A failure undoes its phase.
    fn play(
        mut swap: Transaction,
        mode: SwapOrder,
        broken: &[SwapPhase],
    ) -> (SwapOutcome, World, Vec<SwapPhase>) {
        let mut world = World::new(&swap);
        let (mut next, mut seen) = (SwapStep::Run(SwapPhase::Resolve), Vec::new());
        loop {
            let phase = match next {
                SwapStep::Run(phase) => phase,
                SwapStep::End(outcome) => return (outcome, world, seen),
            };
            assert!(!seen.contains(&phase), "no phase comes twice");
            seen.push(phase);
            next = if broken.contains(&phase) {
                // Requests that wait are let go where the old model is still there to take them.
                if phase == SwapPhase::Drain && mode == SwapOrder::Serial && swap.had_old {
                    (world.requests_wait, world.old_serves) = (false, true);
                }
                swap.failed()
            } else {
                if phase == SwapPhase::Verify {
                    swap.plan(mode);
                }
                world.perform(phase, swap.mode());
                swap.succeeded()
            };
        }
    }

    /// Every set of phases that fail, in every mode, with and without an old model.
    #[test]
    fn whatever_fails_somebody_serves_who_can_and_nobody_waits_for_ever() {
        for (had_old, mode) in [
            (true, SwapOrder::Overlap),
            (true, SwapOrder::Serial),
            (false, SwapOrder::Overlap),
            (false, SwapOrder::Serial),
        ] {
            for set in 0u32..1 << SwapPhase::ALL.len() {
                let chosen = SwapPhase::ALL.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
                let broken: Vec<SwapPhase> = chosen.map(|(_, phase)| *phase).collect();
                let swap = if had_old { Transaction::replacing() } else { Transaction::first() };
                let (outcome, world, seen) = play(swap, mode, &broken);
                let case = format!("{had_old} {mode:?} {broken:?}: {outcome:?} {seen:?}");
                assert!(!world.requests_wait || outcome == SwapOutcome::Lost, "{case}");
                assert!(!(world.old_serves && world.new_serves), "{case}");
                match outcome {
                    SwapOutcome::Live => assert!(world.new_serves, "{case}"),
                    SwapOutcome::Failed | SwapOutcome::Restored => {
                        assert_eq!((world.old_serves, world.new_serves), (had_old, false), "{case}");
                    }
                    SwapOutcome::Lost => {
                        assert!(had_old && mode == SwapOrder::Serial, "{case}");
                        assert!(broken.contains(&SwapPhase::Restore), "{case}");
                    }
                }
                if mode == SwapOrder::Overlap || !had_old {
                    assert!(!seen.contains(&SwapPhase::Restore), "{case}");
                } else {
                    assert!(
                        world.most_in_memory <= 1,
                        "two models never lie in memory in serial mode: {case}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_orders_are_those_that_are_documented() {
        let names = |mode| {
            play(Transaction::replacing(), mode, &[])
                .2
                .iter()
                .map(|phase| phase.name())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names(SwapOrder::Overlap), "resolve download verify load selftest cutover drain free");
        assert_eq!(names(SwapOrder::Serial), "resolve download verify drain free load selftest cutover");
    }
}
