//! The settings in force: what flags, environment and file say, which of them counts, and what is wrong.

use std::path::Path;

use anyhow::Result;
use clap::{Arg, ArgMatches};
use serde_json::json;

use super::file::SettingsFile;
use super::{Given, SetBy, Setting, TypedSetting, Values, Wrong, environment};

/// Names this alike are taken for the same one, mistyped (1 is equal).
const ALIKE: f64 = 0.8;

/// Where the texts that were given for a setting are found, in order of precedence.
pub(super) type Sources<'a> = &'a mut dyn FnMut(&Setting) -> Vec<Given>;

impl<T> TypedSetting<T> {
    /// Gives the setting its name, and the value that counts.
    pub(super) fn filled(mut self, key: &'static str, help: &'static str, sources: Sources<'_>) -> Self {
        (self.setting.key, self.setting.help) = (key, help);
        self.setting.given = sources(&self.setting);
        let default = Given { text: self.setting.default.clone(), by: SetBy::Default };
        self.setting.given.push(default);
        self.value = (self.read)(self.setting.text());
        self.setting.is_accepted = self.value.is_some();
        self
    }
}

/// The defaults.
impl Default for Values {
    fn default() -> Self {
        Self::build(&mut |_| Vec::new())
    }
}

impl Values {
    /// Collects flags, environment and file. Empty values count as unset: orchestrators write them so.
    pub(crate) fn collect(matches: &ArgMatches) -> Self {
        let mut wrong = Vec::new();
        let mut variable = |name: &str| {
            environment::variable(name).unwrap_or_else(|error| {
                wrong.push(error);
                None
            })
        };
        let path = matches.get_one::<String>("config").cloned().or_else(|| variable("SAMOSA_CONFIG"));
        let mut file = path.map(|path| SettingsFile::read(Path::new(&path))).unwrap_or_default();
        let mut values = Self::build(&mut |setting| {
            let flag = matches.get_one::<String>(setting.key).filter(|text| !text.is_empty()).cloned();
            let variable = variable(&setting.variable());
            let given = [
                flag.map(|text| Given { text, by: SetBy::Flag }),
                variable.map(|text| Given { text, by: SetBy::Environment }),
                file.values.remove(setting.key),
            ];
            given.into_iter().flatten().collect()
        });
        wrong.extend(file.wrong);
        values.wrong = wrong;
        values
    }

    /// All settings, in the order in which they are shown.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Setting> {
        self.groups().into_iter().flat_map(|(_, settings)| settings)
    }

    /// The setting with this key.
    pub(crate) fn named(&self, key: &str) -> Option<&Setting> {
        self.all().find(|setting| setting.key == key)
    }

    /// The setting that a person means: by its flag, variable or key.
    pub(crate) fn meant(&self, name: &str) -> Result<&Setting, String> {
        let key = name.trim_start_matches('-').replace('-', "_").to_ascii_lowercase();
        self.named(&key).ok_or_else(|| format!("the setting {name} is not known{}", self.did_you_mean(&key)))
    }

    /// `; did you mean port?`, if some setting is called nearly so.
    pub(super) fn did_you_mean(&self, name: &str) -> String {
        let name = name.replace('-', "_").to_ascii_lowercase();
        let likeness = |setting: &Setting| strsim::jaro_winkler(setting.key, &name);
        let best = self.all().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        match best.filter(|best| likeness(best) >= ALIKE) {
            Some(best) => format!("; did you mean {}?", best.key),
            None => "; `samosa config` lists them all".to_owned(),
        }
    }

    /// What is wrong with the file and the environment, and every value that is not of its kind.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let values = self.all().filter_map(|setting| setting.check().err()?.downcast().ok());
        self.wrong.iter().cloned().chain(values).collect()
    }

    /// What is wrong with where the settings come from: then none of them can be believed.
    pub(crate) fn check_sources(&self) -> Result<()> {
        self.wrong.first().cloned().map_or(Ok(()), |wrong| Err(wrong.into()))
    }

    /// All settings as JSON, secrets masked.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.all().map(|setting| (setting.key.to_owned(), json!(setting.shown()))).collect()
    }
}

