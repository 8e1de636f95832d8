//! x
use crate::settings::Values;
use anyhow::Result;
use clap::{ArgMatches, Command};
pub(crate) struct Options;
pub(crate) fn command() -> Command {
    Command::new("chat")
}
impl Options {
    pub(crate) fn read(_: &Values, _: &ArgMatches) -> Result<Self> {
        Ok(Self)
    }
}
pub(crate) fn run(_: Options) -> Result<()> {
    Ok(())
}
