//! `samosa doctor`: what is wrong with a machine, its settings, a model and where models come from, and what will be slow.
//!
//! It loads no model, fetches nothing and changes nothing. Reading order: [`facts`] (what there is), [`judge`] (what that
//! means, without looking at anything again), [`finding`] (a line of what was found), [`report`].

mod facts;
mod finding;
mod judge;
mod report;

use std::io::Write;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use client::text::width;
use cpu::Isa;
use registry::Tag;

use self::facts::{Ask, MachineFacts, Model, ModelFacts, SettingsFacts, SourcesFacts};
use self::finding::{Finding, Mark};
use self::report::Report;
use crate::options;
use crate::settings::{Origin, Values};

/// Columns at most: what fits a mail and an issue.
const MAX_WIDTH: usize = 80;

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
    let ask = if matches.get_flag("offline") { Ask::Nobody } else { Ask::Everybody };
    let report = report(values, matches.get_one::<Tag>("tag"), ask)?;
    let mut out = std::io::stdout().lock();
    if matches.get_flag("json") {
        writeln!(out, "{:#}", report.to_json())?;
    } else {
        write!(out, "{}", report.to_text(width().min(MAX_WIDTH)))?;
    }
    Ok(report.worst() < Mark::Wrong)
}

fn report(values: &Values, asked: Option<&Tag>, ask: Ask) -> Result<Report> {
    let settings = judge::settings(&SettingsFacts::look(values));
    let options = values.check_sources().and_then(|()| options::options(values));
    let Ok(options) = options else {
        // What is wrong stands among the settings; the machine can be looked at all the same.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let machine = judge::machine(&MachineFacts::look(Isa::detect(), (1, cores), None));
        let later = |id| vec![Finding::note(id, "not looked at", "Mend the settings first.")];
        return Ok(Report { machine, model: later("model"), settings, sources: later("sources") });
    };
    let model = ModelFacts::look(&options.models, asked);
    let token_bytes = model.whole().map(|whole| whole.token_bytes);
    let machine =
        MachineFacts::look(options.models.isa, (options.models.workers, options.models.threads), token_bytes);
    let sources = SourcesFacts::look(values, &options, ask)?;
    let absent = matches!(model.model, Model::Absent(_)).then_some(model.tag.as_str());
    Ok(Report {
        machine: judge::machine(&machine),
        model: judge::model(&model, &format_origin(values), machine.speed.as_ref()),
        settings,
        sources: judge::sources(&sources, absent),
    })
}

/// Who chose how weights are held.
fn format_origin(values: &Values) -> String {
    match values.get("nanochat_dtype") {
        ("auto", Origin::Default) => "the default".to_owned(),
        (value, origin) => format!("NANOCHAT_DTYPE={value}, {}", origin.name()),
    }
}
