//! What was found, for people and for programs.

use std::fmt::Write as _;

use client::text::wrap;
use serde_json::{Map, Value, json};

use super::finding::{Finding, Mark};
use super::judge;

/// Columns before what is said.
const INDENT: usize = 10;

/// Everything that was found, by section.
pub(super) struct Report {
    pub(super) machine: Vec<Finding>,
    pub(super) model: Vec<Finding>,
    pub(super) settings: Vec<Finding>,
    pub(super) sources: Vec<Finding>,
}

impl Report {
    /// The worst of all marks.
    pub(super) fn worst(&self) -> Mark {
        self.all().map(|finding| finding.mark).max().unwrap_or(Mark::Ok)
    }

    fn sections(&self) -> [(&'static str, &'static str, &[Finding]); 4] {
        [
            ("machine", "Machine", &self.machine),
            ("model", "Model", &self.model),
            ("settings", "Settings", &self.settings),
            ("sources", "Storage and sources", &self.sources),
        ]
    }

    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.sections().into_iter().flat_map(|(_, _, findings)| findings)
    }

    /// Lines of at most `width` columns, but for words that are longer.
    pub(super) fn to_text(&self, width: usize) -> String {
        let mut out = String::new();
        for (_, title, findings) in self.sections() {
            let _ = writeln!(out, "{title}");
            for finding in findings {
                paragraph(&mut out, finding.mark.name(), &finding.text, width);
                if !finding.advice.is_empty() {
                    paragraph(&mut out, "", &format!("→ {}", finding.advice), width);
                }
            }
            out.push('\n');
        }
        let _ = writeln!(out, "What will be slow, and why");
        let costs = judge::costs(self.all());
        for (number, cost) in costs.iter().enumerate() {
            paragraph(&mut out, &format!("{}.", number + 1), &cost.text, width);
        }
        if costs.is_empty() {
            paragraph(&mut out, "", "Nothing that was looked at.", width);
        }
        let _ = writeln!(out, "\n{}", self.verdict());
        out
    }

    fn verdict(&self) -> String {
        let count = |mark: Mark| self.all().filter(|finding| finding.mark == mark).count();
        let plural =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match (count(Mark::Wrong), plural(count(Mark::Warning), "warning"), plural(count(Mark::Note), "note"))
        {
            (0, warnings, notes) => format!("Nothing is wrong: {warnings}, {notes}."),
            (wrong, warnings, notes) => {
                let things = if wrong == 1 { "1 thing is".to_owned() } else { format!("{wrong} things are") };
                format!("{things} wrong: {warnings}, {notes}.")
            }
        }
    }

    /// The same as a document whose names stay the same.
    pub(super) fn to_json(&self) -> Value {
        let list = |findings: &[Finding]| findings.iter().map(Finding::to_json).collect::<Vec<_>>();
        let sections: Map<String, Value> = self
            .sections()
            .into_iter()
            .map(|(id, _, findings)| (id.to_owned(), list(findings).into()))
            .collect();
        let slow: Vec<&str> = judge::costs(self.all()).iter().map(|cost| cost.text.as_str()).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "worst": self.worst().name().to_ascii_lowercase(),
            "sections": sections,
            "slow": slow,
        })
    }
}

/// Adds a text behind a label, wrapped.
fn paragraph(out: &mut String, label: &str, text: &str, width: usize) {
    for (number, line) in wrap(text, width.saturating_sub(INDENT)).iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        let label = format!("  {label}");
        let _ = writeln!(out, "{label:INDENT$}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_costs_ordered_and_the_worst_mark_counts() {
        let long = "words ".repeat(30);
        let report = Report {
            machine: vec![Finding::ok("a", long.trim()).with("bytes", 5)],
            model: vec![Finding::note("b", "noted", "Do this.").costing(1.5, "Second.")],
            settings: vec![Finding::warning("c", "warned", "Do that.").costing(4.0, "First.")],
            sources: vec![],
        };
        let text = report.to_text(60);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.contains("  note    noted\n          → Do this.\n"), "{text}");
        assert!(text.contains("  1.      First.\n  2.      Second.\n"), "{text}");
        assert!(text.ends_with("Nothing is wrong: 1 warning, 1 note.\n"), "{text}");
        assert_eq!(report.worst(), Mark::Warning);
        let document = report.to_json();
        assert_eq!(document["sections"]["machine"][0]["figures"]["bytes"], 5);
        assert_eq!((&document["worst"], &document["slow"][0]), (&json!("warning"), &json!("First.")));
        assert_eq!(document["sections"]["model"][0]["advice"], "Do this.");
    }
}
