//! One model: whether it can be loaded, the memory that it takes, how fast it can be at most. Nothing is loaded, and no
//! large file is hashed.

use std::collections::BTreeMap;

use client::text::ByteSize;
use cpu::transformer::KvPlan;
use cpu::{WeightFormat, Weights};
use registry::identity::HashCache;
use registry::open::{self, Opened};
use registry::{Entry, Error, Identity, Location, Tag, memory};
use serving::Options;
use serving::plan::{MemoryBudget, MemoryPlan, Needs, Shortage, SwapMode, TRANSIENT, plan};
use serving::transaction::SwapOrder;

use super::Context;
use super::finding::{Finding, Severity, counted, rounded};
use crate::storage;

/// The model that was looked for.
pub(super) enum CheckedModel {
    /// A start has none to load.
    None,
    Broken(Option<Tag>, Error),
    /// It has to be fetched first.
    Absent(Entry),
    Complete(Box<CompleteModel>),
}

/// A model whose files are there and belong together.
pub(super) struct CompleteModel {
    entry: Entry,
    /// Names and bytes.
    files: BTreeMap<String, u64>,
    /// `None` where the next load has to read the files for it.
    identity: Option<Result<Identity, Error>>,
    pub(super) opened: Opened,
    format: WeightFormat,
    needs: Needs,
    /// As the first model, where nothing else serves.
    plan: Result<MemoryPlan, Shortage>,
}

impl CompleteModel {
    /// Bytes of weights that are read for each token of one stream.
    pub(super) fn token_bytes(&self) -> u64 {
        Weights::planned_matrix_bytes(&self.opened.config, self.format) as u64
    }
}

impl CheckedModel {
    /// Looks for a model, or for the one that a start loads.
    pub(super) fn find(options: &Options, asked: Option<&Tag>) -> Self {
        if asked.is_none() && storage::nothing_to_load(options).is_some() {
            return Self::None;
        }
        match asked.cloned().map_or_else(|| options.first_tag(), Ok) {
            Ok(tag) => Self::open(options, &tag).unwrap_or_else(|error| Self::Broken(Some(tag), error)),
            Err(error) => Self::Broken(None, error),
        }
    }

    fn open(options: &Options, tag: &Tag) -> Result<Self, Error> {
        let catalog = options.catalog();
        let entry = catalog.find(tag)?;
        if entry.location == Location::Absent {
            return Ok(Self::Absent(entry));
        }
        let step = options.step_of(tag, options.first_tag().ok().as_ref());
        let found = open::find(&catalog, &entry, step)?;
        let cache = HashCache::of(catalog.directory());
        let identity = if found.is_hashed(&cache) {
            let hashes = found.hashes(&cache)?;
            Some(found.mismatches(&hashes).into_iter().next().map_or(Ok(Identity::of(&hashes)), Err))
        } else {
            None
        };
        let files = found.files();
        let opened = found.open()?;
        let needs = options.needs(&opened);
        let memory = MemoryBudget { available: memory::available(), untouched: 0, returned: None };
        let plan = plan(needs, memory, options.swap_mode);
        Ok(Self::Complete(Box::new(CompleteModel {
            entry,
            files,
            identity,
            opened,
            format: options.format,
            needs,
            plan,
        })))
    }
}

/// Whether a model can be loaded, and from where.
pub(super) fn files(context: &Context, found: &mut Vec<Finding>) {
    found.push(match context.model() {
        None => Finding::note("model", "models and storage are not looked at", "Correct the settings first."),
        Some(CheckedModel::None) => {
            let advice = "The finding `no_model` of the storage has the reason; `samosa doctor TAG` looks at one model.";
            Finding::note("model", "a start has no model to load", advice)
        }
        Some(CheckedModel::Broken(tag, why)) => {
            let name = tag.as_ref().map_or("none", Tag::as_str);
            let advice = "Repair or replace its files; `samosa models list` shows other models, `samosa models verify TAG` reads every file of one.";
            Finding::wrong("model", format!("{name} cannot be loaded: {why}"), advice).with("tag", name)
        }
        Some(CheckedModel::Absent(entry)) => {
            let tag = entry.tag.as_str();
            let text = format!("{tag} is not here; it comes from {}", entry.source);
            let advice = format!(
                "`samosa pull {tag}` fetches it now; otherwise the start or the swap that wants it does."
            );
            Finding::note("model", text, advice).with("tag", tag)
        }
        Some(CheckedModel::Complete(model)) => place(context, model),
    });
}

