//! What the contracts do not say of their operations: headers, an example, and words where a summary is not enough.

pub(super) const INTRODUCTION: &str = "\
The law is `contract/inference-api.yaml`; `samosa openapi` prints it with every error, and `samosa openapi --openai` the
contract of OpenAI's API. The ranges that the first leaves open are in the tables below. The examples of this page run
one after the other on a server with the built-in model, and `$KEY` is its key.

| header of a request | meaning |
|---|---|
| `X-Internal-API-Key`, or `Authorization: Bearer` | The key, for every path that does not say that it needs none. Two that differ are refused. |
| `Content-Type: application/json` | With every body. A body has at most 1 MiB. |
| `X-Request-Id`, `X-Trace-Id`, `traceparent` | Ids of yours for logs and traces, up to 128 letters, digits and `-_.:/=+`. |

| header of an answer | meaning |
|---|---|
| `X-Request-Id`, `X-Trace-Id`, `traceparent` | Yours, or new ones; the log has them. |
| `Retry-After` | With 503, and other errors that pass: seconds after which to come back. |
| `Allow` | With 405: the methods that the path takes. |
| `WWW-Authenticate` | With 401. |
| `Cache-Control`, `Content-Security-Policy`, `Cross-Origin-Resource-Policy`, `Referrer-Policy`, `X-Content-Type-Options` | Tell browsers to store an answer nowhere and to run nothing in it. |
";

/// What is known of an operation beside its contract.
pub(super) struct OperationNotes {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Words beside the contract's summary; may be empty.
    pub(super) about: &'static str,
    /// Of requests, beside those that all take.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// A command and its output.
    pub(super) example: &'static str,
}

const fn operation(method: &'static str, path: &'static str, example: &'static str) -> OperationNotes {
    OperationNotes { method, path, about: "", headers: &[], example }
}

