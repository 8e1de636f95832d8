//! JSON Schemas, checked and rewritten before the library reads them, so that an answer in the form of a schema fits it.
//!
//! The library ignores keywords it does not know, computes numbers in f64, counts a key that comes twice as two, has
//! formats that let February 29 pass in every year, and takes bounds for excluded that a reader's f64 rounds to. Each of
//! these is refused by name or rewritten here.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use crate::error::GrammarRefusal;
use crate::form::{MAX_REGEX_BYTES, bounded};
use crate::pattern;
use crate::rewrite::{self, LARGEST, SMALLEST};

/// The library's own options inside a schema; ours alone to give.
pub(crate) const OPTIONS: &str = "x-guidance";

/// Keywords whose value is a schema.
const SCHEMA: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
/// Keywords whose value is a list of schemas. `items` may be one, too.
const SCHEMAS: [&str; 5] = ["items", "prefixItems", "anyOf", "oneOf", "allOf"];
/// Keywords whose value holds schemas by name.
const NAMED_SCHEMAS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that the library follows, with values that hold no schema.
const PLAIN: [&str; 11] = [
    "type",
    "minItems",
    "maxItems",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "$ref",
];
/// Keywords with numbers in them.
const NUMBERS: [&str; 7] =
    ["const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
/// Keywords that say nothing of what fits.
const ANNOTATIONS: [&str; 13] = [
    "$schema",
    "$anchor",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "discriminator",
];
/// Keywords that change what `$ref` means; harmless at the root.
const IDS: [&str; 2] = ["$id", "id"];
/// References that are replaced by what they lead to, in all.
const MAX_EXPANDED: usize = 200;

/// The schema as the library may have it, or why not.
pub(crate) fn prepare(schema: &Value) -> Result<Value, GrammarRefusal> {
    if !schema.is_object() {
        return Err(GrammarRefusal("a schema is a JSON object".to_owned()));
    }
    let mut walk = Walk { root: schema, ..Walk::default() };
    let prepared = walk.schema(schema, "")?;
    // A reference into data would be read as a schema that was never checked.
    match walk.references.iter().find(|(_, to)| !walk.schemas.contains(to)) {
        None => Ok(prepared),
        Some((at, to)) => Err(refusal(at, &format!("there is no schema at \"#{to}\""))),
    }
}

/// What was seen on the way through a schema.
struct Walk<'a> {
    root: &'a Value,
    /// References that are being replaced, each within the one before; and how many were in all.
    expanding: Vec<String>,
    expanded: usize,
    /// Where schemas are, as JSON pointers.
    schemas: BTreeSet<String>,
    /// Where references are, and where they lead.
    references: Vec<(String, String)>,
}

impl Default for Walk<'_> {
    fn default() -> Self {
        Self {
            root: &Value::Null,
            expanding: Vec::new(),
            expanded: 0,
            schemas: BTreeSet::new(),
            references: Vec::new(),
        }
    }
}

