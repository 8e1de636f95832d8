use super::tree::FileTree;
use super::{Exemption, Violation, violations};
use crate::shell;

const ROOT: &str = "#![forbid(unsafe_code)]\n";

/// The checks that a made-up tree fails, without repetition.
#[track_caller]
fn assert_fails(files: &[(&str, &str)], expected: &[&str]) {
    let found = violations(&FileTree::of(files), &[]);
    let mut checks: Vec<_> = found.iter().map(|violation| violation.check).collect();
    checks.dedup();
    assert_eq!(checks, expected, "{found:#?}");
}

fn manifest(name: &str, tables: &str) -> String {
    format!("[package]\nname = \"{name}\"\n{tables}")
}

#[test]
fn the_repository_is_tidy() {
    let tree = FileTree::of_repository(shell::root()).expect("git lists the repository");
    let found: Vec<_> = violations(&tree, super::EXEMPT).iter().map(Violation::to_string).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_repository_is_looked_at() {
    let tree = FileTree::of_repository(shell::root()).expect("git lists the repository");
    assert!(tree.has("crates/kernels/src/lib.rs") && tree.has("xtask/src/tidy"));
    assert!(tree.texts().count() > 30 && !tree.paths().any(|path| path.starts_with("target/")));
}

#[test]
fn what_is_embedded_must_be_in_the_images_context() {
    let source = concat!("const A: &str = include_", "str!(\"../../../contract/a.yaml\");\n");
    let page = concat!("bytes: include_", "bytes!(concat!(\"../../../web/dist/\", $name)),\n");
    let of = |ignore| {
        [("crates/a/src/b.rs", source), ("crates/a/src/c.rs", page), ("crates/a/tests/d.rs", source)]
            .into_iter()
            .chain([(".dockerignore", ignore)])
            .collect::<Vec<_>>()
    };
    assert_fails(&of("*\n!contract/a.yaml\n!web/dist\n"), &[]);
    assert_fails(&of("*\n!contract\n!web/dist\n"), &[]);
    assert_fails(&of("*\n!contract/a.yaml\n"), &["context"]);
    assert_fails(&of("*\n!contract/a.yam\n!web/dist\n"), &["context"]);
}

#[test]
fn an_allowed_edge_passes() {
    let text = manifest("engine", "[dependencies]\ntokenizer.workspace = true\nserde = \"1\"");
    assert_fails(&[("crates/engine/Cargo.toml", &text)], &[]);
}

#[test]
fn an_upward_edge_fails() {
    let text = manifest("engine", "[dependencies]\nserver.workspace = true");
    assert_fails(&[("crates/engine/Cargo.toml", &text)], &["layers"]);
}

#[test]
fn a_renamed_edge_of_one_target_fails() {
    let text = manifest(
        "kernels",
        "[target.'cfg(unix)'.dependencies]\nm = { package = \"model\", version = \"1\" }",
    );
    assert_fails(&[("crates/kernels/Cargo.toml", &text)], &["layers"]);
}

#[test]
fn a_build_edge_fails_and_a_development_edge_passes() {
    let build = manifest("formats", "[build-dependencies]\nmodel.workspace = true");
    assert_fails(&[("crates/formats/Cargo.toml", &build)], &["layers"]);
    let dev = manifest("formats", "[dev-dependencies]\nmodel.workspace = true\ntokio = \"1\"");
    assert_fails(&[("crates/formats/Cargo.toml", &dev)], &[]);
}

#[test]
fn an_unknown_crate_fails() {
    assert_fails(&[("crates/extra/Cargo.toml", &manifest("extra", ""))], &["layers"]);
    assert_fails(&[("crates/extra/Cargo.toml", "name = ")], &["layers"]);
}

#[test]
fn tokio_and_axum_stay_at_home() {
    let tables = "[dependencies]\ntokio.workspace = true\n";
    assert_fails(&[("crates/engine/Cargo.toml", &manifest("engine", tables))], &["layers"]);
    assert_fails(&[("crates/registry/Cargo.toml", &manifest("registry", tables))], &["layers"]);
    assert_fails(&[("crates/fetch/Cargo.toml", &manifest("fetch", tables))], &[]);
    let axum = manifest("registry", "[dependencies]\naxum = { workspace = true }");
    assert_fails(&[("crates/registry/Cargo.toml", &axum)], &["layers"]);
}

#[test]
fn unsafe_outside_kernels_fails() {
    let code = "fn f() { unsafe { g() } }";
    assert_fails(&[("crates/cpu/src/forward.rs", code)], &["unsafe"]);
    assert_fails(&[("crates/kernels/src/x86_64.rs", code)], &[]);
    assert_fails(
        &[("crates/cpu/src/forward.rs", "// unsafe\nconst A: &str = \"unsafe\"; // unsafe {}")],
        &[],
    );
}

#[test]
fn a_root_without_forbid_fails() {
    for root in ["crates/model/src/lib.rs", "crates/samosa/src/main.rs", "xtask/src/main.rs"] {
        assert_fails(&[(root, "fn f() {}")], &["unsafe"]);
        assert_fails(&[(root, ROOT)], &[]);
        assert_fails(&[(root, "// #![forbid(unsafe_code)]")], &["unsafe"]);
    }
    assert_fails(&[("crates/kernels/src/lib.rs", "")], &[]);
}

#[test]
fn the_environment_is_read_by_programs_only() {
    let file = "crates/server/src/auth.rs";
    assert_fails(&[(file, "fn f() { std::env::var(\"A\"); }")], &["environment"]);
    assert_fails(&[(file, "use std::env::{self, args};")], &["environment"]);
    assert_fails(&[(file, "fn f() { std::env::temp_dir(); env!(\"A\"); }")], &[]);
    assert_fails(&[("crates/samosa/src/settings.rs", "fn f() { std::env::args(); }")], &[]);
}

#[test]
fn allow_fails_and_expect_passes() {
    let file = "crates/model/src/config.rs";
    assert_fails(&[(file, "#[allow(dead_code)]\nfn f() {}")], &["attributes"]);
    assert_fails(&[(file, "#![cfg_attr(test, allow(dead_code))]")], &["attributes"]);
    assert_fails(&[(file, "#[expect(dead_code, reason = \"allow(x)\")]\nfn f() {}")], &[]);
}

#[test]
fn a_function_longer_than_a_screen_fails() {
    let function =
        |lines: usize| format!("pub(crate) const fn f() {{\n{}}}\n", "// why\n\n    g();\n".repeat(lines));
    let file = "crates/cpu/src/forward.rs";
    assert_fails(&[(file, &function(70))], &[]);
    assert_fails(&[(file, &function(71))], &["function length"]);
    let expected =
        format!("#[expect(clippy::too_many_lines, reason = \"a recipe\")]\n#[inline]\n{}", function(71));
    assert_fails(&[(file, &expected)], &[]);
    let after_it = format!("{expected}{}", function(71));
    assert_fails(&[(file, &after_it)], &["function length"]);
}

#[test]
fn a_function_without_a_body_has_no_length() {
    let text = format!("trait T {{ fn f(&self); }}\nconst TABLE: [u8; 100] = [{}];", "\n1,".repeat(100));
    assert_fails(&[("crates/model/src/config.rs", &text)], &[]);
}

#[test]
fn a_file_over_the_limit_fails() {
    let lines = |n: usize| "/// What it is.\n\nconst A: u8 = 1;\n".repeat(n);
    let file = "crates/model/src/config.rs";
    assert_fails(&[(file, &lines(500))], &[]);
    assert_fails(&[(file, &lines(501))], &["file length"]);
    let tested = format!("{}#[cfg(test)]\n#[expect(dead_code)]\nmod tests {{\n{}}}", lines(500), lines(100));
    assert_fails(&[(file, &tested)], &[]);
    let untested = format!("{}#[cfg(not(test))]\nmod real {{\n{}}}", lines(500), lines(100));
    assert_fails(&[(file, &untested)], &["file length"]);
    assert_fails(&[("crates/model/src/config/tests.rs", &lines(501))], &[]);
}

#[test]
fn text_that_is_not_rust_fails() {
    assert_fails(&[("crates/model/src/config.rs", "fn f( {")], &["rust"]);
}

#[test]
fn unfinished_work_fails() {
    for mark in [concat!("# TO", "DO: later"), concat!("FIX", "ME"), concat!("to", "do!()")] {
        assert_fails(&[("deploy/run.sh", mark)], &["unfinished"]);
    }
    assert_fails(&[("deploy/run.sh", "METHODOLOGY todo TODOS")], &[]);
}

#[test]
fn the_machine_it_was_written_on_stays_unnamed() {
    for text in
        [concat!("see /wo", "rk/main"), concat!("(/ro", "ot/x)"), concat!("https://pypi", ".org/simple")]
    {
        assert_fails(&[("CHANGELOG.md", text)], &["machine"]);
    }
    let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_fails(&[("Cargo.lock", lock), ("a.md", concat!("net/wo", "rk/x and ./wo", "rk/x"))], &[]);
}

#[test]
fn a_folder_with_an_empty_name_fails() {
    assert_fails(&[("crates/engine/src/util/clock.rs", "")], &["names"]);
    assert_fails(&[("crates/common/README.md", "")], &["names"]);
    assert_fails(&[("crates/formats/src/error.rs", "")], &[]);
}

#[test]
fn a_path_in_a_document_exists() {
    let with = |text| [("ARCHITECTURE.md", text), ("crates/model/src/lib.rs", ROOT)];
    assert_fails(
        &with("`crates/model`, `crates/model/src/lib.rs`, `crates/*/src/`, `crates/{model,engine}`"),
        &[],
    );
    assert_fails(&with("`text/event-stream`, `/generate`, `a / b`, `lib.rs`, `n/a`, `target/`"), &[]);
    for gone in ["`crates/gone`", "`deploy/`", "`web/page.md`", "see `crates/gone/*.rs`"] {
        assert_fails(&with(gone), &["paths"]);
    }
    assert_fails(&with("```\n`deploy/`\n```"), &[]);
}

#[test]
fn an_exemption_covers_one_check_of_one_file_and_may_not_be_idle() {
    let tree = FileTree::of(&[("crates/cpu/src/forward.rs", "fn f() { unsafe { g() } }")]);
    let exempt = |check, path| violations(&tree, &[Exemption { check, path }]);
    assert_eq!(exempt("unsafe", "crates/cpu/src/forward.rs"), []);
    let checks = |found: Vec<Violation>| found.iter().map(|violation| violation.check).collect::<Vec<_>>();
    assert_eq!(checks(exempt("unsafe", "crates/model/src/lib.rs")), ["exemptions", "unsafe"]);
    assert_eq!(checks(exempt("names", "crates/cpu/src/forward.rs")), ["exemptions", "unsafe"]);
}

/// The circles of imports in a crate of these files.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|(name, text)| (format!("crates/a/src/{name}"), *text)).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    super::imports::check(&FileTree::of(&files)).into_iter().map(|violation| violation.message).collect()
}

