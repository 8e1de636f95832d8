//! The model's calculator: what nanochat gets by Python's `eval` of an expression, without a Python.
//!
//! Pure and bounded: no power operator, so no number is longer than the expression, and the expression has a
//! limit.
//!
//! - `arithmetic`: the grammar of `1 + 2 * (3 - 4)`
//! - `number`: Python's integers, floats and how it prints them
//! - `text`: `'strawberry'.count('r')`
//!
//! nanochat removes commas, lets two sets of characters through, and evaluates. The arithmetic set is complete
//! here: whatever Python gives for it, this gives, up to CPython's own limits on depth, which change by version
//! and are replaced by ours. Of the text set this is the part that models use: see `text` for its grammar.
//! Anything else Python would make of those letters (names, comprehensions, numbers, `and`, other methods) has no
//! result here.

mod arithmetic;
mod number;
mod text;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use engine::Guide;
use tokenizer::{CalculatorTokens, Tokenizer};

/// Tokens of an expression that are remembered; a longer one is no expression.
const MAX_EXPRESSION_TOKENS: usize = 1024;

/// Follows an answer between the tokens of the calculator, and forces the result of each expression after it, as nanochat's
/// own engine does.
#[derive(Clone)]
pub struct Calculator {
    tokenizer: Arc<Tokenizer>,
    tokens: CalculatorTokens,
    expression: Option<Vec<u32>>,
    forced: VecDeque<u32>,
}

impl Calculator {
    /// A calculator at the beginning of an answer.
    pub fn new(tokenizer: Arc<Tokenizer>, tokens: CalculatorTokens) -> Self {
        Self { tokenizer, tokens, expression: None, forced: VecDeque::new() }
    }

    /// The end of an expression: its result must come next, if it has one.
    fn evaluate(&mut self, expression: &[u32]) {
        if expression.is_empty() || expression.len() > MAX_EXPRESSION_TOKENS {
            return;
        }
        if let Some(result) = calculate(&self.tokenizer.decode(expression)) {
            self.forced.push_back(self.tokens.output_start);
            self.forced.extend(self.tokenizer.encode(&result));
            self.forced.push_back(self.tokens.output_end);
            self.forced.make_contiguous();
        }
    }
}

impl Guide for Calculator {
    fn forced(&self) -> &[u32] {
        self.forced.as_slices().0
    }

    fn accept(&mut self, token: u32) {
        self.forced.pop_front();
        if token == self.tokens.python_start {
            self.expression = Some(Vec::new());
        } else if token == self.tokens.python_end {
            if let Some(expression) = self.expression.take() {
                self.evaluate(&expression);
            }
        } else if let Some(expression) = &mut self.expression
            && expression.len() <= MAX_EXPRESSION_TOKENS
        {
            expression.push(token);
        }
    }

    fn fork(&self) -> Box<dyn Guide> {
        Box::new(self.clone())
    }
}

/// Longer expressions have no result. CPython prints no integer of more than 4,300 digits; none here can be
/// longer than its expression.
const MAX_EXPRESSION_BYTES: usize = 4096;

/// Parentheses nest this deep in CPython.
const MAX_NESTING: usize = 200;

/// Words that nanochat refuses anywhere in an expression with letters, even inside a longer word.
const REFUSED_WORDS: [&str; 17] = [
    "__",
    "import",
    "exec",
    "eval",
    "compile",
    "open",
    "file",
    "input",
    "raw_input",
    "globals",
    "locals",
    "vars",
    "dir",
    "getattr",
    "setattr",
    "delattr",
    "hasattr",
];

/// The text that nanochat's engine would insert for this expression; `None` where it inserts nothing.
///
/// ```text
/// 10/2 -> 5.0      1,000+5 -> 1005      'strawberry'.count('r') -> 3      2**3 -> None
/// ```
pub fn calculate(expression: &str) -> Option<String> {
    if expression.len() > MAX_EXPRESSION_BYTES {
        return None;
    }
    let expression = expression.replace(',', "");
    if expression.chars().all(|c| c.is_ascii_digit() || "*+-/.() ".contains(c)) {
        if expression.contains("**") {
            return None;
        }
        return arithmetic::evaluate(&expression).map(|value| value.to_string());
    }
    if !expression.chars().all(|c| c.is_ascii_alphanumeric() || "'\"()._ ".contains(c)) {
        return None;
    }
    let lowered = expression.to_ascii_lowercase();
    if REFUSED_WORDS.iter().any(|word| lowered.contains(word)) || !expression.contains(".count(") {
        return None;
    }
    text::evaluate(&expression).map(|value| value.to_string())
}
