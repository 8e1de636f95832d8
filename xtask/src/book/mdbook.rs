//! The book as mdBook makes it of `docs`, and its links and those of all other documents, which lychee follows. Both are
//! packages of Python below the target directory.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::python;
use crate::shell::{self, text};
use crate::tidy::FileTree;

/// Where the pages are, and the list of them.
const PAGES: &str = "docs/src/";
const SUMMARY: &str = "docs/src/SUMMARY.md";
/// Other sites are not asked, but named with https.
const LYCHEE: &[&str] = &["--offline", "--include-fragments", "--require-https", "--no-progress"];

/// Where both programs are.
pub(super) fn ready() -> anyhow::Result<PathBuf> {
    python::ready("book-venv", "docs/requirements.txt")
}

/// Builds the book into a folder, and follows every link to a file or a heading.
pub(super) fn build(tree: &FileTree, into: &Path) -> anyhow::Result<()> {
    let programs = ready()?;
    if into.exists() {
        std::fs::remove_dir_all(into)?;
    }
    let into = text(into)?;
    shell::run(text(&programs.join("mdbook"))?, &["build", "docs", "--dest-dir", into])?;
    let forgotten = forgotten(tree);
    if !forgotten.is_empty() {
        bail!("not in {SUMMARY}: {}", forgotten.join(", "));
    }
    let lychee = programs.join("lychee");
    // These are made of all chapters in one, whose links are not those of any.
    let html = [&format!("{into}/**/*.html"), "--exclude-path=print.html", "--exclude-path=404.html"];
    shell::run(text(&lychee)?, &[LYCHEE, &html].concat())?;
    let outside: Vec<&str> = documents(tree).filter(|path| !path.starts_with(PAGES)).collect();
    shell::run(text(&lychee)?, &[LYCHEE, &outside].concat())
}

fn documents(tree: &FileTree) -> impl Iterator<Item = &str> {
    tree.paths().filter(|path| path.ends_with(".md"))
}

/// Pages that mdBook leaves out, since the summary does.
fn forgotten(tree: &FileTree) -> Vec<&str> {
    let summary = tree.text(SUMMARY).unwrap_or_default();
    let is_listed = |path: &str| {
        let name = path.strip_prefix(PAGES).unwrap_or_default();
        path == SUMMARY || summary.contains(&format!("({name})")) || summary.contains(&format!("(./{name})"))
    };
    documents(tree).filter(|path| path.starts_with(PAGES) && !is_listed(path)).collect()
}

/// The documents whose examples the book shows: its pages, and what they include.
pub(super) fn pages(tree: &FileTree) -> Vec<&str> {
    let is_included = |path: &str| {
        let end = format!("/{path}");
        let texts = tree.texts().filter(|(page, _)| page.starts_with(PAGES));
        let mut lines = texts.flat_map(|(_, text)| text.lines());
        let mut included = lines.by_ref().filter_map(|line| line.strip_prefix("{{#include "));
        included.any(|rest| rest.split([':', '}']).next().is_some_and(|target| target.ends_with(&end)))
    };
    documents(tree).filter(|path| path.starts_with(PAGES) || is_included(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_those_in_the_folder_and_those_they_include_and_none_is_forgotten() {
        let tree = FileTree::of(&[
            (SUMMARY, "- [A](a.md)\n- [B](./b/c.md)\n"),
            ("docs/src/a.md", "{{#include ../../B.md:2:}}\n"),
            ("docs/src/b/c.md", "# C\n"),
            ("docs/src/lost.md", ""),
            ("B.md", ""),
            ("C.md", ""),
        ]);
        assert_eq!(pages(&tree), ["B.md", SUMMARY, "docs/src/a.md", "docs/src/b/c.md", "docs/src/lost.md"]);
        assert_eq!(forgotten(&tree), ["docs/src/lost.md"]);
    }
}
