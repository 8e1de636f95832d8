//! `samosa models list`: one line a model.

use std::io::Write;

use anyhow::Result;
use clap::ArgMatches;
use client::text::ByteSize;
use registry::{Catalog, Entry, Location, Tag, open};
use serde_json::{Value, json};
use serving::Options;

use super::print_json;
use crate::storage;

/// One line.
struct Row {
    tag: Tag,
    source: Option<String>,
    path: Option<String>,
    step: Option<u64>,
    bytes: Option<u64>,
    state: &'static str,
    /// Why it is in this state.
    reason: Option<String>,
}

/// Prints the models; an error if `models.toml` has a mistake, for then there may be more.
pub(super) fn run(options: &Options, matches: &ArgMatches) -> Result<()> {
    let catalog = options.catalog();
    let nothing_to_load = storage::nothing_to_load(options);
    // The built-in model is no default where a start would not load it.
    let default = if nothing_to_load.is_some() { None } else { Some(options.first_tag()?) };
    let default = default.as_ref();
    let mut rows: Vec<Row> =
        catalog.list()?.into_iter().map(|entry| Row::whole(options, &catalog, default, entry)).collect();
    let partial = catalog.partial()?.into_iter();
    rows.extend(partial.map(|(tag, error)| Row::new(tag, "incomplete", Some(error.to_string()))));
    rows.sort_by(|a, b| a.tag.cmp(&b.tag));
    if matches.get_flag("json") {
        let models: Vec<Value> = rows.iter().map(Row::to_json).collect();
        print_json(&json!({ "default": default.map(Tag::as_str), "models": models }))?;
    } else {
        print(&rows, default)?;
    }
    catalog.models_file()?;
    if let Some(why) = nothing_to_load {
        writeln!(std::io::stderr(), "samosa: {why}")?;
    }
    Ok(())
}

impl Row {
    fn new(tag: Tag, state: &'static str, reason: Option<String>) -> Self {
        Self { tag, source: None, path: None, step: None, bytes: None, state, reason }
    }

    fn whole(options: &Options, catalog: &Catalog, default: Option<&Tag>, entry: Entry) -> Self {
        let (source, path) = (Some(entry.source.to_string()), Some(entry.path.clone()));
        let row = if entry.location == Location::Absent {
            Self::new(entry.tag, "not fetched", None)
        } else {
            match open::find(catalog, &entry, options.step_of(&entry.tag, default)) {
                Ok(found) => {
                    let (bytes, step) = (Some(found.files().values().sum()), found.step());
                    // Headers and metadata alone; `verify` reads the rest.
                    let (state, reason) = match found.open() {
                        Ok(_) => ("complete", None),
                        Err(error) => ("refused", Some(error.to_string())),
                    };
                    Self { step, bytes, ..Self::new(entry.tag, state, reason) }
                }
                // The step that is asked for may be missing, though there is another.
                Err(error) => Self::new(entry.tag, "incomplete", Some(error.to_string())),
            }
        };
        Self { source, path, ..row }
    }

    fn to_json(&self) -> Value {
        json!({
            "tag": self.tag.as_str(), "source": self.source, "path": self.path, "step": self.step,
            "bytes": self.bytes, "state": self.state, "reason": self.reason,
        })
    }

    fn cells(&self, default: Option<&Tag>) -> [String; 5] {
        let dash = || "-".to_owned();
        let mark = if default == Some(&self.tag) { " (default)" } else { "" };
        let state = self.reason.as_ref().map(|reason| format!("{}: {reason}", self.state));
        [
            format!("{}{mark}", self.tag),
            self.source.clone().unwrap_or_else(dash),
            self.step.map_or_else(dash, |step| step.to_string()),
            self.bytes.map_or_else(dash, |bytes| ByteSize(bytes).to_string()),
            state.unwrap_or_else(|| self.state.to_owned()),
        ]
    }
}

fn print(rows: &[Row], default: Option<&Tag>) -> Result<()> {
    let head = ["tag", "source", "step", "size", "state"].map(str::to_owned);
    let lines: Vec<[String; 5]> =
        std::iter::once(head).chain(rows.iter().map(|row| row.cells(default))).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let [tags, sources, steps, sizes] = [0, 1, 2, 3].map(width);
    let mut out = std::io::stdout().lock();
    for [tag, source, step, size, state] in &lines {
        writeln!(out, "{tag:tags$}  {source:sources$}  {step:>steps$}  {size:>sizes$}  {state}")?;
    }
    Ok(())
}
