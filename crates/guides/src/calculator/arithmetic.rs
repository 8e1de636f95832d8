//! Python's grammar for the characters `0-9 * + - / . ( )` and space, evaluated while it is read.
//!
//! ```text
//! sum    = term (("+" | "-") term)*
//! term   = factor (("*" | "/" | "//") factor)*
//! factor = ("+" | "-")* atom
//! atom   = integer | float | "..." | "(" ")" | "(" sum ")"
//! ```
//! Every error of Python, in syntax or in evaluation, is `None`; as nothing here has a side effect, it does not
//! matter which comes first. A call such as `(1)(2)` is one of them: nothing that can be written is callable.

use super::{MAX_NESTING, number::Number};
use num_bigint::BigInt;
use std::fmt;

/// What an expression can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ArithmeticValue {
    Number(Number),
    /// `()`
    EmptyTuple,
    /// `...`
    Ellipsis,
}

impl fmt::Display for ArithmeticValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArithmeticValue::Number(number) => number.fmt(f),
            ArithmeticValue::EmptyTuple => f.write_str("()"),
            ArithmeticValue::Ellipsis => f.write_str("Ellipsis"),
        }
    }
}

/// Evaluates a whole expression.
pub(super) fn evaluate(expression: &str) -> Option<ArithmeticValue> {
    let mut parser = ArithmeticParser { rest: expression, nesting: 0 };
    let value = parser.sum()?;
    parser.peek().is_none().then_some(value)
}

struct ArithmeticParser<'a> {
    /// What is not read yet.
    rest: &'a str,
    /// Open parentheses: the depth of the recursion.
    nesting: usize,
}

impl ArithmeticParser<'_> {
    fn sum(&mut self) -> Option<ArithmeticValue> {
        let mut left = self.term()?;
        loop {
            left = if self.take("+") {
                add(left, self.term()?)?
            } else if self.take("-") {
                numbers(left, self.term()?, Number::subtract)?
            } else {
                return Some(left);
            }
        }
    }

    fn term(&mut self) -> Option<ArithmeticValue> {
        let mut left = self.factor()?;
        loop {
            left = if self.take("*") {
                multiply(left, self.factor()?)?
            } else if self.take("//") {
                numbers(left, self.factor()?, Number::floor_divide)?
            } else if self.take("/") {
                numbers(left, self.factor()?, Number::divide)?
            } else {
                return Some(left);
            }
        }
    }

    /// Signs are counted, not recursed into: two minus signs cancel for every number.
    fn factor(&mut self) -> Option<ArithmeticValue> {
        let (mut signed, mut negative) = (false, false);
        loop {
            if self.take("-") {
                negative = !negative;
            } else if !self.take("+") {
                break;
            }
            signed = true;
        }
        match self.atom()? {
            ArithmeticValue::Number(number) if negative => Some(ArithmeticValue::Number(number.negate())),
            ArithmeticValue::EmptyTuple | ArithmeticValue::Ellipsis if signed => None,
            value => Some(value),
        }
    }

    fn atom(&mut self) -> Option<ArithmeticValue> {
        if self.take("(") {
            return self.group();
        }
        if self.take("...") {
            return Some(ArithmeticValue::Ellipsis);
        }
        self.number().map(ArithmeticValue::Number)
    }

    fn group(&mut self) -> Option<ArithmeticValue> {
        if self.take(")") {
            return Some(ArithmeticValue::EmptyTuple);
        }
        if self.nesting == MAX_NESTING {
            return None;
        }
        self.nesting += 1;
        let value = self.sum()?;
        self.nesting -= 1;
        self.take(")").then_some(value)
    }

    fn number(&mut self) -> Option<Number> {
        let digits_end = |text: &str, from: usize| {
            text[from..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| from + at)
        };
        let whole_end = digits_end(self.rest, 0);
        let is_float = self.rest[whole_end..].starts_with('.');
        let end = if is_float { digits_end(self.rest, whole_end + 1) } else { whole_end };
        let (literal, rest) = self.rest.split_at(end);
        self.rest = rest;
        if is_float {
            // A point alone is no float; Rust refuses it as Python does, and accepts `1.` and `.5`.
            return literal.parse().ok().map(Number::Float);
        }
        let has_leading_zero = literal.starts_with('0') && literal.bytes().any(|digit| digit != b'0');
        if has_leading_zero {
            return None;
        }
        literal.parse::<BigInt>().ok().map(Number::Int)
    }

    /// The next character that is not a space, with the spaces before it skipped.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches(' ');
        self.rest.chars().next()
    }

    /// Takes this token if it is next. The longer of `//` and `/`, and of `...` and `.5`, is tried first.
    fn take(&mut self, token: &str) -> bool {
        self.peek();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

fn numbers(
    left: ArithmeticValue,
    right: ArithmeticValue,
    operate: impl FnOnce(Number, Number) -> Option<Number>,
) -> Option<ArithmeticValue> {
    match (left, right) {
        (ArithmeticValue::Number(left), ArithmeticValue::Number(right)) => {
            operate(left, right).map(ArithmeticValue::Number)
        }
        _ => None,
    }
}

fn add(left: ArithmeticValue, right: ArithmeticValue) -> Option<ArithmeticValue> {
    match (left, right) {
        (ArithmeticValue::EmptyTuple, ArithmeticValue::EmptyTuple) => Some(ArithmeticValue::EmptyTuple),
        (left, right) => numbers(left, right, Number::add),
    }
}

/// A tuple times an integer repeats it, if the integer fits an index.
fn multiply(left: ArithmeticValue, right: ArithmeticValue) -> Option<ArithmeticValue> {
    match (left, right) {
        (ArithmeticValue::EmptyTuple, ArithmeticValue::Number(Number::Int(times)))
        | (ArithmeticValue::Number(Number::Int(times)), ArithmeticValue::EmptyTuple) => {
            i64::try_from(times).ok().map(|_| ArithmeticValue::EmptyTuple)
        }
        (left, right) => numbers(left, right, Number::multiply),
    }
}
