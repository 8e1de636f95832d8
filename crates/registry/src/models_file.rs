//! `models.toml` in the storage directory: what an operator knows of a model that its files do not tell.
//!
//! ```toml
//! [[model]]
//! tag = "d20"
//! step = 650
//! [model.overrides]
//! softcap = 20.0
//! window_pattern = "SSSL"
//!
//! [[model]]
//! tag = "d32"
//! source = "huggingface:karpathy/nanochat-d32"
//! revision = "main"
//! sha256 = { "model_000650.pt" = "<64 hexadecimal digits>" }
//! tokenizer = "tokenizer_d32"
//! ```
//!
//! The tag of the built-in model is refused: whatever a disk says, it stays the model to fall back on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use model::{NanochatVersion, Overrides, ShortWindow};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::checkpoint::{FileOptions, tokenizer_at};
use crate::{Error, Source, Tag, builtin};

/// Name of the file.
pub const FILE_NAME: &str = "models.toml";
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Everything the file says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ModelsFile {
    /// One entry a tag.
    pub models: Vec<ModelEntry>,
}

/// What it says of one tag.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelEntry {
    /// The tag it is about.
    pub tag: Tag,
    /// Where its files are fetched from, if they are not put there by hand.
    pub source: Option<Source>,
    /// Branch, tag or commit of a Hugging Face repository.
    pub revision: Option<String>,
    /// Directory of the source that holds the weights; otherwise the most finished model is chosen.
    pub directory: Option<String>,
    /// Training step to load, instead of the latest.
    pub step: Option<u64>,
    /// What its files must hash to.
    pub sha256: Option<Pins>,
    /// A tokenizer instead of the model's own.
    tokenizer: Option<TokenizerPath>,
    /// Constants over those of the detected generation.
    overrides: OverrideFields,
}

/// The path of a tokenizer, and its line in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TokenizerPath {
    path: String,
    line: usize,
}

/// The file as it is written, with places for messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, rename = "model")]
    models: Vec<WrittenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    tag: Spanned<String>,
    source: Option<Spanned<String>>,
    revision: Option<Spanned<String>>,
    directory: Option<Spanned<String>>,
    step: Option<u64>,
    sha256: Option<Spanned<Pins>>,
    tokenizer: Option<Spanned<String>>,
    #[serde(default)]
    overrides: OverrideFields,
}

/// What is wrong, and where in the text.
struct TomlFault(Range<usize>, String);

/// Hashes that are known beforehand, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "sha256 is a hash, or a table of hashes by file name")]
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
    generation: Option<NanochatVersion>,
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
        Self::parse(&text).map_err(wrong)
    }

    /// Reads its text; the error names the line and the key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let at = |TomlFault(span, message): TomlFault| place(text, &span, &message);
        let written: Written = toml::from_str(text)
            .map_err(|error| at(TomlFault(error.span().unwrap_or(0..0), error.message().to_owned())))?;
        let mut models: Vec<ModelEntry> = Vec::new();
        for written in written.models {
            let span = written.tag.span();
            let entry = written.checked(text).map_err(at)?;
            if models.iter().any(|other| other.tag == entry.tag) {
                return Err(at(TomlFault(span, format!("tag \"{}\" is there twice", entry.tag))));
            }
            models.push(entry);
        }
        Ok(Self { models })
    }

    /// The entry of a tag.
    pub fn entry(&self, tag: &str) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.tag.as_str() == tag)
    }
}

impl WrittenEntry {
    fn checked(self, text: &str) -> Result<ModelEntry, TomlFault> {
        let tag = Tag::new(self.tag.get_ref()).ok_or_else(|| {
            let expected = "up to 100 letters, digits, dots, underscores and dashes, a letter or digit first";
            fault(&self.tag, format!("tag is \"{}\", but must be {expected}", self.tag.get_ref()))
        })?;
        if tag == builtin::tag() {
            return Err(fault(&self.tag, format!("tag \"{tag}\" is that of the built-in model")));
        }
        let source =
            self.source.as_ref().map(|text| text.get_ref().parse().map_err(|error| fault(text, error)));
        let source = source.transpose()?;
        self.check_revision(source.as_ref())?;
        if let Some(directory) = self.directory.as_ref().filter(|directory| !is_plain(directory.get_ref())) {
            let expected = "names with slashes between them, none of them . or ..";
            let message = format!("directory is \"{}\", but must be {expected}", directory.get_ref());
            return Err(fault(directory, message));
        }
        let tokenizer = self.tokenizer.map(|written| tokenizer_path(&written, text)).transpose()?;
        let sha256 = self.sha256.map(|pins| pins.get_ref().checked().map_err(|error| fault(&pins, error)));
        Ok(ModelEntry {
            tag,
            source,
            revision: self.revision.map(Spanned::into_inner),
            directory: self.directory.map(Spanned::into_inner),
            step: self.step,
            sha256: sha256.transpose()?,
            tokenizer,
            overrides: self.overrides,
        })
    }

