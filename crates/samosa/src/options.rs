//! Settings as text to what the server takes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::{Isa, WeightFormat};
use registry::catalog::Offer;
use registry::fetch::{FetchSettings, Fetcher};
use registry::plan::Wish;
use registry::{LoadOptions, Tag};
use server::{ContextOverflow, Defaults, Keys, Limits, Options};

use crate::settings::{self, Values};

/// Memory for keys and values if nothing is said.
const KV_CACHE_MB: u64 = 1024;
const MEGABYTE: u64 = 1 << 20;

/// What a request to generate consists of.
const CONTRACT_FIELDS: [&str; 4] = ["messages", "temperature", "max_tokens", "top_k"];

/// Everything `serve` needs.
pub(crate) struct Serve {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) options: Options,
    /// A key made up because there was none; shown once.
    pub(crate) made_up_key: Option<String>,
}

/// Checks the settings for `serve`.
pub(crate) fn serve(values: &Values) -> Result<Serve> {
    let (host, port) = address(values)?;
    let mut options = options(values)?;
    let mut made_up_key = None;
    if options.keys.is_empty() {
        if !host.is_loopback() {
            bail!(
                "INTERNAL_API_KEY must be set to listen on {host}: without a key only a loopback address is allowed"
            );
        }
        let key = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        options.keys = Keys::parse(&key);
        made_up_key = Some(key);
    }
    Ok(Serve { host, port, options, made_up_key })
}

/// Where to listen.
fn address(values: &Values) -> Result<(IpAddr, u16)> {
    let host = values.get("host").0;
    let host = if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host };
    let Ok(host) = host.parse() else { return values.refuse("host", "an IP address or localhost") };
    Ok((host, values.number("port", 0..=65_535)? as u16))
}

/// Where `/metrics` is, if not where everything else is.
fn metrics_address(values: &Values) -> Result<Option<SocketAddr>> {
    let Some(text) = values.text("metrics_addr") else { return Ok(None) };
    let Ok(address) = text.parse() else {
        return values.refuse("metrics_addr", "an IP address and a port, such as 127.0.0.1:9464");
    };
    Ok(Some(address))
}

/// Checks everything but the address.
pub(crate) fn options(values: &Values) -> Result<Options> {
    let workers = values.number("num_workers", 1..=64)? as usize;
    let default_tag = match values.text("default_model_tag") {
        None => None,
        Some(name) => match Tag::new(name) {
            Some(tag) => Some(tag),
            None => {
                return values
                    .refuse("default_model_tag", "a tag: letters, digits, dots, underscores and dashes");
            }
        },
    };
    values.choice("device_type", &[("auto", ()), ("cpu", ())])?;
    let overflow = [("drop", ContextOverflow::DropOldest), ("error", ContextOverflow::Error)];
    let ignored = values.get("ignored_request_fields").0;
    if split(ignored).any(|field| CONTRACT_FIELDS.contains(&field)) {
        return values.refuse("ignored_request_fields", "fields that the contract does not have");
    }
    Ok(Options {
        storage: values.text("model_storage_path").map(PathBuf::from),
        default_tag,
        offers: offers(values)?,
        fetcher: fetcher(values)?,
        load_at_start: values.choice("startup_load_enabled", &BOOLEANS)?,
        restore_last_model: values.choice("restore_last_model", &BOOLEANS)?,
        load: LoadOptions {
            format: weight_format(values)?,
            step: values.whole("default_step", 0..=u64::MAX)?,
        },
        isa: isa(values)?,
        threads: threads(values, workers)?,
        workers,
        kv_bytes: kv_bytes(values)?,
        defaults: Defaults {
            temperature: values.decimal("default_temperature", 0.0..=2.0)?,
            top_k: values.number("default_top_k", 0..=200)?,
            max_tokens: values.number("default_max_tokens", 1..=4096)?,
        },
        context_overflow: values.choice("context_overflow", &overflow)?,
        ignored_fields: split(ignored).map(str::to_owned).collect::<BTreeSet<_>>(),
        metrics_address: metrics_address(values)?,
        keys: keys(values)?,
        swap_mode: values.choice("swap_mode", &SWAP_MODES)?,
        swap_wait: Duration::from_secs(values.number("swap_wait", 0..=3600)?),
        drain_timeout: Duration::from_secs(values.number("drain_timeout", 0..=3600)?),
        limits: limits(values)?,
        settings: values.to_json(),
    })
}

