//! What a check found: a line with figures, and what to do where it is not as it should be.

use serde_json::{Map, Value, json};

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Ok,
    /// Worth knowing.
    Note,
    /// Works, but worse than it could, or not for long.
    Warning,
    /// Stops `serve`, or leaves it without a model.
    Wrong,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was found.
pub(super) struct Finding {
    /// A name that stays the same, for programs.
    id: &'static str,
    pub(super) severity: Severity,
    /// A line without a full stop.
    pub(super) text: String,
    /// What to do, a sentence; empty where all is well.
    pub(super) advice: String,
    /// The figures in the text, for programs: bytes, bytes a second, counts.
    figures: Map<String, Value>,
}

impl Finding {
    pub(super) fn ok(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Severity::Ok, text, "")
    }

    pub(super) fn note(id: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Severity::Note, text, advice)
    }

    pub(super) fn warning(id: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, text, advice)
    }

    pub(super) fn wrong(id: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Severity::Wrong, text, advice)
    }

    pub(super) fn new(
        id: &'static str,
        severity: Severity,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { id, severity, text: text.into(), advice: advice.into(), figures: Map::new() }
    }

    /// The same with a figure; what is not known is left out.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.figures.insert(name.to_owned(), value);
        }
        self
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "mark": self.severity.name(),
            "text": self.text,
            "advice": Some(&self.advice).filter(|advice| !advice.is_empty()),
            "figures": self.figures,
        })
    }
}

/// `1 core`, `2 cores`.
pub(super) fn counted(count: usize, what: &str) -> String {
    client::text::counted(count as u64, what, &format!("{what}s"))
}

/// A rate of tokens, times or the like with as many digits as can be meant: two or three.
pub(super) fn rounded(number: f64) -> String {
    let magnitude = 10f64.powi((number.max(1.0).log10().floor() as i32 - 2).max(0));
    if number < 10.0 {
        format!("{number:.1}")
    } else {
        format!("{:.0}", (number / magnitude).round() * magnitude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_two_or_three_digits() {
        for (number, expected) in
            [(0.04, "0.0"), (3.96, "4.0"), (12.4, "12"), (1052.4, "1050"), (125_439.0, "125000")]
        {
            assert_eq!(rounded(number), expected);
        }
    }
}
