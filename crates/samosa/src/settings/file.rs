//! The TOML file: its values as text, with their lines, and all that is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::{Spanned, Value};

use super::{Given, SetBy, Values, Wrong};

/// What a file says.
#[derive(Default)]
pub(super) struct SettingsFile {
    /// Values that are not empty, by key.
    pub(super) values: BTreeMap<&'static str, Given>,
    pub(super) wrong: Vec<Wrong>,
}

impl SettingsFile {
    /// Reads a file; what cannot be read is empty and says why.
    pub(super) fn read(path: &Path) -> Self {
        let mut file = Self::default();
        match std::fs::read_to_string(path) {
            Ok(text) => file.parse(path, &text),
            Err(error) => {
                file.wrong.push(Wrong::in_general(format!("{} could not be read: {error}", path.display())));
            }
        }
        file
    }

    fn parse(&mut self, path: &Path, text: &str) {
        let line_at = |at: usize| text[..at].matches('\n').count() + 1;
        let at_line = |line: usize| format!("{}, line {line}", path.display());
        let table: BTreeMap<Spanned<String>, Value> = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => {
                // Without the text at fault: it may be a secret.
                let line = error.span().map_or(1, |span| line_at(span.start));
                let message = error.message().lines().next().unwrap_or_default();
                return self.wrong.push(Wrong::in_general(format!("{}: {message}", at_line(line))));
            }
        };
        let mut entries: Vec<_> =
            table.iter().map(|(key, value)| (line_at(key.span().start), key.get_ref(), value)).collect();
        entries.sort_unstable_by_key(|(line, key, _)| (*line, *key));
        let (known, path) = (Values::default(), Arc::from(path));
        for (line, key, value) in entries {
            let Some(setting) = known.named(key) else {
                let hint = known.did_you_mean(key);
                let text = format!("{}: the setting {key} is not known{hint}", at_line(line));
                self.wrong.push(Wrong::in_general(text));
                continue;
            };
            match as_text(value) {
                Some(value) if value.is_empty() => {}
                Some(text) => {
                    let by = SetBy::File(Arc::clone(&path), line);
                    self.values.insert(setting.key, Given { text, by });
                }
                None => {
                    let (expected, found) = (&setting.expected, what(value));
                    let text = format!("{}: {key} must be {expected}, and not {found}", at_line(line));
                    self.wrong.push(Wrong { key: Some(setting.key), text });
                }
            }
        }
    }
}

/// A value, or those of a list, as the environment would have it.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => Some(items.iter().map(single).collect::<Option<Vec<_>>>()?.join(",")),
        value => single(value),
    }
}

fn single(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Array(_) | Value::Table(_) | Value::Datetime(_) => None,
    }
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Table(_) => "a table",
        Value::Datetime(_) => "a date",
        _ => "a list with something else in it",
    }
}
