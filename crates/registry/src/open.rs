//! From a model's name to everything but its weights in memory: [`find`] names the files, [`Found::open`] reads all but the
//! weights, [`Opened::verify`] hashes them. `serving` reads the weights. What can be wrong is found as early as it can be.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{Meta, TensorTable, TokenizerFile};
use model::{Config, Overrides};
use tokenizer::{ChatFormat, Tokenizer, Vocabulary};

use crate::catalog::{Catalog, Entry};
use crate::checkpoint::{CheckpointFiles, FileOptions, read_small};
use crate::file_names::{file_name, has_extension, is_export, step_of};
use crate::identity::{self, HashCache, Hashes, Identity, Stamp};
use crate::layout::Location;
use crate::models_file::{ModelEntry, Pins};
use crate::provenance::{DownloadRequest, Provenance};
use crate::{Error, Source, Tag, builtin};

/// Rows by which a vocabulary may be padded.
const MAX_PADDING: usize = 64;
/// Files beside exported weights that are looked at for metadata of the original.
const MAX_SIBLINGS: usize = 1000;

/// Numbers that are checked at once.
const CHECKED_AT_ONCE: usize = 1 << 20;

/// What tells a model from a changed one without reading its weights: its files as the file system describes
/// them, and what the operator says over them.
#[derive(Clone, PartialEq, Debug, Default)]
struct Fingerprint {
    files: BTreeMap<PathBuf, Stamp>,
    overrides: Overrides,
    pins: Option<Pins>,
}

/// What has to be fetched before the model can be found: `None` if it is there as `models.toml` or the settings
/// name it. What a person put into the storage is never fetched over.
pub fn wanted(catalog: &Catalog, entry: &Entry, step: Option<u64>) -> Result<Option<DownloadRequest>, Error> {
    let (offered, fetched) = (offered(catalog, entry, step)?, entry.location.fetched()?);
    Ok(offered.filter(|wanted| fetched.is_none_or(|fetched| !fetched.matches(wanted))))
}

/// Where a model can be fetched from, be it here already or not: as `models.toml` or else the settings name it.
/// `None` if neither does, or if a person put it where it is.
pub fn offered(
    catalog: &Catalog,
    entry: &Entry,
    step: Option<u64>,
) -> Result<Option<DownloadRequest>, Error> {
    if entry.location != Location::Absent && entry.location.fetched()?.is_none() {
        return Ok(None);
    }
    let models = catalog.models_file()?;
    let said = models.entry(entry.tag.as_str());
    let source = said.and_then(|said| said.source.clone()).filter(Source::is_remote);
    let Some(source) = source.or_else(|| catalog.offer(&entry.tag)) else { return Ok(None) };
    Ok(Some(DownloadRequest {
        tag: entry.tag.clone(),
        source,
        revision: said.and_then(|said| said.revision.clone()),
        directory: said.and_then(|said| said.directory.clone()),
        step: said.and_then(|said| said.step).or(step),
        sha256: said.and_then(|said| said.sha256.clone()),
        has_tokenizer: said.is_some_and(ModelEntry::has_tokenizer),
    }))
}

/// A model whose files are known by name and not read yet.
#[derive(Clone)]
pub struct Found {
    entry: Entry,
    /// None of the built-in model.
    files: Option<CheckpointFiles>,
    fetched: Option<Provenance>,
    fingerprint: Fingerprint,
}

/// Finds a model's files, and what `models.toml` says of them. The built-in one needs nobody's word.
pub fn find(catalog: &Catalog, entry: &Entry, step: Option<u64>) -> Result<Found, Error> {
    let entry = entry.clone();
    if entry.location == Location::Builtin {
        return Ok(Found { entry, files: None, fetched: None, fingerprint: Fingerprint::default() });
    }
    let models = catalog.models_file()?;
    let said = models.entry(entry.tag.as_str());
    let fetched = entry.location.fetched()?;
    let asked = said.and_then(|said| said.step).or(step);
    // What was fetched at this step lies there alone, and its name may have lost the step.
    let step = asked.filter(|step| fetched.as_ref().is_none_or(|fetched| fetched.step != Some(*step)));
    let of_files =
        said.zip(catalog.directory()).map(|(said, directory)| said.file_options(directory)).transpose()?;
    let files = entry.location.files(&entry.tag, &FileOptions { step, ..of_files.unwrap_or_default() })?;
    let paths = files.as_ref().map_or_else(|| Ok(Vec::new()), CheckpointFiles::all)?;
    let fingerprint = Fingerprint {
        files: paths
            .into_iter()
            .map(|path| Ok((path.clone(), Stamp::of(&path)?)))
            .collect::<Result<_, Error>>()?,
        overrides: said.map(ModelEntry::overrides).unwrap_or_default(),
        pins: said.and_then(|said| said.sha256.clone()),
    };
    Ok(Found { entry, files, fetched, fingerprint })
}

