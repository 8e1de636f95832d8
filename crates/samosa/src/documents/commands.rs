//! `commands.md`: every command with its arguments, from the command line itself.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::{cell, code_list, keep_page};

const INTRODUCTION: &str = "\
`samosa help COMMAND` says the same at the terminal. Every command takes every [setting](settings.md) as a flag as well,
`--config FILE` for the file that holds them, and `--help`. The exit code is 0 once all is done, 1 if it failed, 2 if
settings or arguments are wrong, 130 if it was interrupted.
";

#[test]
fn the_page_of_commands_has_every_command() {
    let mut page = INTRODUCTION.to_owned();
    let mut samosa = crate::command();
    samosa.build();
    for command in samosa.get_subcommands().filter(|command| command.get_name() != "help") {
        add(&mut page, command, 2);
    }
    keep_page("commands", "Commands", &page);
}

/// A command and those below it, under a heading of this level.
fn add(page: &mut String, command: &Command, level: usize) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "\n{} {name}\n\n{}.", "#".repeat(level), cell(&about));
    let below: Vec<&Command> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
    if below.is_empty() {
        let _ = writeln!(page, "\n`{}`", usage(&name, command));
    }
    arguments(page, command);
    if let Some(text) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = writeln!(page, "\n{}", paragraphs(&text.to_string()));
    }
    for below in below {
        add(page, below, level + 1);
    }
}

/// How it is written, without the settings.
fn usage(name: &str, command: &Command) -> String {
    let words = command.get_positionals().map(|argument| {
        if argument.is_required_set() {
            format!(" <{}>", value(argument))
        } else {
            format!(" [{}]", value(argument))
        }
    });
    let words: String = words.collect();
    format!("{name}{}{words}", if own(command).next().is_some() { " [OPTIONS]" } else { "" })
}

/// Flags that belong to the command alone.
fn own(command: &Command) -> impl Iterator<Item = &Arg> {
    let common = |argument: &&Arg| {
        argument.is_global_set() || ["help", "version"].contains(&argument.get_id().as_str())
    };
    command
        .get_opts()
        .chain(command.get_arguments().filter(|argument| is_switch(argument)))
        .filter(move |argument| !common(argument) && !argument.is_hide_set())
}

/// Whether it is a flag without a value.
fn is_switch(argument: &Arg) -> bool {
    !argument.is_positional() && !argument.get_action().takes_values()
}

fn arguments(page: &mut String, command: &Command) {
    let rows: Vec<String> = command.get_positionals().chain(own(command)).map(row).collect();
    if !rows.is_empty() {
        let _ = writeln!(page, "\n| argument | default | meaning |\n|---|---|---|\n{}", rows.join("\n"));
    }
}

fn row(argument: &Arg) -> String {
    let value = value(argument);
    let name = match (argument.get_long(), argument.get_short()) {
        (None, None) => value,
        (long, short) => {
            let names = [short.map(|short| format!("-{short}")), long.map(|long| format!("--{long}"))];
            let names = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
            if is_switch(argument) { names } else { format!("{names} {value}") }
        }
    };
    let defaults = argument.get_default_values().iter().filter_map(|value| value.to_str());
    let default = if is_switch(argument) { String::new() } else { code_list(defaults) };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let mut help = cell(&help);
    let words: Vec<_> = argument.get_possible_values();
    if !words.is_empty() && !is_switch(argument) {
        let _ = write!(help, ": {}", code_list(words.iter().map(clap::builder::PossibleValue::get_name)));
    }
    format!("| `{name}` | {} | {help} |", if default.is_empty() { "–" } else { &default })
}

/// The name of its value.
fn value(argument: &Arg) -> String {
    match argument.get_value_names() {
        Some(names) => names.iter().map(clap::builder::Str::as_str).collect::<Vec<_>>().join(" "),
        None => argument.get_id().as_str().to_ascii_uppercase(),
    }
}

/// Lines that belong together as paragraphs, those that are set in as code.
fn paragraphs(text: &str) -> String {
    let lines = text
        .trim_end()
        .lines()
        .map(|line| if line.starts_with("  ") { format!("  {line}") } else { cell(line) });
    lines.collect::<Vec<_>>().join("\n")
}
