//! Settings: a flag, an environment variable and a TOML key for each, in that order of precedence. One table
//! says it all; flags, help and `samosa config` come from it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches};

/// What may be set.
pub(crate) struct Setting {
    /// TOML key; the flag is the same with dashes, the environment variable in capitals.
    pub(crate) key: &'static str,
    /// The value if nothing is said; empty for none.
    pub(crate) default: &'static str,
    /// What values there are, for the help.
    value: &'static str,
    /// What it does, for the help.
    help: &'static str,
}

const fn setting(
    key: &'static str,
    default: &'static str,
    value: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, default, value, help }
}

/// All settings.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("host", "127.0.0.1", "ADDRESS", "Address to listen on"),
    setting("port", "8003", "PORT", "Port to listen on; 0 lets the system choose"),
    setting(
        "model_storage_path",
        "",
        "DIRECTORY",
        "Where models are: nanochat's base directory, one model, or several",
    ),
    setting(
        "default_model_tag",
        "",
        "TAG",
        "Model to load at start; otherwise the most finished, deepest, newest one, or samosa-mini",
    ),
    setting("default_step", "", "STEP", "Training step to load; otherwise the latest"),
    setting("startup_load_enabled", "true", "true|false", "Whether a model is loaded at start"),
    setting(
        "restore_last_model",
        "false",
        "true|false",
        "Whether a start loads the model that served last, before it tries the one named above",
    ),
    setting(
        "internal_api_key",
        "",
        "KEY[,KEY…]",
        "Keys that callers may use; on a loopback address one is made up if there is none",
    ),
    setting("internal_api_key_file", "", "FILE", "File that holds the keys, one a line"),
    setting("num_workers", "1", "COUNT", "Engines that serve the same weights"),
    setting(
        "compute_threads",
        "",
        "COUNT",
        "Compute threads of each worker; otherwise the cores shared out among them",
    ),
    setting(
        "isa",
        "auto",
        "auto|scalar|…",
        "Instruction set of the kernels; `samosa version` lists those of this CPU",
    ),
    setting("device_type", "auto", "auto|cpu", "Device that computes"),
    setting(
        "nanochat_dtype",
        "auto",
        "auto|float32|bfloat16|int8|int4",
        "How weights are held; auto is int8",
    ),
    setting(
        "kv_cache_mb",
        "",
        "MEGABYTES",
        "Memory for keys and values of each worker; otherwise 1024, but at most half of what is free",
    ),
    setting("default_temperature", "0.8", "0–2", "Temperature of requests that name none"),
    setting("default_top_k", "50", "0–200", "Candidates of requests that name none; 0 keeps all"),
    setting("default_max_tokens", "512", "1–4096", "Longest answer of requests that name none"),
    setting(
        "context_overflow",
        "drop",
        "drop|error",
        "Conversations too long for the model: drop the oldest turns, or refuse",
    ),
    setting(
        "ignored_request_fields",
        "",
        "NAME[,NAME…]",
        "Fields of a request that are passed over instead of refused",
    ),
    setting("max_running_requests", "64", "COUNT", "Requests that run at once, each worker"),
    setting("max_queued_requests", "256", "COUNT", "Requests that may wait, each worker"),
    setting(
        "step_tokens",
        "128",
        "COUNT",
        "Rows of one step: bounds what a long prompt adds to everybody's next token",
    ),
    setting(
        "prefix_cache",
        "true",
        "true|false",
        "Whether keys and values of prompts are kept for prompts of the same caller that begin alike",
    ),
    setting(
        "speculation_tokens",
        "7",
        "0–7",
        "Tokens guessed ahead of a sequence where its text repeats itself, while few decode; 0 for none",
    ),
    setting(
        "swap_mode",
        "auto",
        "auto|overlap|serial",
        "Load a new model beside the old one, or in its place while requests wait; auto: beside it if both fit",
    ),
    setting("swap_wait", "45", "SECONDS", "How long a swap's caller waits for its end"),
    setting("drain_timeout", "50", "SECONDS", "How long streams may go on after SIGTERM"),
    setting(
        "hf_token",
        "",
        "TOKEN",
        "Hugging Face token, for repositories that are private or gated; sent to HF_ENDPOINT only",
    ),
    setting("hf_repo_owner", "", "OWNER", "Hugging Face owner of the repositories in HF_TAGS"),
    setting(
        "hf_tags",
        "",
        "TAG[,TAG…]",
        "Repositories of HF_REPO_OWNER that are offered as models, each under its name",
    ),
    setting(
        "hf_endpoint",
        "https://huggingface.co",
        "URL",
        "Hugging Face Hub, or a mirror that speaks its API",
    ),
    setting("hf_hub_offline", "false", "true|false", "Whether nothing is fetched from the Hub"),
    setting(
        "download_redirect_hosts",
        "",
        "HOST[,HOST…]",
        "Hosts that a source may redirect downloads to, *.SUFFIX for all below one; the public Hub's own are known",
    ),
    setting("download_max_gb", "100", "GIGABYTES", "Largest model that is fetched, all its files together"),
    setting(
        "metrics_addr",
        "",
        "ADDRESS:PORT",
        "Where /metrics is instead of the port of the service, on a listener of its own",
    ),
    setting("log_level", "info", "error|warn|info|debug|trace", "How much is logged"),
    setting("log_format", "auto", "auto|json|text", "auto is text on a terminal and JSON elsewhere"),
];

