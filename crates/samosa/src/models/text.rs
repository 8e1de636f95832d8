//! A document for people: one line a value, names aligned, what is inside another indented below it. What is null or
//! empty is left out.

use client::text::ByteSize;
use serde_json::{Map, Value};

/// Columns that what is inside another is indented by.
const INDENT: usize = 2;

/// The document's lines.
pub(super) fn lines(document: &Value) -> String {
    let mut out = String::new();
    if let Value::Object(fields) = document {
        add(&mut out, fields, 0);
    }
    out
}

fn add(out: &mut String, fields: &Map<String, Value>, indent: usize) {
    let told = || fields.iter().filter(|(_, value)| !is_empty(value));
    let width =
        told().filter(|(_, value)| !is_nested(value)).map(|(key, _)| name(key).len()).max().unwrap_or(0);
    for (key, value) in told() {
        let name = name(key);
        match value {
            Value::Object(inner) if is_nested(value) => {
                line(out, indent, &name);
                add(out, inner, indent + INDENT);
            }
            Value::Array(items) => {
                line(out, indent, &name);
                for item in items {
                    line(out, indent + INDENT, &shown(key, item));
                }
            }
            value => line(out, indent, &format!("{name:width$}  {}", shown(key, value))),
        }
    }
}

fn line(out: &mut String, indent: usize, text: &str) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(text.trim_end());
    out.push('\n');
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A file is told in one line.
fn is_nested(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| !fields.contains_key("bytes"))
}

/// The name of a field. File names stay as they are.
fn name(key: &str) -> String {
    let plain = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain { key.trim_end_matches("_bytes").replace('_', " ") } else { key.to_owned() }
}

fn shown(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(bytes) if key.ends_with("_bytes") => ByteSize(bytes.as_u64().unwrap_or(0)).to_string(),
        Value::Object(file) => {
            let bytes = file.get("bytes").and_then(Value::as_u64).unwrap_or(0);
            let hash = file.get("sha256").and_then(Value::as_str).unwrap_or_default();
            format!("{:>10}  {hash}", ByteSize(bytes))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn names_are_aligned_and_nothing_is_said_of_nothing() {
        let document = json!({
            "tag": "d20", "step": null, "memory_bytes": 3_000_000, "fits": true, "overrides": { "softcap": 20.0 },
            "files": { "model_000650.pt": { "bytes": 1_000_000, "sha256": "ab" }, "a": { "bytes": 512, "sha256": "" } },
            "notes": ["one", "two"], "sha256": {},
        });
        let expected = "tag     d20\nmemory  3.0 MB\nfits    yes\noverrides\n  softcap  20.0\nfiles\n  model_000650.pt      \
                        1.0 MB  ab\n  a                     512 B\nnotes\n  one\n  two\n";
        assert_eq!(super::lines(&document), expected);
    }
}
