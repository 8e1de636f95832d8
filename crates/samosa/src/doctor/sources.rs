//! Storage and sources: what can be read and written, and which servers list the models that are not here.

use std::collections::BTreeMap;
use std::time::Duration;

use client::text::ByteSize;
use fetch::Fetcher;
use futures_util::future::join_all;
use registry::provenance::DownloadRequest;
use registry::{Catalog, storage as storage_directory};
use serde_json::json;
use server::Options;
use tokio::time::timeout;

use super::finding::{Finding, Severity, counted};
use super::{CheckedModel, Context};
use crate::{clock, storage as start};

/// With less free space than this no model but a tiny one can be fetched.
const LITTLE_SPACE: u64 = 2 << 30;
/// Longest time for what one source is asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sources that are asked, all at once.
const MAX_ASKED: usize = 16;
/// Models that are named for one source.
const MAX_TAGS: usize = 5;

pub(super) fn storage(context: &Context, found: &mut Vec<Finding>) {
    let Some(options) = &context.options else { return };
    let catalog = options.catalog();
    let Some(root) = catalog.directory() else {
        let advice = "Set MODEL_STORAGE_PATH to serve models of your own, or to fetch some.";
        let text = "no storage: only the built-in model is there";
        return found.push(Finding::note("storage", text, advice));
    };
    let (path, looked) = (root.display(), storage_directory::look(root));
    let nothing_to_load = start::nothing_to_load(options);
    let (severity, state, advice) = if !looked.exists && nothing_to_load.is_none() {
        let advice = "Make it or mount it; without it only the built-in model is served.";
        (Severity::Warning, "is not there", advice)
    } else if !looked.exists {
        (Severity::Wrong, "is not there", "Make it or mount it, or name another one.")
    } else if !looked.readable {
        let advice = "Give it to the user of the service, or let that read and enter it.";
        (Severity::Wrong, "cannot be read by this user", advice)
    } else if !looked.writable {
        let advice = "That is fine where models are put by others: nothing can be fetched, and large files are hashed at every start.";
        (Severity::Note, "can be read, but not written", advice)
    } else if looked.free_bytes.is_some_and(|free| free < LITTLE_SPACE) {
        (Severity::Warning, "can be read and written", "Make room before you fetch a model.")
    } else {
        (Severity::Ok, "can be read and written", "")
    };
    let free = looked.free_bytes.map_or_else(String::new, |free| format!(", {} free", ByteSize(free)));
    let text = format!("{path} {state}{free}");
    found.push(Finding::new("storage", severity, text, advice).with("free_bytes", looked.free_bytes));
    found.extend(looked.unfinished.iter().map(|left| {
        let (tag, bytes) = (&left.tag, ByteSize(left.bytes));
        let text = format!("a download of {tag} did not come to its end; {bytes} of it are there");
        let advice =
            format!("`samosa pull {tag}` goes on with it; or remove .staging/{tag} from the storage.");
        Finding::note("unfinished", text, advice).with("tag", tag.as_str()).with("bytes", left.bytes)
    }));
    if let Some(why) = nothing_to_load.filter(|_| looked.exists) {
        let advice = "Put a model there or name the directory that holds it; DEFAULT_MODEL_TAG=samosa-mini serves the built-in one.";
        let waits = "With STARTUP_LOAD_ENABLED=false the server waits for a swap.";
        let (severity, advice) =
            if options.load_at_start { (Severity::Wrong, advice) } else { (Severity::Note, waits) };
        found.push(Finding::new("no_model", severity, why, advice));
    }
}

/// What `models.toml` says, and models that are there in part.
pub(super) fn models(context: &Context, found: &mut Vec<Finding>) {
    let Some(options) = &context.options else { return };
    let catalog = options.catalog();
    if catalog.directory().is_some() {
        found.push(match catalog.models_file().map(|file| file.models.len()) {
            Ok(0) => Finding::ok("models_file", "models.toml names no model"),
            Ok(count) => Finding::ok("models_file", format!("models.toml names {}", counted(count, "model"))),
            Err(why) => {
                let advice = "Mend that line: until then only the built-in model can be loaded.";
                Finding::wrong("models_file", why.to_string(), advice)
            }
        });
    }
    found.extend(catalog.partial().unwrap_or_default().into_iter().map(|(tag, why)| {
        let advice = "Complete it, remove it, or `samosa pull` it if it is offered.";
        Finding::warning("incomplete", why.to_string(), advice).with("tag", tag.as_str())
    }));
}

