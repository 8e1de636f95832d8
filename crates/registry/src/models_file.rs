//! `models.toml` in the storage directory: what an operator knows of a model that its files do not tell.
//!
//! ```toml
//! [[model]]
//! tag = "d20"
//! step = 650
//! [model.overrides]
//! softcap = 20.0
//! window_pattern = "SSSL"
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use model::{Generation, Overrides, ShortWindow};
use serde::Deserialize;

use crate::{Error, Source};

/// Name of the file.
pub const FILE_NAME: &str = "models.toml";
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Everything the file says.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsFile {
    /// One entry a tag.
    #[serde(default, rename = "model")]
    pub models: Vec<ModelEntry>,
}

/// What it says of one tag.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// The tag it is about.
    pub tag: String,
    /// Where its files are fetched from, if they are not put there by hand.
    #[serde(default, deserialize_with = "source")]
    pub source: Option<Source>,
    /// Branch, tag or commit of a Hugging Face repository.
    pub revision: Option<String>,
    /// Directory of the source that holds the weights; otherwise the most finished model is chosen.
    pub directory: Option<String>,
    /// Training step to load, instead of the latest.
    pub step: Option<u64>,
    /// What its files must hash to.
    pub sha256: Option<Pins>,
    /// Constants over those of the detected generation.
    #[serde(default)]
    overrides: OverrideFields,
}

/// Hashes that are known beforehand, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum Pins {
    /// Of the file of weights, or the identity that `samosa models show` prints.
    Weights(String),
    /// Of files by name.
    Files(BTreeMap<String, String>),
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideFields {
    #[serde(default, deserialize_with = "generation")]
    generation: Option<Generation>,
    softcap: Option<f32>,
    rope_base: Option<f32>,
    qk_scale: Option<f32>,
    value_gate_scale: Option<f32>,
    #[serde(default, deserialize_with = "short_window")]
    short_window: Option<ShortWindow>,
    window_pattern: Option<String>,
    sequence_len: Option<usize>,
}

impl ModelsFile {
    /// Reads the file, if there is one.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(FILE_NAME);
        let wrong = |reason: String| Error::ModelsFile { path: path.clone(), reason };
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io(&path, error)),
            Ok(metadata) if !metadata.is_file() => return Err(wrong("not a file".to_owned())),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(wrong(format!("{} bytes, but at most {MAX_BYTES} are read", metadata.len())));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            wrong(format!("line {line}: {}", error.message()))
        })
    }

    /// The entry of a tag.
    pub fn entry(&self, tag: &str) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.tag == tag)
    }
}

impl ModelEntry {
    /// The overrides, as the model crate takes them.
    pub fn overrides(&self) -> Overrides {
        let fields = self.overrides.clone();
        Overrides {
            generation: fields.generation,
            softcap: fields.softcap,
            rope_base: fields.rope_base,
            qk_scale: fields.qk_scale,
            value_gate_scale: fields.value_gate_scale,
            short_window: fields.short_window,
            window_pattern: fields.window_pattern,
            sequence_len: fields.sequence_len,
        }
    }
}

fn source<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Source>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn generation<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Generation>, D::Error> {
    let name = String::deserialize(from)?;
    let expected = "expected one of g0, g1, g3, g5, g6, g7";
    Generation::named(&name)
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("`{name}`: {expected}")))
}

fn short_window<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<ShortWindow>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "half" => Ok(Some(ShortWindow::Half)),
        "third" => Ok(Some(ShortWindow::Third)),
        "quarter" => Ok(Some(ShortWindow::Quarter)),
        other => Err(serde::de::Error::custom(format!("`{other}`: expected one of half, third, quarter"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModelsFile, Error> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(FILE_NAME), text).unwrap();
        ModelsFile::read(root.path())
    }

    #[test]
    fn overrides_are_read_by_tag() {
        let text =
            "[[model]]\ntag = \"d20\"\nstep = 650\n[model.overrides]\nsoftcap = 20.0\ngeneration = \"g5\"\n";
        let file = read(text).unwrap();
        let entry = file.entry("d20").unwrap();
        assert_eq!(entry.step, Some(650));
        let overrides = entry.overrides();
        assert_eq!((overrides.softcap, overrides.generation), (Some(20.0), Some(Generation::G5)));
        assert!(file.entry("d21").is_none());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("[[model]]\ntag = \"a\"\nstpe = 1\n", "stpe"),
            ("[[model]]\ntag = \"a\"\n[model.overrides]\ngeneration = \"g9\"\n", "g0, g1, g3"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("line"), "{error}");
        }
    }

    #[test]
    fn no_file_is_an_empty_one() {
        assert_eq!(ModelsFile::read(tempfile::tempdir().unwrap().path()).unwrap(), ModelsFile::default());
    }
}
