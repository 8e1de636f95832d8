//! Kinds of values, a function each: which texts they accept, what those are in the program, and how that is said to
//! people and to JSON Schema.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use hyper::Uri;
use registry::Tag;
use serde_json::{Value, json};

use super::{Secrecy, Setting, TypedSetting};

/// A setting without a name. `expected` is what must be given, `read` returns nothing for other texts.
fn kind<T>(
    value_name: impl Into<String>,
    expected: impl Into<String>,
    schema: Value,
    read: impl Fn(&str) -> Option<T> + 'static,
) -> TypedSetting<T> {
    let setting = Setting {
        key: "",
        help: "",
        default: String::new(),
        example: "",
        value_name: value_name.into(),
        expected: expected.into(),
        schema,
        words: Vec::new(),
        hint: ValueHint::Other,
        secrecy: Secrecy::None,
        given: Vec::new(),
        is_accepted: true,
    };
    TypedSetting { setting, read: Box::new(read), value: None }
}

impl<T: 'static> TypedSetting<T> {
    /// Gives it a default, as it is written in a file.
    pub(super) fn default(mut self, value: impl Display) -> Self {
        self.setting.default = value.to_string();
        self
    }

    /// Lets it be unset; this value stands in the example of a file.
    pub(super) fn such_as(mut self, example: &'static str) -> TypedSetting<Option<T>> {
        self.setting.example = example;
        let Self { setting, read, .. } = self;
        let read = move |text: &str| if text.is_empty() { Some(None) } else { read(text).map(Some) };
        TypedSetting { setting, read: Box::new(read), value: None }
    }

    /// What the program makes of a value that was accepted.
    pub(super) fn map<U: 'static>(self, convert: fn(T) -> U) -> TypedSetting<U> {
        let Self { setting, read, .. } = self;
        TypedSetting { setting, read: Box::new(move |text| read(text).map(convert)), value: None }
    }

    fn hint(mut self, hint: ValueHint) -> Self {
        self.setting.hint = hint;
        self
    }

    fn secrecy(mut self, secrecy: Secrecy) -> Self {
        self.setting.secrecy = secrecy;
        self
    }
}

pub(super) fn text(value_name: &str) -> TypedSetting<String> {
    kind(value_name, "a text", json!({ "type": "string" }), |text| Some(text.to_owned()))
}

/// A text that is never shown.
pub(super) fn secret(value_name: &str) -> TypedSetting<String> {
    text(value_name).secrecy(Secrecy::Secret)
}

/// Texts separated by commas, which a file may have as a list too.
pub(super) fn list(name: &str, example: &'static str) -> TypedSetting<Vec<String>> {
    let expected = "a list, separated by commas (or a list of texts in the file)";
    let schema = json!({ "type": ["array", "string"], "items": { "type": "string" } });
    let read = |text: &str| Some(items(text).map(str::to_owned).collect());
    let mut list = kind(format!("{name}[,{name}…]"), expected, schema, read);
    list.setting.example = example;
    list
}

/// A list that is never shown.
pub(super) fn secrets(name: &str, example: &'static str) -> TypedSetting<Vec<String>> {
    list(name, example).secrecy(Secrecy::Secret)
}

/// The items of a list.
pub(super) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn file() -> TypedSetting<PathBuf> {
    path("FILE").hint(ValueHint::FilePath)
}

pub(super) fn directory() -> TypedSetting<PathBuf> {
    path("DIRECTORY").hint(ValueHint::DirPath)
}

fn path(value_name: &str) -> TypedSetting<PathBuf> {
    kind(value_name, "a path", json!({ "type": "string" }), |text| Some(PathBuf::from(text)))
}

