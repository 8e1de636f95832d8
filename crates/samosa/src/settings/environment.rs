//! The environment: variables of settings, and those that every program reads, so that they are no settings of ours.

use std::path::PathBuf;

use client::text::Terminal;

use super::Wrong;

/// A variable that is set. An empty one is not: orchestrators write them so.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(super) fn variable(name: &str) -> Result<Option<String>, Wrong> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Wrong::in_general(format!("the environment variable {name} is not UTF-8")))
        }
    }
}

/// What the environment says of the terminal.
pub(crate) fn terminal() -> Terminal {
    let says = |name| variable(name).ok().flatten();
    match (says("TERM").as_deref(), says("NO_COLOR")) {
        (Some("dumb"), _) => Terminal::Dumb,
        (_, Some(_)) => Terminal::Plain,
        (_, None) => Terminal::Coloured,
    }
}

/// Where programs keep what they remember of a person.
pub(crate) fn state_home() -> Option<PathBuf> {
    let named = variable("XDG_STATE_HOME").ok().flatten().map(PathBuf::from);
    // One that is not absolute does not count.
    named.filter(|path| path.is_absolute()).or_else(|| Some(home()?.join(".local/state")))
}

/// The directory that shells call `~`.
pub(crate) fn home() -> Option<PathBuf> {
    variable("HOME").ok().flatten().map(PathBuf::from).filter(|path| path.is_absolute())
}

/// What S3 clients read: names that begin with `AWS_`, and their values. Whoever runs in a cloud has them set already.
pub(crate) fn of_s3() -> Vec<(String, String)> {
    let pairs = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    pairs.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty()).collect()
}