/// In the order of the contracts, which is that of the page.
pub(super) const OPERATIONS: &[OperationNotes] = &[
    OperationNotes {
        about: "The status of the answer is 200 whatever it says. `status` is `ok`, `loading`, `degraded`, `stalled` or \
                `draining`; `reason` says why it is not `ok`. The answer has more members than the contract names.",
        ..operation(
            "GET",
            "/health",
            r#"$ curl -fsS http://127.0.0.1:8003/health
{"status":"ok","ready":true,"current_model":"samosa-mini",…}"#,
        )
    },
    OperationNotes {
        about: "An event is a line `data:` with an object: `{\"token\",\"gpu\"}` for each piece of the answer, then one \
                `{\"done\":true,…}` with `finish_reason` (`stop` or `length`), `model_tag`, `weights`, `seed`, `usage`, \
                `timings_ms`, and `dropped_messages` if the conversation was too long. After a failure the last event is \
                `{\"error\":{\"code\",\"message\",\"retryable\"}}`. A comment line comes every 10 s while there is nothing \
                to say.",
        headers: &[(
            "X-Seed",
            "A whole number from 0 to 18446744073709551615 that fixes the draw. Otherwise one is made up.",
        )],
        ..operation(
            "POST",
            "/generate",
            r#"$ curl -fsSN http://127.0.0.1:8003/generate -H "X-Internal-API-Key: $KEY" -H 'Content-Type: application/json' \
    -H 'X-Seed: 7' -d '{"messages": [{"role": "user", "content": "What is 12 * 7?"}], "max_tokens": 64}'
data: {"token":…,"gpu":0}
…
data: {"done":true,…,"seed":7,…}"#,
        )
    },
    operation(
        "GET",
        "/models",
        r#"$ curl -fsS http://127.0.0.1:8003/models -H "X-Internal-API-Key: $KEY"
{"current_model":"samosa-mini","models":[{"model_tag":"samosa-mini","source":"builtin",…,"loaded":true}]}"#,
    ),
    OperationNotes {
        about: "The call waits for the end of the swap, at most `SWAP_WAIT`; if that was not long enough, `status` is \
                `swapping`, and `/stats` says how it goes on. Where there are admin keys, it takes one of them.",
        headers: &[
            ("Prefer: wait=N", "Wait N seconds at most."),
            (
                "If-Match",
                "Identities in quotation marks, or `*`: swap only if one of these weights serves, else 412.",
            ),
        ],
        ..operation(
            "POST",
            "/models/swap",
            r#"$ curl -fsS http://127.0.0.1:8003/models/swap -H "X-Internal-API-Key: $KEY" -H 'Content-Type: application/json' \
    -H 'Prefer: wait=30' -d '{"model_tag": "samosa-mini"}'
{"status":"ok","current_model":"samosa-mini"…}"#,
        )
    },
    OperationNotes {
        about: "Rates, latencies, queue, memory, the model, swaps, and the settings in force, secrets left out.",
        ..operation(
            "GET",
            "/stats",
            r#"$ curl -fsS http://127.0.0.1:8003/stats -H "X-Internal-API-Key: $KEY"
{…}"#,
        )
    },
    operation(
        "POST",
        "/v1/chat/completions",
        r#"$ curl -fsS http://127.0.0.1:8003/v1/chat/completions -H "Authorization: Bearer $KEY" \
    -H 'Content-Type: application/json' \
    -d '{"model": "samosa-mini", "messages": [{"role": "user", "content": "What is samosa chaat?"}], "seed": 7}'
{"id":"chatcmpl-…","object":"chat.completion",…}"#,
    ),
    operation(
        "POST",
        "/v1/completions",
        r#"$ curl -fsS http://127.0.0.1:8003/v1/completions -H "Authorization: Bearer $KEY" \
    -H 'Content-Type: application/json' -d '{"model": "samosa-mini", "prompt": "Once upon a time", "seed": 7}'
{"id":"cmpl-…","object":"text_completion",…}"#,
    ),
    operation(
        "GET",
        "/v1/models",
        r#"$ curl -fsS http://127.0.0.1:8003/v1/models -H "Authorization: Bearer $KEY"
{"object":"list","data":[{"id":"samosa-mini",…}]}"#,
    ),
    operation(
        "GET",
        "/v1/models/{model}",
        r#"$ curl -fsS http://127.0.0.1:8003/v1/models/samosa-mini -H "Authorization: Bearer $KEY"
{"id":"samosa-mini","object":"model",…}"#,
    ),
    operation(
        "POST",
        "/tokenize",
        r#"$ curl -fsS http://127.0.0.1:8003/tokenize -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    -d '{"prompt": "Samosa chaat", "return_token_strs": true}'
{"count":…,"tokens":[…],"token_strs":[…]}"#,
    ),
    operation(
        "POST",
        "/detokenize",
        r#"$ curl -fsS http://127.0.0.1:8003/detokenize -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
    -d '{"tokens": [72, 101, 121]}'
{"prompt":"…"}"#,
    ),
];

/// Paths that are in neither contract. Only those that the server has come into the page.
pub(super) const OTHERS: &[(&str, &str)] = &[
    ("/livez", "200 while the process is worth keeping, else 503. Needs no key."),
    ("/readyz", "200 while requests are taken, else 503. Needs no key."),
    (
        "/metrics",
        "[Every series](metrics.md) in Prometheus' text format. Needs no key; `METRICS_ADDR` moves it.",
    ),
    (
        "/stats/history",
        "The last half hour in steps of a second: rates, latencies, streams, queue, memory; and the swaps in it. \
         `since=UNIX_SECONDS` leaves out what is older.",
    ),
    ("/", "The page. Needs no key to be read; `PAGE=false` takes it away, and what belongs to it."),
    ("/docs", "The API explorer. Needs no key to be read."),
    ("/icon.svg", "The page's icon. Needs no key."),
    ("/assets/{file}", "What the page is made of. Needs no key."),
    ("/openapi.json", "The service's contract, as `samosa openapi` prints it. Needs no key."),
    ("/openai.json", "The contract of OpenAI's API, as `samosa openapi --openai` prints it. Needs no key."),
];