pub(super) fn address() -> TypedSetting<IpAddr> {
    let forms = json!([{ "const": "localhost" }, { "format": "ipv4" }, { "format": "ipv6" }]);
    let schema = json!({ "type": "string", "anyOf": forms });
    let read = |text: &str| match text {
        text if text.eq_ignore_ascii_case("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => text.parse().ok(),
    };
    kind("ADDRESS", "an IP address or localhost", schema, read).hint(ValueHint::Hostname)
}

pub(super) fn socket_address() -> TypedSetting<SocketAddr> {
    let expected = "an IP address and a port, such as 127.0.0.1:9464";
    let schema = json!({ "type": "string", "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" });
    kind("ADDRESS:PORT", expected, schema, |text| text.parse().ok()).hint(ValueHint::Hostname)
}

/// `http://` or `https://` and a host. One with a user and a password is not shown.
pub(super) fn url() -> TypedSetting<String> {
    let schema = json!({ "type": "string", "pattern": "^https?://." });
    let read = |text: &str| {
        let url: Uri = text.parse().ok()?;
        let has_host = url.host().is_some_and(|host| !host.is_empty());
        (has_host && matches!(url.scheme_str(), Some("http" | "https"))).then(|| text.to_owned())
    };
    let url = kind("URL", "a URL that begins with http:// or https://", schema, read);
    url.hint(ValueHint::Url).secrecy(Secrecy::Password)
}

/// The name of a model.
pub(super) fn tag() -> TypedSetting<Tag> {
    let expected = "a tag: up to 100 letters, digits, dots, underscores and dashes, a letter or digit first";
    let schema = json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" });
    kind("TAG", expected, schema, Tag::new)
}

/// A whole number within bounds that `T` can hold; `unit` names it in the help.
pub(super) fn whole<T: TryFrom<u64>>(bounds: RangeInclusive<u64>, unit: &str) -> TypedSetting<T> {
    let (least, most) = (*bounds.start(), *bounds.end());
    let of = match unit {
        "SECONDS" => " of seconds",
        "MEGABYTES" => " of megabytes",
        "GIGABYTES" => " of gigabytes",
        _ => "",
    };
    let mut schema = json!({ "type": "integer", "minimum": least });
    let mut expected = format!("a whole number{of}, at least {least}");
    if most < u64::MAX {
        schema["maximum"] = json!(most);
        expected = format!("a whole number{of} from {least} to {most}");
    }
    let read = move |text: &str| text.parse().ok().filter(|number| bounds.contains(number))?.try_into().ok();
    kind(unit, expected, schema, read)
}

pub(super) fn seconds(bounds: RangeInclusive<u64>, default: Duration) -> TypedSetting<Duration> {
    whole(bounds, "SECONDS").map(Duration::from_secs).default(default.as_secs())
}

/// A number within bounds.
pub(super) fn decimal(bounds: RangeInclusive<f64>) -> TypedSetting<f64> {
    let (least, most) = (*bounds.start(), *bounds.end());
    let schema = json!({ "type": "number", "minimum": least, "maximum": most });
    let read = move |text: &str| text.parse().ok().filter(|number| bounds.contains(number));
    kind(format!("{least}–{most}"), format!("a number from {least} to {most}"), schema, read)
}

pub(super) fn boolean() -> TypedSetting<bool> {
    let also = [("1", true), ("0", false), ("yes", true), ("no", false)];
    let mut boolean = choice(&[("true", true), ("false", false)], &also);
    boolean.setting.expected = String::from("true or false");
    boolean.setting.schema = json!({ "type": "boolean" });
    boolean
}

/// One of these words, in any case; those of the second list are accepted too.
pub(super) fn choice<T: Copy + 'static>(
    words: &[(&'static str, T)],
    also: &[(&'static str, T)],
) -> TypedSetting<T> {
    let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    let all = [words, also].concat();
    // A long row of words would leave no room for the help.
    let value_name = if names.len() > 6 { format!("{}|{}|…", names[0], names[1]) } else { names.join("|") };
    let schema = json!({ "enum": all.iter().map(|(word, _)| *word).collect::<Vec<_>>() });
    let read = move |text: &str| {
        all.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
    };
    let mut choice = kind(value_name, format!("one of {}", names.join(", ")), schema, read);
    choice.setting.words = names;
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(kind: &TypedSetting<T>, good: &[&str], bad: &[&str]) {
        assert!(good.iter().all(|text| (kind.read)(text).is_some()), "{}", kind.expected);
        assert!(!bad.iter().any(|text| (kind.read)(text).is_some()), "{}", kind.expected);
    }

    #[test]
    fn kinds_tell_values_from_others() {
        check(&socket_address(), &["127.0.0.1:9464", "[::]:1"], &["127.0.0.1", "localhost:1", ":1", "::1:1"]);
        check(&address(), &["::1", "0.0.0.0", "LocalHost"], &["inference", "127.0.0.1:80", "[::1]"]);
        check(&url(), &["http://127.0.0.1:1", "https://a/b"], &["ftp://a", "a", "https://", "http:///x"]);
        check(&tag(), &["d20", "d-2.0_x"], &["../d20", ".d20", "d 20"]);
        check(&whole::<u64>(1..=64, "COUNT"), &["1", "64"], &["0", "65", "-1", "1.0", "many", " 1"]);
        check(&whole::<u8>(0..=300, "COUNT"), &["255"], &["256"]);
        check(&decimal(0.0..=2.0), &["0", "2", "0.5", "1e0"], &["2.1", "-0.1", "nan", "inf", "warm"]);
        check(&boolean(), &["true", "NO", "1"], &["on", "2"]);
        check(&choice(&[("auto", 0), ("cpu", 1)], &[("host", 1)]), &["auto", "CPU", "host"], &["tpu"]);
    }
}