/// Asks every source for its list of files, unless that shall not be.
pub(super) fn remote(context: &Context, found: &mut Vec<Finding>) {
    let Some(options) = &context.options else { return };
    let offered = offered(options, &options.catalog());
    if offered.is_empty() {
        found.push(Finding::ok("sources", "no model comes from elsewhere"));
    }
    let asked = offered.iter().take(MAX_ASKED).map(|(source, wanted)| async {
        let finding = if context.is_offline || options.fetcher.is_off(&wanted[0].source) {
            Finding::ok("source", format!("{} was not asked", describe(source, wanted)))
        } else {
            ask(&options.fetcher, source, wanted, context).await
        };
        finding.with("source", source.as_str())
    });
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            found.extend(runtime.block_on(join_all(asked)));
            // Looking a name up cannot be broken off.
            runtime.shutdown_background();
        }
        Err(error) => {
            let text = format!("sources cannot be asked: {error}");
            found.push(Finding::warning("sources", text, "Look at the limits of this process (ulimit -a)."));
        }
    }
    if offered.len() > MAX_ASKED {
        let text = format!("{} more were not asked", counted(offered.len() - MAX_ASKED, "source"));
        found.push(Finding::note("left_out", text, "`samosa pull TAG` asks the one of a model."));
    }
}

/// A source and the models that it is for.
fn describe(source: &str, wanted: &[DownloadRequest]) -> String {
    let tags: Vec<&str> = wanted.iter().map(|wanted| wanted.tag.as_str()).take(MAX_TAGS).collect();
    let more = if wanted.len() > tags.len() { ", …" } else { "" };
    format!("{source} ({}{more})", tags.join(", "))
}

async fn ask(fetcher: &Fetcher, source: &str, wanted: &[DownloadRequest], context: &Context<'_>) -> Finding {
    let begun = clock::now();
    let listed = match timeout(PATIENCE, fetcher.list(&wanted[0])).await {
        Ok(listed) => listed.map_err(|error| match error {
            // That it was asked once only is no news.
            fetch::Error::Unreachable { host, reason, .. } => format!("{host}: {reason}"),
            error => error.to_string(),
        }),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let (of, seconds) = (describe(source, wanted), begun.elapsed().as_secs_f64());
    let why = match listed {
        Ok(files) => {
            let text = format!("{of} lists {} in {:.0} ms", counted(files, "file"), seconds * 1e3);
            return Finding::ok("source", text).with("seconds", json!({ "list": seconds }));
        }
        Err(why) => why,
    };
    let absent = match context.model() {
        Some(CheckedModel::Absent(entry)) => Some(&entry.tag),
        _ => None,
    };
    let (severity, so) = if absent.is_some_and(|tag| wanted.iter().any(|wanted| wanted.tag == *tag)) {
        (Severity::Wrong, "The model is not here, and only this source has it.")
    } else {
        (Severity::Warning, "Models that are here are served all the same.")
    };
    let advice = "Check the name, the token or the keys, the way to it (DNS, firewall, HTTPS_PROXY) and the certificates that this \
                  machine trusts (SSL_CERT_FILE).";
    let finding =
        Finding::new("source", severity, format!("{of} cannot be listed: {why}"), format!("{advice} {so}"));
    finding.with("seconds", json!({ "list": seconds }))
}

/// What `models.toml` and the settings offer from elsewhere, fetched already or not, by source.
fn offered(options: &Options, catalog: &Catalog) -> BTreeMap<String, Vec<DownloadRequest>> {
    let named = catalog.models_file().map(|file| file.models).unwrap_or_default();
    let named = named.into_iter().filter_map(|said| {
        let shown = said.shown_source()?.to_string();
        let wanted = DownloadRequest {
            has_tokenizer: said.has_tokenizer(),
            source: said.source?,
            tag: said.tag,
            revision: said.revision,
            directory: said.directory,
            step: said.step,
            sha256: said.sha256,
        };
        Some((shown, wanted))
    });
    let set = options.offers.iter().map(|offer| {
        let (tag, source) = (offer.tag.clone(), offer.source.clone());
        let shown = source.to_string();
        let (revision, directory, step, sha256) = (None, None, None, None);
        (shown, DownloadRequest { tag, source, revision, directory, step, sha256, has_tokenizer: false })
    });
    let mut found: BTreeMap<String, Vec<DownloadRequest>> = BTreeMap::new();
    for (shown, wanted) in named.chain(set).filter(|(_, wanted)| wanted.source.is_remote()) {
        found.entry(shown).or_default().push(wanted);
    }
    found
}
