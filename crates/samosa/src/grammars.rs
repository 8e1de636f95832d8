//! The process that reads schemas and grammars for the server, which starts it: this program with one argument, which is
//! no command of a person's.

use std::ffi::OsString;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

const ARGUMENT: &str = "grammar-worker";

/// What the server starts: this very program, also where its file was replaced by a newer one meanwhile.
pub(crate) fn command() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), ARGUMENT.into()]
}

/// Whether this process is a worker.
pub(crate) fn is_worker() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

pub(crate) fn run() -> Result<()> {
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    guides::worker::run(control).context("standard input is not the socket of a server")
}
