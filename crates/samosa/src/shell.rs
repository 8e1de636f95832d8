//! `samosa completions` and `samosa man`: what a shell needs to complete commands, flags and, where they are words of a
//! list, values; and the manual pages. Both are made from the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::settings::Values;

/// The command line of `completions`.
pub(crate) fn completions() -> Command {
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
pub(crate) fn print_completions(matches: &ArgMatches, command: Command) -> Result<()> {
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

/// The command line of `man`.
pub(crate) fn man() -> Command {
    Command::new("man")
        .about("Print the manual page, or write a page for each command into a directory")
        .after_help(
            "For good: sudo samosa man /usr/local/share/man/man1; then `man samosa` and `man samosa-swap`.",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Directory for samosa.1 and a page for each command; it is made if need be"),
        )
}

/// Prints the page of this command line, or writes it and those of its commands.
pub(crate) fn write_manual(matches: &ArgMatches, command: Command) -> Result<()> {
    let mut command = command
        .disable_help_subcommand(true)
        .override_usage("samosa [OPTIONS] [COMMAND]")
        // Pages have room for what the short help leaves out.
        .mut_args(|flag| flag.hide_short_help(false));
    // Commands are told of the settings first: some say which of them they do not go with.
    command.build();
    let mut out = std::io::stdout();
    let Some(directory) = matches.get_one::<PathBuf>("dir") else {
        return Ok(page(&command).render(&mut out)?);
    };
    let shown = directory.display();
    std::fs::create_dir_all(directory).with_context(|| shown.to_string())?;
    let pages = write(directory, &command).with_context(|| shown.to_string())?;
    Ok(writeln!(out, "{pages} pages are in {shown}")?)
}

/// Writes the page of a command and those of the commands below it, which say nothing of the settings: the first page
/// has them. Returns how many pages these are.
fn write(directory: &Path, command: &Command) -> Result<usize> {
    page(command).generate_to(directory)?;
    let settings = Values::default();
    let is_setting = |flag: &Arg| settings.named(flag.get_id().as_str()).is_some();
    let mut pages = 1;
    for command in command.get_subcommands() {
        let command = command.clone().mut_args(|flag| if is_setting(&flag) { flag.hide(true) } else { flag });
        pages += write(directory, &command)?;
    }
    Ok(pages)
}

fn page(command: &Command) -> Man {
    let source = concat!("samosa ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).manual("samosaChaat Inference")
}
