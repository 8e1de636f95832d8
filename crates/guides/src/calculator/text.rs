//! Counting letters: the part of Python for strings that models write.
//!
//! ```text
//! expression = "not" expression | method
//! method     = atom ("." name "(" expression? ")")*
//! atom       = string+ | "(" expression ")"
//! ```
//! Methods of a string: `count`, `lower`, `upper`, `swapcase`, `capitalize`, `title`, and `strip`, `lstrip` and
//! `rstrip` with or without characters. Strings are in either quotes or in three of them, without prefix.
//! The filter leaves only ASCII without backslash, so bytes, characters and literal text are the same thing.

use super::MAX_NESTING;
use std::fmt;

/// What an expression can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TextValue {
    Text(String),
    Count(usize),
    Bool(bool),
}

impl fmt::Display for TextValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextValue::Text(text) => f.write_str(text),
            TextValue::Count(count) => count.fmt(f),
            TextValue::Bool(true) => f.write_str("True"),
            TextValue::Bool(false) => f.write_str("False"),
        }
    }
}

/// Evaluates a whole expression.
pub(super) fn evaluate(expression: &str) -> Option<TextValue> {
    let mut parser = TextParser { rest: expression, nesting: 0 };
    let value = parser.expression()?;
    parser.skip_spaces();
    parser.rest.is_empty().then_some(value)
}

struct TextParser<'a> {
    /// What is not read yet.
    rest: &'a str,
    /// Open parentheses: the depth of the recursion.
    nesting: usize,
}

impl<'a> TextParser<'a> {
    fn expression(&mut self) -> Option<TextValue> {
        let mut n_nots = 0;
        while self.take_not() {
            n_nots += 1;
        }
        let value = self.method()?;
        if n_nots == 0 {
            return Some(value);
        }
        let is_true = match value {
            TextValue::Text(text) => !text.is_empty(),
            TextValue::Count(count) => count != 0,
            TextValue::Bool(is_true) => is_true,
        };
        Some(TextValue::Bool(is_true == (n_nots % 2 == 0)))
    }

    fn method(&mut self) -> Option<TextValue> {
        let mut value = self.atom()?;
        while self.take(".") {
            let name = self.name();
            if !self.take("(") {
                return None;
            }
            let argument = if self.take(")") { None } else { Some(self.closed()?) };
            let (TextValue::Text(text), None | Some(TextValue::Text(_))) = (&value, &argument) else {
                return None;
            };
            let argument = argument.map(|value| value.to_string());
            value = call(text, name, argument.as_deref())?;
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<TextValue> {
        if self.take("(") {
            return self.closed();
        }
        let mut text = self.string()??.to_owned();
        while let Some(more) = self.string()? {
            text.push_str(more);
        }
        Some(TextValue::Text(text))
    }

    /// An expression and its closing parenthesis.
    fn closed(&mut self) -> Option<TextValue> {
        if self.nesting == MAX_NESTING {
            return None;
        }
        self.nesting += 1;
        let value = self.expression()?;
        self.nesting -= 1;
        self.take(")").then_some(value)
    }

    /// The next string literal, if one is next; none at all if it does not end.
    #[expect(
        clippy::option_option,
        reason = "outside, an error as everywhere here; inside, whether there is one"
    )]
    fn string(&mut self) -> Option<Option<&'a str>> {
        self.skip_spaces();
        // Three quotes first: two of them are an empty string only if no third follows.
        for quotes in ["'''", "\"\"\"", "'", "\""] {
            if let Some(rest) = self.rest.strip_prefix(quotes) {
                let (content, rest) = rest.split_once(quotes)?;
                self.rest = rest;
                return Some(Some(content));
            }
        }
        Some(None)
    }

    /// The letters, digits and underscores that are next.
    fn name(&mut self) -> &'a str {
        self.skip_spaces();
        let (name, rest) = self.rest.split_at(name_len(self.rest));
        self.rest = rest;
        name
    }

    fn take_not(&mut self) -> bool {
        self.skip_spaces();
        let is_not = &self.rest[..name_len(self.rest)] == "not";
        if is_not {
            self.rest = &self.rest["not".len()..];
        }
        is_not
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }
}

fn name_len(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// A method of a string with no argument or one.
fn call(text: &str, name: &str, argument: Option<&str>) -> Option<TextValue> {
    let set = argument.unwrap_or(" ");
    let in_set = |c: char| set.contains(c);
    let changed = match (name, argument) {
        ("count", Some(needle)) => return Some(TextValue::Count(count(text, needle))),
        ("lower", None) => text.to_ascii_lowercase(),
        ("upper", None) => text.to_ascii_uppercase(),
        ("swapcase", None) => text.chars().map(swap_case).collect(),
        ("capitalize", None) => capitalize(text),
        ("title", None) => text.split_inclusive(|c: char| !c.is_ascii_alphabetic()).map(capitalize).collect(),
        ("strip", _) => text.trim_matches(in_set).to_owned(),
        ("lstrip", _) => text.trim_start_matches(in_set).to_owned(),
        ("rstrip", _) => text.trim_end_matches(in_set).to_owned(),
        _ => return None,
    };
    Some(TextValue::Text(changed))
}

/// Occurrences that do not overlap; the empty string is before and after every character.
fn count(text: &str, needle: &str) -> usize {
    if needle.is_empty() { text.len() + 1 } else { text.matches(needle).count() }
}

fn swap_case(c: char) -> char {
    if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
}

fn capitalize(text: &str) -> String {
    let mut text = text.to_ascii_lowercase();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}
