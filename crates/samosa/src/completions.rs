//! `samosa completions`: what a shell needs to complete commands, flags and, where they are words of a list, values.

use std::io::Write;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use crate::settings::{self, Kind};

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
    clap_complete::generate(shell, &mut command.mut_args(with_values), "samosa", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// The flag of a setting with what its value may be. While arguments are read, values are checked elsewhere, wherever
/// they come from, and in any case.
fn with_values(argument: Arg) -> Arg {
    if argument.get_id() == "config" {
        return argument.value_hint(ValueHint::FilePath);
    }
    match settings::named(argument.get_id().as_str()).map(|setting| &setting.kind) {
        Some(Kind::Choice(words, _)) => argument.value_parser(PossibleValuesParser::new(*words)),
        Some(Kind::Boolean) => argument.value_parser(PossibleValuesParser::new(["true", "false"])),
        Some(Kind::Path("DIRECTORY")) => argument.value_hint(ValueHint::DirPath),
        Some(Kind::Path(_)) => argument.value_hint(ValueHint::FilePath),
        Some(Kind::Address | Kind::SocketAddress) => argument.value_hint(ValueHint::Hostname),
        Some(Kind::Url) => argument.value_hint(ValueHint::Url),
        Some(_) => argument.value_hint(ValueHint::Other),
        None => argument,
    }
}
