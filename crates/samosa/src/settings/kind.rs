//! Kinds of values: which texts they accept, and how that is said to people and to JSON Schema.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use hyper::Uri;
use registry::Tag;
use serde_json::{Value, json};

/// What a value may be. The word in brackets names it in the help.
pub(crate) enum Kind {
    Text(&'static str),
    Secret(&'static str),
    /// Several, separated by commas.
    Secrets(&'static str),
    List(&'static str),
    Path(&'static str),
    /// An IP address or localhost.
    Address,
    /// An IP address and a port.
    SocketAddress,
    /// `http://` or `https://` and a host.
    Url,
    /// The name of a model.
    Tag,
    /// A whole number within bounds, and its unit.
    Whole(RangeInclusive<u64>, &'static str),
    /// A number within bounds.
    Decimal(RangeInclusive<f64>),
    Boolean,
    /// One of these words, in any case; the second list is accepted too.
    Choice(&'static [&'static str], &'static [&'static str]),
}

/// Words for yes and no.
pub(super) const BOOLEANS: [(&str, bool); 6] =
    [("true", true), ("false", false), ("1", true), ("0", false), ("yes", true), ("no", false)];

impl Kind {
    /// Whether a text that is not empty is such a value.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Text(_) | Self::Secret(_) | Self::Secrets(_) | Self::List(_) | Self::Path(_) => true,
            Self::Address => text.eq_ignore_ascii_case("localhost") || text.parse::<IpAddr>().is_ok(),
            Self::SocketAddress => text.parse::<SocketAddr>().is_ok(),
            Self::Url => text.parse::<Uri>().is_ok_and(|url| {
                let has_host = url.host().is_some_and(|host| !host.is_empty());
                has_host && matches!(url.scheme_str(), Some("http" | "https"))
            }),
            Self::Tag => Tag::new(text).is_some(),
            Self::Whole(bounds, _) => text.parse().is_ok_and(|number| bounds.contains(&number)),
            Self::Decimal(bounds) => text.parse().is_ok_and(|number| bounds.contains(&number)),
            Self::Boolean => BOOLEANS.iter().any(|(word, _)| word.eq_ignore_ascii_case(text)),
            Self::Choice(words, also) => {
                words.iter().chain(*also).any(|word| word.eq_ignore_ascii_case(text))
            }
        }
    }

    /// What values are accepted, as it follows "must be".
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text(_) | Self::Secret(_) => "a text".to_owned(),
            Self::Path(_) => "a path".to_owned(),
            Self::Secrets(_) | Self::List(_) => {
                "a list, separated by commas (or a list of texts in the file)".to_owned()
            }
            Self::Address => "an IP address or localhost".to_owned(),
            Self::SocketAddress => "an IP address and a port, such as 127.0.0.1:9464".to_owned(),
            Self::Url => "a URL that begins with http:// or https://".to_owned(),
            Self::Tag => {
                "a tag: up to 100 letters, digits, dots, underscores and dashes, a letter or digit first"
                    .to_owned()
            }
            Self::Whole(bounds, unit) => {
                let unit = match *unit {
                    "SECONDS" => " of seconds",
                    "MEGABYTES" => " of megabytes",
                    "GIGABYTES" => " of gigabytes",
                    _ => "",
                };
                match bounds.end() {
                    &u64::MAX => format!("a whole number{unit}, at least {}", bounds.start()),
                    most => format!("a whole number{unit} from {} to {most}", bounds.start()),
                }
            }
            Self::Decimal(bounds) => format!("a number from {} to {}", bounds.start(), bounds.end()),
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(words, _) => format!("one of {}", words.join(", ")),
        }
    }

