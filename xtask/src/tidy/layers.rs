//! Which crate may depend on which, read from the manifests.

use toml::{Table, Value};

use super::Violation;
use super::tree::Tree;

/// Every crate of the workspace and those of the others it may depend on, lowest first. Never upward.
///
/// Development dependencies are free: a test may build what it likes.
const EDGES: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("formats", &[]),
    ("tokenizer", &[]),
    ("model", &["kernels", "formats"]),
    ("engine", &["model", "tokenizer"]),
    ("grammar", &["engine", "tokenizer"]),
    ("registry", &["formats", "model", "tokenizer"]),
    ("serving", &["engine", "grammar", "registry", "tokenizer"]),
    ("server", &["engine", "grammar", "registry", "serving", "tokenizer"]),
    (
        "samosa",
        &["kernels", "formats", "tokenizer", "model", "engine", "grammar", "registry", "serving", "server"],
    ),
    ("measure", &["kernels", "formats", "tokenizer", "model", "engine", "grammar", "registry"]),
    // No engine: whoever asks for a check should not wait until one is built.
    ("xtask", &["kernels", "formats"]),
];

/// Outside crates that have a home: the engine is no place for an async runtime, only the server speaks HTTP.
/// Registry fetches weights; the binary starts the runtime.
const HOMES: &[(&str, &[&str])] = &[
    ("tokio", &["server", "serving", "registry", "samosa"]),
    ("axum", &["server"]),
    ("hyper", &["server", "samosa"]),
];

/// Manifests that draw an edge which is not in the table.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let manifests = tree.texts().filter(|(path, _)| is_member(path));
    manifests.flat_map(|(path, text)| check_manifest(path, text)).collect()
}

fn is_member(path: &str) -> bool {
    let folder = path.strip_suffix("/Cargo.toml");
    folder == Some("xtask")
        || folder.is_some_and(|f| f.strip_prefix("crates/").is_some_and(|f| !f.contains('/')))
}

fn check_manifest(path: &str, text: &str) -> Vec<Violation> {
    let fail = |message: String| Violation::new("layers", (path, 1), message);
    let manifest = match text.parse::<Table>() {
        Ok(manifest) => manifest,
        Err(error) => return vec![fail(format!("not a manifest: {}", error.message()))],
    };
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    let Some((name, allowed)) = EDGES.iter().find(|(krate, _)| Some(*krate) == name) else {
        return vec![fail("this crate has no row in the table of allowed edges".to_owned())];
    };
    let mut found = Vec::new();
    for dependency in dependencies(&manifest) {
        let inside = EDGES.iter().any(|(krate, _)| *krate == dependency);
        if inside && !allowed.contains(&dependency.as_str()) {
            found.push(fail(format!("{name} may not depend on {dependency}, only on {allowed:?}")));
        }
        let home = HOMES.iter().find(|(krate, homes)| *krate == dependency && !homes.contains(name));
        if let Some((_, homes)) = home {
            found.push(fail(format!("{name} may not depend on {dependency}, which is for {homes:?}")));
        }
    }
    found
}

/// Package names of normal and build dependencies, those of single targets too.
fn dependencies(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let kinds = tables.flat_map(|table| [table.get("dependencies"), table.get("build-dependencies")]);
    let entries = kinds.flatten().filter_map(Value::as_table).flatten();
    let renamed = |value: &Value| value.get("package").and_then(Value::as_str).map(str::to_owned);
    entries.map(|(key, value)| renamed(value).unwrap_or_else(|| key.clone())).collect()
}
