//! Figures, shown line by line as they come and written as JSON at the end.

use std::io::Write;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::setup::Setup;
use super::{machine, targets};

/// One measured number.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// How weights were held; empty where that does not matter.
    pub(crate) format: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// Part of what the machine could do, 1 being all of it.
    pub(crate) share: Option<f64>,
}

impl Figure {
    /// A figure without a limit.
    pub(crate) fn new(name: impl Into<String>, format: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), format, value, unit, share: None }
    }

    /// The same, as a part of a limit.
    pub(crate) fn of_limit(self, limit: f64) -> Self {
        Self { share: Some(self.value / limit), ..self }
    }

    fn line(&self) -> String {
        let share = self.share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
        let target = targets::of(&self.name, self.format).unwrap_or_default();
        let Self { name, format, value, unit, .. } = self;
        let line = format!("{name:<44} {format:<5} {:>10} {unit:<12} {share:>6}  {target}", shown(*value));
        line.trim_end().to_owned()
    }

    fn to_json(&self) -> Value {
        let Self { name, format, value, unit, share } = self;
        let target = targets::of(name, format);
        json!({"figure": name, "format": format, "value": value, "unit": unit, "share": share, "target": target})
    }
}

/// Three significant digits, or all before the point.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// All figures so far.
pub(crate) struct Report {
    figures: Vec<Figure>,
    json: Option<String>,
}

impl Report {
    /// A report whose JSON goes to a file, or to standard output if that is `-`.
    pub(crate) fn new(json: Option<&str>) -> Self {
        Self { figures: Vec::new(), json: json.map(str::to_owned) }
    }

    /// Shows what comes before the figures.
    pub(crate) fn title(&self, text: &str) {
        self.show(text);
        self.show(&format!(
            "\n{:<44} {:<5} {:>10} {:<12} {:>6}  {}",
            "figure", "held", "value", "unit", "limit", "target"
        ));
    }

    /// Shows a figure and keeps it.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.show(&figure.line());
        self.figures.push(figure);
    }

    fn show(&self, line: &str) {
        if self.json.as_deref() == Some("-") {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// Writes the JSON, if it was asked for.
    pub(crate) fn finish(&self, setup: &Setup) -> anyhow::Result<()> {
        let Some(to) = &self.json else { return Ok(()) };
        let figures: Vec<Value> = self.figures.iter().map(Figure::to_json).collect();
        let whole = json!({"machine": machine::to_json(setup), "figures": figures});
        let text = serde_json::to_string_pretty(&whole)? + "\n";
        if to == "-" {
            return Ok(std::io::stdout().write_all(text.as_bytes())?);
        }
        std::fs::write(to, text).with_context(|| format!("{to} cannot be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_line_of_columns() {
        let figure = Figure::new("decode, 1 stream", "bf16", 123.4, "tok/s").of_limit(246.8);
        let columns: Vec<String> =
            figure.line().split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect();
        assert_eq!(columns[..2], ["decode, 1 stream", "bf16"]);
        assert_eq!(columns[2..4], ["123 tok/s", "50 %"]);
        assert!(columns[4].contains("85 %"), "{columns:?}");
        let plain = Figure::new("idle", "", 0.004, "x").line();
        assert!(plain.ends_with("0.004 x"), "{plain}");
    }

    #[test]
    fn json_has_what_the_line_has() {
        let json = Figure::new("a", "f32", 2.0, "s").of_limit(4.0).to_json();
        assert_eq!(json["share"], 0.5);
        assert_eq!(
            (&json["figure"], &json["unit"], &json["target"]),
            (&json!("a"), &json!("s"), &Value::Null)
        );
    }

    #[test]
    fn three_digits_count() {
        let all = [0.0, 0.1234, 1.2345, 12.345, 123.45, 1234.5, 99.99].map(shown);
        assert_eq!(all, ["0.00", "0.123", "1.23", "12.3", "123", "1234", "100"]);
    }
}