/// The flags of all settings, and the one that names the file.
pub(crate) fn arguments() -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Configuration file in TOML [SAMOSA_CONFIG]")
        .global(true);
    let mut arguments = vec![file];
    for (title, settings) in Values::default().groups() {
        arguments.extend(settings.iter().map(|setting| setting.argument(title)));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(arguments: &[&str]) -> Values {
        let command = clap::Command::new("samosa").no_binary_name(true).args(super::arguments());
        Values::collect(&command.try_get_matches_from(arguments).unwrap())
    }

    fn values_of_file(text: &str, arguments: &[&str]) -> Values {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samosa.toml");
        std::fs::write(&path, text).unwrap();
        values(&[&["--config", path.to_str().unwrap()], arguments].concat())
    }

    #[test]
    fn every_default_and_example_is_of_its_kind_and_no_setting_has_both() {
        let (defaults, examples) = (Values::default(), values_of_file(&uncommented_example(), &[]));
        let wrong = [defaults.wrong(), examples.wrong()].concat();
        assert!(wrong.is_empty(), "{wrong:?}");
        for setting in defaults.all() {
            assert!(setting.default.is_empty() != setting.example.is_empty(), "{}", setting.key);
            assert!(!setting.help.ends_with('.') && !setting.help.contains('|'), "{}", setting.key);
        }
    }

    /// The example of a file with everything set.
    fn uncommented_example() -> String {
        let example = crate::settings::example();
        // The first lines say what it is.
        let lines = example.lines().filter_map(|line| line.strip_prefix("# ")).skip(2);
        let text = lines.collect::<Vec<_>>().join("\n");
        assert_eq!(text.parse::<toml::Table>().unwrap().len(), Values::default().all().count());
        text
    }

    #[test]
    fn a_setting_is_known_by_any_of_its_names_and_nearly_by_others() {
        let known = Values::default();
        for name in ["--default-top-k", "DEFAULT_TOP_K", "default_top_k", "default-top-k"] {
            assert_eq!(known.meant(name).ok().unwrap().key, "default_top_k");
        }
        assert_eq!(known.meant("prot").err().unwrap(), "the setting prot is not known; did you mean port?");
        assert!(known.meant("HUGGING").err().unwrap().ends_with("`samosa config` lists them all"));
    }

    #[test]
    fn a_flag_outranks_the_file_and_the_file_the_default() {
        let text = "default_top_k = 7\ndefault_max_tokens = 9\n\nignored_request_fields = [\"a\", \"b\"]\n";
        let values = values_of_file(text, &["--default-max-tokens", "11"]);
        assert_eq!(values.default_top_k.get().unwrap(), 7);
        assert!(matches!(values.default_top_k.set_by(), SetBy::File(_, 1)));
        let given: Vec<_> = values
            .default_max_tokens
            .given
            .iter()
            .map(|given| (given.text.as_str(), given.by.name()))
            .collect();
        assert_eq!(given, [("11", "flag"), ("9", "file"), ("512", "default")]);
        assert_eq!(values.ignored_request_fields.get().unwrap(), ["a", "b"]);
        assert!(matches!(values.ignored_request_fields.set_by(), SetBy::File(_, 4)));
        assert!(values.step_tokens.is_default());
        assert_eq!(values.step_tokens.get().unwrap(), 128);
        assert_eq!(values.kv_cache_mb.get().unwrap(), None);
    }

    #[test]
    fn a_wrong_value_is_one_line_with_name_value_and_bounds() {
        let values =
            values(&["--default-top-k", "many", "--device-type", "tpu", "--internal-api-key", "hush"]);
        let error = values.default_top_k.get().unwrap_err().to_string();
        assert_eq!(error, "the flag --default-top-k is \"many\", but must be a whole number from 0 to 200");
        let error = values.device_type.get().unwrap_err().to_string();
        assert_eq!(error, "the flag --device-type is \"tpu\", but must be one of auto, cpu");
        let error = values.internal_api_key.refuse::<()>("longer").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
        assert!(!values.to_json().to_string().contains("hush"));
        let keys: Vec<_> = values.wrong().iter().map(|wrong| wrong.key.unwrap()).collect();
        assert_eq!(keys, ["device_type", "default_top_k"]);
    }

    #[test]
    fn a_url_with_a_password_is_not_shown() {
        let url = "http://me:hush@127.0.0.1:4318";
        let values = values(&["--otel-exporter-otlp-endpoint", url, "--hf-endpoint", "ftp://me:hush@host"]);
        assert_eq!(values.otel_exporter_otlp_endpoint.get().unwrap().as_deref(), Some(url));
        assert_eq!(values.to_json()["otel_exporter_otlp_endpoint"], "********");
        let error = values.hf_endpoint.get().unwrap_err().to_string();
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
