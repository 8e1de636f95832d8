//! Settings as text to what the server takes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use cpu::{Isa, WeightFormat};
use fetch::{FetchSettings, Fetcher};
use registry::catalog::Offer;
use registry::plan::Wish;
use registry::{LoadOptions, Tag};
use server::{ContextOverflow, Defaults, Edge, Keys, Limits, Options};

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
    let (host, port) = (host(values)?, values.number("port")? as u16);
    let (keys, edge, watched) = edge::read(values)?;
    let mut options = Options { keys, edge, ..options(values)? };
    let mut made_up_key = None;
    if options.keys.is_empty() {
        check_host_without_keys(host)?;
        let key = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        options.keys = Keys::parse(&key);
        made_up_key = Some(key);
    }
    let handover = values.text("handover_socket").map(PathBuf::from);
    let collector = values.text("otel_exporter_otlp_endpoint").map(str::to_owned);
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
    |values| logs::chosen(values).map(drop),
    |values| {
        let host = host(values)?;
        if edge::read(values)?.0.is_empty() { check_host_without_keys(host) } else { Ok(()) }
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

fn check_host_without_keys(host: IpAddr) -> Result<()> {
    if host.is_loopback() {
        return Ok(());
    }
    let text = format!(
        "INTERNAL_API_KEY must be set to listen on {host}: without a key only a loopback address is allowed"
    );
    Err(Wrong { key: Some("internal_api_key"), text }.into())
}

/// The address to listen on.
fn host(values: &Values) -> Result<IpAddr> {
    values.check("host")?;
    // What is no address is localhost.
    Ok(values.get("host").0.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

/// Where `/metrics` is, if not where everything else is.
fn metrics_address(values: &Values) -> Result<Option<SocketAddr>> {
    values.check("metrics_addr")?;
    Ok(values.text("metrics_addr").and_then(|text| text.parse().ok()))
}

/// Checks everything but the address and the network's edge: nobody may call.
pub(crate) fn options(values: &Values) -> Result<Options> {
    let workers = values.number("num_workers")? as usize;
    values.check("default_model_tag")?;
    values.check("device_type")?;
    let overflow = [("drop", ContextOverflow::DropOldest), ("error", ContextOverflow::Error)];
    Ok(Options {
        models: models(values, workers)?,
        load_at_start: values.boolean("startup_load_enabled")?,
        defaults: Defaults {
            temperature: values.decimal("default_temperature")?,
            top_k: values.number("default_top_k")?,
            max_tokens: values.number("default_max_tokens")?,
        },
        context_overflow: values.choice("context_overflow", &overflow)?,
        ignored_fields: ignored_fields(values)?,
        model_aliases: model_aliases(values)?,
        page: values.boolean("page")?,
        metrics_address: metrics_address(values)?,
        keys: Keys::default(),
        edge: Edge::default(),
        swap_wait: Duration::from_secs(values.number("swap_wait")?),
        drain_timeout: Duration::from_secs(values.number("drain_timeout")?),
        limits: limits(values)?,
        spans: None,
        log_lines_dropped: logs::dropped(),
        settings: values.to_json(),
    })
}

/// Models and their engines.
fn models(values: &Values, workers: usize) -> Result<serving::Options> {
    Ok(serving::Options {
        storage: values.text("model_storage_path").map(PathBuf::from),
        default_tag: values.text("default_model_tag").and_then(Tag::new),
        offers: offers(values)?,
        fetcher: fetcher(values)?,
        restore_last_model: values.boolean("restore_last_model")?,
        remember_last_model: true,
        load: LoadOptions { format: weight_format(values)?, step: values.whole("default_step")? },
        isa: isa(values)?,
        threads: threads(values, workers)?,
        workers,
        kv_bytes: kv_bytes(values)?,
        swap_mode: values.choice("swap_mode", &SWAP_MODES)?,
        grammar: guides::Settings {
            command: grammars::command(),
            slow_reads: values.number("max_grammar_reads")? as usize,
            deadline: seconds(values, "grammar_timeout")?,
            memory_bytes: values.number("grammar_memory_mb")? * MEGABYTE,
        },
        engine: engine_limits(values)?,
    })
}

/// Request fields to ignore, as names or paths.
fn ignored_fields(values: &Values) -> Result<BTreeSet<String>> {
    const KEY: &str = "ignored_request_fields";
    let is_open = |field: &str| OPEN_FIELDS.iter().any(|open| field.starts_with(open));
    let is_free = |field: &str| !READ_FIELDS.contains(&field) && !is_open(field);
    values.check_items(KEY, "fields that the contract does not have", is_free)?;
    let expected = "names of fields, or paths of names with dots between them, as in messages[].id: a list's name ends \
                    with [], and the last name is a field's";
    values.check_items(KEY, expected, is_path)?;
    Ok(values.list(KEY).map(str::to_owned).collect())
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
    values.check_items("model_aliases", expected, is_name)?;
    Ok(values.list("model_aliases").map(str::to_owned).collect())
}

/// Models that HF_REPO_OWNER and HF_TAGS name.
fn offers(values: &Values) -> Result<Vec<Offer>> {
    let Some(owner) = values.text("hf_repo_owner") else {
        return match values.text("hf_tags") {
            None => Ok(Vec::new()),
            Some(_) => values.refuse("hf_tags", "empty where HF_REPO_OWNER is not set"),
        };
    };
    let offer = |name: &str| {
        let source = format!("huggingface:{owner}/{name}").parse().ok()?;
        Some(Offer { tag: Tag::new(name)?, source })
    };
    let expected = "names of repositories of HF_REPO_OWNER, each of them a tag";
    values.check_items("hf_tags", expected, |name| offer(name).is_some())?;
    Ok(values.list("hf_tags").filter_map(offer).collect())
}

/// What brings models from elsewhere.
fn fetcher(values: &Values) -> Result<Fetcher> {
    values.check("hf_endpoint")?;
    let settings = FetchSettings {
        hf_endpoint: values.get("hf_endpoint").0.to_owned(),
        hf_token: values.text("hf_token").map(str::to_owned),
        offline: values.boolean("hf_hub_offline")?,
        redirect_hosts: values.list("download_redirect_hosts").map(str::to_owned).collect(),
        s3: settings::environment_of_s3(),
        max_bytes: values.number("download_max_gb")? << 30,
        ..FetchSettings::default()
    };
    Ok(Fetcher::new(settings)?)
}

const SWAP_MODES: [(&str, Wish); 3] =
    [("auto", Wish::Auto), ("overlap", Wish::Overlap), ("serial", Wish::Serial)];

fn engine_limits(values: &Values) -> Result<engine::Limits> {
    let limits = engine::Limits {
        max_running: values.number("max_running_requests")? as usize,
        max_queued: values.number("max_queued_requests")? as usize,
        max_queued_tokens: values.number("max_queued_tokens")? as usize,
        queue_timeout: seconds(values, "queue_timeout")?,
        request_timeout: seconds(values, "request_timeout")?,
        step_tokens: values.number("step_tokens")? as usize,
        speculation_tokens: values.number("speculation_tokens")? as usize,
        prefix_cache: values.boolean("prefix_cache")?,
        ..engine::Limits::default()
    };
    Ok(limits.checked())
}

fn limits(values: &Values) -> Result<Limits> {
    Ok(Limits {
        message_chars: values.number("max_message_chars")? as usize,
        connections: values.number("max_connections")? as usize,
        header_timeout: seconds(values, "header_timeout")?,
        body_timeout: seconds(values, "body_timeout")?,
        idle_timeout: seconds(values, "idle_timeout")?,
        unread_for: seconds(values, "slow_client_timeout")?,
        ..Limits::default()
    })
}

fn seconds(values: &Values, key: &str) -> Result<Duration> {
    Ok(Duration::from_secs(values.number(key)?))
}

fn weight_format(values: &Values) -> Result<WeightFormat> {
    let choices = [
        ("auto", WeightFormat::Int8),
        ("float32", WeightFormat::F32),
        ("bfloat16", WeightFormat::Bf16),
        ("float16", WeightFormat::Bf16),
        ("int8", WeightFormat::Int8),
        ("int4", WeightFormat::Int4),
    ];
    if values.get("nanochat_dtype").0.eq_ignore_ascii_case("float16") {
        tracing::warn!(
            "NANOCHAT_DTYPE=float16 means bfloat16 here: the model's hidden state overflows float16"
        );
    }
    values.choice("nanochat_dtype", &choices)
}

fn isa(values: &Values) -> Result<Isa> {
    let mut choices: Vec<(&str, Isa)> = vec![("auto", Isa::detect())];
    choices.extend(Isa::available().iter().map(|isa| (isa.name(), *isa)));
    values.choice("isa", &choices)
}

fn threads(values: &Values, workers: usize) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = values.whole("compute_threads")?;
    Ok(asked.map_or((cores / workers).max(1), |threads| threads as usize))
}

fn kv_bytes(values: &Values) -> Result<usize> {
    let asked = values.whole("kv_cache_mb")?;
    let half = registry::memory::available().map_or(u64::MAX, |bytes| bytes / MEGABYTE / 2);
    Ok((asked.unwrap_or(KV_CACHE_MB.min(half)) * MEGABYTE) as usize)
}
