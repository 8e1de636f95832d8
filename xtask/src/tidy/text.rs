//! Rules about words and paths, in every text that is committed.

use super::Violation;
use super::tree::FileTree;

// Split in two, so that this file does not break its own rules.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
const REGISTRY_HOSTS: &[&str] = &[
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npm", "js.org"),
    concat!("deb.deb", "ian.org"),
];
/// Folders that say nothing about what is in them.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "types", "errors", "error", "helpers", "misc"];
/// Documents whose paths have to exist.
const DOCUMENTS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"];
const SOURCE_ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".py", ".yaml", ".yml", ".sh"];

/// Texts and names that break a rule.
pub(crate) fn check(tree: &FileTree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        for (line, text) in (1..).zip(text.lines()) {
            found.extend(check_line((path, line), text));
        }
    }
    found.extend(tree.paths().filter_map(check_name));
    for document in DOCUMENTS {
        found.extend(tree.text(document).into_iter().flat_map(|text| check_paths(tree, document, text)));
    }
    found
}

fn check_line(at: (&str, usize), text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for word in UNFINISHED.iter().filter(|word| has_word(text, word)) {
        found.push(Violation::new("unfinished", at, format!("`{word}`: finish it or leave it out")));
    }
    for path in MACHINE_PATHS.iter().filter(|path| has_word(text, path)) {
        found.push(Violation::new("machine", at, format!("`{path}` exists on one machine only")));
    }
    for host in REGISTRY_HOSTS.iter().filter(|host| has_word(text, host)) {
        found.push(Violation::new("machine", at, format!("`{host}`: say which package, not where it lies")));
    }
    found
}

/// Whether `word` stands in `text` on its own: no part of a longer word, no path below another one.
fn has_word(text: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        let below = word.starts_with('/') && before.is_some_and(|c| ".-~}".contains(c));
        let longer = word.ends_with(is_letter) && after.is_some_and(is_letter);
        !before.is_some_and(is_letter) && !below && !longer
    })
}

fn check_name(path: &str) -> Option<Violation> {
    let folders = path.rsplit_once('/')?.0;
    let empty = folders.split('/').find(|folder| EMPTY_NAMES.contains(folder))?;
    Some(Violation::new("names", (path, 1), format!("`{empty}` does not say what the folder holds")))
}

fn check_paths(tree: &FileTree, document: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (line, text) in (1..).zip(text.lines()) {
        fenced ^= text.trim_start().starts_with("```");
        // Between backticks is every second part.
        for code in text.split('`').skip(1).step_by(2).filter(|_| !fenced) {
            if let Some(path) = repository_path(tree, code).filter(|path| !tree.has(path)) {
                found.push(Violation::new("paths", (document, line), format!("`{path}` does not exist")));
            }
        }
    }
    found
}

/// `code` as a path of this repository, up to its first wildcard, if that is what it looks like: it names a
/// folder or a source file, or starts at a folder that exists. A media type or a route is none, and what is built
/// is not there yet.
fn repository_path<'a>(tree: &FileTree, code: &'a str) -> Option<&'a str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./*{},<>".contains(c);
    let (first, rest) = code.split_once('/')?;
    let is_path = !first.is_empty()
        && code.chars().all(plain)
        && !["~", ".", "..", "target"].contains(&first)
        && (rest.is_empty() || tree.has(first) || SOURCE_ENDINGS.iter().any(|ending| code.ends_with(ending)));
    let end = code
        .find(['*', '{', '<'])
        .map_or(code.len(), |wild| code[..wild].rfind('/').map_or(0, |slash| slash + 1));
    (is_path && end > 0).then_some(&code[..end])
}
