//! From files to a model in memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use formats::{Meta, TensorTable, TokenizerFile};
use model::{Compute, Config, KvLayout, Overrides, PAGE, WeightFormat, Weights};
use tokenizer::{Tokenizer, Vocabulary};

use crate::catalog::{Catalog, Entry, Location};
use crate::checkpoint::{self, CheckpointFiles};
use crate::models_file::ModelEntry;
use crate::plan::Needs;
use crate::{Error, Tag, builtin};

/// Largest metadata or tokenizer file that is read, in bytes.
const MAX_SMALL_FILE: u64 = 64 << 20;
/// Rows by which a vocabulary may be padded.
const MAX_PADDING: usize = 64;

/// How models are loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How weights are held.
    pub format: WeightFormat,
    /// Training step, where `models.toml` names none.
    pub step: Option<u64>,
}

/// A model in memory.
#[derive(Clone)]
pub struct LoadedModel {
    /// Its name.
    pub tag: Tag,
    /// Where it came from, as in ModelInfo.
    pub source: &'static str,
    /// Training step in its file name.
    pub step: Option<u64>,
    /// The weights.
    pub weights: Arc<Weights>,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// What its files looked like.
    pub fingerprint: Fingerprint,
    pub identity: crate::identity::Identity,
}

/// What tells a model from a changed one without reading its weights: its files by size and time of change,
/// and what the operator says over them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fingerprint {
    files: Vec<(PathBuf, u64, Option<SystemTime>)>,
    overrides: Overrides,
}

/// The fingerprint of a model as it is now.
pub fn fingerprint(catalog: &Catalog, tag: &Tag, options: &LoadOptions) -> Result<Fingerprint, Error> {
    let entry = catalog.find(tag)?;
    let said = Said::of(catalog, &entry)?;
    match &entry.location {
        Location::Builtin => Ok(said.fingerprint(Vec::new())?),
        Location::Local(directory) => {
            let files = checkpoint::find(tag, directory, said.step.or(options.step))?;
            said.fingerprint(files.all()?)
        }
    }
}

/// What `models.toml` says of a model. The built-in one needs nobody's word.
struct Said {
    step: Option<u64>,
    overrides: Overrides,
}

impl Said {
    fn of(catalog: &Catalog, entry: &Entry) -> Result<Self, Error> {
        if entry.location == Location::Builtin {
            return Ok(Self { step: None, overrides: Overrides::default() });
        }
        let models = catalog.models_file()?;
        let said = models.entry(entry.tag.as_str());
        Ok(Self {
            step: said.and_then(|said| said.step),
            overrides: said.map(ModelEntry::overrides).unwrap_or_default(),
        })
    }

    fn fingerprint(&self, paths: Vec<PathBuf>) -> Result<Fingerprint, Error> {
        let look = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
            Ok((path, metadata.len(), metadata.modified().ok()))
        };
        let files = paths.into_iter().map(look).collect::<Result<_, Error>>()?;
        Ok(Fingerprint { files, overrides: self.overrides.clone() })
    }
}

/// A model whose files were opened and understood, but not yet read: what can be wrong without reading all
/// the weights is known now.
pub struct Opened {
    entry: Entry,
    step: Option<u64>,
    config: Config,
    table: TensorTable,
    tokenizer: Tokenizer,
    format: WeightFormat,
    fingerprint: Fingerprint,
    identity: crate::identity::Identity,
}

