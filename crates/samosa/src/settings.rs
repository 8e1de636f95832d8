//! Settings: a flag, an environment variable and a TOML key for each, in that order of precedence. One table
//! says it all: the type of each value, flags, help, bounds, `samosa config`, the JSON Schema of the file, and the
//! book's page come from it. [`Values`] has a field for each setting, so that a misspelt one does not compile.
//!
//! Reading order: [`table`] (what there is), [`kinds`] (what values there are), [`values`] (what is in force), [`file`].

mod documents;
mod environment;
mod file;
mod kinds;
mod table;
mod values;

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::{Arg, ValueHint};
use serde_json::Value;

pub(crate) use self::documents::{example, schema};
pub(crate) use self::environment::{home, of_s3, state_home, terminal};
pub(crate) use self::table::Values;
pub(crate) use self::values::arguments;

/// What may be set, what people and programs are told of it, and what was given for it.
pub(crate) struct Setting {
    /// TOML key; the flag is the same with dashes, the environment variable in capitals.
    pub(crate) key: &'static str,
    /// What it does, a sentence without its full stop.
    pub(crate) help: &'static str,
    /// The value if nothing is said; empty for none.
    pub(crate) default: String,
    /// A value for the example of a file, where there is no default.
    example: &'static str,
    /// The value as the help has it behind a flag.
    pub(crate) value_name: String,
    /// What values are accepted, as it follows "must be".
    pub(crate) expected: String,
    /// The values in the TOML file, as JSON Schema has them.
    pub(crate) schema: Value,
    /// The words that a shell completes, of a value that is one of some.
    pub(crate) words: Vec<&'static str>,
    /// What a shell completes otherwise.
    pub(crate) hint: ValueHint,
    secrecy: Secrecy,
    /// Everything that was given; the first counts, the last is the default.
    pub(crate) given: Vec<Given>,
    /// Whether the first of it is of the setting's kind.
    is_accepted: bool,
}

/// Makes a value of a text, unless that is not accepted.
type Read<T> = Box<dyn Fn(&str) -> Option<T>>;

/// A setting whose values are of a type.
pub(crate) struct TypedSetting<T> {
    setting: Setting,
    read: Read<T>,
    /// What counts, unless it is not accepted.
    value: Option<T>,
}

/// A value, and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) by: SetBy,
}

/// Who set a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SetBy {
    Flag,
    Environment,
    /// The file, and the line of the key.
    File(Arc<Path>, usize),
    Default,
}

impl SetBy {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File(..) => "file",
            Self::Default => "default",
        }
    }
}

/// What must not be shown of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    None,
    /// A URL that has a user and a password in it.
    Password,
    Secret,
}

/// A setting that is wrong, or something that concerns none in particular. Holds no secret.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) key: Option<&'static str>,
    /// One line.
    pub(crate) text: String,
}

impl Wrong {
    pub(crate) fn in_general(text: impl Into<String>) -> Self {
        Self { key: None, text: text.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Wrong {}

impl<T> Deref for TypedSetting<T> {
    type Target = Setting;

    fn deref(&self) -> &Setting {
        &self.setting
    }
}

impl<T: Clone> TypedSetting<T> {
    /// The value; the error is the one line that stops the start.
    pub(crate) fn get(&self) -> Result<T> {
        self.value.clone().map_or_else(|| self.refuse(&self.expected), Ok)
    }
}

impl Setting {
    /// The value in force as a text, empty if there is none.
    pub(crate) fn text(&self) -> &str {
        &self.given[0].text
    }

    /// Who set the value in force.
    pub(crate) fn set_by(&self) -> &SetBy {
        &self.given[0].by
    }

    pub(crate) fn is_default(&self) -> bool {
        *self.set_by() == SetBy::Default
    }

    pub(crate) fn variable(&self) -> String {
        self.key.to_ascii_uppercase()
    }

    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Whether its value must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        self.secrecy == Secrecy::Secret
    }

    /// The value in force as it may be shown.
    pub(crate) fn shown(&self) -> &str {
        self.mask(self.text())
    }

    /// A value of this setting as it may be shown.
    pub(crate) fn mask<'a>(&self, value: &'a str) -> &'a str {
        if self.hides(value) { "********" } else { value }
    }

    fn hides(&self, value: &str) -> bool {
        match self.secrecy {
            Secrecy::None => false,
            Secrecy::Password => value.contains('@'),
            Secrecy::Secret => !value.is_empty(),
        }
    }

    /// Where a value came from, as a person finds it.
    pub(crate) fn source(&self, by: &SetBy) -> String {
        match by {
            SetBy::Flag => format!("the flag --{}", self.flag()),
            SetBy::Environment => format!("the environment variable {}", self.variable()),
            SetBy::File(path, line) => format!("{} in {}, line {line},", self.key, path.display()),
            SetBy::Default => format!("the setting {}", self.key),
        }
    }

    /// Whether the value is of the setting's kind.
    fn check(&self) -> Result<()> {
        if self.is_accepted { Ok(()) } else { self.refuse(&self.expected) }
    }

    /// The one line that stops the start.
    pub(crate) fn refuse<T>(&self, expected: &str) -> Result<T> {
        let value = self.text();
        let shown = if self.hides(value) { "a secret".to_owned() } else { format!("\"{value}\"") };
        let text = format!("{} is {shown}, but must be {expected}", self.source(self.set_by()));
        Err(Wrong { key: Some(self.key), text }.into())
    }

    /// Refuses the first item of a list that is not right, by itself: lists are long, and hold no secrets.
    pub(crate) fn check_items(&self, expected: &str, is_right: impl Fn(&str) -> bool) -> Result<()> {
        let Some(item) = kinds::items(self.text()).find(|item| !is_right(item)) else { return Ok(()) };
        let text = format!("{} has \"{item}\", but must hold {expected}", self.source(self.set_by()));
        Err(Wrong { key: Some(self.key), text }.into())
    }

    /// A text that is accepted, as the file has it.
    fn to_json(&self, text: &str) -> Value {
        match self.schema["type"].as_str() {
            Some("integer" | "number" | "boolean") => text.parse().unwrap_or_default(),
            None if self.schema["items"].is_object() => kinds::items(text).collect(),
            _ => text.into(),
        }
    }

    fn argument(&self, heading: &'static str) -> Arg {
        let default =
            if self.default.is_empty() { String::new() } else { format!(", {} by default", self.default) };
        Arg::new(self.key)
            .long(self.flag())
            .value_name(self.value_name.clone())
            .help(format!("{}{default} [{}]", self.help, self.variable()))
            .help_heading(heading)
            .hide_short_help(true)
            .global(true)
            .allow_hyphen_values(true)
    }
}
