//! One model: its files, and the memory it would take. Nothing is loaded, and no large file is hashed.

use std::collections::BTreeMap;

use cpu::WeightFormat;
use cpu::transformer::KvPlan;
use registry::identity::HashCache;
use registry::load::{self, Found};
use registry::plan::{Memory, Needs, Plan, Shortage, Wish, plan};
use registry::{Catalog, Entry, Error, Identity, LoadOptions, Location, Tag, memory};
use serving::Options;

use crate::storage;

/// A model that was looked for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ModelFacts {
    pub(crate) tag: String,
    /// Whether a start loads it.
    pub(crate) is_first: bool,
    pub(crate) model: Model,
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Model {
    /// A start has none to load.
    Nothing,
    /// It cannot be loaded, for this reason.
    Broken(String),
    /// It has to be fetched from there first.
    Absent(String),
    Whole(Box<Whole>),
}

/// A model whose files are there and belong together. Bytes are bytes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Whole {
    /// Where it came from, and where it is below the storage, if it is there.
    pub(crate) source: String,
    pub(crate) path: String,
    /// Whether it is the storage directory itself, or the file that is named in its place.
    pub(crate) is_storage: bool,
    pub(crate) files: BTreeMap<String, u64>,
    pub(crate) step: Option<u64>,
    pub(crate) generation: &'static str,
    pub(crate) parameters: u64,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) sequence_len: usize,
    /// What was assumed of it.
    pub(crate) notes: Vec<String>,
    pub(crate) format: &'static str,
    pub(crate) hashes: Hashes,
    pub(crate) needs: Needs,
    /// As the first model, where nothing else serves.
    pub(crate) plan: Result<Plan, Shortage>,
    /// In place of, or beside, one of its size that serves.
    pub(crate) swap: Result<Plan, Shortage>,
    pub(crate) wish: Wish,
    /// Chats of full length that fit at once, all workers together.
    pub(crate) chats: usize,
    /// Requests that run at once, all workers together.
    pub(crate) max_running: usize,
    /// Weights that are read for a token: as they are held, and as int8 would hold them.
    pub(crate) token_bytes: u64,
    pub(crate) token_bytes_int8: u64,
    /// Multiplications and additions of a token.
    pub(crate) token_operations: u64,
}

/// What is known of the contents of its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hashes {
    Known(String),
    /// The next load reads so many bytes to know.
    Pending(u64),
    /// They are not what `models.toml` or a fetch says they are.
    Differ(String),
}

impl ModelFacts {
    /// Looks for a model, or for the one that a start loads.
    pub(crate) fn look(options: &Options, asked: Option<&Tag>) -> Self {
        let first = options.first_tag();
        let is_first = asked.is_none_or(|tag| first.as_ref().is_ok_and(|first| first == tag));
        if asked.is_none() && storage::nothing_to_load(options).is_some() {
            return Self { tag: "none".to_owned(), is_first, model: Model::Nothing };
        }
        let tag = asked.cloned().map_or(first, Ok);
        let (tag, model) = match tag {
            Ok(tag) => (tag.to_string(), find(options, &tag).unwrap_or_else(|error| broken(&error))),
            Err(error) => ("none".to_owned(), broken(&error)),
        };
        Self { tag, is_first, model }
    }

    /// The model, if its files are there.
    pub(crate) fn whole(&self) -> Option<&Whole> {
        if let Model::Whole(whole) = &self.model { Some(whole) } else { None }
    }
}

fn broken(error: &Error) -> Model {
    Model::Broken(error.to_string())
}

fn find(options: &Options, tag: &Tag) -> Result<Model, Error> {
    let catalog = options.catalog();
    let entry = catalog.find(tag)?;
    if entry.location == Location::Absent {
        return Ok(Model::Absent(entry.source.to_string()));
    }
    let load = options.load_options(tag, options.first_tag().ok().as_ref());
    whole(options, &catalog, (&entry, &load)).map(|whole| Model::Whole(Box::new(whole)))
}

fn whole(
    options: &Options,
    catalog: &Catalog,
    (entry, load): (&Entry, &LoadOptions),
) -> Result<Whole, Error> {
    let found = load::find(catalog, entry, load)?;
    let (files, hashes) = (found.files(), hashes(catalog, &found)?);
    let opened = found.open()?;
    let (config, workers) = (opened.config(), options.workers as u64);
    let needs = opened.needs(options.kv_bytes as u64, workers);
    let (first, swap) = plans(needs, options.swap_mode);
    let kv = first.map_or(needs.kv_least, |plan| plan.kv);
    let engine = options.engine.clone().checked();
    let sequences = KvPlan::new(config, load.format, (kv / workers) as usize, engine.step_tokens).sequences;
    let matrices = |format| cpu::Weights::planned_matrix_bytes(config, format) as u64;
    Ok(Whole {
        source: entry.source.to_string(),
        path: entry.path.clone(),
        is_storage: options.storage.is_some() && entry.location.path() == catalog.root(),
        files,
        step: opened.step(),
        generation: config.architecture,
        parameters: opened.parameters(),
        layers: config.n_layer(),
        width: config.n_embd,
        sequence_len: config.sequence_len,
        notes: notes(config),
        format: load.format.name(),
        hashes,
        needs,
        plan: first,
        swap,
        wish: options.swap_mode,
        chats: sequences * options.workers,
        max_running: engine.max_running * options.workers,
        token_bytes: matrices(load.format),
        token_bytes_int8: matrices(WeightFormat::Int8),
        // A multiplication and an addition for each number of four bytes.
        token_operations: matrices(WeightFormat::F32) / 2,
    })
}

/// What was assumed, and what of the metadata is not used.
fn notes(config: &model::Config) -> Vec<String> {
    let mut notes = config.notes.clone();
    if !config.unknown_keys.is_empty() {
        notes.push(format!("metadata keys are not known and not used: {}", config.unknown_keys.join(", ")));
    }
    notes
}

/// How it can be loaded where nothing serves, and then be replaced by one of its size.
fn plans(needs: Needs, wish: Wish) -> (Result<Plan, Shortage>, Result<Plan, Shortage>) {
    let available = memory::available();
    let first = plan(needs, Memory { available, untouched: 0, returned: None }, wish);
    let swap = first.and_then(|first| {
        let rest = available.map(|available| available.saturating_sub(needs.weights));
        plan(needs, Memory { available: rest, untouched: first.kv, returned: Some(needs.weights) }, wish)
    });
    (first, swap)
}

fn hashes(catalog: &Catalog, found: &Found) -> Result<Hashes, Error> {
    let cache = HashCache::of(catalog.directory());
    if !found.is_hashed(&cache) {
        return Ok(Hashes::Pending(found.files().values().sum()));
    }
    let hashes = found.hashes(&cache)?;
    Ok(match found.mismatches(&hashes).first() {
        Some(mismatch) => Hashes::Differ(mismatch.to_string()),
        None => Hashes::Known(Identity::of(&hashes).as_str().to_owned()),
    })
}
