//! Where links lead: to files and headings that are there, in the book to its own pages only; to other sites by https.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::markdown::{self, Link, Page};
use super::text::{Text, resolved};
use crate::tidy::Tree;

/// Where the book's pages are.
pub(super) const BOOK: &str = "docs/src/";
/// The list of its chapters.
pub(super) const SUMMARY: &str = "docs/src/SUMMARY.md";

/// Whether a path is a document's.
fn is_page(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|ending| ending == "md")
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// Links within the repository.
    pub(super) inner: usize,
    /// Addresses of other sites; nobody asks whether they are there.
    pub(super) outer: BTreeSet<String>,
    pub(super) faults: Vec<String>,
}

/// Every document of the repository, read.
pub(super) struct Documents<'a> {
    tree: &'a Tree,
    pages: BTreeMap<&'a str, (Text, Page)>,
}

impl<'a> Documents<'a> {
    /// Reads them, those of the book with what they include.
    pub(super) fn read(tree: &'a Tree) -> anyhow::Result<Self> {
        let mut pages = BTreeMap::new();
        for (path, _) in tree.texts().filter(|(path, _)| is_page(path)) {
            let text = Text::read(path, |path| tree.text(path))?;
            let page = markdown::read(&text.whole);
            pages.insert(path, (text, page));
        }
        Ok(Self { tree, pages })
    }

    /// Paths of the book's pages, and of what they include.
    pub(super) fn of_the_book(&self) -> BTreeSet<&str> {
        let pages = self.pages.iter().filter(|(path, _)| path.starts_with(BOOK));
        pages.flat_map(|(path, (text, _))| text.included.iter().map(String::as_str).chain([*path])).collect()
    }

    /// Follows every link.
    pub(super) fn check(&self) -> Found {
        let mut found = Found::default();
        // What the book leads to, the summary and what is included among it.
        let mut reached = BTreeSet::from([SUMMARY.to_owned()]);
        for (path, (text, page)) in &self.pages {
            for link in &page.undefined {
                found.faults.push(format!(
                    "{}: `[{}]` is defined nowhere",
                    text.place(link.line),
                    link.target
                ));
            }
            for link in &page.links {
                match self.follow(path, link) {
                    Ok(To::Outside) => drop(found.outer.insert(link.target.clone())),
                    Ok(To::File(file)) => {
                        found.inner += 1;
                        if path.starts_with(BOOK) {
                            reached.insert(file);
                        }
                    }
                    Err(wrong) => {
                        found.faults.push(format!("{}: {}: {wrong}", text.place(link.line), link.target));
                    }
                }
            }
        }
        found.faults.extend(self.forgotten(&reached));
        found
    }

    /// Pages that are not in the summary, and files of the book that nothing leads to.
    fn forgotten(&self, reached: &BTreeSet<String>) -> Vec<String> {
        let summary = self.pages.get(SUMMARY).map(|(_, page)| page.links.as_slice()).unwrap_or_default();
        let chapters: BTreeSet<String> =
            summary.iter().filter_map(|link| resolved(SUMMARY, &link.target)).collect();
        let files = self.tree.paths().filter(|path| path.starts_with(BOOK) && *path != SUMMARY);
        let faults = files.filter_map(|path| match () {
            () if is_page(path) && !chapters.contains(path) => Some(format!("{path} is not in {SUMMARY}")),
            () if !reached.contains(path) => Some(format!("no page leads to {path}")),
            () => None,
        });
        faults.collect()
    }