/// Where a value was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
    Default,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

impl Setting {
    pub(crate) fn variable(&self) -> String {
        self.key.to_ascii_uppercase()
    }

    /// Whether its value must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.key, "internal_api_key" | "hf_token")
    }

    fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    fn argument(&self) -> Arg {
        let default =
            if self.default.is_empty() { String::new() } else { format!(", {} by default", self.default) };
        Arg::new(self.key)
            .long(self.flag())
            .value_name(self.value)
            .help(format!("{}{default} [{}]", self.help, self.variable()))
            .help_heading("Settings (flag, else environment variable, else configuration file)")
            .hide_short_help(true)
            .global(true)
            .allow_hyphen_values(true)
    }
}

/// The flags of all settings, and the one that names the file.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Configuration file in TOML [SAMOSA_CONFIG]")
        .global(true);
    std::iter::once(file).chain(SETTINGS.iter().map(Setting::argument))
}

/// The settings in force, as text, with their origin.
pub(crate) struct Values(BTreeMap<&'static str, (String, Origin)>);

impl Values {
    /// Collects flags, environment and file. Empty values count as unset: orchestrators write them so.
    pub(crate) fn collect(matches: &ArgMatches) -> Result<Self> {
        let file = matches.get_one::<String>("config").cloned().or_else(|| environment("SAMOSA_CONFIG"));
        let file = file.map_or_else(|| Ok(toml::Table::new()), |path| read_file(Path::new(&path)))?;
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            let flag = matches.get_one::<String>(setting.key).cloned().filter(|value| !value.is_empty());
            let in_file = file.get(setting.key).map(|value| as_text(setting.key, value)).transpose()?;
            let found = flag
                .map(|value| (value, Origin::Flag))
                .or_else(|| environment(&setting.variable()).map(|value| (value, Origin::Environment)))
                .or_else(|| in_file.filter(|value| !value.is_empty()).map(|value| (value, Origin::File)))
                .unwrap_or_else(|| (setting.default.to_owned(), Origin::Default));
            values.insert(setting.key, found);
        }
        Ok(Self(values))
    }

    /// A value and where it came from; empty if it is not set.
    pub(crate) fn get(&self, key: &str) -> (&str, Origin) {
        self.0.get(key).map_or(("", Origin::Default), |(value, origin)| (value.as_str(), *origin))
    }

    /// A value, if it is set.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        Some(self.get(key).0).filter(|value| !value.is_empty())
    }

    /// The key that a client sends: the first of those that are set.
    pub(crate) fn first_key(&self) -> Option<&str> {
        let mut keys = self.text("internal_api_key")?.split(',').map(str::trim);
        keys.find(|key| !key.is_empty())
    }

    /// A whole number within bounds, if it is set.
    pub(crate) fn whole(&self, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match text.parse() {
            Ok(value) if bounds.contains(&value) => Ok(Some(value)),
            _ => self.refuse(key, &format!("a whole number from {} to {}", bounds.start(), bounds.end())),
        }
    }

    /// A whole number that has a default.
    pub(crate) fn number(&self, key: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<u64> {
        Ok(self.whole(key, bounds)?.unwrap_or_default())
    }

    /// A number within bounds.
    pub(crate) fn decimal(&self, key: &str, bounds: std::ops::RangeInclusive<f64>) -> Result<f64> {
        match self.get(key).0.parse() {
            Ok(value) if bounds.contains(&value) => Ok(value),
            _ => self.refuse(key, &format!("a number from {} to {}", bounds.start(), bounds.end())),
        }
    }

    /// One of several words, given in any case.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T> {
        let text = self.get(key).0;
        if let Some((_, value)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse(key, &format!("one of {}", words.join(", ")))
    }

    /// The one line that stops the start.
    pub(crate) fn refuse<T>(&self, key: &str, expected: &str) -> Result<T> {
        let (value, origin) = self.get(key);
        let name = match origin {
            Origin::Flag => format!("the flag --{}", key.replace('_', "-")),
            Origin::Environment => format!("the environment variable {}", key.to_ascii_uppercase()),
            Origin::File | Origin::Default => format!("the setting {key}"),
        };
        let secret = SETTINGS.iter().any(|setting| setting.key == key && setting.is_secret());
        let shown = if secret { "a secret".to_owned() } else { format!("\"{value}\"") };
        bail!("{name} is {shown}, but must be {expected}")
    }

    /// All settings as JSON, secrets masked.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        SETTINGS
            .iter()
            .map(|setting| (setting.key.to_owned(), serde_json::Value::String(self.shown(setting))))
            .collect()
    }

    /// A value as it may be shown.
    pub(crate) fn shown(&self, setting: &Setting) -> String {
        let (value, _) = self.get(setting.key);
        if setting.is_secret() && !value.is_empty() { "********".to_owned() } else { value.to_owned() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What S3 clients read from the environment: names that begin with `AWS_`, and their values. They are no settings of
/// ours: whoever runs in a cloud has them set already.
pub(crate) fn environment_of_s3() -> Vec<(String, String)> {
    let pairs = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    pairs.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty()).collect()
}

fn read_file(path: &Path) -> Result<toml::Table> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{} could not be read", path.display()))?;
    // One line, without the text at fault: it may be a secret.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message())
    })?;
    if let Some(unknown) = table.keys().find(|key| SETTINGS.iter().all(|setting| setting.key != key.as_str()))
    {
        bail!("{}: the setting {unknown} is not known; `samosa config` lists them all", path.display());
    }
    Ok(table)
}

