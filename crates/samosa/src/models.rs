//! `samosa models`: what there is to serve, what one model is, and whether its files are sound. Nothing is fetched
//! and nothing in the storage is changed, but for the hashes that are remembered there. Reading order: [`list`],
//! [`show`], [`verify`], [`text`] (how documents are printed for people).

mod list;
mod show;
mod text;
mod verify;

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use cpu::WeightFormat;
use registry::{Catalog, Entry, Tag};
use serde_json::Value;
use serving::Options;

/// The command line of `models`.
pub(crate) fn command() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON instead of text");
    let tag = || Arg::new("tag").value_name("TAG").required(true).help("The model");
    Command::new("models")
        .about("List the models there are, show what one is, verify its files")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            Command::new("list")
                .about("List models: those on disk, those that can be fetched, the built-in one")
                .arg(json()),
            Command::new("show").about("Show what a model is, without loading it").args([tag(), json()]),
            Command::new("verify")
                .about("Read all of a model's files, load it and let it pass its self-test")
                .after_help("The exit code is 0 if every check passed, else 1.")
                .args([tag(), json()]),
        ])
}

/// Runs the command that was given.
pub(crate) fn run(options: &Options, matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("list", matches)) => list::run(options, matches),
        Some(("show", matches)) => show::run(&Asked::read(options, matches)?),
        Some(("verify", matches)) => verify::run(options, &Asked::read(options, matches)?),
        other => unreachable!("clap knows no command {other:?}"),
    }
}

/// A model on the command line, found.
struct Asked {
    catalog: Catalog,
    entry: Entry,
    /// The training step that is asked for.
    step: Option<u64>,
    format: WeightFormat,
    json: bool,
}

impl Asked {
    fn read(options: &Options, matches: &ArgMatches) -> Result<Self> {
        let name = matches.get_one::<String>("tag").context("TAG is missing")?;
        let tag = Tag::new(name).with_context(|| format!("{name:?} is not a model's tag"))?;
        let catalog = options.catalog();
        let entry = catalog.find(&tag)?;
        let step = options.step_of(&tag, Some(&options.first_tag()?));
        Ok(Self { catalog, entry, step, format: options.format, json: matches.get_flag("json") })
    }
}

fn print_json(document: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(document)?)?)
}