fn place(context: &Context, model: &CompleteModel) -> Finding {
    let CompleteModel { entry, files, opened, .. } = model;
    let is_storage = context.options.as_ref().is_some_and(|options| {
        let options = &options.models;
        options.storage.is_some() && entry.location.path() == options.catalog().root()
    });
    let place = if is_storage {
        "the storage itself".to_owned()
    } else {
        format!("in {} of the storage", entry.path)
    };
    let source = entry.source.to_string();
    let from = match source.as_str() {
        "builtin" => "built into this program".to_owned(),
        "local" if entry.path.is_empty() && !is_storage => "where models.toml says".to_owned(),
        "local" => format!("{place}, put there by hand"),
        source => format!("{place}, fetched from {source}"),
    };
    let (tag, bytes) = (entry.tag.as_str(), files.values().sum::<u64>());
    let step = opened.step.map_or_else(String::new, |step| format!(", step {step}"));
    let names: Vec<&str> = files.keys().map(String::as_str).take(4).collect();
    let more = if files.len() > names.len() { ", …" } else { "" };
    Finding::ok("model", format!("{tag}{step}: {from}; {}{more}, {}", names.join(", "), ByteSize(bytes)))
        .with("tag", tag)
        .with("source", source)
        .with("step", opened.step)
        .with("file_bytes", bytes)
}

pub(super) fn sizes(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, _)) = context.complete_model() else { return };
    let (config, parameters) = (&model.opened.config, model.opened.parameters());
    let (generation, context) = (config.architecture, config.sequence_len);
    let text = format!(
        "generation {generation}: {} million parameters, {} layers of {}, a context of {context} tokens",
        rounded(parameters as f64 / 1e6),
        config.n_layer(),
        config.n_embd
    );
    found.push(
        Finding::ok("sizes", text)
            .with("generation", generation)
            .with("parameters", parameters)
            .with("sequence_len", context),
    );
    let mut assumed = config.notes.clone();
    if !config.unknown_keys.is_empty() {
        assumed.push(format!("metadata keys are not known and not used: {}", config.unknown_keys.join(", ")));
    }
    let advice = "Check the first answers; [model.overrides] in models.toml says otherwise where it must.";
    found.extend(assumed.into_iter().map(|text| Finding::warning("assumed", text, advice)));
}

pub(super) fn weight_format(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, _)) = context.complete_model() else { return };
    let setting = &context.values.nanochat_dtype;
    let origin = match (setting.text(), setting.set_by().name()) {
        ("auto", "default") => "the default".to_owned(),
        (value, origin) => format!("NANOCHAT_DTYPE={value}, {origin}"),
    };
    let format = model.format;
    let text = format!("weights are held as {} ({origin})", format.name());
    let (severity, advice) = match format {
        WeightFormat::Int8 | WeightFormat::Int4 => (Severity::Ok, ""),
        _ => (Severity::Note, "NANOCHAT_DTYPE=int8 answers nearly the same, and reads least but for int4."),
    };
    found.push(
        Finding::new("format", severity, text, advice)
            .with("format", format.name())
            .with("token_bytes", model.token_bytes()),
    );
}

pub(super) fn identity(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, _)) = context.complete_model() else { return };
    found.push(match &model.identity {
        Some(Ok(identity)) => {
            let identity = identity.as_str();
            Finding::ok("identity", format!("identity {identity:.12}…")).with("identity", identity)
        }
        Some(Err(mismatch)) => Finding::wrong(
            "identity",
            mismatch.to_string(),
            "Fetch it again, or correct the hash in models.toml.",
        ),
        None => {
            let bytes = ByteSize(model.files.values().sum());
            let text = format!("its files have not been hashed; the next load reads {bytes} for that");
            let advice = format!(
                "`samosa models show {}` does it now, and it is remembered if the storage can be written.",
                model.entry.tag
            );
            Finding::note("identity", text, advice)
        }
    });
}

pub(super) fn memory(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, _)) = context.complete_model() else { return };
    let (tag, needs) = (&model.entry.tag, model.needs);
    let kv = match model.plan {
        Ok(plan) => plan.kv,
        Err(Shortage { needed, available }) => {
            let (least, free) = (ByteSize(needed), ByteSize(available));
            let text = format!("{tag} does not fit: it needs {least} at least, and {free} are free");
            let advice =
                "Free memory or raise the limit, or set NANOCHAT_DTYPE=int4, which takes about half of int8.";
            let finding = Finding::wrong("memory_plan", text, advice);
            return found.push(finding.with("needed_bytes", needed).with("available_bytes", available));
        }
    };
    let text = format!(
        "{tag} takes {} for weights, {} for keys and values, and {} while it loads: {} in all",
        ByteSize(needs.weights),
        ByteSize(kv),
        ByteSize(TRANSIENT),
        ByteSize(needs.weights + kv + TRANSIENT)
    );
    let wanted = ByteSize(needs.kv);
    let advice =
        format!("Keys and values should have {wanted}: free memory, or set KV_CACHE_MB to what they get.");
    let (severity, advice) =
        if kv < needs.kv { (Severity::Warning, advice) } else { (Severity::Ok, String::new()) };
    found.push(
        Finding::new("memory_plan", severity, text, advice)
            .with("weights_bytes", needs.weights)
            .with("kv_bytes", kv)
            .with("kv_wanted_bytes", needs.kv)
            .with("loading_bytes", TRANSIENT),
    );
}

