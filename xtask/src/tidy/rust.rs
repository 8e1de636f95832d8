//! Rules about Rust code: `unsafe`, the environment, attributes, sizes.

use std::path::Path;

use proc_macro2::Delimiter;

use super::Violation;
use super::source::{Kind, RustSource};
use super::tree::FileTree;

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 500;

/// The only crate with `unsafe`.
const UNSAFE_HOME: &str = "crates/kernels/";
/// Where a program meets its environment and its arguments; the last learns which instruction set a run of the tests is for.
const ENVIRONMENT_HOMES: &[&str] = &["crates/samosa/", "xtask/", "crates/server/tests/it/support.rs"];
const ENVIRONMENT: &[&str] =
    &["var", "var_os", "vars", "vars_os", "args", "args_os", "set_var", "remove_var"];

/// Rust files that break a rule.
pub(crate) fn check(tree: &FileTree) -> Vec<Violation> {
    let files = tree.texts().filter(|(path, _)| Path::new(path).extension().is_some_and(|end| end == "rs"));
    files.flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Violation> {
    let Some(source) = RustSource::parse(text) else {
        return vec![Violation::new("rust", (path, 1), "this is not Rust")];
    };
    let mut found = Vec::new();
    if !path.starts_with(UNSAFE_HOME) {
        found.extend(check_unsafe(path, &source));
    }
    if !ENVIRONMENT_HOMES.iter().any(|home| path.starts_with(home)) && !path.ends_with("/build.rs") {
        found.extend(check_environment(path, &source));
    }
    found.extend(check_attributes(path, &source));
    found.extend(check_functions(path, &source));
    found.extend(check_length(path, &source));
    found
}

fn check_unsafe(path: &str, source: &RustSource) -> Vec<Violation> {
    let mut found: Vec<_> = (0..source.tokens.len())
        .filter(|at| source.word(*at) == Some("unsafe"))
        .map(|at| Violation::new("unsafe", (path, source.line(at)), "only the kernels crate has unsafe code"))
        .collect();
    let is_root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    if is_root && !forbids_unsafe(source) {
        found.push(Violation::new("unsafe", (path, 1), "a crate root says `#![forbid(unsafe_code)]`"));
    }
    found
}

fn forbids_unsafe(source: &RustSource) -> bool {
    (0..source.tokens.len()).any(|at| {
        source.is_punct(at, '#')
            && source.is_punct(at + 1, '!')
            && source.word(at + 3) == Some("forbid")
            && source.group(at + 4, Delimiter::Parenthesis).is_some_and(|g| source.has_word(g, "unsafe_code"))
    })
}

fn check_environment(path: &str, source: &RustSource) -> Vec<Violation> {
    let names = |at| source.word(at).is_some_and(|word| ENVIRONMENT.contains(&word));
    let imports = |at| source.group(at, Delimiter::Brace).is_some_and(|mut group| group.any(names));
    let reads = |at: &usize| {
        source.word(*at) == Some("env")
            && source.is_punct(at + 1, ':')
            && source.is_punct(at + 2, ':')
            && (names(at + 3) || imports(at + 3))
    };
    let found = (0..source.tokens.len()).filter(reads);
    found
        .map(|at| {
            let message = "only the samosa binary reads the environment and the arguments; take a setting";
            Violation::new("environment", (path, source.line(at)), message)
        })
        .collect()
}

fn check_attributes(path: &str, source: &RustSource) -> Vec<Violation> {
    let mut found = Vec::new();
    for at in 0..source.tokens.len() {
        if !source.is_punct(at, '#') {
            continue;
        }
        let bracket = at + 1 + usize::from(source.is_punct(at + 1, '!'));
        let Some(mut attribute) = source.group(bracket, Delimiter::Bracket) else { continue };
        let allows =
            |at| source.word(at) == Some("allow") && source.group(at + 1, Delimiter::Parenthesis).is_some();
        if attribute.any(allows) {
            let message = "`expect` with a reason, which warns once it is idle, instead of `allow`";
            found.push(Violation::new("attributes", (path, source.line(at)), message));
        }
    }
    found
}

fn check_functions(path: &str, source: &RustSource) -> Vec<Violation> {
    let mut found = Vec::new();
    for at in 0..source.tokens.len() {
        let (Some("fn"), Some(name)) = (source.word(at), source.word(at + 1)) else { continue };
        let Some(body) = body_of(source, at + 2) else { continue };
        let lines = source.code_lines(body);
        if lines > FUNCTION_LINES && !expects_length(source, at) {
            let message = format!("`{name}` has {lines} lines of code, {FUNCTION_LINES} fit a screen");
            found.push(Violation::new("function length", (path, source.line(at)), message));
        }
    }
    found
}

/// The inside of the first brace after the name, unless a `;` says that the function has no body.
fn body_of(source: &RustSource, mut at: usize) -> Option<std::ops::Range<usize>> {
    loop {
        match source.tokens.get(at)?.kind {
            Kind::Open(Delimiter::Brace, _) => return source.group(at, Delimiter::Brace),
            Kind::Open(_, close) => at = close,
            Kind::Punct(';') => return None,
            _ => {}
        }
        at += 1;
    }
}

/// Whether an attribute before the `fn` names clippy's lint for long functions.
fn expects_length(source: &RustSource, mut at: usize) -> bool {
    while at > 0 {
        at -= 1;
        match &source.tokens[at].kind {
            Kind::Word(word) if ["pub", "const", "async", "unsafe", "extern"].contains(&word.as_str()) => {}
            // The name of an ABI.
            Kind::Literal => {}
            Kind::Close(Delimiter::Parenthesis, open) => at = *open,
            Kind::Close(Delimiter::Bracket, open) => {
                if source.has_word(*open..at, "too_many_lines") {
                    return true;
                }
                at = open.saturating_sub(1);
            }
            _ => return false,
        }
    }
    false
}

fn check_length(path: &str, source: &RustSource) -> Option<Violation> {
    let is_test =
        path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches");
    let tests: Vec<_> = (0..source.tokens.len()).filter_map(|at| test_module(source, at)).collect();
    let lines =
        source.code_lines((0..source.tokens.len()).filter(|at| !tests.iter().any(|test| test.contains(at))));
    (lines > FILE_LINES && !is_test).then(|| {
        let message = format!("{lines} lines of code, {FILE_LINES} are the limit for a file");
        Violation::new("file length", (path, 1), message)
    })
}

/// The tokens of `#[cfg(test)] mod … { … }` where one starts at `at`.
fn test_module(source: &RustSource, at: usize) -> Option<std::ops::Range<usize>> {
    let attribute = source.is_punct(at, '#').then(|| source.group(at + 1, Delimiter::Bracket)).flatten()?;
    let is_test = source.word(attribute.start) == Some("cfg")
        && source.has_word(attribute.clone(), "test")
        && !source.has_word(attribute.clone(), "not");
    let mut next = attribute.end + 1;
    while source.is_punct(next, '#') {
        next = source.group(next + 1, Delimiter::Bracket)?.end + 1;
    }
    let body = source.group(next + 2, Delimiter::Brace)?;
    (is_test && source.word(next) == Some("mod")).then_some(at..body.end + 1)
}
