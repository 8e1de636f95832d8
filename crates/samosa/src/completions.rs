//! `samosa completions`: what a shell needs to complete commands, flags and, where they are words of a list, values.

use std::io::Write;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use crate::settings::Values;

/// The command line of `completions`.
pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Print what a shell needs to complete commands and flags")
        .after_help(
            "For this shell alone: source <(samosa completions bash). For good: write it to \
             ~/.local/share/bash-completion/completions/samosa, to _samosa in a directory of zsh's $fpath, or to \
             ~/.config/fish/completions/samosa.fish.",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("The shell"),
        )
}

/// Prints the script of a shell for this command line.
pub(crate) fn run(matches: &ArgMatches, command: Command) -> Result<()> {
    let shell = *matches.get_one::<Shell>("shell").context("SHELL is missing")?;
    let mut script = Vec::new();
    let values = Values::default();
    let mut command = command.mut_args(|argument| with_values(argument, &values));
    clap_complete::generate(shell, &mut command, "samosa", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// The flag of a setting with what its value may be. While arguments are read, values are checked elsewhere, wherever
/// they come from, and in any case.
fn with_values(argument: Arg, values: &Values) -> Arg {
    if argument.get_id() == "config" {
        return argument.value_hint(ValueHint::FilePath);
    }
    match values.named(argument.get_id().as_str()) {
        Some(setting) if setting.words.is_empty() => argument.value_hint(setting.hint),
        Some(setting) => argument.value_parser(PossibleValuesParser::new(setting.words.clone())),
        None => argument,
    }
}
