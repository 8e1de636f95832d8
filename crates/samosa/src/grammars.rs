//! `samosa grammar-worker`: the process that reads schemas and grammars for the server, which starts it.

use std::ffi::OsString;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use clap::Command;

const NAME: &str = "grammar-worker";

/// The command is for the server alone.
pub(crate) fn command_line() -> Command {
    Command::new(NAME).hide(true).about("Read schemas and grammars for the server (it starts this itself)")
}

/// What the server starts: this very program, also where its file was replaced by a newer one meanwhile.
pub(crate) fn command() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), NAME.into()]
}

pub(crate) fn run() -> Result<()> {
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    grammar::worker::run(control).context("standard input is not the socket of a server")
}