fn as_text(key: &str, value: &toml::Value) -> Result<String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(yes) => Ok(yes.to_string()),
        toml::Value::Array(items) => {
            Ok(items.iter().map(|item| as_text(key, item)).collect::<Result<Vec<_>>>()?.join(","))
        }
        _ => bail!("the setting {key} must be a text, a number, true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(arguments: &[&str]) -> Result<Values> {
        let command = clap::Command::new("samosa").no_binary_name(true).args(super::arguments());
        Values::collect(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn a_flag_outranks_the_file_and_the_file_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samosa.toml");
        std::fs::write(
            &path,
            "default_top_k = 7\ndefault_max_tokens = 9\nignored_request_fields = [\"a\", \"b\"]\n",
        )
        .unwrap();
        let values = values(&["--config", path.to_str().unwrap(), "--default-max-tokens", "11"]).unwrap();
        assert_eq!(values.get("default_top_k"), ("7", Origin::File));
        assert_eq!(values.get("default_max_tokens"), ("11", Origin::Flag));
        assert_eq!(values.get("ignored_request_fields").0, "a,b");
        assert_eq!(values.get("step_tokens"), ("128", Origin::Default));
    }

    #[test]
    fn a_wrong_value_is_one_line_with_name_value_and_bounds() {
        let values =
            values(&["--default-top-k", "many", "--device-type", "tpu", "--internal-api-key", "hush"])
                .unwrap();
        let error = values.number("default_top_k", 0..=200).unwrap_err().to_string();
        assert_eq!(error, "the flag --default-top-k is \"many\", but must be a whole number from 0 to 200");
        let error = values.choice("device_type", &[("auto", 0), ("cpu", 0)]).unwrap_err().to_string();
        assert_eq!(error, "the flag --device-type is \"tpu\", but must be one of auto, cpu");
        let error = values.refuse::<()>("internal_api_key", "longer").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
        assert!(!values.to_json().to_string().contains("hush"));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samosa.toml");
        std::fs::write(&path, "prot = 1\n").unwrap();
        let error = values(&["--config", path.to_str().unwrap()]).err().unwrap().to_string();
        assert!(error.contains("the setting prot is not known"), "{error}");
    }

    #[test]
    fn the_readme_names_every_setting_and_no_other() {
        let readme = include_str!("../../../README.md");
        let rows = readme.split("\n## Settings\n").nth(1).unwrap().split("\n## ").next().unwrap().lines();
        let cells = rows.filter(|row| row.starts_with("| `")).map(|row| row.split(" | ").next().unwrap());
        let mut named: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let mut known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
    }
}
