//! `samosa models verify`: every byte of a model is read, and the model is tried. Each check is printed as it ends.

use std::io::Write;

use anyhow::{Result, bail};
use client::text::ByteSize;
use cpu::Compute;
use registry::identity::HashCache;
use registry::open::{self, Opened};
use registry::{Error, Identity};
use serde_json::{Value, json};
use serving::Options;
use serving::plan::{self, Needs};
use serving::{LoadedModel, self_test};

use super::{Asked, print_json};

/// What was checked, and how it came out.
struct Checks<'a> {
    asked: &'a Asked,
    done: Vec<(&'static str, Result<String, String>)>,
}

/// Checks a model; an error if anything is wrong with it.
pub(super) fn run(options: &Options, asked: &Asked) -> Result<()> {
    let mut checks = Checks { asked, done: Vec::new() };
    let identity = checks.all(options)?;
    let failed = checks.done.iter().filter(|(_, outcome)| outcome.is_err()).count();
    if asked.json {
        let check = |(name, outcome): &(&str, Result<String, String>)| {
            let (Ok(detail) | Err(detail)) = outcome;
            json!({ "check": name, "ok": outcome.is_ok(), "detail": detail })
        };
        let identity = identity.map(|identity| identity.to_string());
        let done: Vec<Value> = checks.done.iter().map(check).collect();
        let tag = asked.entry.tag.as_str();
        print_json(&json!({ "tag": tag, "ok": failed == 0, "identity": identity, "checks": done }))?;
    }
    match failed {
        0 => Ok(()),
        1 => bail!("{} failed a check", asked.entry.tag),
        failed => bail!("{} failed {failed} checks", asked.entry.tag),
    }
}

impl Checks<'_> {
    /// Goes on as long as what comes next makes sense; the model's identity, if its files could be read.
    fn all(&mut self, options: &Options) -> Result<Option<Identity>> {
        let Asked { catalog, entry, step, format, .. } = self.asked;
        let found = open::find(catalog, entry, *step);
        let Some(found) = self.tell("files", found, |found| files(&found.files()))? else { return Ok(None) };
        // What was remembered says nothing about what the disk holds now.
        let hashed = found.hashes(&HashCache::none());
        let Some(hashes) = self.tell("read", hashed, |hashes| format!("{} sha256", hashes.len()))? else {
            return Ok(None);
        };
        let identity = Identity::of(&hashes);
        let mismatches: Vec<String> = found.mismatches(&hashes).iter().map(ToString::to_string).collect();
        let compared = match (found.pins().is_some(), found.fetched().is_some()) {
            (true, true) => "equal to what models.toml pins and to what was fetched",
            (true, false) => "equal to what models.toml pins",
            (false, true) => "equal to what was fetched",
            (false, false) => "nothing to compare with",
        };
        let outcome = if mismatches.is_empty() { Ok(()) } else { Err(mismatches.join("; ")) };
        self.tell("sha256", outcome, |()| compared.to_owned())?;
        let opened = found.open();
        let at_tokenizer = opened.as_ref().is_err_and(is_of_tokenizer);
        let name = if at_tokenizer { "tokenizer" } else { "structure" };
        let Some(opened) = self.tell(name, opened, structure)? else { return Ok(Some(identity)) };
        let vocabulary = opened.config.vocab_size;
        self.tell("tokenizer", Ok::<_, String>(()), |()| format!("{vocabulary} ids, as the model has"))?;
        let tensors = opened.tensors();
        let numbers = opened.read_all();
        self.tell("tensors", numbers, |()| format!("{tensors} read to the end, every number finite"))?;
        let needs = Needs::of(&opened, *format, 0, 1);
        let fits = plan::alone(needs, &entry.tag);
        if self
            .tell("memory", fits, |_| format!("{} in {}", ByteSize(needs.least()), format.name()))?
            .is_none()
        {
            return Ok(Some(identity));
        }
        let compute = Compute::new(options.isa, options.threads);
        let loaded = LoadedModel::load(opened.with(&hashes), *format, &compute);
        if let Some(model) =
            self.tell("load", loaded, |model| ByteSize(model.weights.bytes() as u64).to_string())?
        {
            self.tell("self-test", self_test::run(&model, &compute), |()| "a short answer".to_owned())?;
        }
        Ok(Some(identity))
    }

    /// Notes a check, and prints it for people. What it was about, if it went well.
    fn tell<T, E: ToString>(
        &mut self,
        name: &'static str,
        outcome: Result<T, E>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<Option<T>> {
        let (told, kept) = match outcome {
            Ok(kept) => (Ok(detail(&kept)), Some(kept)),
            Err(error) => (Err(error.to_string()), None),
        };
        if !self.asked.json {
            let (word, text) = match &told {
                Ok(text) => ("ok", text),
                Err(text) => ("FAILED", text),
            };
            writeln!(std::io::stdout(), "{word:6}  {name:9}  {text}")?;
        }
        self.done.push((name, told));
        Ok(kept)
    }
}

fn files(files: &std::collections::BTreeMap<String, u64>) -> String {
    format!("{} of {}", files.len(), ByteSize(files.values().sum()))
}

fn structure(opened: &Opened) -> String {
    let config = &opened.config;
    let (generation, millions) = (config.architecture, opened.parameters() as f64 / 1e6);
    format!("{generation}, {} layers of {}, {millions:.1} M parameters", config.n_layer(), config.n_embd)
}

/// Whether it is the tokenizer that is at fault when a model cannot be opened.
fn is_of_tokenizer(error: &Error) -> bool {
    match error {
        Error::Tokenizer(_) | Error::VocabularyMismatch { .. } => true,
        Error::Format(error) => error.file().starts_with("tokenizer"),
        _ => false,
    }
}