impl Walk<'_> {
    /// Checks one schema at a place. The depth is that of the JSON, which was bounded when it was read.
    fn schema(&mut self, schema: &Value, at: &str) -> Result<Value, GrammarRefusal> {
        self.schemas.insert(at.to_owned());
        let Value::Object(fields) = schema else {
            return if schema.is_boolean() {
                Ok(schema.clone())
            } else {
                Err(refusal(at, "a schema is an object"))
            };
        };
        let mut prepared = Map::new();
        for (name, value) in fields {
            if let Some(value) = self.keyword(name, value, at)? {
                prepared.insert(name.clone(), value);
            }
        }
        let rewritten = rewrite::format(&mut prepared)
            .and_then(|()| rewrite::bounds(&mut prepared))
            .and_then(|()| rewrite::keys(&mut prepared));
        rewritten.map_err(|GrammarRefusal(why)| refusal(at, &why))?;
        Ok(Value::Object(prepared))
    }

    /// The value of a keyword; `None` if it asks for nothing.
    fn keyword(&mut self, name: &str, value: &Value, at: &str) -> Result<Option<Value>, GrammarRefusal> {
        let below = format!("{at}/{name}");
        let value = match (name, value) {
            ("oneOf", Value::Array(list)) => {
                let options =
                    list.iter().enumerate().map(|(i, option)| self.option(option, &format!("{below}/{i}")));
                Value::Array(options.collect::<Result<_, _>>()?)
            }
            (_, Value::Array(list)) if SCHEMAS.contains(&name) => {
                let items =
                    list.iter().enumerate().map(|(i, item)| self.schema(item, &format!("{below}/{i}")));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (_, Value::Object(named)) if NAMED_SCHEMAS.contains(&name) => self.named(name, named, &below)?,
            (_, value) if SCHEMA.contains(&name) => self.schema(value, &below)?,
            ("$ref", Value::String(to)) => {
                self.references.push((at.to_owned(), reference(to, at)?));
                value.clone()
            }
            ("required", Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).try_for_each(|name| plain_name(name, &below))?;
                value.clone()
            }
            ("pattern", Value::String(text)) => Value::String(prepared_pattern(text, &below)?),
            // Of the wrong type, which the library says.
            _ if SCHEMAS.contains(&name) || NAMED_SCHEMAS.contains(&name) || PLAIN.contains(&name) => {
                value.clone()
            }
            _ if NUMBERS.contains(&name) => {
                exact(value, &below)?;
                value.clone()
            }
            _ if ANNOTATIONS.contains(&name) || (IDS.contains(&name) && at.is_empty()) => return Ok(None),
            ("uniqueItems" | "nullable" | "unevaluatedProperties" | "unevaluatedItems", value)
                if asks_nothing(name, value) =>
            {
                return Ok(None);
            }
            // Extensions of OpenAPI, which no validator reads.
            _ if name.starts_with("x-") && name != OPTIONS => return Ok(None),
            _ => return Err(refusal(at, &format!("the keyword \"{name}\" is not supported"))),
        };
        Ok(Some(value))
    }

    /// One alternative of `oneOf`. A reference is replaced by what it leads to, since the library sees only then that the
    /// alternatives exclude each other.
    fn option(&mut self, option: &Value, at: &str) -> Result<Value, GrammarRefusal> {
        let prepared = self.schema(option, at)?;
        let Some(to) = only_reference(option) else { return Ok(prepared) };
        let target = self.root.pointer(to).filter(|_| self.expanded < MAX_EXPANDED);
        let Some(target) = target.filter(|_| !self.expanding.iter().any(|above| above == to)) else {
            return Ok(prepared);
        };
        self.expanded += 1;
        self.expanding.push(to.to_owned());
        let expanded = self.schema(target, to);
        self.expanding.pop();
        expanded
    }

    fn named(
        &mut self,
        keyword: &str,
        named: &Map<String, Value>,
        at: &str,
    ) -> Result<Value, GrammarRefusal> {
        let mut prepared = Map::new();
        for (name, schema) in named {
            let schema = self.schema(schema, &format!("{at}/{name}"))?;
            let name =
                if keyword == "patternProperties" { prepared_pattern(name, at)? } else { name.clone() };
            if keyword == "properties" {
                plain_name(&name, at)?;
            }
            prepared.insert(name, schema);
        }
        Ok(Value::Object(prepared))
    }
}

/// A control character can be written in several ways, of which the library knows one for a name.
fn plain_name(name: &str, at: &str) -> Result<(), GrammarRefusal> {
    if name.contains(|c: char| c.is_ascii_control()) {
        return Err(refusal(at, "control characters in the name of a property are not supported"));
    }
    Ok(())
}

/// Whether a keyword that is not supported has the value that it has where it is absent.
fn asks_nothing(name: &str, value: &Value) -> bool {
    *value == Value::Bool(name.starts_with("unevaluated"))
}

fn prepared_pattern(text: &str, at: &str) -> Result<String, GrammarRefusal> {
    bounded(text.len(), MAX_REGEX_BYTES)
        .and_then(|()| pattern::prepare(text))
        .map_err(|GrammarRefusal(why)| refusal(at, &why))
}

/// Where a reference leads, as a JSON pointer.
fn reference(to: &str, at: &str) -> Result<String, GrammarRefusal> {
    let pointer = to.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
    let Some(pointer) = pointer.filter(|pointer| !pointer.contains(['~', '%'])) else {
        let rule = "references begin with #/ and lead to a place in this schema without ~ or %";
        return Err(refusal(at, &format!("the $ref \"{to}\" is not supported: {rule}")));
    };
    Ok(if pointer == "/" { String::new() } else { pointer.to_owned() })
}

/// Where a schema leads that is a reference and nothing else.
fn only_reference(schema: &Value) -> Option<&str> {
    let fields = schema.as_object().filter(|fields| fields.len() == 1)?;
    fields.get("$ref")?.as_str()?.strip_prefix('#')
}

