//! Which crate may depend on which, read from the manifests.

use toml::{Table, Value};

use super::Violation;
use super::tree::FileTree;

/// Every crate of the workspace and those of the others it may depend on, lowest first. Never upward.
///
/// Development dependencies are free: a test may build what it likes.
const EDGES: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("formats", &[]),
    ("tokenizer", &[]),
    ("model", &["formats"]),
    ("engine", &["tokenizer"]),
    ("cpu", &["engine", "formats", "kernels", "model"]),
    ("guides", &["engine", "tokenizer"]),
    ("registry", &["formats", "model", "tokenizer"]),
    ("fetch", &["formats", "registry"]),
    ("serving", &["cpu", "engine", "fetch", "guides", "registry", "tokenizer"]),
    ("server", &["engine", "fetch", "guides", "registry", "serving", "tokenizer"]),
    // What it knows of a server is what the API says.
    ("client", &[]),
    (
        "samosa",
        &[
            "client",
            "cpu",
            "engine",
            "fetch",
            "formats",
            "guides",
            "kernels",
            "model",
            "registry",
            "server",
            "serving",
            "tokenizer",
        ],
    ),
    (
        "measure",
        &["cpu", "engine", "formats", "guides", "kernels", "model", "registry", "serving", "tokenizer"],
    ),
    // No engine: whoever asks for a check should not wait until one is built.
    ("xtask", &["kernels", "formats"]),
];

/// Outside crates that have a home: the engine is no place for an async runtime, and only the server answers HTTP. The
/// clients ask servers (hyper's errors tell them what failed), fetch asks hubs and stores, and the binary starts the server's
/// runtime and sends spans away.
const HOMES: &[(&str, &[&str])] = &[
    ("tokio", &["serving", "server", "fetch", "client", "samosa"]),
    ("axum", &["server"]),
    ("hyper", &["server", "client", "samosa"]),
    ("reqwest", &["fetch", "client", "samosa"]),
    ("object_store", &["fetch"]),
];

/// Where people read the table.
const DOCUMENT: &str = "CONTRIBUTING.md";

/// Manifests that draw an edge which is not in the table, and a document that has another table.
pub(crate) fn check(tree: &FileTree) -> Vec<Violation> {
    let manifests = tree.texts().filter(|(path, _)| is_member(path));
    let mut found: Vec<_> = manifests.flat_map(|(path, text)| check_manifest(path, text)).collect();
    let rows = table();
    if tree.text(DOCUMENT).is_some_and(|text| !text.contains(&rows)) {
        let message =
            format!("the table of crates is not that of xtask/src/tidy/layers.rs, which is\n{rows}");
        found.push(Violation::new("layers", (DOCUMENT, 1), message));
    }
    found
}

/// The edges as rows of Markdown; crates whose edges are the same share one.
fn table() -> String {
    let mut rows = String::from("| crate | may depend on |\n|---|---|\n");
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for same in EDGES.chunk_by(|(_, one), (_, other)| one == other) {
        let names: Vec<&str> = same.iter().map(|(krate, _)| *krate).collect();
        let allowed = same[0].1;
        let allowed = if allowed.is_empty() { "none of the others".to_owned() } else { list(allowed) };
        rows.extend(["| ", &list(&names), " | ", &allowed, " |\n"]);
    }
    rows
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
