//! mdBook: the program, the book that it makes, and whether what it made hangs together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::markdown::attributes;
use super::text::resolved;
use crate::python;
use crate::shell;

/// Made of all chapters in one, whose links are not those of any.
const LEFT_OUT: &[&str] = &["print.html", "404.html"];

/// The program.
pub(super) fn ready() -> anyhow::Result<PathBuf> {
    Ok(python::ready("book-venv", "docs/requirements.txt")?.join("mdbook"))
}

/// Builds the book into a folder.
pub(super) fn build(into: &Path) -> anyhow::Result<()> {
    let program = ready()?;
    if into.exists() {
        std::fs::remove_dir_all(into)?;
    }
    shell::run(python::text(&program)?, &["build", "docs", "--dest-dir", python::text(into)?])
}

/// Follows every link of the built book: all must lead to files and headings in it, and no file may load anything from
/// elsewhere. Says how many there are.
pub(super) fn check(folder: &Path) -> anyhow::Result<(usize, Vec<String>)> {
    let mut pages = BTreeMap::new();
    read(folder, folder, &mut pages)?;
    let (mut count, mut faults) = (0, Vec::new());
    for (path, html) in pages.iter().filter(|(path, _)| !LEFT_OUT.contains(&path.as_str())) {
        for target in attributes(html, &["src"]).filter(|target| target.contains("//")) {
            faults.push(format!("{path} loads {target}"));
        }
        for target in attributes(html, &["href", "src"]).filter(|target| !target.contains("//")) {
            count += 1;
            if !leads_somewhere(&pages, folder, path, target) {
                faults.push(format!("{path}: {target} leads nowhere"));
            }
        }
    }
    Ok((count, faults))
}

fn leads_somewhere(pages: &BTreeMap<String, String>, folder: &Path, from: &str, target: &str) -> bool {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { Some(from.to_owned()) } else { resolved(from, file) };
    let Some(path) = path else { return false };
    match pages.get(&path) {
        Some(html) => anchor.is_empty() || attributes(html, &["id"]).any(|id| id == anchor),
        None => anchor.is_empty() && folder.join(path).is_file(),
    }
}

/// Reads the HTML of a folder and those below it, by path.
fn read(root: &Path, folder: &Path, pages: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            read(root, &path, pages)?;
        } else if path.extension().is_some_and(|ending| ending == "html") {
            let Some(name) = path.strip_prefix(root)?.to_str() else {
                bail!("{} is no text", path.display())
            };
            pages.insert(name.to_owned(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_book_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, html: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, html).unwrap();
        };
        write("index.html", "<h1 id=\"a\"><a href=\"#a\" class=\"x\">A</a> <a href=\"b/c.html#d\">");
        write(
            "b/c.html",
            "<p id=\"d\"> <a href=\"../index.html\"> <img src=\"e.png\"> <a href=\"https://example.com\">",
        );
        write("b/e.png", "");
        assert_eq!(check(folder.path()).unwrap(), (4, vec![]));
        write(
            "b/c.html",
            "<a href=\"README.html\"> <script src=\"https://example.com/x.js\"> <a href=\"../../x\">",
        );
        let (_, faults) = check(folder.path()).unwrap();
        let expected = [
            "b/c.html loads https://example.com/x.js",
            "b/c.html: README.html leads nowhere",
            "b/c.html: ../../x leads nowhere",
            "index.html: b/c.html#d leads nowhere",
        ];
        assert_eq!(faults, expected);
    }
}
