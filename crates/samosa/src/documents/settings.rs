//! `settings.md`: every setting, by theme, with all its names.

use std::fmt::Write as _;

use super::{cell, code_list, keep_page};
use crate::settings::{GROUPS, Kind, Setting};

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
    for group in GROUPS {
        let _ = writeln!(
            page,
            "\n## {}\n\n| setting | default | values | meaning |\n|---|---|---|---|",
            group.title
        );
        for setting in group.settings {
            let default =
                if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
            let (names, values, help) = (names(setting), values(&setting.kind), cell(setting.help));
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
fn values(kind: &Kind) -> String {
    match kind {
        Kind::Whole(bounds, unit) => {
            let unit = match *unit {
                "SECONDS" => " s",
                "MEGABYTES" => " MiB",
                "GIGABYTES" => " GiB",
                _ => "",
            };
            match bounds.end() {
                &u64::MAX => format!("{} or more{unit}", bounds.start()),
                most => format!("{}–{most}{unit}", bounds.start()),
            }
        }
        Kind::Boolean => code_list(["true", "false"]),
        Kind::Choice(words, _) => code_list(words.iter().copied()),
        other => cell(&other.value_name()),
    }
}