/// Models that HF_REPO_OWNER and HF_TAGS name.
fn offers(values: &Values) -> Result<Vec<Offer>> {
    let tags = values.get("hf_tags").0;
    let Some(owner) = values.text("hf_repo_owner") else {
        return if tags.is_empty() {
            Ok(Vec::new())
        } else {
            values.refuse("hf_tags", "empty where HF_REPO_OWNER is not set")
        };
    };
    let offer = |name: &str| {
        let source = format!("huggingface:{owner}/{name}").parse().ok()?;
        Some(Offer { tag: Tag::new(name)?, source })
    };
    match split(tags).map(offer).collect() {
        Some(offers) => Ok(offers),
        None => values.refuse("hf_tags", "names of repositories of HF_REPO_OWNER, each of them a tag"),
    }
}

/// What brings models from elsewhere.
fn fetcher(values: &Values) -> Result<Fetcher> {
    let settings = FetchSettings {
        hf_endpoint: values.get("hf_endpoint").0.to_owned(),
        hf_token: values.text("hf_token").map(str::to_owned),
        offline: values.choice("hf_hub_offline", &BOOLEANS)?,
        redirect_hosts: split(values.get("download_redirect_hosts").0).map(str::to_owned).collect(),
        s3: settings::environment_of_s3(),
        max_bytes: values.number("download_max_gb", 1..=1 << 20)? << 30,
        ..FetchSettings::default()
    };
    Ok(Fetcher::new(settings)?)
}

const SWAP_MODES: [(&str, Wish); 3] =
    [("auto", Wish::Auto), ("overlap", Wish::Overlap), ("serial", Wish::Serial)];

const BOOLEANS: [(&str, bool); 6] =
    [("true", true), ("false", false), ("1", true), ("0", false), ("yes", true), ("no", false)];

fn limits(values: &Values) -> Result<Limits> {
    let engine = engine::Limits {
        max_running: values.number("max_running_requests", 1..=1024)? as usize,
        max_queued: values.number("max_queued_requests", 0..=100_000)? as usize,
        step_tokens: values.number("step_tokens", 1..=8192)? as usize,
        speculation_tokens: values.number("speculation_tokens", 0..=7)? as usize,
        prefix_cache: values.choice("prefix_cache", &BOOLEANS)?,
        ..engine::Limits::default()
    };
    Ok(Limits { engine: engine.checked(), ..Limits::default() })
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
    let available = Isa::available();
    let mut choices: Vec<(&str, Isa)> = vec![("auto", Isa::detect())];
    choices.extend(available.iter().map(|isa| (isa.name(), *isa)));
    values.choice("isa", &choices)
}

fn threads(values: &Values, workers: usize) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = values.whole("compute_threads", 1..=1024)?;
    Ok(asked.map_or((cores / workers).max(1), |threads| threads as usize))
}

fn kv_bytes(values: &Values) -> Result<usize> {
    let asked = values.whole("kv_cache_mb", 1..=1 << 20)?;
    let half = registry::memory::available().map_or(u64::MAX, |bytes| bytes / MEGABYTE / 2);
    Ok((asked.unwrap_or(KV_CACHE_MB.min(half)) * MEGABYTE) as usize)
}

fn keys(values: &Values) -> Result<Keys> {
    let mut text = values.get("internal_api_key").0.to_owned();
    if let Some(path) = values.text("internal_api_key_file") {
        let file = std::fs::read_to_string(path)
            .with_context(|| format!("INTERNAL_API_KEY_FILE: {path} could not be read"))?;
        if Keys::parse(&file).is_empty() {
            bail!("INTERNAL_API_KEY_FILE: {path} holds no key");
        }
        text.push('\n');
        text.push_str(&file);
    }
    Ok(Keys::parse(&text))
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}
