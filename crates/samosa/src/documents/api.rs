//! `api.md`: every operation of both contracts with its headers, its fields and an example that `cargo xtask book` runs.
//! What the contracts leave open (ranges, headers, the paths of operators) is said here, by the constants of the server
//! where there are some; a route of the router that is not in the page fails the test.

mod operations;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use client::text::wrap;
use serde_json::{Map, Value, json};

use self::operations::{INTRODUCTION, OPERATIONS, OTHERS, OperationNotes};
use super::schema::{SchemaRow, rows};
use super::{cell, code_list, keep_page};
use crate::settings::Values;

/// Columns of a paragraph.
const WIDTH: usize = 118;

#[test]
fn the_page_of_the_api_has_every_operation_and_every_route() {
    let inference = bounded(server::inference_document());
    let openai = server::openai_document();
    let mut documented = BTreeSet::new();
    let mut page = INTRODUCTION.to_owned();
    for (title, document) in [("The service", &inference), ("OpenAI's API", &openai)] {
        let _ = writeln!(page, "\n## {title}");
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, contract) in methods.as_object().unwrap() {
                let named = |operation: &&OperationNotes| {
                    operation.method.eq_ignore_ascii_case(method) && operation.path == path
                };
                let operation = OPERATIONS.iter().find(named);
                let operation =
                    operation.unwrap_or_else(|| panic!("{method} {path} needs words in operations.rs"));
                add(&mut page, operation, document, contract);
            }
            documented.insert(path.replace("{model}", "{*model}"));
        }
    }
    let routes = routes();
    page.push_str("\n## For operators and browsers\n\nAll answer to GET.\n\n| path | answers |\n|---|---|\n");
    for (path, answers) in OTHERS.iter().filter(|(path, _)| routes.contains(*path)) {
        let _ = writeln!(page, "| `{path}` | {answers} |");
        documented.insert((*path).to_owned());
    }
    assert_eq!(
        routes.difference(&documented).collect::<Vec<_>>(),
        [""; 0],
        "routes that the page does not have"
    );
    keep_page("api", "API", &page);
}

/// The paths written in the sources of the server's crate.
fn routes() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let files = std::fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap());
    let paths = texts.flat_map(|text| {
        let ends = text.split("route(\"").skip(1);
        ends.map(|rest| rest.split_once('"').unwrap().0.to_owned()).collect::<Vec<_>>()
    });
    paths.collect()
}

/// The contract with the ranges and defaults of what it leaves open.
fn bounded(mut document: Value) -> Value {
    let limits = server::Limits::default();
    let schemas = &mut document["components"]["schemas"];
    let turn = &mut schemas["ChatMessage"]["properties"];
    extend(
        &mut turn["role"],
        json!({ "enum": ["user", "assistant", "system"],
        "description": "A `system` message may only lead, with a `user`'s after it." }),
    );
    extend(
        &mut turn["content"],
        json!({ "minLength": 1, "maxLength": limits.message_chars,
        "description": "An `assistant`'s may be empty. `MAX_MESSAGE_CHARS` sets the limit." }),
    );
    let fields = &mut schemas["GenerateRequest"]["properties"];
    let together = format!("{} characters together at most.", limits.conversation_chars);
    extend(
        &mut fields["messages"],
        json!({ "minItems": 1, "maxItems": limits.messages, "description": together }),
    );
    extend(
        &mut fields["temperature"],
        json!({ "minimum": 0, "maximum": limits.temperature as u64,
        "default": "DEFAULT_TEMPERATURE", "description": "0 always takes the likeliest token." }),
    );
    extend(
        &mut fields["top_k"],
        json!({ "minimum": 0, "maximum": limits.top_k, "default": "DEFAULT_TOP_K",
        "description": "Candidates of each draw; 0 keeps all." }),
    );
    extend(
        &mut fields["max_tokens"],
        json!({ "minimum": 1, "maximum": limits.max_tokens,
        "default": "DEFAULT_MAX_TOKENS", "description": "Longest answer; cut to what the context holds." }),
    );
    let values = Values::default();
    for name in ["temperature", "top_k", "max_tokens"] {
        let key = format!("default_{name}");
        fields[name]["default"] =
            json!(format!("{}, by {}", values.named(&key).unwrap().default, key.to_ascii_uppercase()));
    }
    document
}

