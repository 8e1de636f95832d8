//! The settings in force: what flags, environment and file say, which of them counts, and what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ArgMatches;
use client::text::Terminal;
use serde_json::json;

use super::file::File;
use super::kind::{BOOLEANS, Kind, items};
use super::{Setting, all, named};

/// Where a value was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Flag,
    Environment,
    /// The file, and the line of the key.
    File(usize),
    Default,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File(_) => "file",
            Self::Default => "default",
        }
    }
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

/// A value that somebody gave.
#[derive(Debug)]
struct Given {
    text: String,
    origin: Origin,
}

/// The settings in force, as text, with their origin.
#[derive(Default)]
pub(crate) struct Values {
    /// What was given for each setting that was; the first counts, the others are overridden by it.
    given: BTreeMap<&'static str, Vec<Given>>,
    file: Option<PathBuf>,
    /// What is wrong with where they come from.
    wrong: Vec<Wrong>,
}

impl Values {
    /// Collects flags, environment and file. Empty values count as unset: orchestrators write them so.
    pub(crate) fn collect(matches: &ArgMatches) -> Self {
        let mut wrong = Vec::new();
        let mut environment = |name: &str| {
            environment(name).unwrap_or_else(|error| {
                wrong.push(error);
                None
            })
        };
        let path = matches.get_one::<String>("config").cloned().or_else(|| environment("SAMOSA_CONFIG"));
        let path = path.map(PathBuf::from);
        let mut file = path.as_deref().map(File::read).unwrap_or_default();
        let mut given = BTreeMap::new();
        for setting in all() {
            let flag = matches.get_one::<String>(setting.key).filter(|value| !value.is_empty());
            let found = [
                flag.map(|value| (value.clone(), Origin::Flag)),
                environment(&setting.variable()).map(|value| (value, Origin::Environment)),
                file.values.remove(setting.key).map(|(value, line)| (value, Origin::File(line))),
            ];
            let found: Vec<Given> =
                found.into_iter().flatten().map(|(text, origin)| Given { text, origin }).collect();
            given.insert(setting.key, found);
        }
        wrong.extend(file.wrong);
        Self { given, file: path, wrong }
    }

    /// A value and where it came from; empty if it is not set.
    pub(crate) fn get(&self, key: &str) -> (&str, Origin) {
        let default = || (named(key).map_or("", |setting| setting.default), Origin::Default);
        self.all_of(key).next().unwrap_or_else(default)
    }

    /// Everything that was given for a setting; the first counts.
    pub(crate) fn all_of(&self, key: &str) -> impl Iterator<Item = (&str, Origin)> {
        let given = self.given.get(key).map(Deref::deref).unwrap_or_default();
        given.iter().map(|given| (given.text.as_str(), given.origin))
    }

