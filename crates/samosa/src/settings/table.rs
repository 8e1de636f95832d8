//! The table of settings. An entry is key, default (empty for none), kind, help; it makes the flag, the variable, the
//! bounds, the documents. After a change `UPDATE=1 cargo test -p samosa documents` writes the documents anew.

use super::Kind::{
    Address, Boolean, Choice, Decimal, List, Path, Secret, Secrets, SocketAddress, Tag, Text, Url, Whole,
};
use super::{Group, setting};

/// The instruction sets there are, on any CPU.
const INSTRUCTION_SETS: &[&str] = &[
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

/// Characters of a conversation: no message of it has more.
const MAX_MESSAGE_CHARS: u64 = 32_000;

/// All settings, by theme.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Address and keys",
        settings: &[
            setting("host", "127.0.0.1", Address, "Address to listen on"),
            setting("port", "8003", Whole(0..=65_535, "PORT"), "Port to listen on; 0 lets the system choose"),
            setting(
                "metrics_addr",
                "",
                SocketAddress,
                "Address and port for /metrics, which then is not on the port of the service; /livez is there too",
            )
            .such_as("127.0.0.1:9464"),
            setting(
                "internal_api_key",
                "",
                Secrets("KEY"),
                "Keys that callers may use; with none, one is made up and printed on a loopback address, and on others the \
                 start is refused",
            )
            .such_as("change-me"),
            setting(
                "internal_api_key_file",
                "",
                Path("FILE"),
                "File that holds more of these keys, one a line; read again when it changes",
            )
            .such_as("keys.txt"),
            setting(
                "admin_api_key",
                "",
                Secrets("KEY"),
                "Keys that a swap takes; without any, every key may swap. They are good for everything else too",
            )
            .such_as("change-me-too"),
            setting(
                "admin_api_key_file",
                "",
                Path("FILE"),
                "File that holds more admin keys, one a line; read again when it changes",
            )
            .such_as("admin-keys.txt"),
            setting(
                "allowed_hosts",
                "",
                List("HOST"),
                "Names in a Host header to answer to, *.SUFFIX for all below one; on a loopback address this machine's are known",
            )
            .such_as("chat.example"),
            setting(
                "cors_allowed_origins",
                "",
                List("ORIGIN"),
                "Origins of web pages that may call, such as https://chat.example; otherwise none",
            )
            .such_as("https://chat.example"),
            setting("page", "true", Boolean, "Whether browsers find the chat page at / and the API explorer at /docs"),
            setting(
                "tls_cert",
                "",
                Path("FILE"),
                "Certificate chain in PEM, to serve HTTPS instead of HTTP; read again when it changes",
            )
            .such_as("cert.pem"),
            setting("tls_key", "", Path("FILE"), "Private key of the certificate, in PEM").such_as("key.pem"),
        ],
    },
    Group {
        title: "Models",
        settings: &[
            setting(
                "model_storage_path",
                "",
                Path("DIRECTORY"),
                "Where models are: nanochat's base directory, one model, or several; with none set, samosa-mini is served",
            )
            .such_as("models"),
            setting(
                "default_model_tag",
                "",
                Tag,
                "Model to load at start; otherwise the most finished, deepest, newest one of the storage",
            )
            .such_as("d20"),
            setting(
                "default_step",
                "",
                Whole(0..=u64::MAX, "STEP"),
                "Training step of that model to load; otherwise the latest",
            )
            .such_as("650"),
            setting(
                "model_aliases",
                "",
                List("NAME"),
                "Names by which callers of the OpenAI API may ask for whatever serves, beside its tag",
            )
            .such_as("gpt-4o-mini"),
            setting(
                "startup_load_enabled",
                "true",
                Boolean,
                "Whether a model is loaded at start; else the server waits for a swap",
            ),
            setting(
                "restore_last_model",
                "false",
                Boolean,
                "Whether a start loads the model that served last, if it still loads, before it tries the one named above",
            ),
        ],
    },
    Group {
        title: "Engine",
        settings: &[
            setting("num_workers", "1", Whole(1..=64, "COUNT"), "Engines that serve the same weights"),
            setting(
                "compute_threads",
                "",
                Whole(1..=1024, "COUNT"),
                "Compute threads of each worker; otherwise the cores shared out among them",
            )
            .such_as("4"),
            setting(
                "isa",
                "auto",
                Choice(INSTRUCTION_SETS, &[]),
                "Instruction set of the kernels; `samosa version` lists those of this CPU",
            ),
            setting("device_type", "auto", Choice(&["auto", "cpu"], &[]), "Device that computes"),
            setting(
                "nanochat_dtype",
                "auto",
                Choice(&["auto", "float32", "bfloat16", "int8", "int4"], &["float16"]),
                "How weights are held; auto is int8, and float16 is taken as bfloat16 with a warning",
            ),
            setting(
                "kv_cache_mb",
                "",
                Whole(1..=1 << 20, "MEGABYTES"),
                "Memory for keys and values of each worker; otherwise 1024, but at most half of what is free",
            )
            .such_as("1024"),
            setting(
                "prefix_cache",
                "true",
                Boolean,
                "Whether keys and values of prompts are kept for prompts of the same caller that begin alike",
            ),
            setting(
                "speculation_tokens",
                "7",
                Whole(0..=7, "COUNT"),
                "Tokens guessed ahead where a text repeats itself, while few decode; answers stay the same; 0 for none",
            ),
        ],
    },
    Group {
        title: "Requests",
        settings: &[
            setting("default_temperature", "0.8", Decimal(0.0..=2.0), "Temperature of requests that name none"),
            setting(
                "default_top_k",
                "50",
                Whole(0..=200, "COUNT"),
                "Candidates of requests that name none; 0 keeps all",
            ),
            setting(
                "default_max_tokens",
                "512",
                Whole(1..=4096, "COUNT"),
                "Longest answer of requests that name none",
            ),
            setting(
                "context_overflow",
                "drop",
                Choice(&["drop", "error"], &[]),
                "Conversations too long for the model: drop the oldest turns, or refuse",
            ),
            setting(
                "ignored_request_fields",
                "",
                List("NAME"),
                "Fields outside the contract that are ignored instead of refused; nested ones by path, as in \
                 messages[].id or stream_options.x",
            )
            .such_as("force_web_search"),
        ],
    },
    Group {
        title: "Limits",
        settings: &[
            setting("max_running_requests", "64", Whole(1..=1024, "COUNT"), "Requests that run at once, each worker"),
            setting("max_queued_requests", "256", Whole(0..=100_000, "COUNT"), "Requests that may wait, each worker"),
            setting(
                "max_queued_tokens",
                "524288",
                Whole(1..=1 << 40, "COUNT"),
                "Tokens (prompt and longest answer) that waiting requests may stand for, each worker",
            ),
            setting(
                "queue_timeout",
                "30",
                Whole(1..=86_400, "SECONDS"),
                "How long a request may wait for its place; one that would wait longer is refused at once",
            ),
            setting("request_timeout", "600", Whole(1..=86_400, "SECONDS"), "How long a request may take in all"),
            setting(
                "max_message_chars",
                "8000",
                Whole(1..=MAX_MESSAGE_CHARS, "COUNT"),
                "Characters of one message; all of a conversation have 32,000 at most",
            ),
            setting(
                "max_connections",
                "1024",
                Whole(1..=1_000_000, "COUNT"),
                "Connections at once; beyond them the one idle for longest makes room",
            ),
            setting(
                "header_timeout",
                "10",
                Whole(1..=86_400, "SECONDS"),
                "How long a request's headers may take",
            ),
            setting("body_timeout", "10", Whole(1..=86_400, "SECONDS"), "How long a request's body may take"),
            setting(
                "idle_timeout",
                "75",
                Whole(1..=86_400, "SECONDS"),
                "How long a connection may stay open between two requests",
            ),
            setting(
                "grammar_timeout",
                "2",
                Whole(1..=600, "SECONDS"),
                "How long reading one JSON schema or grammar may take",
            ),
            setting(
                "grammar_memory_mb",
                "128",
                Whole(16..=65_536, "MB"),
                "Memory that one JSON schema or grammar and its answer may take",
            ),
            setting(
                "max_grammar_reads",
                "4",
                Whole(1..=1_024, "COUNT"),
                "JSON schemas and grammars that are read at once; others wait",
            ),
            setting(
                "slow_client_timeout",
                "30",
                Whole(1..=86_400, "SECONDS"),
                "How long a client may read nothing of what is ready for it, before its stream is ended",
            ),
            setting(
                "step_tokens",
                "128",
                Whole(1..=8192, "COUNT"),
                "Rows of one step: bounds what a long prompt adds to everybody's next token; less than MAX_RUNNING_REQUESTS + 1 counts as that",
            ),
        ],
    },
    Group {
        title: "Swaps and stopping",
        settings: &[
            setting(
                "swap_mode",
                "auto",
                Choice(&["auto", "overlap", "serial"], &[]),
                "Load a new model beside the old one, or in its place while requests wait; auto: beside it if both fit",
            ),
            setting(
                "swap_wait",
                "45",
                Whole(0..=3600, "SECONDS"),
                "How long a swap's caller waits for its end; `Prefer: wait=N` makes it less",
            ),
            setting("drain_timeout", "50", Whole(0..=3600, "SECONDS"), "How long streams may go on after SIGTERM"),
            setting(
                "handover_socket",
                "",
                Path("FILE"),
                "Unix socket by which a new process takes over from a running one; it is made there",
            )
            .such_as("/run/samosa/handover"),
        ],
    },
    Group {
        title: "Downloads",
        settings: &[
            setting(
                "hf_token",
                "",
                Secret("TOKEN"),
                "Hugging Face token, for repositories that are private or gated; sent to HF_ENDPOINT only",
            )
            .such_as("hf_change-me"),
            setting("hf_repo_owner", "", Text("OWNER"), "Hugging Face owner of the repositories in HF_TAGS")
                .such_as("you"),
            setting(
                "hf_tags",
                "",
                List("TAG"),
                "Repositories of HF_REPO_OWNER that are offered as models, each under its name",
            )
            .such_as("d20,d32"),
            setting(
                "hf_endpoint",
                "https://huggingface.co",
                Url,
                "Hugging Face Hub, or a mirror that speaks its API",
            ),
            setting("hf_hub_offline", "false", Boolean, "Whether nothing is fetched from the Hub"),
            setting(
                "download_redirect_hosts",
                "",
                List("HOST"),
                "Hosts that a source may redirect downloads to, *.SUFFIX for all below one; the public Hub's own are known",
            )
            .such_as("*.example.org"),
            setting(
                "download_max_gb",
                "100",
                Whole(1..=1 << 20, "GIGABYTES"),
                "Largest model that is fetched, all its files together",
            ),
        ],
    },
    Group {
        title: "Logs and traces",
        settings: &[
            setting(
                "log_level",
                "info",
                Choice(&["error", "warn", "info", "debug", "trace"], &["critical", "warning"]),
                "How much is logged; never keys, tokens or message text",
            ),
            setting(
                "log_format",
                "auto",
                Choice(&["auto", "json", "text"], &[]),
                "JSON lines or text on standard output; auto is text on a terminal and JSON elsewhere",
            ),
            setting(
                "otel_exporter_otlp_endpoint",
                "",
                Url,
                "OpenTelemetry collector that takes traces over OTLP/HTTP; its other OTEL_* variables are heeded too",
            )
            .such_as("http://localhost:4318"),
        ],
    },
];