    fn check_revision(&self, source: Option<&Source>) -> Result<(), TomlFault> {
        let Some(revision) = &self.revision else { return Ok(()) };
        let message = match source {
            Some(Source::HuggingFace { repository, revision: None }) => {
                // The same rule as for a revision in the source.
                let whole = format!("huggingface:{repository}@{}", revision.get_ref());
                match whole.parse::<Source>() {
                    Ok(_) => return Ok(()),
                    Err(_) => {
                        format!("revision is \"{}\", but must be a branch, tag or commit", revision.get_ref())
                    }
                }
            }
            Some(Source::HuggingFace { revision: Some(_), .. }) => {
                "revision is given here and after the @ of source".to_owned()
            }
            _ => "revision is only for a source huggingface:OWNER/NAME".to_owned(),
        };
        Err(fault(revision, message))
    }
}

impl Pins {
    /// With lower-case digits, or what is wrong.
    fn checked(&self) -> Result<Self, String> {
        let hash = |text: &String| {
            let fine = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            fine.then(|| text.to_ascii_lowercase())
                .ok_or_else(|| format!("sha256 is \"{text}\", but must be 64 hexadecimal digits"))
        };
        match self {
            Self::Weights(text) => hash(text).map(Self::Weights),
            Self::Files(files) => {
                let pair = |(name, text): (&String, &String)| Ok((name.clone(), hash(text)?));
                files.iter().map(pair).collect::<Result<_, String>>().map(Self::Files)
            }
        }
    }
}

/// A path of a tokenizer: below the storage, or an absolute one as in sources.
fn tokenizer_path(written: &Spanned<String>, text: &str) -> Result<TokenizerPath, TomlFault> {
    let path = written.get_ref();
    let named = path.strip_prefix("local:");
    let absolute = named.unwrap_or(path);
    if !Path::new(absolute).is_absolute() && (named.is_some() || !is_plain(path)) {
        let expected =
            "names below the storage with slashes between them, none of them . or .., or an absolute path";
        return Err(fault(written, format!("tokenizer is \"{path}\", but must be {expected}")));
    }
    Ok(TokenizerPath { path: absolute.to_owned(), line: line_of(text, written.span().start) })
}

fn fault<T>(at: &Spanned<T>, message: String) -> TomlFault {
    TomlFault(at.span(), message)
}

/// A relative path that stays below where it begins.
fn is_plain(path: &str) -> bool {
    let parts = Path::new(path).components().count();
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    path.split('/').all(plain) && parts == path.split('/').count()
}

/// The line of a place in the text.
fn line_of(text: &str, place: usize) -> usize {
    text.get(..place).unwrap_or_default().matches('\n').count() + 1
}

/// A message with its line, and with the line's key where it has none of its own.
fn place(text: &str, span: &Range<usize>, message: &str) -> String {
    let line = line_of(text, span.start);
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    match key.filter(|key| !message.contains(key)) {
        Some(key) => format!("line {line}: {key}: {message}"),
        None => format!("line {line}: {message}"),
    }
}

impl ModelEntry {
    /// Where it comes from, its revision included, as a ModelInfo shows it.
    pub fn shown_source(&self) -> Option<Source> {
        let source = self.source.clone()?;
        Some(source.at_revision(self.revision.as_deref()))
    }

    /// How the model's files are chosen in this storage directory.
    ///
    /// # Errors
    /// `ModelsFile` with the line for a tokenizer that is not there: it concerns this model alone, and not the others
    /// of the file.
    pub(crate) fn file_options(&self, directory: &Path) -> Result<FileOptions, Error> {
        let has_length = self.overrides.sequence_len.is_some();
        let Some(TokenizerPath { path, line }) = &self.tokenizer else {
            return Ok(FileOptions { step: self.step, tokenizer: None, has_length });
        };
        let tokenizer = tokenizer_at(&directory.join(path)).ok_or_else(|| Error::ModelsFile {
            path: directory.join(FILE_NAME),
            reason: format!(
                "line {line}: tokenizer is \"{path}\", but no such file is there, nor a directory with \
                 tokenizer.pkl or tokenizer.json"
            ),
        })?;
        Ok(FileOptions { step: self.step, tokenizer: Some(tokenizer), has_length })
    }

