//! The table of settings. An entry is key, type, kind with a default or an example, help; it makes the field of
//! [`Values`], the flag, the variable, the bounds, the documents. After a change
//! `UPDATE=1 cargo test -p samosa documents` writes the documents anew.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cpu::WeightFormat;
use registry::Tag;
use server::{ContextOverflow, Defaults, Limits};
use serving::plan::SwapMode;
use tracing::Level;

use super::kinds::{
    address, boolean, choice, decimal, directory, file, list, seconds, secret, secrets, socket_address, tag,
    text, url, whole,
};
use super::values::Sources;
use super::{Setting, TypedSetting, Wrong};
use crate::logs::LogFormat;

const MEGABYTE: u64 = 1 << 20;

/// The instruction sets there are, on any CPU.
const INSTRUCTION_SETS: [&str; 10] = [
    "auto",
    "scalar",
    "avx2",
    "avx-vnni",
    "avx512",
    "avx512-vnni",
    "avx512-bf16",
    "neon",
    "neon-dotprod",
    "neon-i8mm",
];

/// The bounds that the server has by itself, which are the defaults here.
fn limits() -> Limits {
    Limits::default()
}

/// Makes [`Values`] of rows `key: type = kind, help;` below the titles of their groups.
macro_rules! settings {
    ($($title:literal { $($key:ident: $type:ty = $kind:expr, $help:literal;)* })*) => {
        /// The settings in force, each with its origin.
        pub(crate) struct Values {
            $($(pub(crate) $key: TypedSetting<$type>,)*)*
            /// What is wrong with where they come from.
            pub(super) wrong: Vec<Wrong>,
        }

        impl Values {
            /// Every setting with what its sources have for it.
            pub(super) fn build(sources: Sources<'_>) -> Self {
                Self {
                    $($($key: $kind.filled(stringify!($key), $help, sources),)*)*
                    wrong: Vec::new(),
                }
            }

            /// Settings of one theme, below its title, in the order in which they are shown.
            pub(crate) fn groups(&self) -> Vec<(&'static str, Vec<&Setting>)> {
                vec![$(($title, vec![$(&self.$key),*]),)*]
            }
        }
    };
}

