//! What the image is built from: a file that sources embed from outside of `crates` must be let into the builder's context.

use super::Violation;
use super::tree::FileTree;

const CONTEXT: &str = ".dockerignore";
/// How a file of a crate's `src` names the repository's root.
const ROOT: &str = "\"../../../";

/// Files that are embedded and stay outside.
pub(crate) fn check(tree: &FileTree) -> Vec<Violation> {
    let let_in: Vec<&str> = tree
        .text(CONTEXT)
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let is_in = |path: &str| {
        let path = path.trim_end_matches('/');
        let below = |folder: &&str| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let_in.iter().any(below)
    };
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"))
    {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| line.contains("include_")) {
            let named = line.split(ROOT).skip(1).filter_map(|rest| rest.split('"').next());
            for outside in named.filter(|outside| !is_in(outside)) {
                let message =
                    format!("{outside} is embedded, but {CONTEXT} keeps it out of the image's build");
                found.push(Violation::new("context", (path, i + 1), message));
            }
        }
    }
    found
}