    /// Where a link leads.
    fn follow(&self, from: &str, link: &Link) -> Result<To, String> {
        let target = link.target.as_str();
        if let Some((scheme, rest)) =
            target.split_once(':').filter(|(scheme, _)| !scheme.contains(['/', '#', '.']))
        {
            return outside(scheme, rest).map(|()| To::Outside);
        }
        let (file, anchor) =
            target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        let path = if file.is_empty() { Some(from.to_owned()) } else { resolved(from, file) };
        let path = path.filter(|path| self.tree.has(path)).ok_or("there is no such file")?;
        if from.starts_with(BOOK) && !path.starts_with(BOOK) {
            return Err("it leads out of the book; include the file, or name it in words".to_owned());
        }
        if from.starts_with(BOOK) && file.ends_with("README.md") {
            // mdBook makes index.html of it, and leaves links to README.html.
            return Err("in the book a README.md has another name; give the page one of its own".to_owned());
        }
        if let Some(anchor) = anchor {
            let (_, page) = self.pages.get(path.as_str()).ok_or("only a page of Markdown has anchors")?;
            if !page.anchors.contains(anchor) {
                return Err(format!("{path} has no heading `#{anchor}`"));
            }
        }
        Ok(To::File(path))
    }
}

enum To {
    Outside,
    File(String),
}

/// Whether an address of another site is well formed.
fn outside(scheme: &str, rest: &str) -> Result<(), String> {
    if scheme != "https" {
        return Err("other sites are named with https".to_owned());
    }
    let address = rest.strip_prefix("//").unwrap_or_default();
    let host = address.split(['/', '?', '#']).next().unwrap_or_default();
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_host = host.contains('.') && host.split('.').all(is_name);
    let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte));
    if is_host && is_plain { Ok(()) } else { Err("it is no address".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        Documents::read(&tree).unwrap().check().faults
    }

    const SUMMARY_OF_A: (&str, &str) = (SUMMARY, "- [A](a.md)\n");

    #[test]
    fn links_to_files_headings_and_other_sites_are_good() {
        let files = [
            SUMMARY_OF_A,
            (
                "docs/src/a.md",
                "# A\n[b](#a) ![p](p.png) [c](https://example.com/x?y=1#z)\n{{#include ../../B.md}}\n",
            ),
            ("docs/src/p.png", ""),
            ("README.md", "[a](docs/src/a.md#two-words) [folder](docs/) [b](B.md)"),
            ("B.md", "## Two words\n"),
        ];
        let tree = Tree::of(&files);
        let documents = Documents::read(&tree).unwrap();
        let found = documents.check();
        assert_eq!(found.faults, [""; 0]);
        assert_eq!((found.inner, found.outer.len()), (6, 1));
        assert_eq!(documents.of_the_book(), BTreeSet::from(["B.md", "docs/src/SUMMARY.md", "docs/src/a.md"]));
    }

    #[test]
    fn each_kind_of_fault_has_its_place() {
        let faults = faults(&[
            SUMMARY_OF_A,
            (
                "docs/src/a.md",
                "# A\n\n[1](b.md)\n[2](#b)\n[3](../../README.md)\n[4](http://example.com)\n[5](https://example)\n\
                 [6][7]\n[8](p.png#x)\n[9](/README.md)\n",
            ),
            ("docs/src/lost.md", ""),
            ("docs/src/p.png", ""),
            ("docs/src/q.png", ""),
            ("README.md", "[1](docs/src/a.md#c)"),
        ]);
        let expected = [
            "README.md:1: docs/src/a.md#c: docs/src/a.md has no heading `#c`",
            "docs/src/a.md:8: `[7]` is defined nowhere",
            "docs/src/a.md:3: b.md: there is no such file",
            "docs/src/a.md:4: #b: docs/src/a.md has no heading `#b`",
            "docs/src/a.md:5: ../../README.md: it leads out of the book; include the file, or name it in words",
            "docs/src/a.md:6: http://example.com: other sites are named with https",
            "docs/src/a.md:7: https://example: it is no address",
            "docs/src/a.md:9: p.png#x: only a page of Markdown has anchors",
            "docs/src/a.md:10: /README.md: there is no such file",
            "docs/src/lost.md is not in docs/src/SUMMARY.md",
            "no page leads to docs/src/p.png",
            "no page leads to docs/src/q.png",
        ];
        assert_eq!(faults, expected);
    }
}