#[test]
fn three_files_that_import_each_other_in_a_circle_fail() {
    let message = "3 files import each other: crates/a/src/b.rs, crates/a/src/c.rs, crates/a/src/d/e.rs";
    for [b, c, e] in [
        ["use crate::c::X;", "use crate::d::e::{Y, Z};", "use super::super::b::W;"],
        ["use crate::{c, d};", "fn f() { crate::d::e::g(); }", "mod inner { use super::super::super::b; }"],
        ["use super::{f::X, c::{Y, Z}};", "pub(crate) use crate::d::{self, e::Y};", "type X = crate::b::W;"],
    ] {
        let files =
            [("lib.rs", "mod b; mod c; mod d;"), ("b.rs", b), ("c.rs", c), ("d.rs", "mod e;"), ("d/e.rs", e)];
        assert_eq!(circles(&files), [message], "{b} {c} {e}");
    }
    let files = [("b", "use crate::c::X;"), ("c", "use crate::d::Y;"), ("d", "use crate::b::Z;")];
    let paths = files.map(|(name, text)| (format!("crates/a/src/{name}.rs"), text));
    assert_fails(&paths.each_ref().map(|(path, text)| (path.as_str(), *text)), &["imports"]);
}

#[test]
fn two_files_tests_and_what_lies_below_make_no_circle() {
    let two = [("lib.rs", "mod b;"), ("b.rs", "use crate::c::X;"), ("c.rs", "use crate::b::Y;")];
    assert_eq!(circles(&two), [""; 0]);
    let parent = "mod c; mod d; use self::c::X; fn f() { d::g() } pub(crate) struct Y; pub(super) struct Z;";
    let below = [("b.rs", parent), ("b/c.rs", "use super::Y;"), ("b/d.rs", "use super::Y; use crate::b::c;")];
    assert_eq!(circles(&below), [""; 0]);
    let b = "use crate::c::X; #[cfg(test)] mod tests { use crate::d::Y; } #[cfg(test)] mod more;";
    let more = [
        ("b.rs", b),
        ("b/more.rs", "use crate::d::Y;"),
        ("c.rs", "use crate::d;"),
        ("d.rs", "use crate::c;"),
    ];
    assert_eq!(circles(&[&more[..], &[("e.rs", "use crate::b;")]].concat()), [""; 0]);
}

#[test]
fn a_struct_or_an_enum_has_a_name_of_its_own() {
    let found = |files: &[(&str, &str)]| -> Vec<String> {
        super::names::check(&FileTree::of(files)).iter().map(Violation::to_string).collect()
    };
    let twice = [("crates/a/src/b.rs", "struct X;"), ("crates/c/src/d.rs", "\npub(crate) enum X { Y }")];
    assert_eq!(found(&twice), ["crates/a/src/b.rs:1: X is defined in crates/c/src/d.rs:2 too [names]"]);
    assert_fails(&twice, &["names"]);
    let apart = [
        ("crates/a/src/b.rs", "struct X; struct Error; #[cfg(test)] mod tests { struct Z; }"),
        ("crates/a/src/b/tests.rs", "struct X;"),
        ("crates/c/src/d.rs", "enum Error {} struct Z; // struct X"),
        ("crates/c/tests/it/e.rs", "struct X;"),
        ("fuzz/src/main.rs", "struct X;"),
    ];
    assert_eq!(found(&apart), [""; 0]);
}

#[test]
fn the_document_has_the_table_of_edges() {
    assert_fails(&[("CONTRIBUTING.md", "| `kernels` | none of the others |\n")], &["layers"]);
}