/// Fails if a number is in the value that f64 does not hold exactly.
fn exact(value: &Value, at: &str) -> Result<(), GrammarRefusal> {
    match value {
        Value::Number(number) => exact_number(number, at),
        Value::Array(items) => items.iter().try_for_each(|item| exact(item, at)),
        Value::Object(fields) => fields.values().try_for_each(|value| exact(value, at)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn exact_number(number: &Number, at: &str) -> Result<(), GrammarRefusal> {
    let size = number.as_f64().unwrap_or(f64::INFINITY).abs();
    if size == 0.0 || (SMALLEST..=LARGEST).contains(&size) {
        return Ok(());
    }
    let range = format!("numbers from {SMALLEST:e} to {LARGEST:.0}, their negatives and 0 are supported");
    Err(refusal(at, &format!("the number {number} cannot be followed exactly: {range}")))
}

fn refusal(at: &str, why: &str) -> GrammarRefusal {
    if at.is_empty() { GrammarRefusal(why.to_owned()) } else { GrammarRefusal(format!("at {at}, {why}")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        prepare(schema).unwrap_err().0
    }

    #[test]
    fn what_is_not_followed_exactly_is_refused_with_its_place() {
        for (schema, expected) in [
            (json!([]), "a schema is a JSON object"),
            (json!({ "x-guidance": {} }), "the keyword \"x-guidance\" is not supported"),
            (json!({ "minLen": 3 }), "the keyword \"minLen\" is not supported"),
            (
                json!({ "properties": { "a": { "not": {} } } }),
                "at /properties/a, the keyword \"not\" is not supported",
            ),
            (json!({ "uniqueItems": true }), "the keyword \"uniqueItems\" is not supported"),
            (json!({ "anyOf": [{ "$id": "x" }] }), "at /anyOf/0, the keyword \"$id\" is not supported"),
            (
                json!({ "const": 9_007_199_254_740_993_u64 }),
                "at /const, the number 9007199254740993 cannot be",
            ),
            (json!({ "const": i64::MIN }), "at /const, the number -9223372036854775808 cannot be"),
            (json!({ "enum": [1, { "a": [-1e19] }] }), "at /enum, the number -1e+19 cannot be"),
            (
                json!({ "type": "integer", "maximum": 1_200_000_000_000_000_000_u64 }),
                "at /maximum, the number",
            ),
            (json!({ "multipleOf": 1e-12 }), "at /multipleOf, the number 1e-12 cannot be"),
            (json!({ "minProperties": 2 }), "\"minProperties\" is 2, but at most 1"),
            (json!({ "required": ["\t"] }), "at /required, control characters"),
            (
                json!({ "items": { "format": "unknown" } }),
                "at /items, the format \"unknown\" is not supported",
            ),
            (json!({ "properties": { "a\n": {} } }), "at /properties, control characters"),
            (json!({ "$ref": "other.json" }), "the $ref \"other.json\" is not supported"),
            (
                json!({ "$ref": "#/default", "default": { "const": 1e300 } }),
                "there is no schema at \"#/default\"",
            ),
            (json!({ "items": { "pattern": "(" } }), "at /items/pattern, the regular expression is wrong"),
        ] {
            let said = refused(&schema);
            assert!(said.starts_with(expected), "{said}, and not {expected}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_left_out() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "title": "t", "x-order": ["a"],
            "type": "array", "uniqueItems": false, "unevaluatedItems": true, "items": { "$ref": "#/$defs/a" },
            "$defs": { "a": { "description": "d", "deprecated": true, "const": 1 } },
        });
        let expected =
            json!({ "type": "array", "items": { "$ref": "#/$defs/a" }, "$defs": { "a": { "const": 1 } } });
        assert_eq!(prepare(&schema).unwrap(), expected);
    }

    #[test]
    fn alternatives_that_are_references_are_replaced_once() {
        let cat = json!({ "properties": { "kind": { "const": "cat" } }, "required": ["kind"] });
        let schema =
            json!({ "$defs": { "cat": cat }, "oneOf": [{ "$ref": "#/$defs/cat" }, { "type": "null" }] });
        assert_eq!(prepare(&schema).unwrap()["oneOf"][0], cat);
        let endless =
            json!({ "$defs": { "a": { "oneOf": [{ "$ref": "#/$defs/a" }, true] } }, "$ref": "#/$defs/a" });
        let inner = json!({ "oneOf": [{ "$ref": "#/$defs/a" }, true] });
        assert_eq!(prepare(&endless).unwrap()["$defs"]["a"]["oneOf"][0], inner);
        // Each of these has two of the next.
        let level = |i: usize| json!({ "oneOf": [{ "$ref": format!("#/$defs/{}", i + 1) }, { "$ref": format!("#/$defs/{}", i + 1) }] });
        let levels: Map<String, Value> = (0..30).map(|i| (i.to_string(), level(i))).collect();
        let wide = json!({ "$defs": levels, "$ref": "#/$defs/0" });
        assert!(refused(&wide).contains("no schema at \"#/$defs/30\""));
    }

    #[test]
    fn names_that_are_keywords_elsewhere_are_names() {
        let schema = json!({ "properties": { "not": { "type": "string" }, "minLen": true, "$id": false } });
        assert_eq!(prepare(&schema).unwrap(), schema);
        let data = json!({ "const": { "not": {}, "pattern": "(" } });
        assert_eq!(prepare(&data).unwrap(), data);
    }
}
