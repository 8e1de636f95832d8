//! Keywords of one schema, rewritten where the library would follow them otherwise than a validator.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::error::GrammarRefusal;
use crate::pattern;

/// The largest number up to which f64 tells all whole numbers apart.
pub(crate) const LARGEST: f64 = 9_007_199_254_740_991.0;
/// The smallest number that may stand in a schema, apart from 0.
pub(crate) const SMALLEST: f64 = 1e-9;

/// A day of a month that every year has, and February 29 in leap years; the year 0 is none.
const DATE: &str = "(?:(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|\
    (?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|\
    (?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29)";
/// No leap second, which most readers refuse.
const TIME: &str =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
/// A part of a host's name between two dots.
const LABEL: &str = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
/// What an address may have between two dots before the @.
const ATOM: &str = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+";
/// Characters of the longest name of a host, and of the longest address.
const MAX_HOSTNAME: u64 = 253;
const MAX_EMAIL: u64 = 254;

/// Formats of strings that the library follows exactly.
const FORMATS: [&str; 5] = ["duration", "ipv4", "ipv6", "uuid", "uri"];
/// Formats of whole numbers, and their bounds.
const INTEGERS: [(&str, i64, i64); 10] = [
    ("int8", -(1 << 7), (1 << 7) - 1),
    ("uint8", 0, (1 << 8) - 1),
    ("int16", -(1 << 15), (1 << 15) - 1),
    ("uint16", 0, (1 << 16) - 1),
    ("int32", -(1 << 31), (1 << 31) - 1),
    ("uint32", 0, (1 << 32) - 1),
    // As far as numbers are followed exactly.
    ("int64", -(LARGEST as i64), LARGEST as i64),
    ("uint64", 0, LARGEST as i64),
    ("int", -(LARGEST as i64), LARGEST as i64),
    ("uint", 0, LARGEST as i64),
];

/// Puts expressions and bounds in the place of formats that the library has too wide or ignores.
pub(crate) fn format(fields: &mut Map<String, Value>) -> Result<(), GrammarRefusal> {
    let Some(Value::String(name)) = fields.get("format").cloned() else { return Ok(()) };
    let (expressions, longest) = match name.as_str() {
        "date" => (vec![DATE.to_owned()], None),
        "time" => (vec![TIME.to_owned()], None),
        "date-time" => (vec![format!("{DATE}T{TIME}")], None),
        "hostname" => (vec![format!("{LABEL}(?:\\.{LABEL})*")], Some(MAX_HOSTNAME)),
        "email" => {
            let address = format!("{ATOM}(?:\\.{ATOM})*@{LABEL}(?:\\.{LABEL})*");
            (vec![address, "[^@]{1,64}@[^@]*".to_owned()], Some(MAX_EMAIL))
        }
        "float" | "double" => (Vec::new(), None),
        name if FORMATS.contains(&name) => return Ok(()),
        name => match INTEGERS.iter().find(|(integer, ..)| *integer == name) {
            Some((_, least, most)) => {
                at_least(fields, "minimum", json!(least));
                at_most(fields, "maximum", json!(most));
                (Vec::new(), None)
            }
            None => return Err(GrammarRefusal(format!("the format \"{name}\" is not supported"))),
        },
    };
    fields.shift_remove("format");
    if let Some(longest) = longest {
        at_most(fields, "maxLength", json!(longest));
    }
    for expression in expressions {
        also(fields, "pattern", Value::String(format!("^(?:{expression})$")));
    }
    Ok(())
}

/// Puts the next number in the place of a bound that is excluded: 0.1 and twenty zeros and a 1 is more than 0.1, but not for
/// a reader with f64. Checks that the library reads `multipleOf` as it is written.
pub(crate) fn bounds(fields: &mut Map<String, Value>) -> Result<(), GrammarRefusal> {
    if let Some(divisor) = fields.get("multipleOf").and_then(Value::as_f64) {
        check_divisor(divisor)?;
    }
    if fields.get("type").and_then(Value::as_str) == Some("integer") {
        return Ok(());
    }
    if let Some(bound) = excluded(fields, "exclusiveMinimum", "minimum") {
        let next = if bound == 0.0 { SMALLEST / 2.0 } else { bound.next_up() };
        at_least(fields, "minimum", json!(next));
    }
    if let Some(bound) = excluded(fields, "exclusiveMaximum", "maximum") {
        let next = if bound == 0.0 { -SMALLEST / 2.0 } else { bound.next_down() };
        at_most(fields, "maximum", json!(next));
    }
    Ok(())
}

