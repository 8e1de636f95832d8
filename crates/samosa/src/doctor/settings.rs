//! The settings: what is set, what stops a start, whether its addresses are free, what is risky, what contradicts what.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use client::http::{ServerUrl, Trust, probe};
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use server::edge::{Standing, Validity};

use super::Context;
use super::finding::{Finding, counted};
use crate::serve::OTHER_FILES;
use crate::settings::{Setting, Values};
use crate::{edge, options};

/// How long a server that listens on our address may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything that stops `serve`. The storage has findings of its own.
pub(super) fn wrong(context: &Context, found: &mut Vec<Finding>) {
    let advice = "`samosa config --explain NAME` says what it may be, and who set it.";
    let storage = context.values.model_storage_path.key;
    let wrong = options::wrong(context.values).into_iter().filter(|wrong| wrong.key != Some(storage));
    found.extend(wrong.map(|wrong| Finding::wrong("setting", wrong.text, advice)));
}

pub(super) fn set(context: &Context, found: &mut Vec<Finding>) {
    let set: Vec<&Setting> = context.values.all().filter(|setting| !setting.is_default()).collect();
    if set.is_empty() {
        found.push(Finding::ok("set", "everything is at its default"));
    }
    found.extend(set.into_iter().map(|setting| {
        let (name, origin) = (setting.variable(), setting.set_by().name());
        Finding::ok("set", format!("{name} is {} ({origin})", setting.shown()))
            .with("setting", name)
            .with("origin", origin)
    }));
}

/// The address to listen on, if it is known.
fn address(values: &Values) -> Option<SocketAddr> {
    Some(SocketAddr::new(values.host.get().ok()?, values.port.get().ok()?))
}

pub(super) fn addresses(context: &Context, found: &mut Vec<Finding>) {
    let values = context.values;
    let (own, metrics) = (address(values), values.metrics_addr.get().ok().flatten());
    if let Some(own) = own.filter(|own| own.port() != 0) {
        found.push(listener("port", own, values, "PORT").with("address", own.to_string()));
    }
    match metrics {
        Some(metrics) if Some(metrics) == own => {
            let text = format!("METRICS_ADDR is {metrics}, where the service itself listens");
            let advice = "Give it another port, or none to have both on one.";
            found.push(Finding::wrong("metrics_port", text, advice));
        }
        Some(metrics) if metrics.port() != 0 => {
            found.push(listener("metrics_port", metrics, values, "METRICS_ADDR"));
        }
        _ => {}
    }
}

/// Whether an address that `setting` has can be listened on: it is tried for a moment, and no connection is taken.
fn listener(id: &'static str, address: SocketAddr, values: &Values, setting: &str) -> Finding {
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok(id, format!("{address} is free"));
    };
    let why = match error.kind() {
        ErrorKind::AddrInUse => return taken(id, address, values, setting),
        ErrorKind::PermissionDenied => "this user may not".to_owned(),
        ErrorKind::AddrNotAvailable => "no interface of this machine has it".to_owned(),
        _ => error.to_string(),
    };
    let advice =
        format!("Set {setting} to another one; ports below 1024 are for root and CAP_NET_BIND_SERVICE.");
    Finding::wrong(id, format!("nobody can listen on {address} here: {why}"), advice)
}

fn taken(id: &'static str, address: SocketAddr, values: &Values, setting: &str) -> Finding {
    let Some(model) = ["http", "https"].into_iter().find_map(|scheme| ask(address, scheme).ok()) else {
        let port = address.port();
        let advice =
            format!("`ss -ltnp 'sport = :{port}'` names it; end it, or set {setting} to something else.");
        return Finding::wrong(id, format!("another program listens on {address}"), advice);
    };
    let serves = model.map_or_else(|| "without a model".to_owned(), |tag| format!("which serves {tag}"));
    let advice = if values.handover_socket.is_default() {
        "What is free above is free beside it; another one needs another port, or HANDOVER_SOCKET to take over."
    } else {
        "A start takes over from it; what is free above is free beside it."
    };
    Finding::note(id, format!("a samosa server listens on {address} already, {serves}"), advice)
}

/// The model of the server that listens there; an error if that is none of ours.
fn ask(address: SocketAddr, scheme: &str) -> Result<Option<String>> {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("{scheme}://{}", SocketAddr::new(host, address.port()));
    let url = ServerUrl::parse(&url).map_err(anyhow::Error::msg)?;
    // Nothing that is said is secret, and certificates seldom name an address.
    let (_, body) = probe(&url, &Trust::Everyone, "/health", PATIENCE)?;
    let health: Value = serde_json::from_slice(&body)?;
    health.get("total_workers").context("another program")?;
    Ok(health["current_model"].as_str().map(str::to_owned))
}

/// Who may do what on an address that others reach.
pub(super) fn callers(context: &Context, found: &mut Vec<Finding>) {
    let values = context.values;
    if address(values).is_none_or(|address| address.ip().is_loopback()) {
        return;
    }
    if values.tls_cert.is_default() {
        let advice = "Keys and chats can be read on the way: set TLS_CERT and TLS_KEY, unless a proxy before it encrypts.";
        let text = "others can reach the address, and it speaks plain HTTP";
        found.push(Finding::note("plain_http", text, advice));
    }
    if edge::read(values).is_ok_and(|(keys, edge, _)| !keys.is_empty() && edge.admin_keys.is_empty()) {
        let advice = "Every caller may swap the model: set ADMIN_API_KEY to keep that to a few.";
        let text = "others can reach the address, and no admin key is set";
        found.push(Finding::warning("admin_keys", text, advice));
    }
}

