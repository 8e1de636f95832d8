//! Settings as text to what the server takes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use cpu::{Isa, WeightFormat};
use fetch::{FetchSettings, Fetcher};
use registry::Tag;
use registry::catalog::Offer;
use server::{Defaults, Edge, Keys, Limits, Options};

use crate::edge;
use crate::grammars;
use crate::logs;
use crate::reload::Watched;
use crate::settings::{self, Values, Wrong};
use crate::storage;

/// Memory for keys and values if nothing is said.
const KV_CACHE_MB: u64 = 1024;
const MEGABYTE: u64 = 1 << 20;

/// Fields that change an answer, and fields within those: `IGNORED_REQUEST_FIELDS` cannot name them. A field that only
/// OpenAI's API has is still read there if it is named, and ignored by `/generate`.
const READ_FIELDS: [&str; 16] = [
    "messages",
    "messages[].role",
    "messages[].content",
    "messages[].content[].type",
    "messages[].content[].text",
    "temperature",
    "max_tokens",
    "top_k",
    "stream_options.include_usage",
    "response_format.type",
    "response_format.json_schema",
    "response_format.json_schema.name",
    "response_format.json_schema.schema",
    "response_format.json_schema.strict",
    "grammar.syntax",
    "grammar.definition",
];
/// Fields within which all names are the client's own.
const OPEN_FIELDS: [&str; 3] = ["logit_bias.", "metadata.", "response_format.json_schema.schema."];

/// Everything `serve` needs.
pub(crate) struct Serve {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) options: Options,
    /// The OpenTelemetry collector.
    pub(crate) collector: Option<String>,
    /// Where a successor asks for the listening socket.
    pub(crate) handover: Option<PathBuf>,
    /// A key made up because there was none; shown once.
    pub(crate) made_up_key: Option<String>,
    /// Files to follow.
    pub(crate) watched: Vec<Watched>,
}

/// Checks the settings for `serve`.
pub(crate) fn serve(values: &Values) -> Result<Serve> {
    let (host, port) = (values.host.get()?, values.port.get()?);
    let (keys, edge, watched) = edge::read(values)?;
    let mut options = Options { keys, edge, ..options(values)? };
    let mut made_up_key = None;
    if options.keys.is_empty() {
        check_host_without_keys(values)?;
        let key = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        options.keys = Keys::parse(&key);
        made_up_key = Some(key);
    }
    let (handover, collector) = (values.handover_socket.get()?, values.otel_exporter_otlp_endpoint.get()?);
    Ok(Serve { host, port, options, collector, handover, made_up_key, watched })
}

/// Everything that would stop `serve`.
pub(crate) fn wrong(values: &Values) -> Vec<Wrong> {
    let mut wrong = values.wrong();
    for check in CHECKS {
        let Err(error) = check(values) else { continue };
        let found =
            error.downcast().unwrap_or_else(|error: anyhow::Error| Wrong::in_general(format!("{error:#}")));
        let is_known =
            |known: &Wrong| known.text == found.text || known.key.is_some() && known.key == found.key;
        if !wrong.iter().any(is_known) {
            wrong.push(found);
        }
    }
    wrong
}

/// What is checked beyond the kind of each value; each may find something wrong whatever the others find.
const CHECKS: &[fn(&Values) -> Result<()>] = &[
    |values| {
        values.host.get()?;
        if edge::read(values)?.0.is_empty() { check_host_without_keys(values) } else { Ok(()) }
    },
    |values| ignored_fields(values).map(drop),
    |values| model_aliases(values).map(drop),
    |values| offers(values).map(drop),
    |values| fetcher(values).map(drop),
    |values| isa(values).map(drop),
    |values| options(values).map(drop),
    // With settings that are wrong the storage is not looked at.
    |values| options(values).map_or(Ok(()), |options| storage::check(&options)),
];

fn check_host_without_keys(values: &Values) -> Result<()> {
    let host = values.host.get()?;
    if host.is_loopback() {
        return Ok(());
    }
    let text = format!(
        "INTERNAL_API_KEY must be set to listen on {host}: without a key only a loopback address is allowed"
    );
    Err(Wrong { key: Some(values.internal_api_key.key), text }.into())
}

/// Checks everything but the address and the network's edge: nobody may call.
pub(crate) fn options(values: &Values) -> Result<Options> {
    let workers = values.num_workers.get()?;
    values.device_type.get()?;
    Ok(Options {
        models: models(values, workers)?,
        load_at_start: values.startup_load_enabled.get()?,
        defaults: Defaults {
            temperature: values.default_temperature.get()?,
            top_k: values.default_top_k.get()?,
            max_tokens: values.default_max_tokens.get()?,
        },
        context_overflow: values.context_overflow.get()?,
        ignored_fields: ignored_fields(values)?,
        model_aliases: model_aliases(values)?,
        page: values.page.get()?,
        metrics_address: values.metrics_addr.get()?,
        keys: Keys::default(),
        edge: Edge::default(),
        swap_wait: values.swap_wait.get()?,
        drain_timeout: values.drain_timeout.get()?,
        limits: limits(values)?,
        spans: None,
        log_lines_dropped: logs::dropped(),
        settings: values.to_json(),
    })
}

