//! JSON Schema as rows of a table: a row a field, nested ones with their path.

use serde_json::{Map, Value};

use super::{cell, code_list};

/// Deeper than any body is.
const DEPTH: usize = 16;

/// A field of a body.
pub(super) struct SchemaRow {
    /// `messages[].role`.
    pub(super) name: String,
    /// Type and range, in words.
    pub(super) values: String,
    pub(super) required: bool,
    /// Whether it takes only values that ask for nothing.
    pub(super) is_idle: bool,
    pub(super) default: Option<String>,
    pub(super) meaning: String,
}

/// The fields of a schema.
pub(super) fn rows(document: &Value, schema: &Value) -> Vec<SchemaRow> {
    let mut reading = SchemaReader { document, rows: Vec::new() };
    reading.object(schema, "", 0);
    reading.rows
}

struct SchemaReader<'a> {
    document: &'a Value,
    rows: Vec<SchemaRow>,
}

/// What a schema says, behind its reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

impl<'a> SchemaReader<'a> {
    /// Adds the fields of an object, or of the objects that something may be.
    fn object(&mut self, schema: &'a Value, path: &str, depth: usize) {
        assert!(depth < DEPTH, "{path} is nested too deeply");
        let schema = resolved(self.document, schema);
        for one in choices(schema) {
            self.object(one, path, depth + 1);
        }
        if schema.get("items").is_some() {
            self.object(&schema["items"], &format!("{}[].", path.trim_end_matches('.')), depth + 1);
        }
        let Some(properties) = schema["properties"].as_object() else { return };
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in properties {
            let field = resolved(self.document, field);
            let whole = format!("{path}{name}");
            self.add(SchemaRow {
                values: kind(self.document, field),
                required: required.contains(&name.as_str()),
                is_idle: asks_for_nothing(field),
                default: field.get("default").map(Value::to_string),
                meaning: cell(field["description"].as_str().unwrap_or_default()),
                name: whole.clone(),
            });
            self.object(field, &format!("{whole}."), depth + 1);
        }
    }

    /// Adds a row; what several forms of an object have in common is one.
    fn add(&mut self, row: SchemaRow) {
        match self.rows.iter_mut().find(|other| other.name == row.name) {
            Some(other) if other.values != row.values => {
                other.values = format!("{} or {}", other.values, row.values);
            }
            Some(_) => {}
            None => self.rows.push(row),
        }
    }
}

fn choices(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().flat_map(|word| schema[word].as_array().into_iter().flatten())
}

/// Whether a field takes only values that ask for nothing.
fn asks_for_nothing(field: &Value) -> bool {
    let is = |word: &str, value: i64| field[word].as_i64() == Some(value);
    let with_null = field["enum"].as_array().is_some_and(|words| words.contains(&Value::Null));
    field["type"] == "null"
        || is("maxItems", 0)
        || is("maxProperties", 0)
        || (with_null && field.get("type").is_none())
}

/// Type and range in words.
fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(Value::to_string).collect();
        return code_list(words.iter().map(String::as_str));
    }
    let mut choices: Vec<String> = choices(schema).map(|one| kind(document, one)).collect();
    choices.dedup();
    if !choices.is_empty() {
        return choices.join(" or ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(only) => vec![only],
        _ => vec!["anything"],
    };
    let described = types.into_iter().map(|name| one_type(document, name, schema));
    described.collect::<Vec<_>>().join(" or ")
}

fn one_type(document: &Value, name: &str, schema: &Value) -> String {
    let fields = schema.as_object().cloned().unwrap_or_default();
    match name {
        "null" => "null".to_owned(),
        "string" => match (range(&fields, "minLength", "maxLength"), fields.get("pattern")) {
            (_, Some(pattern)) => format!("text like `{}`", pattern.as_str().unwrap_or_default()),
            (Some(range), None) => format!("text of {range} characters"),
            (None, None) => "text".to_owned(),
        },
        "array" => {
            let items =
                fields.get("items").map_or_else(|| "anything".to_owned(), |items| kind(document, items));
            match range(&fields, "minItems", "maxItems") {
                Some(range) => format!("list of {range}: {items}"),
                None => format!("list of {items}"),
            }
        }
        "object" => match fields.get("additionalProperties").filter(|value| value.is_object()) {
            Some(values) => format!("object of {}", kind(document, values)),
            None => "object".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        number => {
            let name = if number == "integer" { "whole number" } else { "number" };
            let above = fields.get("exclusiveMinimum").map(|least| format!(" over {least}"));
            match range(&fields, "minimum", "maximum") {
                Some(range) => format!("{name}{}, {range}", above.unwrap_or_default()),
                None => name.to_owned(),
            }
        }
    }
}

/// A range in words.
fn range(fields: &Map<String, Value>, least: &str, most: &str) -> Option<String> {
    match (fields.get(least), fields.get(most)) {
        (None, None) => None,
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("{least} or more")),
        (None, Some(most)) => Some(format!("up to {most}")),
    }
}

#[test]
fn a_schema_becomes_rows() {
    let document = serde_json::json!({
        "components": { "schemas": { "Turn": { "type": "object", "required": ["role"], "properties": {
            "role": { "enum": ["user", "system"] },
            "name": { "type": "null" },
        } } } },
        "body": { "type": "object", "properties": {
            "turns": { "type": "array", "minItems": 1, "maxItems": 9, "items": { "$ref": "#/components/schemas/Turn" } },
            "top_p": { "type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1, "default": 1 },
            "form": { "oneOf": [{ "type": "null" }, { "type": "object", "properties": { "of": { "const": "a" } } }] },
        } },
    });
    let rows = rows(&document, &document["body"]);
    let told: Vec<(&str, &str, bool)> =
        rows.iter().map(|row| (row.name.as_str(), row.values.as_str(), row.required)).collect();
    let expected = [
        ("turns", "list of 1 to 9: object", false),
        ("turns[].role", "`\"user\"`, `\"system\"`", true),
        ("turns[].name", "null", false),
        ("top_p", "number over 0, up to 1 or null", false),
        ("form", "null or object", false),
        ("form.of", "`\"a\"`", false),
    ];
    assert_eq!(told, expected);
    assert!(rows.iter().all(|row| row.is_idle == (row.name == "turns[].name")));
    assert_eq!(rows[3].default.as_deref(), Some("1"));
}
