//! The reference pages of the book, made from what the program is: settings, command line, errors, contracts. There are
//! only tests here: they keep the pages in `docs/src/reference` equal to what they should be, and write them anew where
//! `UPDATE` is set. `cargo xtask book` runs the examples in them.

mod api;
mod commands;
mod errors;
mod schema;
mod settings;

use std::path::Path;

/// What stands first in every page.
const MADE: &str = "<!-- Made by UPDATE=1 cargo test -p samosa documents. -->\n";

/// Compares a document of the repository with what it should be; writes it where `UPDATE` is set.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever changes the source says that the documents shall follow"
)]
pub(crate) fn keep(path: &str, wanted: &str) {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let found = std::fs::read_to_string(&whole).unwrap_or_default();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&whole, wanted).unwrap();
    } else {
        assert!(found == wanted, "{path} is stale: run UPDATE=1 cargo test -p samosa documents");
    }
}

/// The same of a page of the reference.
fn keep_page(name: &str, title: &str, body: &str) {
    let text = format!("{MADE}\n# {title}\n\n{}\n", body.trim());
    assert!(!text.contains("\n\n\n"), "{name} has two empty lines");
    keep(&format!("docs/src/reference/{name}.md"), &text);
}

/// Text as a cell of a table: on one line, without what would end the cell or, outside of code, become markup.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ").replace('|', "\\|");
    let parts = words.split('`').enumerate();
    let escaped =
        parts.map(|(at, part)| if at % 2 == 0 { part.replace('<', "\\<") } else { part.to_owned() });
    escaped.collect::<Vec<_>>().join("`")
}

/// Several words as code.
fn code_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[test]
fn cells_stay_in_their_table() {
    assert_eq!(cell("a |\n b <c> `<d>`"), "a \\| b \\<c> `<d>`");
    assert_eq!(code_list(["a", "b"]), "`a`, `b`");
}
