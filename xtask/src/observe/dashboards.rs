//! The committed dashboards: every query in them, and the values that Grafana would put in for its variables.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::text;

/// A dashboard's file and what it asks.
pub(super) struct Dashboard {
    pub(super) file: String,
    pub(super) queries: Vec<Query>,
}

/// What a dashboard asks of Prometheus, and where in it.
pub(super) enum Query {
    /// An expression of a panel or an annotation.
    Expression { place: String, expression: String },
    /// The values of a variable: those of a label of a series.
    LabelValues { place: String, series: String, label: String },
}

impl Query {
    pub(super) fn place(&self) -> &str {
        let (Self::Expression { place, .. } | Self::LabelValues { place, .. }) = self;
        place
    }

    /// The expression that names its series.
    pub(super) fn expression(&self) -> &str {
        let (Self::Expression { expression: text, .. } | Self::LabelValues { series: text, .. }) = self;
        text
    }
}

impl Dashboard {
    /// Those in a folder.
    pub(super) fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut paths: Vec<_> =
            fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        if paths.is_empty() {
            bail!("no dashboards in {}", folder.display());
        }
        paths.iter().map(|path| Self::read(path).with_context(|| path.display().to_string())).collect()
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let json: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let mut queries = Vec::new();
        for panel in list(&json["panels"])? {
            let place = format!("panel \"{}\"", text(panel, "title")?);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{place} {}", text(target, "refId")?);
                queries.push(Query::Expression { place, expression: text(target, "expr")?.to_owned() });
            }
        }
        for variable in
            list(&json["templating"]["list"])?.iter().filter(|variable| variable["type"] == "query")
        {
            queries.push(label_values(variable)?);
        }
        // Grafana's own has no expression.
        for annotation in list(&json["annotations"]["list"])?.iter().filter(|one| one.get("expr").is_some()) {
            let place = format!("annotation \"{}\"", text(annotation, "name")?);
            queries.push(Query::Expression { place, expression: text(annotation, "expr")?.to_owned() });
        }
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { file, queries })
    }
}

/// A variable that is asked for as `label_values(SERIES, LABEL)`.
fn label_values(variable: &Value) -> anyhow::Result<Query> {
    let place = format!("variable \"{}\"", text(variable, "name")?);
    let asked = text(&variable["query"], "query")?;
    let inside = asked.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (series, label) = inside.and_then(|inside| inside.rsplit_once(',')).context("no label_values(…)")?;
    Ok(Query::LabelValues { place, series: series.trim().to_owned(), label: label.trim().to_owned() })
}

fn list(value: &Value) -> anyhow::Result<&Vec<Value>> {
    value.as_array().context("a list is missing")
}

/// An expression with what Grafana puts in for its variables: all jobs and instances, and windows that fit scrapes of
/// each second.
pub(super) fn substituted(expression: &str) -> String {
    [
        ("$__rate_interval", "5s"),
        ("$__range", "60s"),
        ("$__interval", "1s"),
        ("$job", ".*"),
        ("$instance", ".*"),
    ]
    .iter()
    .fold(expression.to_owned(), |expression, (variable, value)| expression.replace(variable, value))
}