impl Found {
    /// Its name.
    pub fn tag(&self) -> &Tag {
        &self.entry.tag
    }

    /// Whether its tag still stands for it: neither its files nor what is said over them have changed, and nothing else
    /// is to be fetched in its place.
    pub fn is_current(&self, catalog: &Catalog, step: Option<u64>) -> Result<bool, Error> {
        let entry = catalog.find(&self.entry.tag)?;
        let now = find(catalog, &entry, step)?.fingerprint;
        Ok(now == self.fingerprint && wanted(catalog, &entry, step)?.is_none())
    }

    /// Fails if a file is not as it was when it was found.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        match self.fingerprint.changed() {
            Some(path) => Err(Error::Changed { file: file_name(path).to_owned() }),
            None => Ok(()),
        }
    }

    /// Where it comes from.
    pub fn source(&self) -> &Source {
        &self.entry.source
    }

    /// Names and sizes of its files, in bytes.
    pub fn files(&self) -> BTreeMap<String, u64> {
        if self.files.is_none() {
            return builtin::files().map(|(name, bytes)| (name.to_owned(), bytes.len() as u64)).into();
        }
        self.fingerprint.files.iter().map(|(path, stamp)| (file_name(path).to_owned(), stamp.size)).collect()
    }

    /// The training step in its files' names.
    pub fn step(&self) -> Option<u64> {
        match &self.files {
            Some(files) => files.step,
            None => builtin::files().iter().find_map(|(name, _)| step_of(name)),
        }
    }

    /// What `models.toml` says over it.
    pub fn overrides(&self) -> &Overrides {
        &self.fingerprint.overrides
    }

    /// Hashes that `models.toml` pins.
    pub fn pins(&self) -> Option<&Pins> {
        self.fingerprint.pins.as_ref()
    }

    /// Where it was fetched from.
    pub fn fetched(&self) -> Option<&Provenance> {
        self.fetched.as_ref()
    }

    /// Hashes of its files; reads all of them, unless they are known.
    pub fn hashes(&self, cache: &HashCache) -> Result<Hashes, Error> {
        if self.files.is_none() {
            return Ok(identity::builtin().clone());
        }
        let paths: Vec<PathBuf> = self.fingerprint.files.keys().cloned().collect();
        identity::hashes(&paths, cache)
    }

    /// Whether its hashes can be had without reading a large file.
    pub fn is_hashed(&self, cache: &HashCache) -> bool {
        self.files.is_none() || self.fingerprint.files.keys().all(|path| cache.has(path))
    }

    /// What differs from the hashes that `models.toml` pins, or from those that a fetch recorded.
    pub fn mismatches(&self, hashes: &Hashes) -> Vec<Error> {
        let weights = self.files.as_ref().map(|files| file_name(&files.weights).to_owned());
        let mismatch = |file: &str, expected: &str| Error::DigestMismatch {
            tag: self.entry.tag.clone(),
            file: file.to_owned(),
            expected: expected.to_owned(),
            found: hashes.get(file).cloned().unwrap_or_else(|| "missing".to_owned()),
        };
        let differs = |file: &str, expected: &str| hashes.get(file).is_none_or(|found| found != expected);
        let mut wrong = Vec::new();
        match (&self.fingerprint.pins, weights) {
            (Some(Pins::Weights(expected)), Some(weights)) => {
                // The hash of an index says nothing about the shards.
                let index = weights.ends_with(".index.json");
                let identity = Identity::of(hashes);
                if identity.as_str() != expected && (index || differs(&weights, expected)) {
                    wrong.push(mismatch(&weights, expected));
                }
            }
            (Some(Pins::Files(pins)), _) => {
                let differing = pins.iter().filter(|(file, expected)| differs(file, expected));
                wrong.extend(differing.map(|(file, expected)| mismatch(file, expected)));
            }
            _ => {}
        }
        let fetched = |file: &str| self.fetched.as_ref().and_then(|fetched| fetched.sha256(file));
        let rotten = hashes.keys().filter_map(|file| Some((file, fetched(file)?)));
        wrong.extend(
            rotten.filter(|(file, hash)| differs(file, hash)).map(|(file, hash)| mismatch(file, hash)),
        );
        wrong
    }

    /// Reads names, shapes, metadata and tokenizer, and checks that they belong together.
    pub fn open(self) -> Result<Opened, Error> {
        let (table, meta, tokenizer, step) = match &self.files {
            None => {
                let table = TensorTable::read("samosa-mini", Arc::new(builtin::WEIGHTS))?;
                let meta = formats::read_meta("samosa-mini metadata", builtin::META)?;
                let tokenizer = formats::read_tokenizer_pickle("samosa-mini tokenizer", builtin::TOKENIZER)?;
                let step = meta.step;
                (table, meta, tokenizer, step)
            }
            Some(files) => {
                let step = files.step.or(self.fetched.as_ref().and_then(|fetched| fetched.step));
                (read_table(files)?, read_meta(files)?, read_tokenizer(files)?, step)
            }
        };
        let tokenizer = Tokenizer::new(vocabulary(tokenizer))?;
        let mut config = Config::read(&table, &meta, &self.fingerprint.overrides)?;
        agree(&mut config, &tokenizer)?;
        let chat = ChatFormat::nanochat(&tokenizer)?;
        if chat.messages.is_none() {
            let note = "the tokenizer has no chat tokens: this model completes texts and takes no messages";
            config.notes.push(note.to_owned());
        }
        config.notes.extend(self.files.as_ref().and_then(|files| lost_in_export(files, &table)));
        Ok(Opened { found: self, step, config, table, tokenizer, chat })
    }
}