fn extend(schema: &mut Value, with: Value) {
    let Value::Object(fields) = with else { return };
    schema.as_object_mut().unwrap().extend(fields);
}

/// An operation, under a heading of its own.
fn add(page: &mut String, operation: &OperationNotes, document: &Value, contract: &Value) {
    let public = contract.get("security").or(document.get("security")).is_none();
    let key = if public { " Needs no key." } else { "" };
    let summary = contract["summary"].as_str().unwrap().trim();
    let _ = writeln!(page, "\n### {} {}\n\n{summary}{key}", operation.method, operation.path);
    if !operation.about.is_empty() {
        let _ = writeln!(page, "\n{}", wrap(operation.about, WIDTH).join("\n"));
    }
    for parameter in contract["parameters"].as_array().into_iter().flatten() {
        let about = cell(parameter["description"].as_str().unwrap());
        let _ = writeln!(page, "\n`{}` in the path: {about}", parameter["name"].as_str().unwrap());
    }
    if !operation.headers.is_empty() {
        page.push_str("\n| header | meaning |\n|---|---|\n");
        for (name, meaning) in operation.headers {
            let _ = writeln!(page, "| `{name}` | {meaning} |");
        }
    }
    if let Some(body) = contract.pointer("/requestBody/content/application~1json/schema") {
        fields(page, "field", rows(document, body));
    }
    let _ = writeln!(page, "\n<!-- run: server -->\n```console\n{}\n```", operation.example.trim());
    answers(page, document, &contract["responses"]);
}

/// A table of fields, and a sentence on those that only ask for nothing.
fn fields(page: &mut String, what: &str, rows: Vec<SchemaRow>) {
    let (idle, rows): (Vec<SchemaRow>, Vec<SchemaRow>) = rows.into_iter().partition(|row| row.is_idle);
    let _ = writeln!(page, "\n| {what} | values | without it | meaning |\n|---|---|---|---|");
    for row in rows {
        let without = match (row.required, &row.default) {
            (true, _) => "refused".to_owned(),
            (false, Some(default)) => default.trim_matches('"').to_owned(),
            (false, None) => "–".to_owned(),
        };
        let _ = writeln!(page, "| `{}` | {} | {without} | {} |", row.name, cell(&row.values), row.meaning);
    }
    if !idle.is_empty() {
        let idle: Vec<String> = idle.iter().map(|row| format!("`{}`", row.name)).collect();
        let sentence = format!("Accepted only with a value that has no effect: {}.", idle.join(", "));
        let _ = writeln!(page, "\n{}", wrap(&sentence, WIDTH).join("\n"));
    }
}

/// What may come back.
fn answers(page: &mut String, document: &Value, responses: &Value) {
    let empty = Map::new();
    let responses = responses.as_object().unwrap_or(&empty);
    for (status, response) in responses.iter().filter(|(status, _)| status.starts_with('2')) {
        let description = cell(response["description"].as_str().unwrap());
        let kinds: Vec<&str> = response["content"].as_object().unwrap().keys().map(String::as_str).collect();
        let _ = writeln!(page, "\n**{status}** ({}): {description}", code_list(kinds));
        for (kind, content) in response["content"].as_object().unwrap() {
            let rows = rows(document, &content["schema"]);
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(page, "\n| in `{kind}` | values | meaning |\n|---|---|---|");
            for row in rows {
                let optional = if row.required { "" } else { " (may be absent)" };
                let _ =
                    writeln!(page, "| `{}` | {}{optional} | {} |", row.name, cell(&row.values), row.meaning);
            }
        }
    }
    let errors: Vec<&str> = responses
        .keys()
        .map(String::as_str)
        .filter(|status| !status.starts_with('2') && *status != "default")
        .collect();
    if !errors.is_empty() {
        let _ = writeln!(page, "\n[Errors](errors.md): {}.", errors.join(", "));
    }
}
