//! The model's calculator: what nanochat gets by Python's `eval` of an expression, without a Python.
//!
//! Pure and bounded: no power operator, so no number is longer than the expression, and the expression has a
//! limit. It does not find expressions in generated tokens, nor put results back: that is the tool state machine.
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
