//! What is written from the table: the JSON Schema of the file, and an example of it. A test keeps the copies in the
//! repository equal, and writes them anew where `UPDATE` is set.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Setting, Values};

/// Columns of the example's comments.
const WIDTH: usize = 100;

/// The JSON Schema of the file.
pub(crate) fn schema() -> Value {
    let property = |setting: &Setting| {
        let mut fields = Map::new();
        fields.insert("description".to_owned(), json!(format!("{}.", setting.help)));
        fields.extend(setting.schema.as_object().cloned().unwrap_or_default());
        if !setting.default.is_empty() {
            fields.insert("default".to_owned(), setting.to_json(&setting.default));
        }
        (setting.key.to_owned(), Value::Object(fields))
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of samosa",
        "description": "The TOML file that `--config` or SAMOSA_CONFIG names. Words are accepted in capitals too, and \
                        numbers within quotation marks; this schema wants them plain.",
        "type": "object",
        "additionalProperties": false,
        "properties": Values::default().all().map(property).collect::<Map<_, _>>(),
    })
}

/// A file with every setting, all of them commented out.
pub(crate) fn example() -> String {
    let mut out = "#:schema ./samosa.schema.json\n\
                   # Every setting of samosa with its default; those without one have an example.\n\
                   # Take the # off what you want to change. `samosa config --explain` says what is in force, and why.\n"
        .to_owned();
    for (title, settings) in Values::default().groups() {
        let _ = write!(out, "\n\n##### {title}\n");
        for setting in settings {
            let about = format!("{} [{}].", setting.help, setting.expected);
            out.push('\n');
            for line in client::text::wrap(&about, WIDTH - 3) {
                let _ = writeln!(out, "## {line}");
            }
            let value = if setting.default.is_empty() { setting.example } else { &setting.default };
            let _ = writeln!(out, "# {} = {}", setting.key, toml_value(&setting.to_json(value)));
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
}
