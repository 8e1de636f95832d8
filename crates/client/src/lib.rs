//! The commands that ask a running server: `chat`, `generate`, `swap`, `top`, `bench` and `healthcheck`. They speak HTTP and
//! nothing else, so none of our crates is among the dependencies: what they know of a server is what its API says. The
//! settings, the environment and the exit codes are the binary's, which also hands in a model of its own process
//! ([`http::Connector::InProcess`]).
//!
//! Reading order: [`http`] (a URL, a connection, what went wrong), [`api`] (questions with one answer), [`sse`] (streams),
//! [`ask`] (answers of a model), then the commands. [`text`] and [`progress`] are what people see; the binary's own commands
//! use them too.

#![forbid(unsafe_code)]
// They panic where the terminal is gone or the reader of a pipe has seen enough.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod api;
mod ask;
pub mod bench;
pub mod chat;
pub mod generate;
pub mod healthcheck;
pub mod http;
pub mod progress;
mod sse;
pub mod swap;
pub mod text;
pub mod top;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ArgMatches;

pub use self::api::ApiClient;
pub use self::ask::{ModelService, ServiceSource};

/// Candidates that a request may keep (`top_k`).
pub const TOP_K: RangeInclusive<u64> = 0..=200;
/// Tokens that a request may ask for (`max_tokens`).
pub const MAX_TOKENS: RangeInclusive<u64> = 1..=4096;
/// The largest body of a request.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// What a model's tag is, as a clause.
pub const TAG_RULE: &str =
    "a tag has up to 100 letters, digits, dots, underscores and dashes, and begins with a letter or digit";

/// The exit code of what Ctrl-C ended, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Ctrl-C ended it.
#[derive(Debug)]
pub struct CtrlC;

impl fmt::Display for CtrlC {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for CtrlC {}

/// A model's tag on the command line.
pub(crate) fn tag(text: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_tag = text.len() <= 100
        && text.bytes().all(is_inner)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if is_tag { Ok(text.to_owned()) } else { Err(TAG_RULE.to_owned()) }
}

/// The value of an argument, or the default.
pub(crate) fn given<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str, default: T) -> T {
    matches.get_one::<T>(name).cloned().unwrap_or(default)
}

/// The clock of the commands that measure or wait.
#[expect(clippy::disallowed_methods, reason = "a client that measures times reads a clock, here alone")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Runs the requests of a command on this thread. Name lookups that still run are left behind.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_checked_by_the_rule() {
        for good in ["d20", "0", "a.b_c-D", &"x".repeat(100)] {
            assert_eq!(tag(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "a b", "é", &"x".repeat(101)] {
            assert!(tag(bad).is_err(), "{bad}");
        }
    }
}
