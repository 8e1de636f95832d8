//! Which file of a crate imports which, and that no more than two do so in a circle.
//!
//! A path that begins with `crate` or `super` draws an edge to the file that holds what it names. A file that names what
//! lies below it (`mod`, `self::…`) draws none, and neither do tests.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::Delimiter;

use super::Violation;
use super::source::{Kind, RustSource};
use super::tree::FileTree;

const MOST: usize = 2;

/// Circles of imports that are too large, each at its first file.
pub(crate) fn check(tree: &FileTree) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, Vec<(&str, RustSource<'_>)>> = BTreeMap::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        if let (Some((krate, _)), Some(source)) = (path.split_once("/src/"), RustSource::parse(text)) {
            crates.entry(krate).or_default().push((path, source));
        }
    }
    let circles = crates.iter().flat_map(|(krate, files)| circles(&edges(krate, files)));
    circles
        .filter(|circle| circle.len() > MOST)
        .map(|circle| {
            let message = format!("{} files import each other: {}", circle.len(), circle.join(", "));
            Violation::new("imports", (circle[0], 1), message)
        })
        .collect()
}

type Edges<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;
type Module = Vec<String>;

/// The module that a file is; roots are the empty one.
fn module(krate: &str, path: &str) -> Module {
    let inside = path.strip_prefix(krate).and_then(|path| path.strip_prefix("/src/")).unwrap_or(path);
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let parts = inside.split('/').filter(|part| !["lib", "main"].contains(part));
    parts.map(str::to_owned).collect()
}

fn edges<'a>(krate: &str, files: &'a [(&'a str, RustSource<'a>)]) -> Edges<'a> {
    let by_module: BTreeMap<Module, &str> =
        files.iter().map(|(path, _)| (module(krate, path), *path)).collect();
    let mut tests = BTreeSet::new();
    for (path, source) in files {
        let mut at = module(krate, path);
        for name in source.test_modules() {
            at.push(name.to_owned());
            tests.insert(at.clone());
            at.pop();
        }
    }
    let mut edges = Edges::new();
    for (path, source) in files {
        let own = module(krate, path);
        if (1..=own.len()).any(|end| tests.contains(&own[..end])) {
            continue;
        }
        let reach = edges.entry(*path).or_default();
        for named in paths(source, &own) {
            let holder = (0..=named.len()).rev().find_map(|end| by_module.get(&named[..end]));
            reach.extend(holder.filter(|holder| *holder != path));
        }
    }
    edges
}

/// What the paths of a file name, from the crate's root on.
fn paths(source: &RustSource<'_>, own: &[String]) -> Vec<Module> {
    let mut found = Vec::new();
    // Modules that are written in the file itself, with where they end.
    let mut inner: Vec<(usize, String)> = Vec::new();
    let tests = source.test_ranges();
    for at in 0..source.tokens.len() {
        inner.retain(|(end, _)| at < *end);
        if let (Some("mod"), Some(name)) = (source.word(at), source.word(at + 1))
            && let Some(body) = source.group(at + 2, Delimiter::Brace)
        {
            inner.push((body.end, name.to_owned()));
        }
        let begins = matches!(source.word(at), Some("crate" | "super")) && source.is_path(at + 1);
        let goes_on = at > 0 && source.is_punct(at - 1, ':');
        if begins && !goes_on && !tests.iter().any(|range| range.contains(&at)) {
            let here = own.iter().chain(inner.iter().map(|(_, name)| name)).cloned().collect();
            follow(source, at, here, &mut found);
        }
    }
    found
}

/// Reads one path, or all of a tree of them.
fn follow(source: &RustSource<'_>, mut at: usize, mut module: Module, found: &mut Vec<Module>) {
    loop {
        match source.word(at) {
            Some("crate") => module.clear(),
            Some("super") => drop(module.pop()),
            Some(name) => module.push(name.to_owned()),
            None => break,
        }
        if !source.is_path(at + 1) {
            break;
        }
        at += 3;
    }
    let Some(group) = source.group(at, Delimiter::Brace) else { return found.push(module) };
    let mut begins = true;
    let mut next = group.start;
    while next < group.end {
        if begins {
            follow(source, next, module.clone(), found);
        }
        begins = source.is_punct(next, ',');
        next = match source.tokens[next].kind {
            Kind::Open(_, close) => close + 1,
            _ => next + 1,
        };
    }
}

/// Files that reach each other, in groups of two and more.
fn circles<'a>(edges: &Edges<'a>) -> Vec<Vec<&'a str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        edges.keys().map(|file| (*file, reached(edges, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reached) in &reach {
        let both = |other: &&&str| reach.get(**other).is_some_and(|back| back.contains(file));
        let circle: Vec<&str> = reached.iter().filter(both).copied().collect();
        circles.insert(circle);
    }
    circles.into_iter().filter(|circle| circle.len() > 1).collect()
}

fn reached<'a>(edges: &Edges<'a>, from: &str) -> BTreeSet<&'a str> {
    let next = |file: &str| edges.get(file).into_iter().flatten().copied();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = next(from).collect();
    while let Some(file) = open.pop() {
        if seen.insert(file) {
            open.extend(next(file));
        }
    }
    seen
}