/// Takes a bound that is excluded; older schemas say with a flag that the other bound is.
fn excluded(fields: &mut Map<String, Value>, name: &str, included: &str) -> Option<f64> {
    let bound = match fields.get(name)? {
        Value::Bool(true) => fields.get(included).and_then(Value::as_f64),
        other => other.as_f64(),
    };
    bound.inspect(|_| drop(fields.shift_remove(name)))
}

/// The library multiplies a divisor by 10 until it is whole, which rounding can keep from ever being right.
fn check_divisor(divisor: f64) -> Result<(), GrammarRefusal> {
    let (mut whole, mut places) = (divisor, 0);
    while whole.fract() != 0.0 {
        whole *= 10.0;
        places += 1;
    }
    let is_read =
        whole > 0.0 && whole <= f64::from(u32::MAX) && format!("{whole}e-{places}").parse() == Ok(divisor);
    if is_read {
        Ok(())
    } else {
        Err(GrammarRefusal(format!("\"multipleOf\" of {divisor} is not supported")))
    }
}

/// Takes patterns of keys away that match nothing but names that are there: the library would wait for another key. Checks
/// `minProperties`: of keys that are not named one may come twice, and counts once for a reader.
pub(crate) fn keys(fields: &mut Map<String, Value>) -> Result<(), GrammarRefusal> {
    name_keys(fields);
    let least = fields.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
    let required = names(fields.get("required"));
    let named = fields.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
    let named = required.iter().cloned().chain(named).collect::<BTreeSet<_>>().len() as u64;
    let is_closed = fields.get("additionalProperties") == Some(&Value::Bool(false))
        && !fields.contains_key("patternProperties");
    let most = if is_closed { named } else { required.len() as u64 + 1 };
    if least <= most {
        return Ok(());
    }
    let why = if is_closed {
        "are named"
    } else {
        "(one more than are required) is supported where keys are not all named"
    };
    Err(GrammarRefusal(format!("\"minProperties\" is {least}, but at most {most} {why}")))
}

/// Gives each name that a pattern of few texts matches the pattern's schema, and takes the pattern away where all of its
/// texts are named.
fn name_keys(fields: &mut Map<String, Value>) {
    let Some(Value::Object(patterns)) = fields.get("patternProperties").cloned() else { return };
    let required = names(fields.get("required"));
    let mut properties = match fields.get("properties") {
        None => Map::new(),
        Some(Value::Object(properties)) => properties.clone(),
        Some(_) => return,
    };
    let mut left = Map::new();
    for (expression, schema) in patterns {
        let texts = pattern::finite(&expression).filter(|texts| {
            texts.iter().all(|text| properties.contains_key(text) || required.contains(text))
        });
        let Some(texts) = texts else {
            left.insert(expression, schema);
            continue;
        };
        for text in texts {
            let schema = match properties.get(&text) {
                None => schema.clone(),
                Some(named) => json!({ "allOf": [named, schema] }),
            };
            properties.insert(text, schema);
        }
    }
    if !properties.is_empty() {
        fields.insert("properties".to_owned(), Value::Object(properties));
    }
    fields.shift_remove("patternProperties");
    if !left.is_empty() {
        fields.insert("patternProperties".to_owned(), Value::Object(left));
    }
}