pub(super) fn chats(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, options)) = context.complete_model() else { return };
    let Ok(plan) = model.plan else { return };
    let (config, limits) = (&model.opened.config, options.engine.clone().checked());
    let kv = (plan.kv / options.workers as u64) as usize;
    let chats = options.workers * KvPlan::new(config, model.format, kv, limits.step_tokens).sequences;
    let max_running = options.workers * limits.max_running;
    let length = config.sequence_len;
    let text = format!("{} as long as the context ({length} tokens) at once", counted(chats, "chat"));
    let advice = format!(
        "Up to {max_running} requests may run at once (MAX_RUNNING_REQUESTS), shorter ones as many as fit; the others wait in \
         the queue. A larger KV_CACHE_MB keeps more of them from waiting."
    );
    let (severity, advice) =
        if chats < max_running { (Severity::Note, advice) } else { (Severity::Ok, String::new()) };
    let finding = Finding::new("chats", severity, text, advice);
    found.push(finding.with("chats", chats).with("max_running", max_running));
}

/// A swap from one model of this size to another.
pub(super) fn swap(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, options)) = context.complete_model() else { return };
    let Ok(first) = model.plan else { return };
    let weights = model.needs.weights;
    let available = memory::available().map(|available| available.saturating_sub(weights));
    let memory = MemoryBudget { available, untouched: first.kv, returned: Some(weights) };
    let beside = "a swap to a model of this size is loaded beside the one that serves";
    let in_its_place = "a swap to a model of this size takes the place of the one that serves";
    found.push(match plan(model.needs, memory, options.swap_mode) {
        Ok(MemoryPlan { mode: SwapOrder::Overlap, .. }) => Finding::ok("swap", beside).with("mode", "overlap"),
        Ok(MemoryPlan { mode: SwapOrder::Serial, .. }) if options.swap_mode == SwapMode::Serial => {
            Finding::ok("swap", in_its_place).with("mode", "serial")
        }
        Ok(MemoryPlan { mode: SwapOrder::Serial, .. }) => {
            let advice = "Two do not fit, so requests wait for as long as the longest answer takes, plus the load; a smaller \
                          KV_CACHE_MB may make room for both.";
            Finding::note("swap", in_its_place, advice).with("mode", "serial")
        }
        Err(Shortage { needed, available }) => {
            let (needed, free) = (ByteSize(needed), ByteSize(available));
            let text = format!("a swap to a model of this size fails: it needs {needed}, and {free} would be free");
            Finding::warning("swap", text, "Set SWAP_MODE=auto, or free memory.")
        }
    });
}

/// The most that memory and arithmetic allow.
pub(super) fn speed(context: &Context, found: &mut Vec<Finding>) {
    let Some((model, _)) = context.complete_model() else { return };
    let (speed, token_bytes) = (context.speed(), model.token_bytes().max(1));
    let rate = speed.read_model / token_bytes as f64;
    let text = format!(
        "one stream: at most {} tokens/s, since each token reads {} at {} GB/s",
        rounded(rate),
        ByteSize(token_bytes),
        rounded(speed.read_model / 1e9)
    );
    found.push(
        Finding::ok("one_stream", text)
            .with("tokens_per_second", rate)
            .with("token_bytes", token_bytes)
            .with("bytes_per_second", speed.read_model),
    );
    if matches!(model.format, WeightFormat::Int8 | WeightFormat::Int4) {
        // A multiplication and an addition for each number of four bytes.
        let operations = Weights::planned_matrix_bytes(&model.opened.config, WeightFormat::F32) as u64 / 2;
        let rate = speed.int8 / operations.max(1) as f64;
        let text =
            format!("many streams and prompts: at most {} tokens/s in all, by arithmetic", rounded(rate));
        found.push(
            Finding::ok("many_streams", text)
                .with("tokens_per_second", rate)
                .with("token_operations", operations),
        );
    }
}
