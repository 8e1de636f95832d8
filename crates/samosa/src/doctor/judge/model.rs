//! A model: whether it can be loaded, what it takes, how fast it can be at most.

use registry::plan::{MemoryPlan, Shortage, SwapMode, TRANSIENT};
use registry::swap::SwapOrder;

use super::counted;
use crate::doctor::facts::{Hashes, Model, ModelFacts, Speed, Whole};
use crate::doctor::finding::{Finding, rounded, size};

/// Estimates, for the order of costs alone.
const QUEUED: f64 = 1.2;
const SERIAL: f64 = 1.01;
/// Bytes of a token by which a format is no slower than int8.
const AS_GOOD: f64 = 1.1;

/// What is to be said of a model. `format_origin` says who chose how weights are held.
pub(crate) fn model(facts: &ModelFacts, format_origin: &str, speed: Option<&Speed>) -> Vec<Finding> {
    let tag = &facts.tag;
    match &facts.model {
        Model::Nothing => {
            let advice = "The finding `no_model` of the storage has the reason; `samosa doctor TAG` looks at one model.";
            vec![Finding::note("model", "a start has no model to load", advice)]
        }
        Model::Broken(why) => {
            let text = format!("{tag} cannot be loaded: {why}");
            let advice = "Mend or replace it; `samosa models list` shows what else there is, `samosa models verify` reads all of one.";
            let found = if facts.is_first {
                Finding::wrong("model", text, format!("{advice} A server that starts now has no model."))
            } else {
                Finding::wrong("model", text, advice)
            };
            vec![found.with("tag", tag.as_str())]
        }
        Model::Absent(source) => {
            let text = format!("{tag} is not here; it comes from {source}");
            let advice = format!(
                "`samosa pull {tag}` fetches it now; otherwise the start or the swap that wants it does."
            );
            vec![Finding::note("model", text, advice).with("tag", tag.as_str())]
        }
        Model::Whole(whole) => of_whole(tag, whole, (format_origin, speed)),
    }
}

fn of_whole(tag: &str, whole: &Whole, (format_origin, speed): (&str, Option<&Speed>)) -> Vec<Finding> {
    let mut found = vec![place(tag, whole), sizes(whole)];
    found.extend(whole.notes.iter().map(|note| {
        let advice =
            "Check the first answers; [model.overrides] in models.toml says otherwise where it must.";
        Finding::warning("assumed", note.clone(), advice)
    }));
    found.push(format(whole, format_origin));
    found.push(hashes(tag, &whole.hashes));
    match whole.plan {
        Ok(plan) => {
            found.push(memory(whole, plan));
            found.push(chats(whole));
            found.push(swap(whole));
        }
        Err(shortage) => found.push(too_large(shortage)),
    }
    found.extend(speed.map(|speed| one_stream(whole, speed)));
    found.extend(
        speed.filter(|_| whole.format == "int8" || whole.format == "int4").map(|speed| streams(whole, speed)),
    );
    found
}

fn place(tag: &str, whole: &Whole) -> Finding {
    let place = match whole.path.as_str() {
        _ if whole.is_storage => "the storage itself".to_owned(),
        path => format!("in {path} of the storage"),
    };
    let from = match whole.source.as_str() {
        "builtin" => "built into this program".to_owned(),
        "local" if whole.path.is_empty() && !whole.is_storage => "where models.toml says".to_owned(),
        "local" => format!("{place}, put there by hand"),
        source => format!("{place}, fetched from {source}"),
    };
    let step = whole.step.map_or_else(String::new, |step| format!(", step {step}"));
    let names: Vec<&str> = whole.files.keys().map(String::as_str).take(4).collect();
    let more = if whole.files.len() > names.len() { ", …" } else { "" };
    let bytes: u64 = whole.files.values().sum();
    Finding::ok("model", format!("{tag}{step}: {from}; {}{more}, {}", names.join(", "), size(bytes)))
        .with("tag", tag)
        .with("source", whole.source.as_str())
        .with("step", whole.step)
        .with("file_bytes", bytes)
}

fn sizes(whole: &Whole) -> Finding {
    let Whole { generation, layers, width, sequence_len, .. } = whole;
    let millions = whole.parameters as f64 / 1e6;
    let text = format!(
        "generation {generation}: {} million parameters, {layers} layers of {width}, a context of {sequence_len} tokens",
        rounded(millions)
    );
    Finding::ok("sizes", text)
        .with("generation", *generation)
        .with("parameters", whole.parameters)
        .with("sequence_len", *sequence_len)
}

fn format(whole: &Whole, origin: &str) -> Finding {
    let Whole { format, token_bytes, token_bytes_int8, .. } = whole;
    let text = format!("weights are held as {format} ({origin})");
    let times = *token_bytes as f64 / (*token_bytes_int8).max(1) as f64;
    let found = if times > AS_GOOD {
        let advice = "NANOCHAT_DTYPE=int8 answers nearly the same, and reads least but for int4.";
        let cost = format!(
            "NANOCHAT_DTYPE={format}: {} times as many bytes are read for each token as in int8.",
            rounded(times)
        );
        Finding::note("format", text, advice).costing(times, cost)
    } else {
        Finding::ok("format", text)
    };
    found.with("format", *format).with("token_bytes", *token_bytes)
}

