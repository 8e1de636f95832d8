//! `samosa man`: the manual pages, made from the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_mangen::Man;

use crate::settings::Values;

/// The command line of `man`.
pub(crate) fn command() -> Command {
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
pub(crate) fn run(matches: &ArgMatches, command: Command) -> Result<()> {
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
