//! Who runs in the next step: sequences that decode first, then prompts in order of arrival, in chunks that
//! fit the step's budget.

use std::collections::VecDeque;

use model::{LogitRows, SequenceRows};
use tokenizer::StreamDecoder;

use crate::limits::Limits;
use crate::pages::{Holding, PagePool};
use crate::request::{Request, RequestId, Usage};
use crate::tool::ToolState;

/// A request on its way through the engine.
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) request: Request,
    /// The prompt and the answer so far.
    pub(crate) tokens: Vec<u32>,
    /// How many of them have keys and values.
    pub(crate) computed: usize,
    pub(crate) holding: Holding,
    pub(crate) tool: ToolState,
    pub(crate) decoder: StreamDecoder,
    pub(crate) done: bool,
}

/// Rows of one sequence in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// Index among the running sequences.
    pub(crate) index: usize,
    /// How many of its tokens.
    pub(crate) rows: usize,
    /// Whether these complete what is known of it, so that a token can be sampled.
    pub(crate) samples: bool,
}

impl Sequence {
    fn new(id: RequestId, request: Request, holding: Holding) -> Self {
        let mut tokens = Vec::with_capacity(request.total_tokens());
        tokens.extend_from_slice(&request.prompt);
        let (tool, decoder) = (ToolState::default(), StreamDecoder::default());
        Self { id, request, tokens, computed: 0, holding, tool, decoder, done: false }
    }

    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Tokens of the answer so far.
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: 0,
            completion_tokens: self.generated(),
        }
    }

    /// The rows of a part, as the backend wants them.
    pub(crate) fn rows(&self, part: &Part) -> SequenceRows<'_> {
        SequenceRows {
            tokens: &self.tokens[self.computed..self.computed + part.rows],
            previous: self.computed.checked_sub(1).map(|i| self.tokens[i]),
            position: self.computed,
            tables: &self.holding.tables,
            logits: if part.samples { LogitRows::Last } else { LogitRows::None },
        }
    }
}

/// Admits from the queue, in order, while sequences and pages are left. Returns the admitted.
pub(crate) fn admit(
    queue: &mut VecDeque<(RequestId, Request)>,
    running: &mut Vec<Sequence>,
    pages: &mut PagePool,
    limits: &Limits,
) -> Vec<RequestId> {
    let mut admitted = Vec::new();
    while running.len() < limits.max_running {
        let Some((_, request)) = queue.front() else { break };
        let Some(holding) = pages.reserve(request.total_tokens(), limits.step_tokens) else { break };
        let Some((id, request)) = queue.pop_front() else { break };
        running.push(Sequence::new(id, request, holding));
        admitted.push(id);
    }
    admitted
}

/// The parts of the next step.
pub(crate) fn plan(running: &[Sequence], limits: &Limits) -> Vec<Part> {
    let mut budget = limits.step_tokens;
    let mut parts = Vec::new();
    let (decoding, reading): (Vec<usize>, Vec<usize>) =
        (0..running.len()).partition(|&i| running[i].pending() == 1);
    for index in decoding.into_iter().chain(reading) {
        let pending = running[index].pending();
        let rows = pending.min(budget);
        if rows == 0 {
            break;
        }
        budget -= rows;
        parts.push(Part { index, rows, samples: rows == pending });
    }
    parts
}