    /// The values as the help has them behind a flag.
    pub(crate) fn value_name(&self) -> String {
        match self {
            Self::Text(word) | Self::Secret(word) | Self::Path(word) | Self::Whole(_, word) => {
                (*word).to_owned()
            }
            Self::Secrets(word) | Self::List(word) => format!("{word}[,{word}…]"),
            Self::Address => "ADDRESS".to_owned(),
            Self::SocketAddress => "ADDRESS:PORT".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Tag => "TAG".to_owned(),
            Self::Decimal(bounds) => format!("{}–{}", bounds.start(), bounds.end()),
            Self::Boolean => "true|false".to_owned(),
            // A long row of words would leave no room for the help.
            Self::Choice(words, _) if words.len() > 6 => format!("{}|{}|…", words[0], words[1]),
            Self::Choice(words, _) => words.join("|"),
        }
    }

    /// The values in the TOML file, as JSON Schema has them.
    pub(super) fn schema(&self) -> Value {
        match self {
            Self::Text(_) | Self::Secret(_) | Self::Path(_) => json!({ "type": "string" }),
            Self::Secrets(_) | Self::List(_) => {
                json!({ "type": ["array", "string"], "items": { "type": "string" } })
            }
            Self::Address => {
                json!({ "type": "string", "anyOf": [{ "const": "localhost" }, { "format": "ipv4" }, { "format": "ipv6" }] })
            }
            Self::SocketAddress => {
                json!({ "type": "string", "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" })
            }
            Self::Url => json!({ "type": "string", "pattern": "^https?://." }),
            Self::Tag => json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" }),
            Self::Whole(bounds, _) => match bounds.end() {
                &u64::MAX => json!({ "type": "integer", "minimum": bounds.start() }),
                most => json!({ "type": "integer", "minimum": bounds.start(), "maximum": most }),
            },
            Self::Decimal(bounds) => {
                json!({ "type": "number", "minimum": bounds.start(), "maximum": bounds.end() })
            }
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Choice(words, also) => json!({ "enum": ([*words, *also].concat()) }),
        }
    }

    /// A text that is accepted, as JSON; what is empty is a list or a text.
    pub(crate) fn typed(&self, text: &str) -> Value {
        match self {
            Self::Whole(bounds, _) => json!(text.parse::<u64>().unwrap_or(*bounds.start())),
            Self::Decimal(bounds) => json!(text.parse::<f64>().unwrap_or(*bounds.start())),
            Self::Boolean => {
                json!(BOOLEANS.iter().any(|(word, yes)| *yes && word.eq_ignore_ascii_case(text)))
            }
            Self::Secrets(_) | Self::List(_) => items(text).collect(),
            _ => json!(text),
        }
    }
}

/// The items of a list.
pub(crate) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_tell_values_from_others() {
        let cases: &[(Kind, &[&str], &[&str])] = &[
            (
                Kind::SocketAddress,
                &["127.0.0.1:9464", "[::]:1"],
                &["127.0.0.1", "localhost:1", ":1", "::1:1"],
            ),
            (Kind::Address, &["::1", "0.0.0.0", "LocalHost"], &["inference", "127.0.0.1:80", "[::1]"]),
            (Kind::Url, &["http://127.0.0.1:1", "https://a/b"], &["ftp://a", "a", "https://", "http:///x"]),
            (Kind::Tag, &["d20", "d-2.0_x"], &["../d20", ".d20", "d 20"]),
            (Kind::Whole(1..=64, "COUNT"), &["1", "64"], &["0", "65", "-1", "1.0", "many", " 1"]),
            (Kind::Decimal(0.0..=2.0), &["0", "2", "0.5", "1e0"], &["2.1", "-0.1", "nan", "inf", "warm"]),
            (Kind::Boolean, &["true", "NO", "1"], &["on", "2"]),
            (Kind::Choice(&["auto", "cpu"], &["host"]), &["auto", "CPU", "host"], &["tpu"]),
        ];
        for (kind, good, bad) in cases {
            assert!(good.iter().all(|text| kind.accepts(text)), "{}", kind.expected());
            assert!(!bad.iter().any(|text| kind.accepts(text)), "{}", kind.expected());
        }
    }
}
