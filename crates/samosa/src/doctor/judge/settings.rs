//! The settings: what is set, what stops a start, what is risky, what contradicts what.

use std::net::SocketAddr;

use server::edge::Standing;

use crate::doctor::facts::{Handover, Port, SettingsFacts};
use crate::doctor::finding::Finding;

/// Files that a server has open beside connections.
const OTHER_FILES: u64 = 256;

/// Estimates, for the order of costs alone.
const NO_PREFIX_CACHE: f64 = 1.6;
const NO_SPECULATION: f64 = 1.15;
const MANY_LOGS: f64 = 1.1;

/// What is to be said of settings.
pub(crate) fn settings(facts: &SettingsFacts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts
        .wrong
        .iter()
        .map(|wrong| {
            Finding::wrong(
                "setting",
                wrong.clone(),
                "`samosa config --explain NAME` says what it may be, and who set it.",
            )
        })
        .collect();
    found.extend(what_is_set(facts));
    found.extend(address(facts));
    found.extend(metrics(facts));
    found.extend(callers(facts));
    found.extend(certificate(facts));
    found.extend(handover(facts));
    found.extend(files(facts));
    found.extend(slower(facts));
    found.extend(without_effect(facts));
    found
}

fn what_is_set(facts: &SettingsFacts) -> Vec<Finding> {
    if facts.set.is_empty() {
        return vec![Finding::ok("set", "everything is at its default")];
    }
    let one = |(variable, value, origin): &(String, String, &'static str)| {
        Finding::ok("set", format!("{variable} is {value} ({origin})"))
            .with("setting", variable.as_str())
            .with("origin", *origin)
    };
    facts.set.iter().map(one).collect()
}

fn address(facts: &SettingsFacts) -> Option<Finding> {
    let address = facts.address?;
    Some(
        listener("port", address, facts.port.as_ref()?, ("PORT", facts.handover.is_some()))
            .with("address", address.to_string()),
    )
}

fn metrics(facts: &SettingsFacts) -> Option<Finding> {
    let address: SocketAddr = facts.value("metrics_addr").parse().ok()?;
    if Some(address) == facts.address {
        let text = format!("METRICS_ADDR is {address}, where the service itself listens");
        return Some(Finding::wrong(
            "metrics_port",
            text,
            "Give it another port, or none to have both on one.",
        ));
    }
    Some(listener(
        "metrics_port",
        address,
        facts.metrics_port.as_ref()?,
        ("METRICS_ADDR", facts.handover.is_some()),
    ))
}

/// An address that a start listens on; `name` is the setting that moves it.
fn listener(id: &'static str, address: SocketAddr, port: &Port, (name, takes_over): (&str, bool)) -> Finding {
    match port {
        Port::Free => Finding::ok(id, format!("{address} is free")),
        Port::Ours(model) => {
            let serves = model
                .as_ref()
                .map_or_else(|| "without a model".to_owned(), |tag| format!("which serves {tag}"));
            let text = format!("a samosa server listens on {address} already, {serves}");
            let advice = if takes_over {
                "A start takes over from it; what is free above is free beside it."
            } else {
                "What is free above is free beside it; another one needs another port, or HANDOVER_SOCKET to take over."
            };
            Finding::note(id, text, advice)
        }
        Port::Taken => {
            let port = address.port();
            let advice =
                format!("`ss -ltnp 'sport = :{port}'` names it; end it, or set {name} to something else.");
            Finding::wrong(id, format!("another program listens on {address}"), advice)
        }
        Port::Unusable(why) => {
            let advice =
                format!("Set {name} to another one; ports below 1024 are for root and CAP_NET_BIND_SERVICE.");
            Finding::wrong(id, format!("nobody can listen on {address} here: {why}"), advice)
        }
    }
}

/// Who may do what on an address that others reach.
fn callers(facts: &SettingsFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    if facts.address.is_none_or(|address| address.ip().is_loopback()) {
        return found;
    }
    if !facts.has_certificate {
        found.push(Finding::note(
            "plain_http",
            "others can reach the address, and it speaks plain HTTP",
            "Keys and chats can be read on the way: set TLS_CERT and TLS_KEY, unless a proxy before it encrypts.",
        ));
    }
    if facts.has_keys && !facts.has_admin_keys {
        found.push(Finding::warning(
            "admin_keys",
            "others can reach the address, and no admin key is set",
            "Every caller may swap the model: set ADMIN_API_KEY to keep that to a few.",
        ));
    }
    found
}

fn certificate(facts: &SettingsFacts) -> Option<Finding> {
    if !facts.has_certificate {
        return None;
    }
    let advice = "Put a new one in the place of the file; a running server reads it again by itself.";
    let in_days = |days: i64| format!("{days} {}", if days == 1 { "day" } else { "days" });
    Some(match facts.standing {
        None => Finding::note(
            "certificate",
            "when the certificate ends cannot be told",
            "Look with `openssl x509 -enddate -in FILE`.",
        ),
        Some(Standing::Ended(days)) => {
            Finding::wrong("certificate", "the certificate has ended", advice).with("days_left", -days)
        }
        Some(Standing::NotYetValid(days)) => {
            let text = format!("the certificate is not valid before {} have passed", in_days(days));
            Finding::wrong("certificate", text, "Look at the clock of this machine, or wait.")
        }
        Some(Standing::EndsSoon(days)) => {
            let text = format!("the certificate ends in {}", in_days(days));
            Finding::warning("certificate", text, advice).with("days_left", days)
        }
        Some(Standing::Valid(days)) => {
            Finding::ok("certificate", format!("the certificate is good for {}", in_days(days)))
                .with("days_left", days)
        }
    })
}