    /// A value, if it is set.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        Some(self.get(key).0).filter(|value| !value.is_empty())
    }

    /// The items of a list.
    pub(crate) fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        items(self.get(key).0)
    }

    /// A whole number, if it is set.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        self.check(key)?;
        Ok(text.parse().ok())
    }

    /// A whole number that has a default.
    pub(crate) fn number(&self, key: &str) -> Result<u64> {
        Ok(self.whole(key)?.unwrap_or_default())
    }

    /// A number that has a default.
    pub(crate) fn decimal(&self, key: &str) -> Result<f64> {
        self.check(key)?;
        Ok(self.get(key).0.parse().unwrap_or_default())
    }

    /// Yes or no.
    pub(crate) fn boolean(&self, key: &str) -> Result<bool> {
        self.check(key)?;
        self.choice(key, &BOOLEANS)
    }

    /// What one of several words, given in any case, stands for.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T> {
        self.check(key)?;
        let text = self.get(key).0;
        if let Some((_, value)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse(key, &format!("one of {}", words.join(", ")))
    }

    /// Whether the value of a setting is of its kind; the error is the one line that stops the start.
    pub(crate) fn check(&self, key: &str) -> Result<()> {
        let Some((setting, text)) = named(key).zip(self.text(key)) else { return Ok(()) };
        if setting.kind.accepts(text) { Ok(()) } else { self.refuse(key, &setting.kind.expected()) }
    }

    /// What is wrong with the file and the environment, and every value that is not of its kind.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let values = all().filter_map(|setting| self.check(setting.key).err()?.downcast().ok());
        self.wrong.iter().cloned().chain(values).collect()
    }

    /// What is wrong with where the settings come from: then none of them can be believed.
    pub(crate) fn check_sources(&self) -> Result<()> {
        self.wrong.first().cloned().map_or(Ok(()), |wrong| Err(wrong.into()))
    }

    /// The one line that stops the start.
    pub(crate) fn refuse<T>(&self, key: &str, expected: &str) -> Result<T> {
        let (value, origin) = self.get(key);
        let name = self.source(key, origin);
        let setting = named(key);
        let shown = match setting {
            Some(setting) if hides(setting, value) => "a secret".to_owned(),
            _ => format!("\"{value}\""),
        };
        let text = format!("{name} is {shown}, but must be {expected}");
        Err(Wrong { key: setting.map(|setting| setting.key), text }.into())
    }

    /// Refuses the first item of a list that is not right, by itself: lists are long, and hold no secrets.
    pub(crate) fn check_items(
        &self,
        key: &str,
        expected: &str,
        is_right: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let Some(item) = self.list(key).find(|item| !is_right(item)) else { return Ok(()) };
        let name = self.source(key, self.get(key).1);
        let text = format!("{name} has \"{item}\", but must hold {expected}");
        Err(Wrong { key: named(key).map(|setting| setting.key), text }.into())
    }

    /// Where a value of a setting came from, as a person finds it.
    pub(crate) fn source(&self, key: &str, origin: Origin) -> String {
        match origin {
            Origin::Flag => format!("the flag --{}", key.replace('_', "-")),
            Origin::Environment => format!("the environment variable {}", key.to_ascii_uppercase()),
            Origin::File(line) => {
                let path = self.file.as_deref().unwrap_or(Path::new(""));
                format!("{key} in {}, line {line},", path.display())
            }
            Origin::Default => format!("the setting {key}"),
        }
    }

    /// The file that was read.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// All settings as JSON, secrets masked.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        all().map(|setting| (setting.key.to_owned(), json!(self.shown(setting)))).collect()
    }

    /// A value as it may be shown.
    pub(crate) fn shown<'a>(&'a self, setting: &Setting) -> &'a str {
        shown(setting, self.get(setting.key).0)
    }
}

/// A value of a setting as it may be shown.
pub(crate) fn shown<'a>(setting: &Setting, value: &'a str) -> &'a str {
    if hides(setting, value) { "********" } else { value }
}

/// Whether a value may not be shown: a secret, or a URL with a name and a password in it.
fn hides(setting: &Setting, value: &str) -> bool {
    let is_secret = setting.is_secret() || matches!(setting.kind, Kind::Url) && value.contains('@');
    is_secret && !value.is_empty()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(name: &str) -> Result<Option<String>, Wrong> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Wrong::in_general(format!("the environment variable {name} is not UTF-8")))
        }
    }
}

/// What the environment says of the terminal. Every program reads this, so it is no setting of ours.
pub(crate) fn terminal() -> Terminal {
    let says = |name| environment(name).ok().flatten();
    match (says("TERM").as_deref(), says("NO_COLOR")) {
        (Some("dumb"), _) => Terminal::Dumb,
        (_, Some(_)) => Terminal::Plain,
        (_, None) => Terminal::Coloured,
    }
}

/// Whether requests to other machines go by a proxy.
pub(crate) fn has_proxy() -> bool {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];
    names.iter().any(|name| environment(name).is_ok_and(|value| value.is_some()))
}

/// Where programs keep what they remember of a person. Every program reads this, so it is no setting of ours.
pub(crate) fn state_home() -> Option<PathBuf> {
    let named = environment("XDG_STATE_HOME").ok().flatten().map(PathBuf::from);
    // One that is not absolute does not count.
    named.filter(|path| path.is_absolute()).or_else(|| Some(home()?.join(".local/state")))
}

/// The directory that shells call `~`.
pub(crate) fn home() -> Option<PathBuf> {
    environment("HOME").ok().flatten().map(PathBuf::from).filter(|path| path.is_absolute())
}

