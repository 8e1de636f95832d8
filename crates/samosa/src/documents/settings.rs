//! `settings.md`: every setting, by theme, with all its names.

use std::fmt::Write as _;

use super::{cell, code_list, keep_page};
use crate::settings::{Setting, Values};

const INTRODUCTION: &str = "\
A setting is a flag, an environment variable or a key of a TOML file, which `--config` or `SAMOSA_CONFIG` names: the first
of them that is set counts, and an empty variable is not set. The tables have all three names. What may hold several values
takes them with commas, in the file also as a list.

A wrong value stops the start with one line. `samosa config` shows what is in force and where it comes from,
`samosa config --explain NAME` says all about one, `samosa config --example` prints a file with every setting. The same
file is `deploy/samosa.example.toml`, and `deploy/samosa.schema.json` lets an editor check yours.
";

#[test]
fn the_page_of_settings_has_the_table() {
    let mut page = INTRODUCTION.to_owned();
    for (title, settings) in Values::default().groups() {
        let _ = writeln!(page, "\n## {title}\n\n| setting | default | values | meaning |\n|---|---|---|---|");
        for setting in settings {
            let default =
                if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
            let (names, values, help) = (names(setting), values(setting), cell(setting.help));
            let _ = writeln!(page, "| {names} | {default} | {values} | {help} |");
        }
    }
    keep_page("settings", "Settings", &page);
}

/// Variable, flag and key, one below the other.
fn names(setting: &Setting) -> String {
    format!("`{}`<br>`--{}`<br>`{}`", setting.variable(), setting.flag(), setting.key)
}

/// What values there are.
fn values(setting: &Setting) -> String {
    let unit = match setting.value_name.as_str() {
        "SECONDS" => " s",
        "MEGABYTES" => " MiB",
        "GIGABYTES" => " GiB",
        _ => "",
    };
    let schema = &setting.schema;
    match (schema["type"].as_str(), schema.get("maximum")) {
        (Some("integer"), Some(most)) => format!("{}–{most}{unit}", schema["minimum"]),
        (Some("integer"), None) => format!("{} or more{unit}", schema["minimum"]),
        _ if !setting.words.is_empty() => code_list(setting.words.iter().copied()),
        _ => cell(&setting.value_name),
    }
}
