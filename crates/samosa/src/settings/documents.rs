//! What is written from the table: the JSON Schema of the file, and an example of it. A test keeps the copies in the
//! repository equal, and writes them anew where `UPDATE` is set.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{GROUPS, Setting, all};

/// Columns of the example's comments.
const WIDTH: usize = 100;

/// The JSON Schema of the file.
pub(crate) fn schema() -> Value {
    let property = |setting: &Setting| {
        let mut schema = json!({ "description": format!("{}.", setting.help) });
        let fields = schema.as_object_mut().expect("it was made as an object");
        fields.extend(object(setting.kind.schema()));
        if !setting.default.is_empty() {
            fields.insert("default".to_owned(), setting.kind.typed(setting.default));
        }
        (setting.key.to_owned(), schema)
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of samosa",
        "description": "The TOML file that `--config` or SAMOSA_CONFIG names. Words are accepted in capitals too, and \
                        numbers within quotation marks; this schema wants them plain.",
        "type": "object",
        "additionalProperties": false,
        "properties": all().map(property).collect::<Map<_, _>>(),
    })
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

/// A file with every setting, all of them commented out.
pub(crate) fn example() -> String {
    let mut out = "#:schema ./samosa.schema.json\n\
                   # Every setting of samosa with its default; those without one have an example.\n\
                   # Take the # off what you want to change. `samosa config --explain` says what is in force, and why.\n"
        .to_owned();
    for group in GROUPS {
        let _ = write!(out, "\n\n##### {}\n", group.title);
        for setting in group.settings {
            let about = format!("{} [{}].", setting.help, setting.kind.expected());
            out.push('\n');
            for line in client::text::wrap(&about, WIDTH - 3) {
                let _ = writeln!(out, "## {line}");
            }
            let value = if setting.default.is_empty() { setting.such_as } else { setting.default };
            let _ = writeln!(out, "# {} = {}", setting.key, toml_value(&setting.kind.typed(value)));
        }
    }
    out
}

/// A value as TOML has it: scalars and lists of them are written as in JSON.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::keep;

    #[test]
    fn the_schema_in_the_repository_is_that_of_the_table() {
        keep("deploy/samosa.schema.json", &format!("{:#}\n", schema()));
    }

    #[test]
    fn the_example_in_the_repository_is_that_of_the_table() {
        keep("deploy/samosa.example.toml", &example());
    }

    #[test]
    fn the_example_without_its_comment_signs_has_every_setting() {
        let lines = example();
        let text: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        // The first lines say what it is.
        let table: toml::Table = text[2..].join("\n").parse().unwrap();
        assert_eq!(table.len(), all().count());
    }
}