/// What S3 clients read from the environment: names that begin with `AWS_`, and their values. They are no settings of
/// ours: whoever runs in a cloud has them set already.
pub(crate) fn environment_of_s3() -> Vec<(String, String)> {
    let pairs = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    pairs.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(arguments: &[&str]) -> Values {
        let command = clap::Command::new("samosa").no_binary_name(true).args(crate::settings::arguments());
        Values::collect(&command.try_get_matches_from(arguments).unwrap())
    }

    fn values_of_file(text: &str, arguments: &[&str]) -> Values {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samosa.toml");
        std::fs::write(&path, text).unwrap();
        values(&[&["--config", path.to_str().unwrap()], arguments].concat())
    }

    #[test]
    fn a_flag_outranks_the_file_and_the_file_the_default() {
        let text = "default_top_k = 7\ndefault_max_tokens = 9\n\nignored_request_fields = [\"a\", \"b\"]\n";
        let values = values_of_file(text, &["--default-max-tokens", "11"]);
        assert_eq!(values.get("default_top_k"), ("7", Origin::File(1)));
        assert_eq!(values.get("default_max_tokens"), ("11", Origin::Flag));
        let all: Vec<_> = values.all_of("default_max_tokens").collect();
        assert_eq!(all, [("11", Origin::Flag), ("9", Origin::File(2))]);
        assert_eq!(values.get("ignored_request_fields"), ("a,b", Origin::File(4)));
        assert_eq!(values.list("ignored_request_fields").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(values.get("step_tokens"), ("128", Origin::Default));
        assert_eq!(values.number("step_tokens").unwrap(), 128);
        assert_eq!(values.whole("kv_cache_mb").unwrap(), None);
    }

    #[test]
    fn a_wrong_value_is_one_line_with_name_value_and_bounds() {
        let values =
            values(&["--default-top-k", "many", "--device-type", "tpu", "--internal-api-key", "hush"]);
        let error = values.number("default_top_k").unwrap_err().to_string();
        assert_eq!(error, "the flag --default-top-k is \"many\", but must be a whole number from 0 to 200");
        let error = values.choice("device_type", &[("auto", 0), ("cpu", 0)]).unwrap_err().to_string();
        assert_eq!(error, "the flag --device-type is \"tpu\", but must be one of auto, cpu");
        let error = values.refuse::<()>("internal_api_key", "longer").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
        assert!(!values.to_json().to_string().contains("hush"));
        let keys: Vec<_> = values.wrong().iter().map(|wrong| wrong.key.unwrap()).collect();
        assert_eq!(keys, ["device_type", "default_top_k"]);
    }

    #[test]
    fn a_url_with_a_password_is_not_shown() {
        let url = "http://me:hush@127.0.0.1:4318";
        let values = values(&["--otel-exporter-otlp-endpoint", url, "--hf-endpoint", "ftp://me:hush@host"]);
        assert_eq!(values.text("otel_exporter_otlp_endpoint"), Some(url));
        assert_eq!(values.to_json()["otel_exporter_otlp_endpoint"], "********");
        let error = values.check("hf_endpoint").unwrap_err().to_string();
        assert!(error.contains("--hf-endpoint is a secret, but must be a URL"), "{error}");
    }

    #[test]
    fn all_that_is_wrong_in_a_file_is_named_with_its_line() {
        let text =
            "prot = 1\nhost = \"::1\"\n\nnum_workers = [1, [2]]\nDEFAULT_TOP_K = 3\nhf_tags = 1979-05-27\n";
        let wrong = values_of_file(text, &[]).wrong();
        let said: Vec<&str> =
            wrong.iter().map(|wrong| wrong.text.split_once("samosa.toml, ").unwrap().1).collect();
        assert_eq!(
            said,
            [
                "line 1: the setting prot is not known; did you mean port?",
                "line 4: num_workers must be a whole number from 1 to 64, and not a list with something else in it",
                "line 5: the setting DEFAULT_TOP_K is not known; did you mean default_top_k?",
                "line 6: hf_tags must be a list, separated by commas (or a list of texts in the file), and not a date",
            ]
        );
        let wrong = values_of_file("host = \"::1\"\nport = = \"hush\"\n", &[]).wrong();
        assert!(wrong.len() == 1 && wrong[0].text.contains("samosa.toml, line 2: "), "{wrong:?}");
        assert!(!wrong[0].text.contains("hush") && !wrong[0].text.contains('\n'), "{wrong:?}");
    }
}
