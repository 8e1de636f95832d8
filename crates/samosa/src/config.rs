//! `samosa config`: the settings in force, where each comes from, and everything that is wrong with them.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use client::text::{width, wrap};
use serde_json::{Map, Value, json};

use crate::settings::{self, GROUPS, Origin, Setting, Values, Wrong};

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
    let document = [
        ("schema", (|| format!("{:#}\n", settings::schema())) as fn() -> String),
        ("example", settings::example),
    ];
    if let Some((_, make)) = document.iter().find(|(name, _)| matches.get_flag(name)) {
        write!(out, "{}", make())?;
        return Ok(Vec::new());
    }
    let wrong = crate::options::wrong(values);
    match matches.get_one::<String>("explain").map(String::as_str) {
        _ if matches.get_flag("json") => writeln!(out, "{:#}", to_json(values, &wrong))?,
        None => write!(out, "{}", short(values))?,
        Some("") => {
            for group in GROUPS {
                writeln!(out, "{}\n{}\n", group.title, "=".repeat(group.title.len()))?;
                for setting in group.settings {
                    writeln!(out, "{}", explanation(values, setting, &wrong))?;
                }
            }
        }
        Some(name) => match settings::meant(name) {
            Ok(setting) => write!(out, "{}", explanation(values, setting, &wrong))?,
            Err(unknown) => return Ok(vec![Wrong::in_general(unknown)]),
        },
    }
    Ok(wrong)
}

/// A line a setting.
fn short(values: &Values) -> String {
    let line = |setting: &Setting| {
        let (_, origin) = values.get(setting.key);
        format!("{:28} {:24} {}\n", setting.variable(), values.shown(setting), origin.name())
    };
    settings::all().map(line).collect()
}

/// A setting, as a paragraph.
fn explanation(values: &Values, setting: &Setting, wrong: &[Wrong]) -> String {
    let (value, origin) = values.get(setting.key);
    let shown = settings::shown(setting, value);
    let mut out =
        format!("{} = {}\n", setting.variable(), if shown.is_empty() { "(not set)" } else { shown });
    paragraph(&mut out, "", &format!("{}.", setting.help));
    for wrong in wrong.iter().filter(|wrong| wrong.key == Some(setting.key)) {
        paragraph(&mut out, "WRONG", &wrong.text);
    }
    paragraph(&mut out, "comes from", &place(values, setting, origin));
    let mut label = "overrides";
    for (value, origin) in values.all_of(setting.key).skip(1) {
        let says =
            format!("{}, which says {}", place(values, setting, origin), settings::shown(setting, value));
        paragraph(&mut out, label, &says);
        label = "";
    }
    paragraph(&mut out, "may be", &setting.kind.expected());
    if origin != Origin::Default {
        paragraph(
            &mut out,
            "by default",
            if setting.default.is_empty() { "not set" } else { setting.default },
        );
    }
    let names = format!("--{}, {}, {} = … in the file", setting.flag(), setting.variable(), setting.key);
    paragraph(&mut out, "is set by", &names);
    out
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
fn place(values: &Values, setting: &Setting, origin: Origin) -> String {
    match origin {
        Origin::Default => "the default".to_owned(),
        Origin::File(_) => values.source(setting.key, origin).replace(&format!("{} in ", setting.key), ""),
        origin => values.source(setting.key, origin),
    }
    .trim_end_matches(',')
    .to_owned()
}

fn to_json(values: &Values, wrong: &[Wrong]) -> Value {
    let one = |setting: &Setting| {
        let said = |(value, origin): (&str, Origin)| {
            let mut said = json!({ "value": settings::shown(setting, value), "origin": origin.name() });
            if let (Origin::File(line), Some(path)) = (origin, values.file()) {
                said["file"] = json!(path.display().to_string());
                said["line"] = json!(line);
            }
            said
        };
        let mut about = said(values.get(setting.key));
        let mine = wrong.iter().find(|wrong| wrong.key == Some(setting.key));
        about["wrong"] = json!(mine.map(|wrong| &wrong.text));
        about["overrides"] = values.all_of(setting.key).skip(1).map(said).collect();
        about["default"] = json!(setting.default);
        about["allowed"] = json!(setting.kind.expected());
        about["secret"] = json!(setting.is_secret());
        about["help"] = json!(setting.help);
        (setting.variable(), about)
    };
    json!({
        "settings": settings::all().map(one).collect::<Map<_, _>>(),
        "wrong": wrong.iter().map(|wrong| &wrong.text).collect::<Vec<_>>(),
    })
}