/// Opens a model's files and checks that they belong together.
pub fn open(catalog: &Catalog, entry: &Entry, options: &LoadOptions) -> Result<Opened, Error> {
    let said = Said::of(catalog, entry)?;
    let (table, meta, tokenizer, step, fingerprint) = match &entry.location {
        Location::Builtin => {
            let table = TensorTable::read("samosa-mini", Arc::new(builtin::WEIGHTS))?;
            let meta = formats::read_meta("samosa-mini metadata", builtin::META)?;
            let tokenizer = formats::read_tokenizer_pickle("samosa-mini tokenizer", builtin::TOKENIZER)?;
            let step = meta.step;
            (table, meta, tokenizer, step, said.fingerprint(Vec::new())?)
        }
        Location::Local(directory) => {
            let files = checkpoint::find(&entry.tag, directory, said.step.or(options.step))?;
            let fingerprint = said.fingerprint(files.all()?)?;
            (read_table(&files)?, read_meta(&files)?, read_tokenizer(&files)?, files.step, fingerprint)
        }
    };
    let TokenizerFile { pattern, ranks, special, merges } = tokenizer;
    let tokenizer = Tokenizer::new(Vocabulary { pattern, ranks, special, merges })?;
    let mut config = Config::read(&table, &meta, &said.overrides)?;
    agree(&mut config, &tokenizer)?;
    let format = options.format;
    Ok(Opened {
        entry: entry.clone(),
        step,
        config,
        table,
        tokenizer,
        format,
        fingerprint,
        identity: crate::identity::Identity::stub("0".repeat(64)),
    })
}

impl Opened {
    /// Hash of its files.
    pub fn identity(&self) -> &crate::identity::Identity {
        &self.identity
    }

    /// Reads and packs the weights.
    pub fn load(self, compute: &Compute) -> Result<LoadedModel, Error> {
        for note in &self.config.notes {
            tracing::warn!(model_tag = %self.entry.tag, "{note}");
        }
        let weights = Weights::load(compute, &self.table, self.config, self.format)?;
        Ok(LoadedModel {
            tag: self.entry.tag,
            source: self.entry.location.source(),
            step: self.step,
            weights: Arc::new(weights),
            tokenizer: Arc::new(self.tokenizer),
            fingerprint: self.fingerprint,
            identity: self.identity,
        })
    }

    /// Bytes the model will take with so many bytes for keys and values of each of so many workers.
    pub fn needs(&self, kv_bytes: u64, workers: u64) -> Needs {
        let weights = Weights::planned_bytes(&self.table, &self.config, self.format) as u64;
        let pages = self.config.sequence_len.div_ceil(PAGE);
        let layout = KvLayout::new(&self.config, self.format);
        let sequence = layout.classes.iter().map(|class| (class.page_bytes * pages) as u64).sum::<u64>();
        Needs { weights, kv: workers * kv_bytes.max(sequence), kv_least: workers * sequence }
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

fn read_table(files: &CheckpointFiles) -> Result<TensorTable, Error> {
    let name = file_name(&files.weights);
    if !name.ends_with(".index.json") {
        return open_table(&files.weights);
    }
    let shards = formats::read_shard_index(name, &read_small(&files.weights)?)?;
    let directory = files.weights.parent().unwrap_or(Path::new("."));
    let mut whole: Option<TensorTable> = None;
    for shard in shards {
        let table = open_table(&directory.join(shard))?;
        whole = Some(match whole {
            None => table,
            Some(whole) => whole.merge(table)?,
        });
    }
    whole.ok_or_else(|| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "the index names no file");
        Error::io(&files.weights, source)
    })
}

fn open_table(path: &Path) -> Result<TensorTable, Error> {
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    Ok(TensorTable::read(file_name(path), Arc::new(file))?)
}

fn read_meta(files: &CheckpointFiles) -> Result<Meta, Error> {
    Ok(formats::read_meta(file_name(&files.meta), &read_small(&files.meta)?)?)
}

fn read_tokenizer(files: &CheckpointFiles) -> Result<TokenizerFile, Error> {
    let (name, bytes) = (file_name(&files.tokenizer), read_small(&files.tokenizer)?);
    if files.tokenizer.extension().is_some_and(|extension| extension == "json") {
        Ok(formats::read_tokenizer_json(name, &bytes)?)
    } else {
        Ok(formats::read_tokenizer_pickle(name, &bytes)?)
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    if length > MAX_SMALL_FILE {
        let message =
            format!("{} has {length} bytes, but at most {MAX_SMALL_FILE} are read", file_name(path));
        return Err(Error::io(path, std::io::Error::new(std::io::ErrorKind::FileTooLarge, message)));
    }
    std::fs::read(path).map_err(|error| Error::io(path, error))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("the file")
}

pub fn wanted(_c: &Catalog, _e: &Entry, _o: &LoadOptions) -> Result<Option<crate::fetch::Wanted>, Error> {
    Ok(None)
}