settings! {
    "Address and keys" {
        host: IpAddr = address().default("127.0.0.1"),
            "Address to listen on";
        port: u16 = whole(0..=65_535, "PORT").default(8003),
            "Port to listen on; 0 lets the system choose";
        metrics_addr: Option<SocketAddr> = socket_address().such_as("127.0.0.1:9464"),
            "Address and port for /metrics, which then is not on the port of the service; /livez is there too";
        internal_api_key: Vec<String> = secrets("KEY", "change-me"),
            "Keys that callers may use; with none, one is made up and printed on a loopback address, and on others \
             the start is refused";
        internal_api_key_file: Option<PathBuf> = file().such_as("keys.txt"),
            "File that holds more of these keys, one a line; read again when it changes";
        admin_api_key: Vec<String> = secrets("KEY", "change-me-too"),
            "Keys that a swap takes; without any, every key may swap. They are good for everything else too";
        admin_api_key_file: Option<PathBuf> = file().such_as("admin-keys.txt"),
            "File that holds more admin keys, one a line; read again when it changes";
        allowed_hosts: Vec<String> = list("HOST", "chat.example"),
            "Names in a Host header to answer to, *.SUFFIX for all below one; on a loopback address this machine's \
             are known";
        cors_allowed_origins: Vec<String> = list("ORIGIN", "https://chat.example"),
            "Origins of web pages that may call, such as https://chat.example; otherwise none";
        page: bool = boolean().default(true),
            "Whether browsers find the chat page at / and the API explorer at /docs";
        tls_cert: Option<PathBuf> = file().such_as("cert.pem"),
            "Certificate chain in PEM, to serve HTTPS instead of HTTP; read again when it changes";
        tls_key: Option<PathBuf> = file().such_as("key.pem"),
            "Private key of the certificate, in PEM";
    }
    "Models" {
        model_storage_path: Option<PathBuf> = directory().such_as("models"),
            "Where models are: nanochat's base directory, one model, or several; with none set, samosa-mini is served";
        default_model_tag: Option<Tag> = tag().such_as("d20"),
            "Model to load at start; otherwise the most finished, deepest, newest one of the storage";
        default_step: Option<u64> = whole(0..=u64::MAX, "STEP").such_as("650"),
            "Training step of that model to load; otherwise the latest";
        model_aliases: Vec<String> = list("NAME", "gpt-4o-mini"),
            "Names by which callers of the OpenAI API may ask for whatever serves, beside its tag";
        startup_load_enabled: bool = boolean().default(true),
            "Whether a model is loaded at start; else the server waits for a swap";
        restore_last_model: bool = boolean().default(false),
            "Whether a start loads the model that served last, if it still loads, before it tries the one named above";
    }
    "Engine" {
        num_workers: usize = whole(1..=64, "COUNT").default(1),
            "Engines that serve the same weights";
        compute_threads: Option<usize> = whole(1..=1024, "COUNT").such_as("4"),
            "Compute threads of each worker; otherwise the cores shared out among them";
        isa: &'static str = choice(&INSTRUCTION_SETS.map(|name| (name, name)), &[]).default("auto"),
            "Instruction set of the kernels; `samosa version` lists those of this CPU";
        device_type: () = choice(&[("auto", ()), ("cpu", ())], &[]).default("auto"),
            "Device that computes";
        nanochat_dtype: WeightFormat = choice(
            &[
                ("auto", WeightFormat::Int8),
                ("float32", WeightFormat::F32),
                ("bfloat16", WeightFormat::Bf16),
                ("int8", WeightFormat::Int8),
                ("int4", WeightFormat::Int4),
            ],
            &[("float16", WeightFormat::Bf16)],
        )
        .default("auto"),
            "How weights are held; auto is int8, and float16 is taken as bfloat16 with a warning";
        kv_cache_mb: Option<u64> = whole(1..=1 << 20, "MEGABYTES").such_as("1024"),
            "Memory for keys and values of each worker; otherwise 1024, but at most half of what is free";
        prefix_cache: bool = boolean().default(engine::Limits::default().prefix_cache),
            "Whether keys and values of prompts are kept for prompts of the same caller that begin alike";
        speculation_tokens: usize = whole(0..=7, "COUNT").default(engine::Limits::default().speculation_tokens),
            "Tokens guessed ahead where a text repeats itself, while few decode; answers stay the same; 0 for none";
    }
    "Requests" {
        default_temperature: f64 = decimal(0.0..=limits().temperature).default(Defaults::default().temperature),
            "Temperature of requests that name none";
        default_top_k: u64 = whole(0..=limits().top_k, "COUNT").default(Defaults::default().top_k),
            "Candidates of requests that name none; 0 keeps all";
        default_max_tokens: u64 = whole(1..=limits().max_tokens, "COUNT").default(Defaults::default().max_tokens),
            "Longest answer of requests that name none";
        context_overflow: ContextOverflow =
            choice(&[("drop", ContextOverflow::DropOldest), ("error", ContextOverflow::Error)], &[]).default("drop"),
            "Conversations too long for the model: drop the oldest turns, or refuse";
        ignored_request_fields: Vec<String> = list("NAME", "force_web_search"),
            "Fields outside the contract that are ignored instead of refused; nested ones by path, as in \
             messages[].id or stream_options.x";
    }
    "Limits" {
        max_running_requests: usize = whole(1..=1024, "COUNT").default(engine::Limits::default().max_running),
            "Requests that run at once, each worker";
        max_queued_requests: usize = whole(0..=100_000, "COUNT").default(engine::Limits::default().max_queued),
            "Requests that may wait, each worker";
        max_queued_tokens: usize = whole(1..=1 << 40, "COUNT").default(engine::Limits::default().max_queued_tokens),
            "Tokens (prompt and longest answer) that waiting requests may stand for, each worker";
        queue_timeout: Duration = seconds(1..=86_400, engine::Limits::default().queue_timeout),
            "How long a request may wait for its place; one that would wait longer is refused at once";
        request_timeout: Duration = seconds(1..=86_400, engine::Limits::default().request_timeout),
            "How long a request may take in all";
        max_message_chars: usize =
            whole(1..=limits().conversation_chars as u64, "COUNT").default(limits().message_chars),
            "Characters of one message; all of a conversation have 32,000 at most";
        max_connections: usize = whole(1..=1_000_000, "COUNT").default(limits().connections),
            "Connections at once; beyond them the one idle for longest makes room";
        header_timeout: Duration = seconds(1..=86_400, limits().header_timeout),
            "How long a request's headers may take";
        body_timeout: Duration = seconds(1..=86_400, limits().body_timeout),
            "How long a request's body may take";
        idle_timeout: Duration = seconds(1..=86_400, limits().idle_timeout),
            "How long a connection may stay open between two requests";
        grammar_timeout: Duration = seconds(1..=600, guides::Settings::default().deadline),
            "How long reading one JSON schema or grammar may take";
        grammar_memory_mb: u64 = whole(16..=65_536, "MB").default(guides::Settings::default().memory_bytes / MEGABYTE),
            "Memory that one JSON schema or grammar and its answer may take";
        max_grammar_reads: usize = whole(1..=1_024, "COUNT").default(guides::Settings::default().slow_reads),
            "JSON schemas and grammars that are read at once; others wait";
        slow_client_timeout: Duration = seconds(1..=86_400, limits().unread_for),
            "How long a client may read nothing of what is ready for it, before its stream is ended";
        step_tokens: usize = whole(1..=8192, "COUNT").default(engine::Limits::default().step_tokens),
            "Rows of one step: bounds what a long prompt adds to everybody's next token; less than \
             MAX_RUNNING_REQUESTS + 1 counts as that";
    }
    "Swaps and stopping" {
        swap_mode: SwapMode =
            choice(&[("auto", SwapMode::Auto), ("overlap", SwapMode::Overlap), ("serial", SwapMode::Serial)], &[]).default("auto"),
            "Load a new model beside the old one, or in its place while requests wait; auto: beside it if both fit";
        swap_wait: Duration = seconds(0..=3600, Duration::from_secs(45)),
            "How long a swap's caller waits for its end; `Prefer: wait=N` makes it less";
        drain_timeout: Duration = seconds(0..=3600, Duration::from_secs(50)),
            "How long streams may go on after SIGTERM";
        handover_socket: Option<PathBuf> = file().such_as("/run/samosa/handover"),
            "Unix socket by which a new process takes over from a running one; it is made there";
    }
    "Downloads" {
        hf_token: Option<String> = secret("TOKEN").such_as("hf_change-me"),
            "Hugging Face token, for repositories that are private or gated; sent to HF_ENDPOINT only";
        hf_repo_owner: Option<String> = text("OWNER").such_as("you"),
            "Hugging Face owner of the repositories in HF_TAGS";
        hf_tags: Vec<String> = list("TAG", "d20,d32"),
            "Repositories of HF_REPO_OWNER that are offered as models, each under its name";
        hf_endpoint: String = url().default("https://huggingface.co"),
            "Hugging Face Hub, or a mirror that speaks its API";
        hf_hub_offline: bool = boolean().default(false),
            "Whether nothing is fetched from the Hub";
        download_redirect_hosts: Vec<String> = list("HOST", "*.example.org"),
            "Hosts that a source may redirect downloads to, *.SUFFIX for all below one; the public Hub's own are known";
        download_max_gb: u64 = whole(1..=1 << 20, "GIGABYTES").default(100),
            "Largest model that is fetched, all its files together";
    }
    "Logs and traces" {
        log_level: Level = choice(
            &[
                ("error", Level::ERROR),
                ("warn", Level::WARN),
                ("info", Level::INFO),
                ("debug", Level::DEBUG),
                ("trace", Level::TRACE),
            ],
            &[("critical", Level::ERROR), ("warning", Level::WARN)],
        )
        .default("info"),
            "How much is logged; never keys, tokens or message text";
        log_format: LogFormat =
            choice(&[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)], &[])
            .default("auto"),
            "JSON lines or text on standard output; auto is text on a terminal and JSON elsewhere";
        otel_exporter_otlp_endpoint: Option<String> = url().such_as("http://localhost:4318"),
            "OpenTelemetry collector that takes traces over OTLP/HTTP; its other OTEL_* variables are heeded too";
    }
}
