//! Which series an expression in PromQL names. Not a parser: Prometheus has one, and is asked everything anyway.

use std::collections::BTreeSet;

/// Words that stand where a name could, and are none.
const WORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];
/// Words before lists of labels.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The names of all series in an expression.
pub(super) fn names(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if let Some(close) = closing(first) {
            rest = behind(&rest[first.len_utf8()..], close);
            continue;
        }
        let end = rest.find(|c: char| !is_letter(c)).unwrap_or(rest.len());
        if end == 0 {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        if BEFORE_LABELS.contains(&word) {
            rest = rest.strip_prefix('(').map_or(rest, |labels| behind(labels, ')'));
        } else if !first.is_ascii_digit() && !rest.starts_with('(') && !WORDS.contains(&word) {
            names.insert(word.to_owned());
        }
    }
    names
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// What ends that in which no series is named.
fn closing(open: char) -> Option<char> {
    match open {
        '{' => Some('}'),
        '[' => Some(']'),
        '"' | '\'' => Some(open),
        _ => None,
    }
}

/// What follows the first `close` that stands in no text.
fn behind(mut text: &str, close: char) -> &str {
    while let Some(next) = text.chars().next() {
        text = &text[next.len_utf8()..];
        if next == close {
            break;
        }
        if next == '"' {
            text = behind(text, '"');
        }
    }
    text
}
