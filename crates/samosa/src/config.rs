//! `samosa config`: the settings in force, where each comes from, and everything that is wrong with them.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use client::text::{width, wrap};

use crate::settings::{self, Given, SetBy, Setting, Values, Wrong};

/// Columns before the values of an explanation.
const LABEL: usize = 14;

/// The command line of `config`.
pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("config")
        .about("Show the settings in force and where each comes from")
        .after_help("The exit code is 2 if anything is wrong that would stop `serve`; all of it is listed.")
        .arg(
            Arg::new("explain")
                .long("explain")
                .value_name("NAME")
                .num_args(0..=1)
                .default_missing_value("")
                .help("Say all about this setting, or about every one"),
        )
        .arg(flag("json", "Print all about every setting as JSON"))
        .arg(flag("schema", "Print the JSON Schema of the TOML file"))
        .arg(flag("example", "Print a TOML file with every setting, commented out"))
        .group(clap::ArgGroup::new("form").args(["explain", "json", "schema", "example"]))
}

/// Prints what was asked for. Returns what is wrong with the settings, all of it.
pub(crate) fn run(values: &Values, matches: &ArgMatches) -> Result<Vec<Wrong>> {
    let mut out = std::io::stdout().lock();
    if matches.get_flag("schema") {
        writeln!(out, "{:#}", settings::schema())?;
        return Ok(Vec::new());
    }
    if matches.get_flag("example") {
        write!(out, "{}", settings::example())?;
        return Ok(Vec::new());
    }
    let wrong = crate::options::wrong(values);
    match matches.get_one::<String>("explain").map(String::as_str) {
        _ if matches.get_flag("json") => writeln!(out, "{:#}", to_json(values, &wrong))?,
        None => write!(out, "{}", short(values))?,
        Some("") => {
            for (title, settings) in values.groups() {
                writeln!(out, "{title}\n{}\n", "=".repeat(title.len()))?;
                for setting in settings {
                    writeln!(out, "{}", explanation(setting, &wrong))?;
                }
            }
        }
        Some(name) => match values.meant(name) {
            Ok(setting) => write!(out, "{}", explanation(setting, &wrong))?,
            Err(unknown) => return Ok(vec![Wrong::in_general(unknown)]),
        },
    }
    Ok(wrong)
}

/// A line a setting.
fn short(values: &Values) -> String {
    let line = |setting: &Setting| {
        format!("{:28} {:24} {}\n", setting.variable(), setting.shown(), setting.set_by().name())
    };
    values.all().map(line).collect()
}

/// A setting, as a paragraph.
fn explanation(setting: &Setting, wrong: &[Wrong]) -> String {
    let shown = if setting.text().is_empty() { "(not set)" } else { setting.shown() };
    let mut out = format!("{} = {shown}\n", setting.variable());
    paragraph(&mut out, "", &format!("{}.", setting.help));
    for wrong in wrong.iter().filter(|wrong| wrong.key == Some(setting.key)) {
        paragraph(&mut out, "WRONG", &wrong.text);
    }
    paragraph(&mut out, "comes from", &place(setting, setting.set_by()));
    let mut label = "overrides";
    for Given { text, by } in overridden(setting) {
        let says = format!("{}, which says {}", place(setting, by), setting.mask(text));
        paragraph(&mut out, label, &says);
        label = "";
    }
    paragraph(&mut out, "may be", &setting.expected);
    if !setting.is_default() {
        paragraph(
            &mut out,
            "by default",
            if setting.default.is_empty() { "not set" } else { &setting.default },
        );
    }
    let names = format!("--{}, {}, {} = … in the file", setting.flag(), setting.variable(), setting.key);
    paragraph(&mut out, "is set by", &names);
    out
}

/// What was given and does not count, but for the default.
fn overridden(setting: &Setting) -> impl Iterator<Item = &Given> {
    setting.given.iter().skip(1).filter(|given| given.by != SetBy::Default)
}

/// Adds a text behind a label, both indented, wrapped to the terminal.
fn paragraph(out: &mut String, label: &str, text: &str) {
    let indent = if label.is_empty() && out.lines().count() == 1 { 2 } else { LABEL };
    for (number, line) in wrap(text, width().saturating_sub(indent)).iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        let label = format!("  {label}");
        let _ = writeln!(out, "{label:indent$}{line}");
    }
}

/// Where a value comes from.
fn place(setting: &Setting, by: &SetBy) -> String {
    match by {
        SetBy::Default => "the default".to_owned(),
        SetBy::File(path, line) => format!("{}, line {line}", path.display()),
        by => setting.source(by),
    }
}

fn to_json(values: &Values, wrong: &[Wrong]) -> Value {
    let one = |setting: &Setting| {
        let said = |Given { text, by }: &Given| {
            let mut said = json!({ "value": setting.mask(text), "origin": by.name() });
            if let SetBy::File(path, line) = by {
                said["file"] = json!(path.display().to_string());
                said["line"] = json!(line);
            }
            said
        };
        let mut about = said(&setting.given[0]);
        let mine = wrong.iter().find(|wrong| wrong.key == Some(setting.key));
        about["wrong"] = json!(mine.map(|wrong| &wrong.text));
        about["overrides"] = overridden(setting).map(said).collect();
        about["default"] = json!(setting.default);
        about["allowed"] = json!(setting.expected);
        about["secret"] = json!(setting.is_secret());
        about["help"] = json!(setting.help);
        (setting.variable(), about)
    };
    json!({
        "settings": values.all().map(one).collect::<Map<_, _>>(),
        "wrong": wrong.iter().map(|wrong| &wrong.text).collect::<Vec<_>>(),
    })
}
