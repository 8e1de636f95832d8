//! Storage and sources: what can be read, written, reached and listed.

use super::counted;
use crate::doctor::facts::{Reach, SourceFacts, SourcesFacts, Step};
use crate::doctor::finding::{Finding, size};

/// With less free space than this no model but a tiny one can be fetched.
const LITTLE_SPACE: u64 = 2 << 30;
/// Models that are named for one source.
const MAX_TAGS: usize = 5;

/// What is to be said of storage and sources. Without `wanted`, the model that was asked about and is not here, nothing
/// that fails keeps a server from serving.
pub(crate) fn sources(facts: &SourcesFacts, wanted: Option<&str>) -> Vec<Finding> {
    let mut found = storage(facts);
    found.extend(empty(facts));
    found.extend(models_file(facts));
    found.extend(facts.partial.iter().map(|(tag, why)| {
        let advice = "Complete it, remove it, or `samosa pull` it if it is offered.";
        Finding::warning("incomplete", why.clone(), advice).with("tag", tag.as_str())
    }));
    found.extend(facts.sources.iter().map(|source| reached(source, wanted)));
    if facts.sources.is_empty() {
        found.push(Finding::ok("sources", "no model comes from elsewhere"));
    }
    if facts.left_out > 0 {
        let were = if facts.left_out == 1 { "source was" } else { "sources were" };
        let text = format!("{} more {were} not asked", facts.left_out);
        found.push(Finding::note("left_out", text, "`samosa pull TAG` asks the one of a model."));
    }
    found.extend(token(facts));
    found
}

fn storage(facts: &SourcesFacts) -> Vec<Finding> {
    let Some((path, storage)) = &facts.storage else {
        let advice = "Set MODEL_STORAGE_PATH to serve models of your own, or to fetch some.";
        return vec![Finding::note("storage", "no storage: only the built-in model is there", advice)];
    };
    let free = storage.free_bytes.map_or_else(String::new, |free| format!(", {} free", size(free)));
    let found = if !storage.exists && facts.empty.is_none() {
        Finding::warning(
            "storage",
            format!("{path} is not there"),
            "Make it or mount it; without it only the built-in model is served.",
        )
    } else if !storage.exists {
        Finding::wrong("storage", format!("{path} is not there"), "Make it or mount it, or name another one.")
    } else if !storage.readable {
        Finding::wrong(
            "storage",
            format!("{path} cannot be read by this user"),
            "Give it to the user of the service, or let that read and enter it.",
        )
    } else if !storage.writable {
        let advice = "That is fine where models are put by others: nothing can be fetched, and large files are hashed at every start.";
        Finding::note("storage", format!("{path} can be read, but not written{free}"), advice)
    } else if storage.free_bytes.is_some_and(|free| free < LITTLE_SPACE) {
        Finding::warning(
            "storage",
            format!("{path} can be read and written{free}"),
            "Make room before you fetch a model.",
        )
    } else {
        Finding::ok("storage", format!("{path} can be read and written{free}"))
    };
    let mut found = vec![found.with("free_bytes", storage.free_bytes)];
    found.extend(storage.unfinished.iter().map(|left| {
        let text = format!(
            "a download of {} did not come to its end; {} of it are there",
            left.tag,
            size(left.bytes)
        );
        let advice = format!(
            "`samosa pull {}` goes on with it; or remove .staging/{} from the storage.",
            left.tag, left.tag
        );
        Finding::note("unfinished", text, advice).with("tag", left.tag.as_str()).with("bytes", left.bytes)
    }));
    found
}

/// A storage without a model, which stops a start that should load one.
fn empty(facts: &SourcesFacts) -> Option<Finding> {
    let (why, loads) = facts.empty.as_ref()?;
    if facts.storage.as_ref().is_some_and(|(_, storage)| !storage.exists) {
        // The finding of the storage has it.
        return None;
    }
    Some(if *loads {
        let advice = "Put a model there or name the directory that holds it; DEFAULT_MODEL_TAG=samosa-mini serves the built-in one.";
        Finding::wrong("no_model", why.clone(), advice)
    } else {
        let advice = "With STARTUP_LOAD_ENABLED=false the server waits for a swap.";
        Finding::note("no_model", why.clone(), advice)
    })
}