fn handover(facts: &SettingsFacts) -> Option<Finding> {
    let path = facts.value("handover_socket");
    Some(match facts.handover? {
        Handover::Usable => Finding::ok("handover", format!("a successor can take over at {path}")),
        Handover::Occupied => Finding::warning(
            "handover",
            format!("HANDOVER_SOCKET is {path}, which is there and is no socket"),
            "A start removes it to put a socket in its place: name another path.",
        ),
        Handover::NotWritable => Finding::warning(
            "handover",
            format!("HANDOVER_SOCKET is {path}, in a directory that is not there or cannot be written"),
            "Make the directory (RuntimeDirectory= in a unit), or no successor can take over.",
        ),
    })
}

fn files(facts: &SettingsFacts) -> Option<Finding> {
    let connections = facts.number("max_connections");
    let most = facts.max_files.filter(|most| connections + OTHER_FILES > *most)?;
    let text = format!("MAX_CONNECTIONS is {connections}, and the process may have {most} files open");
    let advice =
        format!("Raise the limit to {} (LimitNOFILE= in a unit, ulimit -Hn).", connections + OTHER_FILES);
    Some(Finding::warning("files", text, advice).with("max_files", most).with("max_connections", connections))
}

fn slower(facts: &SettingsFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    if !facts.is_on("prefix_cache") {
        let cost =
            "PREFIX_CACHE is off: every turn of a chat computes the whole chat again before it answers.";
        let advice = "Leave PREFIX_CACHE at true; callers with different keys share nothing anyway.";
        found.push(
            Finding::note("prefix_cache", "the prefix cache is off", advice).costing(NO_PREFIX_CACHE, cost),
        );
    }
    if facts.number("speculation_tokens") == 0 {
        let cost = "SPECULATION_TOKENS is 0: where a text repeats itself, tokens come one by one.";
        let advice = "Leave SPECULATION_TOKENS at its default; answers stay the same.";
        found.push(Finding::note("speculation", "speculation is off", advice).costing(NO_SPECULATION, cost));
    }
    let level = facts.value("log_level");
    if ["debug", "trace"].iter().any(|word| word.eq_ignore_ascii_case(level)) {
        let cost = format!("LOG_LEVEL={level} writes many lines for each request.");
        let advice = "Set LOG_LEVEL back to info when you have seen enough.";
        found.push(
            Finding::warning("log_level", format!("LOG_LEVEL is {level}"), advice).costing(MANY_LOGS, cost),
        );
    }
    found
}

/// Settings that say nothing because of another.
fn without_effect(facts: &SettingsFacts) -> Vec<Finding> {
    let idle = |id, text: &str, advice: &str| Finding::note(id, text, advice);
    let storage = !facts.value("model_storage_path").is_empty();
    let loads = facts.is_on("startup_load_enabled");
    let cases = [
        (
            !loads && facts.is_set("default_model_tag"),
            idle(
                "not_loaded",
                "DEFAULT_MODEL_TAG is set, and STARTUP_LOAD_ENABLED is false",
                "The server waits for a swap before it answers anything; take one of the two away.",
            ),
        ),
        (
            facts.is_on("restore_last_model") && !storage,
            idle(
                "nothing_to_restore",
                "RESTORE_LAST_MODEL is true, and MODEL_STORAGE_PATH is not set",
                "What served last is remembered in the storage: set MODEL_STORAGE_PATH.",
            ),
        ),
        (
            facts.is_on("restore_last_model") && facts.is_set("default_model_tag"),
            idle(
                "restored_first",
                "RESTORE_LAST_MODEL outranks DEFAULT_MODEL_TAG",
                "A start loads the model that served last, and the named one only if that fails.",
            ),
        ),
        (
            facts.is_set("hf_tags") && facts.is_on("hf_hub_offline"),
            idle(
                "hub_is_off",
                "HF_TAGS offers models, and HF_HUB_OFFLINE is true",
                "Nothing is fetched from the Hub: take one of the two away.",
            ),
        ),
        (
            facts.is_set("hf_tags") && !storage,
            idle(
                "nowhere_to_fetch",
                "HF_TAGS offers models, and MODEL_STORAGE_PATH is not set",
                "What is fetched goes to the storage: set MODEL_STORAGE_PATH.",
            ),
        ),
        (
            facts.number("queue_timeout") >= facts.number("request_timeout"),
            idle(
                "queue_timeout",
                "QUEUE_TIMEOUT is not below REQUEST_TIMEOUT",
                "A request that waited that long would have no time left to be answered.",
            ),
        ),
    ];
    cases.into_iter().filter(|(holds, _)| *holds).map(|(_, finding)| finding).collect()
}

#[cfg(test)]
mod tests;