pub(super) fn certificate(context: &Context, found: &mut Vec<Finding>) {
    let Ok(Some(path)) = context.values.tls_cert.get() else { return };
    let validity = std::fs::read(path).ok().and_then(|pem| Validity::of_pem(&pem));
    let advice = "Put a new one in the place of the file; a running server reads it again by itself.";
    let in_days = |days: i64| counted(usize::try_from(days).unwrap_or(0), "day");
    found.push(match validity.map(|validity| validity.standing()) {
        None => {
            let advice = "Look with `openssl x509 -enddate -in FILE`.";
            Finding::note("certificate", "when the certificate ends cannot be told", advice)
        }
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
    });
}

/// Nothing is asked at the socket: the running process would give its own away.
pub(super) fn handover(context: &Context, found: &mut Vec<Finding>) {
    let Ok(Some(path)) = context.values.handover_socket.get() else { return };
    let shown = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    found.push(if path.symlink_metadata().is_ok_and(|metadata| !metadata.file_type().is_socket()) {
        let text = format!("HANDOVER_SOCKET is {shown}, which is there and is no socket");
        let advice = "A start removes it to put a socket in its place: name another path.";
        Finding::warning("handover", text, advice)
    } else if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        Finding::ok("handover", format!("a successor can take over at {shown}"))
    } else {
        let text =
            format!("HANDOVER_SOCKET is {shown}, in a directory that is not there or cannot be written");
        let advice = "Make the directory (RuntimeDirectory= in a unit), or no successor can take over.";
        Finding::warning("handover", text, advice)
    });
}

pub(super) fn open_files(context: &Context, found: &mut Vec<Finding>) {
    let (Ok(connections), Some(most)) =
        (context.values.max_connections.get(), getrlimit(Resource::Nofile).maximum)
    else {
        return;
    };
    let wanted = connections as u64 + OTHER_FILES;
    if wanted > most {
        let text = format!("MAX_CONNECTIONS is {connections}, and the process may have {most} files open");
        let advice = format!("Raise the limit to {wanted} (LimitNOFILE= in a unit, ulimit -Hn).");
        let finding = Finding::warning("files", text, advice);
        found.push(finding.with("max_files", most).with("max_connections", connections));
    }
}

/// Settings that cost speed, and those that say nothing because of another.
pub(super) fn contradictions(context: &Context, found: &mut Vec<Finding>) {
    let Some(options) = &context.options else { return };
    let (values, engine) = (context.values, &options.limits.engine);
    let loads_named = !values.default_model_tag.is_default();
    let fetches = !values.hf_tags.is_default();
    let cases = [
        (
            !engine.prefix_cache,
            "prefix_cache",
            "the prefix cache is off: every turn of a chat computes the whole chat again before it answers",
            "Leave PREFIX_CACHE at true; callers with different keys share nothing anyway.",
        ),
        (
            engine.speculation_tokens == 0,
            "speculation",
            "speculation is off: where a text repeats itself, tokens come one by one",
            "Leave SPECULATION_TOKENS at its default; answers stay the same.",
        ),
        (
            values.log_level.get().is_ok_and(|level| level > tracing::Level::INFO),
            "log_level",
            "LOG_LEVEL has many lines written for each request",
            "Set LOG_LEVEL back to info when you have seen enough.",
        ),
        (
            !options.load_at_start && loads_named,
            "not_loaded",
            "DEFAULT_MODEL_TAG is set, and STARTUP_LOAD_ENABLED is false",
            "The server waits for a swap before it answers anything; take one of the two away.",
        ),
        (
            options.restore_last_model && options.storage.is_none(),
            "nothing_to_restore",
            "RESTORE_LAST_MODEL is true, and MODEL_STORAGE_PATH is not set",
            "What served last is remembered in the storage: set MODEL_STORAGE_PATH.",
        ),
        (
            options.restore_last_model && loads_named,
            "restored_first",
            "RESTORE_LAST_MODEL outranks DEFAULT_MODEL_TAG",
            "A start loads the model that served last, and the named one only if that fails.",
        ),
        (
            fetches && values.hf_hub_offline.get().unwrap_or_default(),
            "hub_is_off",
            "HF_TAGS offers models, and HF_HUB_OFFLINE is true",
            "Nothing is fetched from the Hub: take one of the two away.",
        ),
        (
            fetches && options.storage.is_none(),
            "nowhere_to_fetch",
            "HF_TAGS offers models, and MODEL_STORAGE_PATH is not set",
            "What is fetched goes to the storage: set MODEL_STORAGE_PATH.",
        ),
        (
            engine.queue_timeout >= engine.request_timeout,
            "queue_timeout",
            "QUEUE_TIMEOUT is not below REQUEST_TIMEOUT",
            "A request that waited that long would have no time left to be answered.",
        ),
    ];
    let cases = cases.into_iter().filter(|(holds, ..)| *holds);
    found.extend(cases.map(|(_, id, text, advice)| Finding::note(id, text, advice)));
}
