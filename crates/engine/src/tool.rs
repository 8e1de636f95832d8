//! The calculator inside an answer: a model writes an expression between its tool markers, and the engine
//! puts the result after it, as nanochat's own engine does.

use std::collections::VecDeque;

use tokenizer::Tokenizer;

use crate::calculator::calculate;

/// Tokens of an expression that are remembered; a longer one is no expression.
const MAX_EXPRESSION_TOKENS: usize = 1024;

/// Where an answer stands between tool markers, and what it must say next.
#[derive(Default, Debug)]
pub struct ToolState {
    expression: Option<Vec<u32>>,
    forced: VecDeque<u32>,
}

impl ToolState {
    /// The token that must come next instead of a sampled one.
    pub fn take_forced(&mut self) -> Option<u32> {
        self.forced.pop_front()
    }

    /// The tokens that must come next, in order.
    pub(crate) fn forced(&self) -> impl ExactSizeIterator<Item = u32> {
        self.forced.iter().copied()
    }

    /// Follows one token of the answer, sampled or forced.
    pub fn follow(&mut self, token: u32, tokenizer: &Tokenizer) {
        let special = tokenizer.special();
        if token == special.python_start {
            self.expression = Some(Vec::new());
        } else if token == special.python_end {
            let Some(expression) = self.expression.take() else { return };
            if expression.is_empty() || expression.len() > MAX_EXPRESSION_TOKENS {
                return;
            }
            if let Some(result) = calculate(&tokenizer.decode(&expression)) {
                self.forced.push_back(special.output_start);
                self.forced.extend(tokenizer.encode(&result));
                self.forced.push_back(special.output_end);
            }
        } else if let Some(expression) = &mut self.expression
            && expression.len() <= MAX_EXPRESSION_TOKENS
        {
            expression.push(token);
        }
    }
}
