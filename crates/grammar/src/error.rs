//! Why there is no constraint.

use std::fmt;

/// Characters of an explanation that are passed on.
const MAX_EXPLANATION: usize = 300;

/// What is wrong with a schema or a grammar, for whoever wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error(pub(crate) String);

impl Error {
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
        // A single word of the library's is no explanation.
        let line = if line.contains(' ') { line } else { "nothing can be derived from it" };
        Self(line.chars().take(MAX_EXPLANATION).collect())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