fn hashes(tag: &str, hashes: &Hashes) -> Finding {
    match hashes {
        Hashes::Known(identity) => {
            Finding::ok("identity", format!("identity {identity:.12}…")).with("identity", identity.as_str())
        }
        Hashes::Pending(bytes) => Finding::note(
            "identity",
            format!("its files have not been hashed; the next load reads {} for that", size(*bytes)),
            format!(
                "`samosa models show {tag}` does it now, and it is remembered if the storage can be written."
            ),
        ),
        Hashes::Differ(what) => {
            Finding::wrong("identity", what.clone(), "Fetch it again, or correct the hash in models.toml.")
        }
    }
}

fn memory(whole: &Whole, plan: MemoryPlan) -> Finding {
    let weights = whole.needs.weights;
    let text = format!(
        "it takes {} for weights, {} for keys and values, and {} while it loads: {} in all",
        size(weights),
        size(plan.kv),
        size(TRANSIENT),
        size(weights + plan.kv + TRANSIENT)
    );
    let found = if plan.kv < whole.needs.kv {
        let advice = format!(
            "Keys and values should have {}; set KV_CACHE_MB to what they get, so that it is no surprise, or free memory.",
            size(whole.needs.kv)
        );
        Finding::warning("memory_plan", text, advice)
    } else {
        Finding::ok("memory_plan", text)
    };
    found
        .with("weights_bytes", weights)
        .with("kv_bytes", plan.kv)
        .with("kv_wanted_bytes", whole.needs.kv)
        .with("loading_bytes", TRANSIENT)
}

fn too_large(Shortage { needed, available }: Shortage) -> Finding {
    let text =
        format!("it does not fit: it needs {} at least, and {} are free", size(needed), size(available));
    let advice =
        "Free memory or raise the limit, or set NANOCHAT_DTYPE=int4, which takes about half of int8.";
    Finding::wrong("memory_plan", text, advice)
        .with("needed_bytes", needed)
        .with("available_bytes", available)
}

fn chats(whole: &Whole) -> Finding {
    let Whole { chats, max_running, sequence_len, .. } = whole;
    let text = format!("{} as long as the context ({sequence_len} tokens) at once", counted(*chats, "chat"));
    let found = if chats < max_running {
        let advice = format!(
            "Up to {max_running} requests may run at once (MAX_RUNNING_REQUESTS), shorter ones as many as fit; a larger KV_CACHE_MB \
             keeps more of them from waiting."
        );
        let cost = format!(
            "Keys and values have room for {} of full length, and up to {max_running} requests may run: the others wait in the \
             queue.",
            counted(*chats, "chat")
        );
        Finding::note("chats", text, advice).costing(QUEUED, cost)
    } else {
        Finding::ok("chats", text)
    };
    found.with("chats", *chats).with("max_running", *max_running)
}

fn swap(whole: &Whole) -> Finding {
    match (whole.swap, whole.wish) {
        (Ok(MemoryPlan { mode: SwapOrder::Overlap, .. }), _) => {
            Finding::ok("swap", "a swap to a model of this size is loaded beside the one that serves").with("mode", "overlap")
        }
        (Ok(MemoryPlan { mode: SwapOrder::Serial, .. }), SwapMode::Serial) => {
            Finding::ok("swap", "a swap takes the place of the model that serves, as SWAP_MODE says").with("mode", "serial")
        }
        (Ok(MemoryPlan { mode: SwapOrder::Serial, .. }), _) => Finding::note(
            "swap",
            "two models of this size do not fit, so a swap takes the place of the one that serves",
            "Requests wait for as long as the longest answer takes, plus the load; a smaller KV_CACHE_MB may make room for both.",
        )
        .with("mode", "serial")
        .costing(SERIAL, "Two models of this size do not fit at once: while one is swapped for another, requests wait."),
        (Err(Shortage { needed, available }), _) => Finding::warning(
            "swap",
            format!(
                "a swap to a model of this size will fail: it needs {} beside the one that serves, and {} would be free",
                size(needed),
                size(available)
            ),
            "Set SWAP_MODE=auto, or free memory.",
        ),
    }
}

fn one_stream(whole: &Whole, speed: &Speed) -> Finding {
    let rate = speed.read_model / whole.token_bytes.max(1) as f64;
    let text = format!(
        "one stream: at most {} tokens/s, since each token reads {} at {} GB/s",
        rounded(rate),
        size(whole.token_bytes),
        rounded(speed.read_model / 1e9)
    );
    Finding::ok("one_stream", text)
        .with("tokens_per_second", rate)
        .with("token_bytes", whole.token_bytes)
        .with("bytes_per_second", speed.read_model)
}

fn streams(whole: &Whole, speed: &Speed) -> Finding {
    let rate = speed.int8 / whole.token_operations.max(1) as f64;
    let text = format!("many streams and prompts: at most {} tokens/s in all, by arithmetic", rounded(rate));
    Finding::ok("many_streams", text)
        .with("tokens_per_second", rate)
        .with("token_operations", whole.token_operations)
}

#[cfg(test)]
mod tests;
