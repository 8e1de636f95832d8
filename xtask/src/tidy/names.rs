//! One meaning a name: a struct or an enum is defined once in the workspace.

use std::collections::BTreeMap;

use super::Violation;
use super::source::RustSource;
use super::tree::FileTree;

/// What each crate or module may have its own of.
const COMMON: &[&str] = &["Error", "Options", "Limits", "Args"];

/// Definitions of a name that another file has too; tests aside.
pub(crate) fn check(tree: &FileTree) -> Vec<Violation> {
    let mut places: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    let is_source =
        |path: &str| path.ends_with(".rs") && path.contains("/src/") && !path.starts_with("fuzz/");
    for (path, text) in tree.texts().filter(|(path, _)| is_source(path) && !path.ends_with("/tests.rs")) {
        let Some(source) = RustSource::parse(text) else { continue };
        let tests = source.test_ranges();
        for at in (0..source.tokens.len()).filter(|at| !tests.iter().any(|range| range.contains(at))) {
            if let (Some("struct" | "enum"), Some(name)) = (source.word(at), source.word(at + 1))
                && !COMMON.contains(&name)
            {
                places.entry(name.to_owned()).or_default().push((path, source.line(at)));
            }
        }
    }
    let repeated = places.iter().filter(|(_, places)| places.len() > 1);
    repeated
        .map(|(name, places)| {
            let others: Vec<_> = places[1..].iter().map(|(path, line)| format!("{path}:{line}")).collect();
            Violation::new("names", places[0], format!("{name} is defined in {} too", others.join(", ")))
        })
        .collect()
}