fn models_file(facts: &SourcesFacts) -> Option<Finding> {
    Some(match facts.models_file.as_ref()? {
        Ok(0) => Finding::ok("models_file", "models.toml names no model"),
        Ok(count) => Finding::ok("models_file", format!("models.toml names {}", counted(*count, "model"))),
        Err(why) => {
            let advice = "Mend that line: until then only the built-in model can be loaded.";
            Finding::wrong("models_file", why.clone(), advice)
        }
    })
}

fn reached(source: &SourceFacts, wanted: Option<&str>) -> Finding {
    let name = &source.source;
    let tags: Vec<&str> = source.tags.iter().map(String::as_str).take(MAX_TAGS).collect();
    let more = if source.tags.len() > tags.len() { ", …" } else { "" };
    let of = format!("{name} ({}{more})", tags.join(", "));
    let found = match &source.reach {
        Reach::NotAsked => Finding::ok("source", format!("{of} was not asked")),
        Reach::Asked { way, files } => match way.iter().find_map(|step| Some((step, step.error.as_ref()?))) {
            None => Finding::ok("source", format!("{of} lists {}; {}", counted(*files, "file"), times(way))),
            Some((step, why)) => {
                let text = format!("{of} fails at {}: {why}", what(step));
                if wanted.is_some_and(|wanted| source.tags.iter().any(|tag| tag == wanted)) {
                    let advice =
                        format!("{} The model is not here, and only this source has it.", advice(step));
                    Finding::wrong("source", text, advice)
                } else {
                    Finding::warning(
                        "source",
                        text,
                        format!("{} Models that are here are served all the same.", advice(step)),
                    )
                }
            }
        },
    };
    let seconds = |way: &[Step]| way.iter().map(|step| (step.name.to_owned(), step.seconds.into())).collect();
    let seconds: serde_json::Map<String, serde_json::Value> =
        if let Reach::Asked { way, .. } = &source.reach { seconds(way) } else { serde_json::Map::new() };
    found.with("source", name.as_str()).with("seconds", seconds)
}

fn times(way: &[Step]) -> String {
    let one = |step: &Step| format!("{} {:.0} ms", step.name, step.seconds * 1e3);
    way.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn what(step: &Step) -> &'static str {
    match step.name {
        "name" => "name resolution",
        "connect" => "the connection",
        "TLS" => "TLS",
        _ => "the list of files",
    }
}

/// What to do about the step that failed.
fn advice(step: &Step) -> &'static str {
    match step.name {
        "name" => {
            "Check the name, and whether this machine can resolve any (resolv.conf, the pod's DNS policy)."
        }
        "connect" => "Check the firewall and the network policy, or set HTTPS_PROXY if there is a proxy.",
        "TLS" => {
            "Check the clock and the certificates that this machine trusts (ca-certificates, SSL_CERT_FILE)."
        }
        _ => "Check the name, the revision and whether the token or the keys may read it.",
    }
}

fn token(facts: &SourcesFacts) -> Option<Finding> {
    let of_hub = |source: &&SourceFacts| source.source.starts_with("huggingface:");
    let hub: Vec<&SourceFacts> = facts.sources.iter().filter(of_hub).collect();
    let was_listed = |source: &&SourceFacts| matches!(&source.reach, Reach::Asked { way, .. } if way.iter().all(|step| step.error.is_none()));
    if hub.is_empty() {
        return facts.has_token.then(|| {
            Finding::note(
                "token",
                "HF_TOKEN is set, and no model comes from the Hub",
                "Take it away where it is not needed.",
            )
        });
    }
    if !facts.has_token {
        return Some(Finding::ok("token", "no HF_TOKEN is set, which public repositories do not need"));
    }
    let text = if hub.iter().any(was_listed) {
        "HF_TOKEN is set, and the Hub takes it"
    } else {
        "HF_TOKEN is set, and was not tried with success"
    };
    Some(Finding::ok("token", text))
}

#[cfg(test)]
mod tests;