/// A model whose files were opened and understood, but not read to their ends.
#[non_exhaustive]
pub struct Opened {
    /// Its files as they were found.
    pub found: Found,
    /// The training step in its files.
    pub step: Option<u64>,
    /// Its sizes and constants, and what was assumed of it.
    pub config: Config,
    /// Its tensors.
    pub table: TensorTable,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// How its conversations are written.
    pub chat: ChatFormat,
}

/// A model whose files are those that are meant.
#[non_exhaustive]
pub struct Verified {
    /// Its files, opened.
    pub opened: Opened,
    /// Hash of its files.
    pub identity: Identity,
}

/// Opens a model's files and checks that they belong together and are those that are meant.
pub fn open(catalog: &Catalog, entry: &Entry, step: Option<u64>) -> Result<Verified, Error> {
    find(catalog, entry, step)?.open()?.verify(catalog)
}

impl Opened {
    /// Numbers in all of its tensors, padding included.
    pub fn parameters(&self) -> u64 {
        self.table.iter().map(|tensor| tensor.element_count() as u64).sum()
    }

    /// Tensors there are.
    pub fn tensors(&self) -> usize {
        self.table.len()
    }

    /// Reads every tensor to its end, and fails at a number that is not finite.
    pub fn read_all(&self) -> Result<(), Error> {
        for tensor in self.table.iter() {
            let rows = (CHECKED_AT_ONCE / tensor.row_elements().max(1)).max(1);
            for start in (0..tensor.row_count()).step_by(rows) {
                let range = start..(start + rows).min(tensor.row_count());
                let mut numbers = vec![0.0; range.len() * tensor.row_elements()];
                tensor.read_rows(range, &mut numbers)?;
                if !numbers.iter().all(|number| number.is_finite()) {
                    return Err(model::Error::NotFinite { name: tensor.name().to_owned() }.into());
                }
            }
        }
        Ok(())
    }

    /// Hashes the files, unless that was done before, and compares with what is known of them.
    pub fn verify(self, catalog: &Catalog) -> Result<Verified, Error> {
        let hashes = self.found.hashes(&HashCache::of(catalog.directory()))?;
        match self.found.mismatches(&hashes).into_iter().next() {
            Some(mismatch) => Err(mismatch),
            None => Ok(self.with(&hashes)),
        }
    }

