//! `samosa models show`: everything that is known of a model without loading it.

use std::io::Write;

use anyhow::Result;
use model::{Config, Overrides, ShortWindow};
use registry::identity::HashCache;
use registry::open::{self, Found, Opened};
use registry::{Identity, Location, memory};
use serde_json::{Map, Value, json};
use serving::plan::{self, Needs};

use super::{Asked, print_json, text};

/// Prints what a model is.
pub(super) fn run(asked: &Asked) -> Result<()> {
    let document = document(asked)?;
    if asked.json {
        return print_json(&document);
    }
    Ok(write!(std::io::stdout(), "{}", text::lines(&document))?)
}

fn document(asked: &Asked) -> Result<Value> {
    let entry = &asked.entry;
    let is_absent = entry.location == Location::Absent;
    let mut all = map(json!({
        "tag": entry.tag.as_str(),
        "source": entry.source.to_string(),
        "path": entry.path,
        "state": if is_absent { "not fetched" } else { "complete" },
    }));
    if is_absent {
        if let Some(said) = asked.catalog.models_file()?.entry(entry.tag.as_str()) {
            all.extend(map(json!({
                "directory": said.directory,
                "step": said.step,
                "overrides": overrides(&said.overrides()),
                "sha256": said.sha256,
            })));
        }
        return Ok(all.into());
    }
    let found = open::find(&asked.catalog, entry, asked.step)?;
    let hashes = found.hashes(&HashCache::of(asked.catalog.directory()))?;
    let file =
        |(name, bytes): (String, u64)| (name.clone(), json!({ "bytes": bytes, "sha256": hashes.get(&name) }));
    let files: Map<String, Value> = found.files().into_iter().map(file).collect();
    let said = what_is_said(&found);
    let differing: Vec<String> = found.mismatches(&hashes).iter().map(ToString::to_string).collect();
    let identity = Identity::of(&hashes);
    let opened = found.open()?;
    all.insert("step".to_owned(), json!(opened.step));
    all.extend(sizes(&opened));
    all.extend(memory_use(asked, &opened));
    all.extend(said);
    all.extend(map(json!({
        "identity": identity.as_str(),
        "files": files,
        "notes": opened.config.notes,
        "unknown_keys": opened.config.unknown_keys,
        "mismatches": differing,
    })));
    Ok(all.into())
}

fn map(document: Value) -> Map<String, Value> {
    if let Value::Object(map) = document { map } else { Map::new() }
}

fn sizes(opened: &Opened) -> Map<String, Value> {
    let config = &opened.config;
    let (pattern, short) = windows(config);
    map(json!({
        "generation": config.architecture,
        "parameters": opened.parameters(),
        "tensors": opened.tensors(),
        "layers": config.n_layer(),
        "width": config.n_embd,
        "heads": config.n_head,
        "kv_heads": config.n_kv_head,
        "vocabulary": config.vocab_size,
        "sequence_len": config.sequence_len,
        "window_pattern": pattern,
        "short_window": short,
        "rope_base": shortest(config.layers[0].rope_base),
        "qk_scale": shortest(config.layers[0].qk_scale),
        "softcap": config.softcap.map_or_else(|| json!("none"), shortest),
    }))
}

/// A number with the fewest digits that give it back as f32.
fn shortest(number: f32) -> Value {
    serde_json::from_str(&number.to_string()).unwrap_or(Value::Null)
}

/// A letter for each layer, and how far back those with an S see.
fn windows(config: &Config) -> (String, Option<usize>) {
    let windows = || config.layers.iter().map(|layer| layer.window);
    let is_short = |window: &usize| *window < config.sequence_len;
    (windows().map(|window| if is_short(&window) { 'S' } else { 'L' }).collect(), windows().find(is_short))
}

fn memory_use(asked: &Asked, opened: &Opened) -> Map<String, Value> {
    let needs = Needs::of(opened, asked.format, 0, 1);
    map(json!({
        "format": asked.format.name(),
        "memory_bytes": needs.least(),
        "available_bytes": memory::available(),
        "fits": plan::alone(needs, &asked.entry.tag).is_ok(),
    }))
}

fn what_is_said(found: &Found) -> Map<String, Value> {
    let fetched = found.fetched().map(|fetched| {
        json!({
            "source": fetched.source, "revision": fetched.revision, "commit": fetched.commit,
            "directory": fetched.directory, "step": fetched.step,
        })
    });
    map(json!({
        "fetched": fetched,
        "overrides": overrides(found.overrides()),
        "sha256": found.pins(),
    }))
}

/// What is overridden, under the names of `models.toml`.
fn overrides(overrides: &Overrides) -> Value {
    let short = overrides.short_window.map(|short| match short {
        ShortWindow::Half => "half",
        ShortWindow::Third => "third",
        ShortWindow::Quarter => "quarter",
    });
    let mut all = map(json!({
        "generation": overrides.generation.map(model::NanochatVersion::name),
        "softcap": overrides.softcap,
        "rope_base": overrides.rope_base,
        "qk_scale": overrides.qk_scale,
        "value_gate_scale": overrides.value_gate_scale,
        "short_window": short,
        "window_pattern": overrides.window_pattern,
        "sequence_len": overrides.sequence_len,
    }));
    all.retain(|_, value| !value.is_null());
    all.into()
}
