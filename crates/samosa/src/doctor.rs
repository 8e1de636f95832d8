//! `samosa doctor`: what is wrong with a machine, its settings, a model and where models come from.
//!
//! It loads no model, fetches nothing and changes nothing. [`CHECKS`] is all that is looked at; what two checks need is in
//! the [`Context`]. Findings are shown by severity.

mod finding;
mod machine;
mod model;
mod settings;
mod sources;

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use client::text::{width, wrap};
use registry::Tag;
use registry::machine::Machine;
use serde_json::{Map, Value, json};
use server::Options;

use self::finding::{Finding, Severity, counted};
use self::machine::Speed;
use self::model::{CheckedModel, CompleteModel};
use crate::options;
use crate::settings::Values;

/// Columns at most: what fits a mail and an issue.
const MAX_WIDTH: usize = 80;
/// Columns before what is said.
const INDENT: usize = 10;

/// Looks at one thing and adds what it finds.
type Check = fn(&Context, &mut Vec<Finding>);

/// Every check, below the section of its findings in the JSON document.
const CHECKS: [(&str, &[Check]); 4] = [
    (
        "machine",
        &[
            machine::instruction_set,
            machine::cores,
            machine::throttling,
            machine::memory,
            machine::swap_space,
            machine::build,
            machine::speed,
        ],
    ),
    (
        "model",
        &[
            model::files,
            model::sizes,
            model::weight_format,
            model::identity,
            model::memory,
            model::chats,
            model::swap,
            model::speed,
        ],
    ),
    (
        "settings",
        &[
            settings::wrong,
            settings::set,
            settings::addresses,
            settings::callers,
            settings::certificate,
            settings::handover,
            settings::open_files,
            settings::contradictions,
        ],
    ),
    ("sources", &[sources::storage, sources::models, sources::remote]),
];

/// What checks look at.
struct Context<'a> {
    values: &'a Values,
    /// `None` where settings are wrong: then the machine can be looked at all the same.
    options: Option<Options>,
    /// The model on the command line.
    asked: Option<&'a Tag>,
    /// Whether no source is asked.
    is_offline: bool,
    machine: Machine,
    model: OnceCell<CheckedModel>,
    speed: OnceCell<Speed>,
}

impl Context<'_> {
    fn model(&self) -> Option<&CheckedModel> {
        let options = self.options.as_ref()?;
        Some(self.model.get_or_init(|| CheckedModel::find(options, self.asked)))
    }

    /// The model, if its files are there and can be loaded.
    fn complete_model(&self) -> Option<(&CompleteModel, &Options)> {
        let CheckedModel::Complete(model) = self.model()? else { return None };
        Some((model, self.options.as_ref()?))
    }

    fn speed(&self) -> &Speed {
        self.speed.get_or_init(|| Speed::measure(self))
    }
}

/// The command line of `doctor`.
pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("doctor")
        .about("Say what is wrong here, and what will be slow and why")
        .after_help(
            "It looks at the machine, which it measures for half a second, at the model, the settings and the sources, loads \
             nothing and changes nothing. The exit code is 1 if something would stop `serve` or leave it without a model, \
             else 0; secrets are masked, so that what it says can be shown to others.",
        )
        .arg(
            Arg::new("tag")
                .value_name("TAG")
                .value_parser(crate::tag)
                .help("Model to look at, instead of the one that a start would load"),
        )
        .arg(flag("json", "Print JSON instead of text"))
        .arg(flag("offline", "Ask no source"))
}

/// Looks, and says what was found. Returns whether nothing is wrong.
pub(crate) fn run(values: &Values, matches: &ArgMatches) -> Result<bool> {
    let context = Context {
        values,
        options: values.check_sources().and_then(|()| options::options(values)).ok(),
        asked: matches.get_one("tag"),
        is_offline: matches.get_flag("offline"),
        machine: registry::machine::now(),
        model: OnceCell::new(),
        speed: OnceCell::new(),
    };
    let sections = CHECKS.map(|(section, checks)| {
        let mut found = Vec::new();
        for check in checks {
            check(&context, &mut found);
        }
        (section, found)
    });
    let mut all: Vec<&Finding> = sections.iter().flat_map(|(_, found)| found).collect();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = all.first().map_or(Severity::Ok, |finding| finding.severity);
    let mut out = std::io::stdout().lock();
    if matches.get_flag("json") {
        let list = |found: &[Finding]| found.iter().map(Finding::to_json).collect::<Value>();
        let sections: Map<String, Value> =
            sections.iter().map(|(section, found)| ((*section).to_owned(), list(found))).collect();
        let document =
            json!({ "version": env!("CARGO_PKG_VERSION"), "worst": worst.name(), "sections": sections });
        writeln!(out, "{document:#}")?;
    } else {
        write!(out, "{}", to_text(&all, width().min(MAX_WIDTH)))?;
    }
    Ok(worst < Severity::Wrong)
}

/// Lines of at most `width` columns, but for words that are longer, and how many findings of each severity there are.
fn to_text(all: &[&Finding], width: usize) -> String {
    let mut out = String::new();
    for finding in all {
        let label = if finding.severity == Severity::Wrong { "WRONG" } else { finding.severity.name() };
        paragraph(&mut out, label, &finding.text, width);
        if !finding.advice.is_empty() {
            paragraph(&mut out, "", &format!("→ {}", finding.advice), width);
        }
    }
    let count = |severity| all.iter().filter(|finding| finding.severity == severity).count();
    let wrong = match count(Severity::Wrong) {
        0 => "Nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        many => format!("{many} things are wrong"),
    };
    let (warnings, notes) = (count(Severity::Warning), count(Severity::Note));
    let _ = writeln!(out, "\n{wrong}: {}, {}.", counted(warnings, "warning"), counted(notes, "note"));
    out
}

/// Adds a text behind a label, wrapped.
fn paragraph(out: &mut String, label: &str, text: &str, width: usize) {
    for (number, line) in wrap(text, width.saturating_sub(INDENT)).iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        let label = format!("  {label}");
        let _ = writeln!(out, "{label:INDENT$}{line}");
    }
}
