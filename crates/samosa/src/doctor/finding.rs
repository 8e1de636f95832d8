//! What was found: a line with a mark and figures, and what to do where it is not as it should be.

use serde_json::{Map, Value, json};

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mark {
    Ok,
    /// Worth knowing.
    Note,
    /// Works, but worse than it could, or not for long.
    Warning,
    /// Stops `serve`, or leaves it without a model.
    Wrong,
}

impl Mark {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
        }
    }
}

/// What makes a server slower.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cost {
    /// How many times as long it takes what it concerns, computed or estimated; costs are put in this order.
    pub(super) times: f64,
    /// What takes longer and why, a sentence.
    pub(super) text: String,
}

/// One thing that was found.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Finding {
    /// A name that stays the same, for programs.
    pub(super) id: &'static str,
    pub(super) mark: Mark,
    /// A line without a full stop.
    pub(super) text: String,
    /// What to do, a sentence; empty where all is well.
    pub(super) advice: String,
    /// The figures in the text, for programs: bytes, bytes a second, counts.
    pub(super) figures: Map<String, Value>,
    pub(super) cost: Option<Cost>,
}

impl Finding {
    pub(super) fn ok(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Mark::Ok, text.into(), String::new())
    }

    pub(super) fn note(id: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Mark::Note, text.into(), advice.into())
    }

    pub(super) fn warning(id: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Mark::Warning, text.into(), advice.into())
    }

    pub(super) fn wrong(id: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(id, Mark::Wrong, text.into(), advice.into())
    }

    fn new(id: &'static str, mark: Mark, text: String, advice: String) -> Self {
        Self { id, mark, text, advice, figures: Map::new(), cost: None }
    }

    /// The same with a figure; what is not known is left out.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.figures.insert(name.to_owned(), value);
        }
        self
    }

    /// The same, which makes a server slower.
    pub(super) fn costing(self, times: f64, text: impl Into<String>) -> Self {
        Self { cost: Some(Cost { times, text: text.into() }), ..self }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "mark": self.mark.name().to_ascii_lowercase(),
            "text": self.text,
            "advice": Some(&self.advice).filter(|advice| !advice.is_empty()),
            "figures": self.figures,
        })
    }
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] = [("GB", 1_073_741_824.0), ("MB", 1_048_576.0), ("kB", 1024.0)];
    let bytes = bytes as f64;
    let (unit, of) = UNITS.into_iter().find(|(_, of)| bytes >= *of).unwrap_or(UNITS[2]);
    let number = bytes / of;
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
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
    fn sizes_have_two_or_three_digits() {
        for (bytes, expected) in [
            (0, "0.0 kB"),
            (1536, "1.5 kB"),
            (10 << 20, "10 MB"),
            (1_500_000_000, "1.4 GB"),
            (1 << 40, "1024 GB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (number, expected) in
            [(0.04, "0.0"), (3.96, "4.0"), (12.4, "12"), (1052.4, "1050"), (125_439.0, "125000")]
        {
            assert_eq!(rounded(number), expected);
        }
    }
}
