//! `cargo xtask tidy`: the rules that neither the compiler nor clippy knows.
//!
//! Each check is a pure function from a [`FileTree`] to violations, so that its tests hand it a small made-up
//! tree that breaks the rule. [`FileTree`] is what git would commit; nothing else of the disk is looked at.

mod context;
mod imports;
mod layers;
mod names;
mod rust;
mod source;
mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::bail;

pub(crate) use self::tree::FileTree;
use crate::shell;

/// Files that a check passes over. This table may only shrink: a row that hides nothing is itself a violation.
const EXEMPT: &[Exemption] = &[];

struct Exemption {
    check: &'static str,
    path: &'static str,
}

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    check: &'static str,
    message: String,
}

impl Violation {
    fn new(check: &'static str, (path, line): (&str, usize), message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, check, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, check, message } = self;
        write!(f, "{path}:{line}: {message} [{check}]")
    }
}

/// Prints what is broken in the repository, and fails if anything is.
pub(crate) fn run() -> anyhow::Result<()> {
    let tree = FileTree::of_repository(shell::root())?;
    let found = violations(&tree, EXEMPT);
    for violation in &found {
        println!("{violation}");
    }
    match found.len() {
        0 => Ok(()),
        n => bail!("{n} violations of the repository's rules"),
    }
}

/// Every broken rule of a tree that no row of `exempt` covers, in the order of files and lines.
fn violations(tree: &FileTree, exempt: &[Exemption]) -> Vec<Violation> {
    let mut all = layers::check(tree);
    all.extend(imports::check(tree));
    all.extend(names::check(tree));
    all.extend(rust::check(tree));
    all.extend(text::check(tree));
    all.extend(context::check(tree));
    all.sort();
    let covers = |e: &Exemption, v: &Violation| e.check == v.check && e.path == v.path;
    let idle = exempt.iter().filter(|e| !all.iter().any(|v| covers(e, v)));
    let mut rest: Vec<_> = idle
        .map(|e| {
            Violation::new("exemptions", (e.path, 1), format!("the exemption from {} hides nothing", e.check))
        })
        .collect();
    rest.extend(all.into_iter().filter(|v| !exempt.iter().any(|e| covers(e, v))));
    rest
}