fn names(list: Option<&Value>) -> BTreeSet<String> {
    let names = list.and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Adds a keyword, beside the one that is there.
fn also(fields: &mut Map<String, Value>, name: &str, value: Value) {
    if !fields.contains_key(name) {
        fields.insert(name.to_owned(), value);
        return;
    }
    let mut other = Map::from_iter([(name.to_owned(), value)]);
    if let Some(types) = fields.get("type") {
        other.insert("type".to_owned(), types.clone());
    }
    let all_of = fields.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(all_of) = all_of {
        all_of.push(Value::Object(other));
    }
}

/// Raises a lower bound.
fn at_least(fields: &mut Map<String, Value>, name: &str, bound: Value) {
    let is_higher = |other: f64| bound.as_f64().is_some_and(|bound| bound <= other);
    if !fields.get(name).and_then(Value::as_f64).is_some_and(is_higher) {
        fields.insert(name.to_owned(), bound);
    }
}

/// Lowers an upper bound.
fn at_most(fields: &mut Map<String, Value>, name: &str, bound: Value) {
    let is_lower = |other: f64| bound.as_f64().is_some_and(|bound| bound >= other);
    if !fields.get(name).and_then(Value::as_f64).is_some_and(is_lower) {
        fields.insert(name.to_owned(), bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(schema: Value) -> Result<Value, String> {
        let Value::Object(mut fields) = schema else { panic!("a schema is an object") };
        format(&mut fields)
            .and_then(|()| bounds(&mut fields))
            .and_then(|()| keys(&mut fields))
            .map_err(|GrammarRefusal(why)| why)?;
        Ok(Value::Object(fields))
    }

    #[test]
    fn dates_are_dates() {
        let date = fancy_regex::Regex::new(&format!("^{DATE}$")).unwrap();
        for (text, is_one) in [
            ("2024-02-29", true),
            ("2023-02-29", false),
            ("2000-02-29", true),
            ("1900-02-29", false),
            ("0000-01-01", false),
            ("0004-02-29", true),
            ("2023-04-31", false),
            ("2023-12-31", true),
        ] {
            assert_eq!(date.is_match(text).unwrap(), is_one, "{text}");
        }
    }

    #[test]
    fn formats_of_numbers_are_bounds() {
        let whole = json!({ "type": "integer", "minimum": 3, "format": "uint8" });
        assert_eq!(rewritten(whole), Ok(json!({ "type": "integer", "minimum": 3, "maximum": 255 })));
        assert_eq!(rewritten(json!({ "format": "double" })), Ok(json!({})));
        assert!(rewritten(json!({ "format": "password" })).unwrap_err().contains("\"password\""));
        assert!(rewritten(json!({ "format": "hostname", "maxLength": 9 })).unwrap()["maxLength"] == 9);
    }

    #[test]
    fn bounds_are_excluded_for_readers_too() {
        let prepared = |schema: Value| rewritten(schema).unwrap();
        assert_eq!(
            prepared(json!({ "exclusiveMinimum": 0.1 })),
            json!({ "minimum": 0.100_000_000_000_000_02 })
        );
        assert_eq!(prepared(json!({ "exclusiveMaximum": 0, "maximum": 5 })), json!({ "maximum": -5e-10 }));
        assert_eq!(prepared(json!({ "minimum": 7, "exclusiveMinimum": 0.5 })), json!({ "minimum": 7 }));
        let old = json!({ "type": "number", "minimum": 2, "exclusiveMinimum": true });
        assert_eq!(prepared(old), json!({ "type": "number", "minimum": 2.000_000_000_000_000_4 }));
        let whole = json!({ "type": "integer", "exclusiveMinimum": 2 });
        assert_eq!(prepared(whole.clone()), whole);
    }

    #[test]
    fn divisors_are_read_as_written_or_refused() {
        for divisor in [1.0, 0.5, 0.05, 0.01, 0.25, 12345.0, 10_000_019.0] {
            assert!(rewritten(json!({ "multipleOf": divisor })).is_ok(), "{divisor}");
        }
        for divisor in [0.07, 0.57, 19.99, -3.0, 0.0, 5e9] {
            let why = rewritten(json!({ "multipleOf": divisor })).unwrap_err();
            assert_eq!(why, format!("\"multipleOf\" of {divisor} is not supported"));
        }
    }

    #[test]
    fn patterns_that_match_names_alone_become_names() {
        let schema = json!({
            "properties": { "x": {}, "a": { "enum": [1, 2] } }, "patternProperties": { "^a$": { "enum": [2, 3] } },
            "required": ["x", "a"], "additionalProperties": false,
        });
        let named = json!({ "allOf": [{ "enum": [1, 2] }, { "enum": [2, 3] }] });
        let fields = rewritten(schema).unwrap();
        assert_eq!((fields.get("patternProperties"), &fields["properties"]["a"]), (None, &named));
        let both = json!({ "properties": { "a": {} }, "patternProperties": { "^[ab]$": {}, "^x": {} } });
        assert_eq!(rewritten(both.clone()), Ok(both));
        let too_many = json!({
            "patternProperties": { "^b$": { "const": 1 } }, "required": ["b"], "minProperties": 2,
            "additionalProperties": false,
        });
        assert!(rewritten(too_many).unwrap_err().contains("at most 1 are named"));
    }
}