    /// The same with hashes that somebody else compared.
    pub fn with(self, hashes: &Hashes) -> Verified {
        Verified { opened: self, identity: Identity::of(hashes) }
    }
}

impl Fingerprint {
    /// A file that is not as it was.
    fn changed(&self) -> Option<&Path> {
        let changed = |(path, stamp): &(&PathBuf, &Stamp)| Stamp::of(path).ok() != Some(**stamp);
        self.files.iter().find(changed).map(|(path, _)| path.as_path())
    }
}

/// The model and its tokenizer must know the same ids. Some exporters write the padded size as the model's:
/// the tokenizer knows better.
fn agree(config: &mut Config, tokenizer: &Tokenizer) -> Result<(), Error> {
    let known = tokenizer.vocab_size();
    let padded = config.vocab_size.is_multiple_of(MAX_PADDING)
        && known.next_multiple_of(MAX_PADDING) == config.vocab_size;
    if padded {
        config.vocab_size = known;
    }
    if config.vocab_size != known {
        return Err(Error::VocabularyMismatch { tokenizer: known, model: config.vocab_size });
    }
    Ok(())
}

/// The Hugging Face class knows generation G0 alone, and its converter drops what else a model has. The weights do
/// not tell, but metadata of the original that were left beside them can: only newer models have short windows.
fn lost_in_export(files: &CheckpointFiles, table: &TensorTable) -> Option<String> {
    table.get("embed_tokens.weight")?;
    let home = files.weights.parent()?;
    let above = home.parent().filter(|_| is_export(file_name(home)));
    let siblings =
        [Some(home), above].into_iter().flatten().filter_map(|place| std::fs::read_dir(place).ok());
    let paths = siblings.flatten().take(MAX_SIBLINGS).filter_map(|sibling| Some(sibling.ok()?.path()));
    let mut newer = paths.filter(|path| {
        let name = file_name(path);
        let is_meta = name.starts_with("meta") && has_extension(name, "json") && path.is_file();
        let meta = is_meta.then(|| formats::read_meta(name, &read_small(path).ok()?).ok()).flatten();
        meta.and_then(|meta| meta.window_pattern).is_some_and(|pattern| pattern.contains(['S', 's']))
    });
    let name = newer.next().map(|path| file_name(&path).to_owned())?;
    Some(format!(
        "these weights have the names of the Hugging Face class, which is generation g0, but {name} beside them \
         describes a newer model: the conversion has probably dropped tensors, and answers will be wrong"
    ))
}

fn read_table(files: &CheckpointFiles) -> Result<TensorTable, Error> {
    let Some(shards) = files.shards()? else { return open_table(&files.weights) };
    let mut tables = shards.iter().map(|shard| open_table(shard));
    let first = tables.next().unwrap_or_else(|| Ok(TensorTable::default()))?;
    tables.try_fold(first, |whole, table| Ok(whole.merge(table?)?))
}

fn open_table(path: &Path) -> Result<TensorTable, Error> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    Ok(TensorTable::read(file_name(path), Arc::new(file))?)
}

fn read_meta(files: &CheckpointFiles) -> Result<Meta, Error> {
    let read = |path: &Path| Ok::<_, Error>(formats::read_meta(file_name(path), &read_small(path)?)?);
    let companion = files.companion.as_deref().map(read).transpose()?.map(Box::new);
    Ok(Meta { companion, ..read(&files.meta)? })
}

/// What a tokenizer is made from; a file that only has ranks is nanochat's.
pub(crate) fn vocabulary(file: TokenizerFile) -> Vocabulary {
    let TokenizerFile { pattern, ranks, special, merges } = file;
    match pattern {
        Some(pattern) => Vocabulary { pattern, ranks, special, merges },
        None => Vocabulary::nanochat(ranks),
    }
}

fn read_tokenizer(files: &CheckpointFiles) -> Result<TokenizerFile, Error> {
    let (name, bytes) = (file_name(&files.tokenizer), read_small(&files.tokenizer)?);
    if files.tokenizer.extension().is_some_and(|extension| extension == "json") {
        Ok(formats::read_tokenizer_json(name, &bytes)?)
    } else {
        Ok(formats::read_tokenizer_pickle(name, &bytes)?)
    }
}