/// Models and their engines.
fn models(values: &Values, workers: usize) -> Result<serving::Options> {
    Ok(serving::Options {
        storage: values.model_storage_path.get()?,
        default_tag: values.default_model_tag.get()?,
        offers: offers(values)?,
        fetcher: fetcher(values)?,
        restore_last_model: values.restore_last_model.get()?,
        remember_last_model: true,
        format: weight_format(values)?,
        step: values.default_step.get()?,
        isa: isa(values)?,
        threads: threads(values, workers)?,
        workers,
        kv_bytes: kv_bytes(values)?,
        swap_mode: values.swap_mode.get()?,
        grammar: guides::Settings {
            command: grammars::command(),
            slow_reads: values.max_grammar_reads.get()?,
            deadline: values.grammar_timeout.get()?,
            memory_bytes: values.grammar_memory_mb.get()? * MEGABYTE,
        },
        engine: engine_limits(values)?,
    })
}

/// Request fields to ignore, as names or paths.
fn ignored_fields(values: &Values) -> Result<BTreeSet<String>> {
    let setting = &values.ignored_request_fields;
    let is_open = |field: &str| OPEN_FIELDS.iter().any(|open| field.starts_with(open));
    let is_free = |field: &str| !READ_FIELDS.contains(&field) && !is_open(field);
    setting.check_items("fields that the contract does not have", is_free)?;
    let expected = "names of fields, or paths of names with dots between them, as in messages[].id: a list's name ends \
                    with [], and the last name is a field's";
    setting.check_items(expected, is_path)?;
    Ok(setting.get()?.into_iter().collect())
}

/// Whether this is a name, or names with dots between them, each but the last with or without `[]`.
fn is_path(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "[]".contains(c))
    };
    let (outer, last) = text.rsplit_once('.').map_or((None, text), |(outer, last)| (Some(outer), last));
    let mut outer = outer.into_iter().flat_map(|outer| outer.split('.'));
    is_name(last) && outer.all(|name| is_name(name.strip_suffix("[]").unwrap_or(name)))
}

/// Names of what serves beside its tag.
fn model_aliases(values: &Values) -> Result<Vec<String>> {
    let expected = "names of up to 128 letters, digits and signs, without spaces";
    let is_name = |name: &str| name.len() <= 128 && name.bytes().all(|b| b.is_ascii_graphic());
    values.model_aliases.check_items(expected, is_name)?;
    values.model_aliases.get()
}

/// Models that HF_REPO_OWNER and HF_TAGS name.
fn offers(values: &Values) -> Result<Vec<Offer>> {
    let tags = values.hf_tags.get()?;
    let Some(owner) = values.hf_repo_owner.get()? else {
        let refused = || values.hf_tags.refuse("empty where HF_REPO_OWNER is not set");
        return if tags.is_empty() { Ok(Vec::new()) } else { refused() };
    };
    let offer = |name: &str| {
        let source = format!("huggingface:{owner}/{name}").parse().ok()?;
        Some(Offer { tag: Tag::new(name)?, source })
    };
    let expected = "names of repositories of HF_REPO_OWNER, each of them a tag";
    values.hf_tags.check_items(expected, |name| offer(name).is_some())?;
    Ok(tags.iter().filter_map(|name| offer(name)).collect())
}

/// What brings models from elsewhere.
fn fetcher(values: &Values) -> Result<Fetcher> {
    let settings = FetchSettings {
        hf_endpoint: values.hf_endpoint.get()?,
        hf_token: values.hf_token.get()?,
        offline: values.hf_hub_offline.get()?,
        redirect_hosts: values.download_redirect_hosts.get()?,
        s3: settings::of_s3(),
        max_bytes: values.download_max_gb.get()? << 30,
        ..FetchSettings::default()
    };
    Ok(Fetcher::new(settings)?)
}

fn engine_limits(values: &Values) -> Result<engine::Limits> {
    let limits = engine::Limits {
        max_running: values.max_running_requests.get()?,
        max_queued: values.max_queued_requests.get()?,
        max_queued_tokens: values.max_queued_tokens.get()?,
        queue_timeout: values.queue_timeout.get()?,
        request_timeout: values.request_timeout.get()?,
        step_tokens: values.step_tokens.get()?,
        speculation_tokens: values.speculation_tokens.get()?,
        prefix_cache: values.prefix_cache.get()?,
        ..engine::Limits::default()
    };
    Ok(limits.checked())
}

fn limits(values: &Values) -> Result<Limits> {
    Ok(Limits {
        message_chars: values.max_message_chars.get()?,
        connections: values.max_connections.get()?,
        header_timeout: values.header_timeout.get()?,
        body_timeout: values.body_timeout.get()?,
        idle_timeout: values.idle_timeout.get()?,
        unread_for: values.slow_client_timeout.get()?,
        ..Limits::default()
    })
}

fn weight_format(values: &Values) -> Result<WeightFormat> {
    if values.nanochat_dtype.text().eq_ignore_ascii_case("float16") {
        tracing::warn!(
            "NANOCHAT_DTYPE=float16 means bfloat16 here: the model's hidden state overflows float16"
        );
    }
    values.nanochat_dtype.get()
}

/// The instruction set, which this CPU has to have.
fn isa(values: &Values) -> Result<Isa> {
    let name = values.isa.get()?;
    let available = Isa::available();
    match available.iter().find(|isa| isa.name() == name) {
        Some(isa) => Ok(*isa),
        None if name == "auto" => Ok(Isa::detect()),
        None => {
            let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
            values.isa.refuse(&format!("one of auto, {}", names.join(", ")))
        }
    }
}

fn threads(values: &Values, workers: usize) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(values.compute_threads.get()?.unwrap_or((cores / workers).max(1)))
}

fn kv_bytes(values: &Values) -> Result<usize> {
    let half = registry::memory::available().map_or(u64::MAX, |bytes| bytes / MEGABYTE / 2);
    Ok((values.kv_cache_mb.get()?.unwrap_or(KV_CACHE_MB.min(half)) * MEGABYTE) as usize)
}