    /// Whether it names a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

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

fn generation<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<NanochatVersion>, D::Error> {
    let name = String::deserialize(from)?;
    let expected = "expected one of g0, g1, g3, g5, g6, g7";
    NanochatVersion::named(&name)
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
        assert_eq!((overrides.softcap, overrides.generation), (Some(20.0), Some(NanochatVersion::G5)));
        assert!(file.entry("d21").is_none());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("[[model]]\ntag = \"a\"\nstpe = 1\n", "line 3: unknown field `stpe`"),
            ("[[model]]\nstep = 1\n", "line 1: missing field `tag`"),
            ("[[model]]\ntag = \"a\"\nstep = \"x\"\n", "line 3: step: invalid type"),
            ("[[model]]\ntag = \"../a\"\n", "line 2: tag is \"../a\", but must be"),
            (
                "[[model]]\ntag = \"samosa-mini\"\n",
                "line 2: tag \"samosa-mini\" is that of the built-in model",
            ),
            ("[[model]]\ntag = \"a\"\n\n[[model]]\ntag = \"a\"\n", "line 5: tag \"a\" is there twice"),
            ("[[model]]\ntag = \"a\"\nsource = \"d20\"\n", "line 3: source is \"d20\", but must be one of"),
            ("[[model]]\ntag = \"a\"\nrevision = \"x\"\n", "line 3: revision is only for"),
            (
                "[[model]]\ntag = \"a\"\nsource = \"huggingface:o/n@x\"\nrevision = \"x\"\n",
                "line 4: revision is given here and after the @",
            ),
            (
                "[[model]]\ntag = \"a\"\nsource = \"huggingface:o/n\"\nrevision = \"../x\"\n",
                "line 4: revision is \"../x\", but must be a branch",
            ),
            ("[[model]]\ntag = \"a\"\ndirectory = \"../b\"\n", "line 3: directory is \"../b\", but must be"),
            ("[[model]]\ntag = \"a\"\ndirectory = \"/b\"\n", "line 3: directory is \"/b\", but must be"),
            ("[[model]]\ntag = \"a\"\nsha256 = \"abc\"\n", "line 3: sha256 is \"abc\", but must be 64"),
            ("[[model]]\ntag = \"a\"\nsha256 = { \"m.pt\" = \"abc\" }\n", "line 3: sha256 is \"abc\""),
            ("[[model]]\ntag = \"a\"\nsha256 = 5\n", "line 3: sha256 is a hash, or a table"),
            ("[[model]]\ntag = \"a\"\ntokenizer = \"../b\"\n", "line 3: tokenizer is \"../b\", but must be"),
            ("[[model]]\ntag = \"a\"\ntokenizer = \"\"\n", "line 3: tokenizer is \"\", but must be"),
            ("[[model]]\ntag = \"a\"\ntokenizer = \"local:b\"\n", "line 3: tokenizer is \"local:b\", but"),
            ("[[model]]\ntag = \"a\"\n[model.overrides]\ngeneration = \"g9\"\n", "line 4: generation: `g9`"),
            ("[[model]\n", "line 1: "),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, and not {expected}");
        }
    }

    #[test]
    fn a_tokenizer_is_a_file_or_a_directory_below_the_storage_or_anywhere() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(root.path().join("shared")).unwrap();
        let below = root.path().join("shared/tokenizer.json");
        let elsewhere = other.path().join("my.pkl");
        let absolute = elsewhere.display().to_string();
        let said = |path: &str| {
            let text = format!("[[model]]\ntag = \"a\"\ntokenizer = \"{path}\"\n");
            ModelsFile::parse(&text).unwrap().models[0].file_options(root.path())
        };
        let missing = said("shared").unwrap_err().to_string();
        assert!(
            missing.contains("models.toml: line 3: tokenizer is \"shared\", but no such file"),
            "{missing}"
        );
        for path in [&below, &elsewhere] {
            std::fs::write(path, "").unwrap();
        }
        for (path, expected) in [
            ("shared", &below),
            ("shared/tokenizer.json", &below),
            (absolute.as_str(), &elsewhere),
            (&format!("local:{absolute}"), &elsewhere),
        ] {
            assert_eq!(said(path).unwrap().tokenizer.as_ref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_it_says_of_a_source_is_read() {
        let hash = "AB".repeat(32);
        let text = format!(
            "[[model]]\ntag = \"a\"\nsource = \"huggingface:o/n\"\nrevision = \"refs/pr/1\"\ndirectory = \"x/y\"\n\
             sha256 = \"{hash}\"\n[[model]]\ntag = \"b\"\nsource = \"local:/srv/b\"\n\
             [model.sha256]\n\"model.pt\" = \"{hash}\"\n"
        );
        let file = read(&text).unwrap();
        let [a, b] = ["a", "b"].map(|tag| file.entry(tag).unwrap());
        assert_eq!(a.shown_source().unwrap().to_string(), "huggingface:o/n@refs/pr/1");
        assert_eq!(a.sha256, Some(Pins::Weights("ab".repeat(32))));
        let files = [("model.pt".to_owned(), "ab".repeat(32))].into();
        assert_eq!(
            (b.source.clone(), b.sha256.clone()),
            (Some(Source::Path("/srv/b".into())), Some(Pins::Files(files)))
        );
    }

    #[test]
    fn no_file_is_an_empty_one() {
        assert_eq!(ModelsFile::read(tempfile::tempdir().unwrap().path()).unwrap(), ModelsFile::default());
    }
}
