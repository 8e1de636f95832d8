//! Why a grammar cannot be followed.

use std::fmt;
use std::io;
use std::time::Duration;

/// Characters of an explanation that are passed on.
const MAX_EXPLANATION: usize = 300;

/// Why there is no answer in a form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The grammar is wrong, or asks for what is not supported.
    #[error("{0}")]
    Refused(String),
    /// Reading takes too long.
    #[error("reading it takes more than {:.1} s (GRAMMAR_TIMEOUT)", .0.as_secs_f64())]
    TooSlow(Duration),
    /// Reading takes too much memory, or crashes the library.
    #[error("reading it takes more than {} MB of memory (GRAMMAR_MEMORY_MB) or crashes", .0 >> 20)]
    TooLarge(u64),
    /// There is no worker process: not the grammar's fault.
    #[error("there is no process to read it: {0}")]
    Unavailable(#[from] io::Error),
}

/// What the worker says is wrong with a grammar, for its author.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GrammarRefusal(pub(crate) String);

impl GrammarRefusal {
    /// What the library says, in a line: the first one, and the error that it announces. Its own settings, which it
    /// recommends, are not to be had here.
    pub(crate) fn of(error: &impl fmt::Display) -> Self {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        let rest = lines.find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
        let line = format!("{first} {rest}");
        let line = line
            .split(". Enable")
            .next()
            .and_then(|line| line.split("; ").next())
            .unwrap_or_default()
            .trim_end_matches([' ', '.']);
        if line.starts_with("oneOf constraints") {
            return Self("oneOf of alternatives that may overlap is not supported; anyOf is".to_owned());
        }
        // A single word of the library's is no explanation.
        let line = if line.contains(' ') { line } else { "nothing can be derived from it" };
        Self(line.chars().take(MAX_EXPLANATION).collect())
    }
}
