//! The contracts as JSON: that of this service, with what it adds to it, its errors; and that of OpenAI's API.

use serde_json::{Value, json};

const CONTRACT: &str = include_str!("../../../contract/inference-api.yaml");
const OPENAI: &str = include_str!("../../../contract/openai-api.yaml");

/// Statuses an operation may answer with beside its success.
const ERRORS: [(&str, &str, &[u16]); 5] = [
    ("/health", "get", &[400, 403, 501]),
    ("/generate", "post", &[400, 401, 403, 408, 413, 415, 422, 500, 501, 503]),
    ("/models", "get", &[400, 401, 403, 500, 501]),
    ("/models/swap", "post", &[400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 500, 501, 502, 503, 507]),
    ("/stats", "get", &[400, 401, 403, 501]),
];

/// The contract of OpenAI's API.
pub fn openai() -> Value {
    json(OPENAI)
}

/// A file of ours, which a test has read.
fn json(yaml: &str) -> Value {
    serde_yaml_ng::from_str(yaml).unwrap_or_default()
}

/// The contract of this service, with every error documented.
pub fn inference() -> Value {
    let mut contract = json(CONTRACT);
    contract["components"]["schemas"]["Problem"] = json!({
        "type": "object",
        "description": "RFC 9457 problem details.",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "One plain sentence." },
            "code": { "type": "string", "enum": crate::problem::Code::ALL.iter().map(|c| c.as_str()).collect::<Vec<_>>() },
            "param": { "type": "string", "description": "JSON pointer to the field." },
            "retryable": { "type": "boolean" },
            "request_id": { "type": "string" },
        },
        "required": ["type", "title", "status", "detail", "code", "retryable", "request_id"],
    });
    for (path, method, statuses) in ERRORS {
        for status in statuses {
            let title = axum::http::StatusCode::from_u16(*status).ok().and_then(|s| s.canonical_reason());
            contract["paths"][path][method]["responses"][status.to_string()] = json!({
                "description": title.unwrap_or("Error"),
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            });
        }
    }
    contract
}
