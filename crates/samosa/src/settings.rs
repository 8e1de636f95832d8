//! Settings: a flag, an environment variable and a TOML key for each, in that order of precedence. One table
//! says it all: flags, help, bounds, `samosa config`, the JSON Schema of the file, and the book's page come from it.
//!
//! Reading order: [`table`] (what there is), [`kind`] (what values there are), [`values`] (what is in force), [`file`].

mod documents;
mod file;
mod kind;
mod table;
mod values;

use clap::Arg;

pub(crate) use self::documents::{example, schema};
pub(crate) use self::kind::Kind;
pub(crate) use self::table::GROUPS;
pub(crate) use self::values::{
    Origin, Values, Wrong, environment_of_s3, has_proxy, home, shown, state_home, terminal,
};

/// Names this alike are taken for the same one, mistyped (1 is equal).
const ALIKE: f64 = 0.8;

/// Settings of one theme.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) settings: &'static [Setting],
}

/// What may be set.
pub(crate) struct Setting {
    /// TOML key; the flag is the same with dashes, the environment variable in capitals.
    pub(crate) key: &'static str,
    /// The value if nothing is said; empty for none.
    pub(crate) default: &'static str,
    /// What values there are.
    pub(crate) kind: Kind,
    /// What it does, a sentence without its full stop.
    pub(crate) help: &'static str,
    /// A value for the example of a file, where there is no default.
    such_as: &'static str,
}

const fn setting(key: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, default, kind, help, such_as: "" }
}

impl Setting {
    /// Shows this value in the example of a file.
    const fn such_as(self, example: &'static str) -> Self {
        Self { such_as: example, ..self }
    }

    pub(crate) fn variable(&self) -> String {
        self.key.to_ascii_uppercase()
    }

    /// Whether its value must not be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_) | Kind::Secrets(_))
    }

    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    fn argument(&self, heading: &'static str) -> Arg {
        let default =
            if self.default.is_empty() { String::new() } else { format!(", {} by default", self.default) };
        Arg::new(self.key)
            .long(self.flag())
            .value_name(self.kind.value_name())
            .help(format!("{}{default} [{}]", self.help, self.variable()))
            .help_heading(heading)
            .hide_short_help(true)
            .global(true)
            .allow_hyphen_values(true)
    }
}

/// All settings, in the order in which they are shown.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting with this key.
pub(crate) fn named(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}

/// The setting that a person means: by its flag, variable or key.
pub(crate) fn meant(name: &str) -> Result<&'static Setting, String> {
    let key = name.trim_start_matches('-').replace('-', "_").to_ascii_lowercase();
    named(&key).ok_or_else(|| format!("the setting {name} is not known{}", did_you_mean(&key)))
}

/// `; did you mean port?`, if some setting is called nearly so.
fn did_you_mean(name: &str) -> String {
    let name = name.replace('-', "_").to_ascii_lowercase();
    let likeness = |setting: &Setting| strsim::jaro_winkler(setting.key, &name);
    let best = all().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= ALIKE) {
        Some(best) => format!("; did you mean {}?", best.key),
        None => "; `samosa config` lists them all".to_owned(),
    }
}

/// The flags of all settings, and the one that names the file.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Configuration file in TOML [SAMOSA_CONFIG]")
        .global(true);
    let settings =
        GROUPS.iter().flat_map(|group| group.settings.iter().map(|setting| setting.argument(group.title)));
    std::iter::once(file).chain(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_and_example_is_of_its_kind_and_no_key_is_there_twice() {
        let mut keys: Vec<&str> = all().map(|setting| setting.key).collect();
        for setting in all() {
            for value in [setting.default, setting.such_as].iter().filter(|value| !value.is_empty()) {
                assert!(setting.kind.accepts(value), "{} = {value}", setting.key);
            }
            assert!(setting.default.is_empty() || setting.such_as.is_empty(), "{}", setting.key);
            assert!(!setting.help.ends_with('.') && !setting.help.contains('|'), "{}", setting.key);
        }
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
    }

    #[test]
    fn a_setting_is_known_by_any_of_its_names_and_nearly_by_others() {
        for name in ["--default-top-k", "DEFAULT_TOP_K", "default_top_k", "default-top-k"] {
            assert_eq!(meant(name).ok().unwrap().key, "default_top_k");
        }
        assert_eq!(meant("prot").err().unwrap(), "the setting prot is not known; did you mean port?");
        assert!(meant("HUGGING").err().unwrap().ends_with("`samosa config` lists them all"));
    }
}
