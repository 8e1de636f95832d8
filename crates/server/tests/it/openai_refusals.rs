//! Everything that OpenAI's API refuses, with status, code and field; in one shape, whoever refuses it.

use std::time::Duration;

use serde_json::{Map, Value, json};
use server::{Edge, Keys};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Ask, KEY, Reply, Server, long_options, long_storage, options};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const PATHS: [&str; 6] = [CHAT, TEXT, "/v1/models", "/v1/models/x", "/tokenize", "/detokenize"];

/// The error of an answer, after checking what all have in common.
async fn error(reply: Reply) -> (u16, Map<String, Value>) {
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("x-request-id").is_some());
    let (status, retry_after) = (reply.status, reply.header("retry-after").map(str::to_owned));
    let text = String::from_utf8(reply.rest().await).unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    let outer: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(outer, ["error"], "{text}");
    let error = body["error"].as_object().unwrap().clone();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"], "{text}");
    let expected = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    assert_eq!(error["type"], expected, "{text}");
    assert!(error["code"].is_string() && (error["param"].is_null() || error["param"].is_string()), "{text}");
    assert!(status != 422 && (status != 503 || retry_after.is_some()), "{text}");
    // The path of an operation that does not exist may be spelled like a pointer to a field.
    let pointers = if status == 404 { &[][..] } else { &["/messages", "/prompt"] };
    for secret in ["::", "crates/", ".rs", KEY].iter().chain(pointers) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    (status, error)
}

async fn refused(server: &Server, ask: Ask) -> (u16, String, String) {
    let (status, error) = error(server.send(ask).await).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (status, text(&error["code"]), text(&error["param"]))
}

/// Sends a body that is `base` with other fields, and compares the refusal; fields that are null here are left out.
async fn check(server: &Server, path: &str, base: &Value, cases: &[(Value, &str, &str)]) {
    for (fields, code, param) in cases {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let found = refused(server, Ask::new("POST", path).json(&body)).await;
        let status = if *code == "model_not_found" { 404 } else { 400 };
        assert_eq!((found.0, found.1.as_str(), found.2.as_str()), (status, *code, *param), "{path} {fields}");
    }
}

fn chat() -> Value {
    json!({ "model": "samosa-mini", "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 1 })
}

fn text() -> Value {
    json!({ "model": "samosa-mini", "prompt": "Hello!", "max_tokens": 1 })
}

fn message(role: &str, content: &Value) -> Value {
    json!({ "messages": [{ "role": role, "content": content }] })
}

#[tokio::test]
async fn what_does_not_fit_a_completion_of_either_kind() {
    let server = Server::start(options()).await;
    let many: Map<String, Value> = (0..1025).map(|i| (i.to_string(), json!(1))).collect();
    let cases = [
        (json!({ "model": null }), "missing_required_parameter", "model"),
        (json!({ "model": 7 }), "invalid_type", "model"),
        (json!({ "model": "gpt-4o" }), "model_not_found", "model"),
        (json!({ "model": "" }), "model_not_found", "model"),
        (json!({ "stream": "yes" }), "invalid_type", "stream"),
        (json!({ "stream_options": { "include_usage": true } }), "invalid_value", "stream_options"),
        (json!({ "stream": true, "stream_options": [] }), "invalid_type", "stream_options"),
        (json!({ "stream": true, "stream_options": { "x": 1 } }), "unknown_parameter", "stream_options.x"),
        (
            json!({ "stream": true, "stream_options": { "include_usage": 1 } }),
            "invalid_type",
            "stream_options.include_usage",
        ),
        (
            json!({ "stream": true, "stream_options": { "include_obfuscation": "no" } }),
            "invalid_type",
            "stream_options.include_obfuscation",
        ),
        (json!({ "max_tokens": 0 }), "invalid_value", "max_tokens"),
        (json!({ "max_tokens": -1 }), "invalid_value", "max_tokens"),
        (json!({ "max_tokens": -1e300 }), "invalid_value", "max_tokens"),
        (json!({ "max_tokens": 1.5 }), "invalid_type", "max_tokens"),
        (json!({ "max_tokens": "7" }), "invalid_type", "max_tokens"),
        (json!({ "n": 0 }), "invalid_value", "n"),
        (json!({ "n": 9 }), "invalid_value", "n"),
        (json!({ "n": 1e300 }), "invalid_value", "n"),
        (json!({ "temperature": 2.1 }), "invalid_value", "temperature"),
        (json!({ "temperature": -0.1 }), "invalid_value", "temperature"),
        (json!({ "temperature": true }), "invalid_type", "temperature"),
        (json!({ "top_p": 0 }), "invalid_value", "top_p"),
        (json!({ "top_p": 1.1 }), "invalid_value", "top_p"),
        (json!({ "top_k": -2 }), "invalid_value", "top_k"),
        (json!({ "top_k": 201 }), "invalid_value", "top_k"),
        (json!({ "min_p": 1.1 }), "invalid_value", "min_p"),
        (json!({ "frequency_penalty": 2.1 }), "invalid_value", "frequency_penalty"),
        (json!({ "presence_penalty": -2.1 }), "invalid_value", "presence_penalty"),
        (json!({ "repetition_penalty": 0 }), "invalid_value", "repetition_penalty"),
        (json!({ "logit_bias": [] }), "invalid_type", "logit_bias"),
        (json!({ "logit_bias": { "x": 1 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "01": 1 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "-1": 1 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "4294967295": 1 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "1": 101 } }), "invalid_value", "logit_bias"),
        (json!({ "logit_bias": { "1": "1" } }), "invalid_type", "logit_bias"),
        (json!({ "logit_bias": many }), "invalid_value", "logit_bias"),
        (json!({ "stop": "" }), "invalid_value", "stop"),
        (json!({ "stop": ["x", ""] }), "invalid_value", "stop"),
        (json!({ "stop": vec!["x"; 17] }), "invalid_value", "stop"),
        (json!({ "stop": "x".repeat(257) }), "invalid_value", "stop"),
        (json!({ "stop": [1] }), "invalid_type", "stop"),
        (json!({ "seed": 1.5 }), "invalid_type", "seed"),
        (json!({ "seed": 1e19 }), "invalid_value", "seed"),
        (json!({ "seed": "7" }), "invalid_type", "seed"),
        (json!({ "user": 7 }), "invalid_type", "user"),
        (json!({ "prompt_cache_key": 7 }), "invalid_type", "prompt_cache_key"),
        (json!({ "safety_identifier": ["x"] }), "invalid_type", "safety_identifier"),
        (json!({ "metadata": "x" }), "invalid_type", "metadata"),
        (json!({ "metadata": { "x": 7 } }), "invalid_type", "metadata"),
        (json!({ "parallel_tool_calls": "yes" }), "invalid_type", "parallel_tool_calls"),
        (json!({ "tools": {}, "tool_choice": "none" }), "invalid_type", "tools"),
        (json!({ "tools": [7], "tool_choice": "none" }), "invalid_type", "tools[0]"),
        (json!({ "functions": [{}, "x"], "function_call": "none" }), "invalid_type", "functions[1]"),
    ];
    for (path, base) in [(CHAT, chat()), (TEXT, text())] {
        check(&server, path, &base, &cases).await;
    }
}

#[tokio::test]
async fn forms_that_are_none_and_what_is_not_supported() {
    let server = Server::start(options()).await;
    let cases = [
        (json!({ "response_format": "json" }), "invalid_type", "response_format"),
        (json!({ "response_format": {} }), "missing_required_parameter", "response_format.type"),
        (json!({ "response_format": { "type": "xml" } }), "invalid_value", "response_format.type"),
        (json!({ "response_format": { "type": "text", "x": 1 } }), "unknown_parameter", "response_format.x"),
        (
            json!({ "response_format": { "type": "json_schema" } }),
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": {} } } }),
            "missing_required_parameter",
            "response_format.json_schema.name",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a b", "schema": {} } } }),
            "invalid_value",
            "response_format.json_schema.name",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": 7 } } }),
            "invalid_type",
            "response_format.json_schema.schema",
        ),
        (json!({ "grammar": 7 }), "invalid_type", "grammar"),
        (json!({ "grammar": { "syntax": "lark" } }), "missing_required_parameter", "grammar.definition"),
        (json!({ "grammar": { "syntax": "bnf", "definition": "" } }), "invalid_value", "grammar.syntax"),
        (json!({ "grammar": "x".repeat((64 << 10) + 1) }), "invalid_value", "grammar"),
        (
            json!({ "grammar": "start: \"x\"", "response_format": { "type": "json_object" } }),
            "invalid_value",
            "grammar",
        ),
        (json!({ "tools": [{ "type": "function" }] }), "unsupported_parameter", "tools"),
        (
            json!({ "tools": [{ "type": "function" }], "tool_choice": "auto" }),
            "unsupported_parameter",
            "tools",
        ),
        (json!({ "tools": [{}], "function_call": "none" }), "unsupported_parameter", "tools"),
        (json!({ "functions": [{ "name": "f" }] }), "unsupported_parameter", "functions"),
        (json!({ "functions": [{}], "tool_choice": "none" }), "unsupported_parameter", "functions"),
        (json!({ "tool_choice": "required" }), "unsupported_parameter", "tool_choice"),
        (json!({ "tool_choice": { "type": "function" } }), "unsupported_parameter", "tool_choice"),
        (json!({ "verbosity": "high" }), "unsupported_parameter", "verbosity"),
        (json!({ "prompt_cache_retention": "24h" }), "unsupported_parameter", "prompt_cache_retention"),
        (json!({ "reasoning_effort": "high" }), "unsupported_parameter", "reasoning_effort"),
        (json!({ "modalities": ["text", "audio"] }), "unsupported_parameter", "modalities"),
        (json!({ "prediction": { "type": "content" } }), "unsupported_parameter", "prediction"),
        (json!({ "best_of": 2 }), "unsupported_parameter", "best_of"),
        (json!({ "echo": true }), "unsupported_parameter", "echo"),
        (json!({ "suffix": "x" }), "unsupported_parameter", "suffix"),
        (json!({ "store": true }), "unsupported_parameter", "store"),
        (json!({ "service_tier": "flex" }), "unsupported_parameter", "service_tier"),
        (json!({ "frobnicate": 1 }), "unknown_parameter", "frobnicate"),
        (json!({ "a/b~c": 1 }), "unknown_parameter", "a/b~c"),
    ];
    for (path, base) in [(CHAT, chat()), (TEXT, text())] {
        check(&server, path, &base, &cases).await;
    }
}

#[tokio::test]
async fn what_does_not_fit_a_message() {
    let server = Server::start(options()).await;
    let one = |message: Value| json!({ "messages": [message] });
    let cases = [
        (one(json!("x")), "invalid_type", "messages[0]"),
        (one(json!({ "content": "x" })), "missing_required_parameter", "messages[0].role"),
        (one(json!({ "role": "user" })), "missing_required_parameter", "messages[0].content"),
        (
            one(json!({ "role": "user", "content": null })),
            "missing_required_parameter",
            "messages[0].content",
        ),
        (one(json!({ "role": "assistant", "content": 7 })), "invalid_type", "messages[0].content"),
        (message("system", &json!("")), "invalid_value", "messages[0].content"),
        (message("user", &json!([{ "type": "text", "text": "" }])), "invalid_value", "messages[0].content"),
        (message("user", &json!("")), "invalid_value", "messages[0].content"),
        (message("user", &json!([])), "invalid_value", "messages[0].content"),
        (message("user", &json!(7)), "invalid_type", "messages[0].content"),
        (message("user", &json!("x".repeat(8001))), "string_above_max_length", "messages[0].content"),
        (
            message("user", &json!([{ "type": "image_url" }])),
            "unsupported_value",
            "messages[0].content[0].type",
        ),
        (
            message("user", &json!([{ "type": "text" }])),
            "missing_required_parameter",
            "messages[0].content[0].text",
        ),
        (
            message("user", &json!([{ "type": "text", "text": "x", "x": 1 }])),
            "unknown_parameter",
            "messages[0].content[0].x",
        ),
        (message("user", &json!(["x"])), "invalid_type", "messages[0].content[0]"),
        (message("tool", &json!("x")), "invalid_value", "messages[0].role"),
        (message("developer", &json!("x")), "invalid_value", "messages[0].role"),
        (one(json!({ "role": "user", "content": "x", "name": 7 })), "invalid_type", "messages[0].name"),
        (
            one(json!({ "role": "user", "content": "x", "cache_control": "ephemeral" })),
            "invalid_type",
            "messages[0].cache_control",
        ),
        (
            message("user", &json!([{ "type": "text", "text": "x", "cache_control": true }])),
            "invalid_type",
            "messages[0].content[0].cache_control",
        ),
        (
            one(json!({ "role": "assistant", "content": "x", "reasoning_content": ["x"] })),
            "invalid_type",
            "messages[0].reasoning_content",
        ),
        (
            one(json!({ "role": "assistant", "content": null, "tool_calls": [{}] })),
            "unsupported_parameter",
            "messages[0].tool_calls",
        ),
        (
            one(json!({ "role": "assistant", "content": "x", "refusal": "I may not." })),
            "unsupported_parameter",
            "messages[0].refusal",
        ),
        (one(json!({ "role": "user", "content": "x", "age": 7 })), "unknown_parameter", "messages[0].age"),
    ];
    check(&server, CHAT, &chat(), &cases).await;
}

#[tokio::test]
async fn what_does_not_fit_a_chat() {
    let server = Server::start(options()).await;
    let long = "word ".repeat(1500);
    let cases = [
        (json!({ "messages": null }), "missing_required_parameter", "messages"),
        (json!({ "messages": {} }), "invalid_type", "messages"),
        (json!({ "messages": [] }), "empty_array", "messages"),
        (
            json!({ "messages": vec![json!({ "role": "user", "content": "x" }); 501] }),
            "array_above_max_length",
            "messages",
        ),
        (json!({ "add_generation_prompt": 1 }), "invalid_type", "add_generation_prompt"),
        (json!({ "continue_final_message": "yes" }), "invalid_type", "continue_final_message"),
        (json!({ "continue_final_message": true }), "invalid_value", "continue_final_message"),
        (
            json!({ "messages": [{ "role": "assistant", "content": "x" }], "continue_final_message": true,
                "add_generation_prompt": true }),
            "invalid_value",
            "continue_final_message",
        ),
        (message("user", &json!(long)), "context_length_exceeded", "messages"),
        (json!({ "max_completion_tokens": 2 }), "invalid_value", "max_completion_tokens"),
        (json!({ "max_tokens": null, "max_completion_tokens": 0 }), "invalid_value", "max_completion_tokens"),
        (json!({ "logprobs": 1 }), "invalid_type", "logprobs"),
        (json!({ "top_logprobs": 1 }), "invalid_value", "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "invalid_value", "top_logprobs"),
        (json!({ "prompt": "x" }), "unknown_parameter", "prompt"),
    ];
    check(&server, CHAT, &chat(), &cases).await;
    let body = json!({ "model": "samosa-mini", "messages": [{ "role": "user", "content": long }] });
    let (_, error) = error(server.send(Ask::new("POST", CHAT).json(&body)).await).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("maximum context length is 512 tokens"), "clients look for that: {message}");
}

#[tokio::test]
async fn what_does_not_fit_a_text() {
    let server = Server::start(options()).await;
    let cases = [
        (json!({ "prompt": null }), "missing_required_parameter", "prompt"),
        (json!({ "prompt": 7 }), "invalid_type", "prompt"),
        (json!({ "prompt": [] }), "invalid_value", "prompt"),
        (json!({ "prompt": [[]] }), "invalid_value", "prompt[0]"),
        (json!({ "prompt": ["x", 7] }), "invalid_type", "prompt[1]"),
        (json!({ "prompt": [7, "x"] }), "invalid_type", "prompt[1]"),
        (json!({ "prompt": [[1], "x"] }), "invalid_type", "prompt[1]"),
        (json!({ "prompt": [1, 99_999] }), "invalid_value", "prompt[1]"),
        (json!({ "prompt": [[99_999]] }), "invalid_value", "prompt[0][0]"),
        (json!({ "prompt": [[1], [2, 99_999]] }), "invalid_value", "prompt[1][1]"),
        (json!({ "prompt": [1.5] }), "invalid_type", "prompt[0]"),
        (json!({ "prompt": [-1] }), "invalid_value", "prompt[0]"),
        (json!({ "prompt": vec!["x"; 65] }), "invalid_value", "prompt"),
        (json!({ "prompt": vec!["x"; 33], "n": 2 }), "invalid_value", "prompt"),
        (json!({ "prompt": "x".repeat(32_001) }), "invalid_value", "prompt"),
        (json!({ "prompt": vec![1; 512] }), "context_length_exceeded", "prompt"),
        (json!({ "logprobs": true }), "invalid_type", "logprobs"),
        (json!({ "logprobs": 21 }), "invalid_value", "logprobs"),
        (json!({ "top_logprobs": 1 }), "unknown_parameter", "top_logprobs"),
        (json!({ "messages": [] }), "unknown_parameter", "messages"),
    ];
    check(&server, TEXT, &text(), &cases).await;
    let cases = [
        (json!({}), "missing_required_parameter", "messages"),
        (json!({ "prompt": 7 }), "invalid_type", "prompt"),
        (json!({ "prompt": "x", "messages": [] }), "invalid_value", "prompt"),
        (json!({ "prompt": "x", "add_generation_prompt": true }), "invalid_value", "prompt"),
        (json!({ "prompt": "x", "continue_final_message": false }), "invalid_value", "prompt"),
        (json!({ "messages": [], "add_special_tokens": true }), "invalid_value", "add_special_tokens"),
        (json!({ "prompt": "x", "model": "y" }), "model_not_found", "model"),
        (json!({ "prompt": "x", "n": 1 }), "unknown_parameter", "n"),
    ];
    check(&server, "/tokenize", &json!({}), &cases).await;
    let cases = [
        (json!({}), "missing_required_parameter", "tokens"),
        (json!({ "tokens": "x" }), "invalid_type", "tokens"),
        (json!({ "tokens": [1, 99_999] }), "invalid_value", "tokens[1]"),
        (json!({ "tokens": [1], "model": "y" }), "model_not_found", "model"),
    ];
    check(&server, "/detokenize", &json!({}), &cases).await;
}

#[tokio::test]
async fn bodies_that_are_none() {
    let mut options = options();
    options.limits.body_timeout = Duration::from_millis(200);
    let server = Server::start(options).await;
    let ask = |body: &[u8]| Ask::new("POST", CHAT).body(body).header("Content-Type", "application/json");
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let deep_field = [&b"{\"x\":"[..], &deep, b"}"].concat();
    for (body, code, says) in [
        (&b""[..], "invalid_json", "is empty"),
        (b"{", "invalid_json", "is not valid JSON"),
        (b"{\"model\":\"\xff\"}", "invalid_json", "is not valid JSON"),
        (b"{\"model\":\"\\ud800\"}", "invalid_json", "lone surrogate"),
        (b"{\"model\":\"x\\udc00y\"}", "invalid_json", "lone surrogate"),
        (&deep, "invalid_json", "too deeply nested"),
        (&deep_field, "invalid_json", "too deeply nested"),
        (b"[]", "invalid_type", "an object"),
        (b"{\"n\":1e999}", "invalid_json", "too large"),
    ] {
        let (status, error) = error(server.send(ask(body)).await).await;
        assert_eq!((status, &error["code"], &error["param"]), (400, &json!(code), &Value::Null));
        assert!(error["message"].as_str().unwrap().contains(says), "{error:?}");
    }
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(refused(&server, ask(&large)).await.0, 413);
    let plain = Ask::new("POST", CHAT).body(b"{}").header("Content-Type", "text/plain");
    assert_eq!(refused(&server, plain).await, (415, "unsupported_media_type".to_owned(), String::new()));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let whole = ask(b"{\"model\":1}").bytes();
    socket.write_all(&whole[..whole.len() - 4]).await.unwrap();
    let (status, error) = error(Reply::read(socket).await).await;
    assert_eq!((status, &error["code"]), (408, &json!("request_timeout")));
}

#[tokio::test]
async fn whoever_refuses_says_so_in_one_shape() {
    let edge = Edge { admin_keys: Keys::parse("key-of-the-admin"), ..Edge::default() };
    let server = Server::start(server::Options { load_at_start: false, edge, ..options() }).await;
    for path in PATHS {
        let method = if path.starts_with("/v1/models") { "GET" } else { "POST" };
        let ask = || Ask::new(method, path);
        let found = refused(&server, ask().without("X-Internal-API-Key")).await;
        assert_eq!(found, (401, "invalid_api_key".to_owned(), String::new()), "{path}");
        assert_eq!(refused(&server, ask().header("Host", "evil.example")).await.0, 403, "{path}");
        let long = ask().header("X-Long", &"x".repeat(17 << 10));
        assert_eq!(refused(&server, long).await.1, "headers_too_large", "{path}");
        let reply = server.send(Ask::new("DELETE", path)).await;
        assert!(reply.header("allow").is_some(), "{path}");
        assert_eq!(error(reply).await.0, 405, "{path}");
    }
    for path in ["/v1", "/v1/", "/v1/embeddings", "/v1/chat/completions/", "/v1/models/"] {
        assert_eq!(refused(&server, Ask::new("POST", path)).await.1, "not_found", "{path}");
    }
    for (path, body) in [(CHAT, chat()), (TEXT, text()), ("/tokenize", json!({ "prompt": "x" }))] {
        assert_eq!(
            refused(&server, Ask::new("POST", path).json(&body)).await,
            (503, "no_model".to_owned(), String::new())
        );
    }
    assert_eq!(refused(&server, Ask::new("GET", "/v1/models/x")).await.0, 503);
    assert_eq!(server.get("/v1/models").await, json!({ "object": "list", "data": [] }));
    // Elsewhere nothing has changed.
    assert!(server.get("/models").await["models"].is_array());
    let swap = server.send(Ask::new("GET", "/models/swap")).await;
    assert_eq!(swap.problem().await["code"], "method_not_allowed");
    let reply = server.send(Ask::new("POST", "/generate").without("X-Internal-API-Key")).await;
    assert_eq!(reply.header("www-authenticate"), Some("ApiKey header=\"X-Internal-API-Key\""));
    assert_eq!(reply.problem().await["detail"], "Invalid internal API key");
    let reply = server.send(Ask::new("POST", CHAT).without("X-Internal-API-Key")).await;
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_answered_with_what_was_meant() {
    let server = Server::start(server::Options { load_at_start: false, ..options() }).await;
    for (method, path, hint) in [
        ("POST", "/chat/completions", "/v1/chat/completions: the client's base_url must end in /v1"),
        ("GET", "/chat/completions/", "is at /v1/chat/completions: the client's"),
        ("POST", "/openai/chat/completions", "is at /v1/chat/completions: the client's"),
        ("POST", "/api/v1/completions", "is at /v1/completions: the client's"),
        ("GET", "/models/gpt-4o/", "is at /v1/models/{model}: the client's"),
        ("GET", "/models/swapped", "is at /v1/models/{model}: the client's"),
        ("POST", "//v1/chat/completions", "did you mean /v1/chat/completions?"),
        ("POST", "/v1//chat/completions/", "did you mean /v1/chat/completions?"),
        ("GET", "/v1/models/", "did you mean /v1/models?"),
        ("POST", "/tokenize/", "did you mean /tokenize?"),
        ("POST", "/embeddings", "has chat completions, completions and models alone"),
        ("POST", "/v1/responses", "has chat completions, completions and models alone"),
        ("POST", "//v1/embeddings", "has chat completions, completions and models alone"),
        ("POST", "/messages/", "has chat completions, completions and models alone"),
        ("GET", "/responses/resp_1/input_items", "has chat completions, completions and models alone"),
        ("POST", "/audio/speech", "has chat completions, completions and models alone"),
        ("GET", "/chat/completions/chatcmpl-1", "has chat completions, completions and models alone"),
        ("POST", "/v1/v1/embeddings", "has it twice"),
        ("POST", "/completions", "/v1/completions"),
        ("GET", "/models/gpt-4o", "/v1/models/{model}"),
        ("DELETE", "/models/org/name", "/v1/models/{model}"),
        ("POST", "/v1/v1/chat/completions", "has it twice"),
    ] {
        let (status, error) = error(server.send(Ask::new(method, path)).await).await;
        assert_eq!((status, &error["code"]), (404, &json!("not_found")), "{path}");
        assert!(error["message"].as_str().unwrap().contains(hint), "{path}: {error:?}");
        let keyless = refused(&server, Ask::new(method, path).without("X-Internal-API-Key")).await;
        assert_eq!((keyless.0, keyless.1.as_str()), (401, "invalid_api_key"), "{path}");
    }
    // Others read problem details.
    for (path, says) in [
        ("/nothing", "There is nothing at this path."),
        ("/chat", "There is nothing at this path."),
        ("/embeddings.html", "There is nothing at this path."),
        ("/completions/x", "There is nothing at this path."),
        ("/v10/nothing", "There is nothing at this path."),
        ("/models/", "There is nothing at this path; did you mean /models?"),
        ("/models/swap/", "There is nothing at this path; did you mean /models/swap?"),
        ("/models/swap/d20", "There is nothing at this path."),
        ("//generate", "There is nothing at this path; did you mean /generate?"),
        ("/health/", "There is nothing at this path; did you mean /health?"),
    ] {
        let problem = server.send(Ask::new("GET", path)).await.problem().await;
        assert_eq!((&problem["code"], &problem["detail"]), (&json!("not_found"), &json!(says)));
    }
}

#[tokio::test]
async fn one_key_is_enough_and_two_must_agree() {
    let server =
        Server::start(server::Options { keys: Keys::parse("key-of-the-tests,other"), ..options() }).await;
    let bearer = format!("Bearer {KEY}");
    for path in ["/v1/models", "/models", "/stats"] {
        let bare = || Ask::new("GET", path).without("X-Internal-API-Key");
        for ask in [
            Ask::new("GET", path),
            bare().header("Authorization", &bearer),
            bare().header("Authorization", &format!("bearer {KEY}")),
            bare().header("authorization", &format!("Bearer  {KEY}")),
            Ask::new("GET", path).header("Authorization", &bearer),
            Ask::new("GET", path).header("Authorization", "Basic dXNlcjpwYXNz"),
        ] {
            assert_eq!(server.send(ask).await.status, 200, "{path}");
        }
        for ask in [
            bare(),
            bare().header("Authorization", KEY),
            bare().header("Authorization", "Bearer"),
            bare().header("Authorization", "Bearer "),
            bare().header("Authorization", "Bearer wrong"),
            bare().header("Authorization", &format!("Basic {KEY}")),
            bare().header("Authorization", &format!("Bearer {KEY}x")),
            bare().header("Authorization", &format!("Bearer {KEY} x")),
            bare().header("Authorization", &bearer).and("Authorization", &bearer),
            Ask::new("GET", path).header("Authorization", "Bearer other"),
            Ask::new("GET", path).header("Authorization", "Bearer wrong"),
            Ask::new("GET", path).header("Authorization", "Bearer "),
            Ask::new("GET", path).header("X-Internal-API-Key", "wrong").header("Authorization", &bearer),
        ] {
            assert_eq!(server.send(ask).await.status, 401, "{path}");
        }
    }
}

#[tokio::test]
async fn ignored_fields_are_passed_over_unless_they_are_known() {
    let ignored_fields = ["force_web_search", "tools", "stop"].map(str::to_owned).into();
    let server = Server::start(server::Options { ignored_fields, ..options() }).await;
    let mut body = chat();
    (body["force_web_search"], body["tools"]) = (json!(true), json!([{}]));
    assert_eq!(server.send(Ask::new("POST", CHAT).json(&body)).await.status, 200);
    assert_eq!(server.metric("samosa_ignored_fields_total{field=\"force_web_search\"}").await, 1.0);
    body["stop"] = json!(7);
    assert_eq!(refused(&server, Ask::new("POST", CHAT).json(&body)).await.2, "stop");
}

#[tokio::test]
async fn nested_fields_are_ignored_by_path() {
    let paths = ["messages[].id", "messages[].content[].id", "stream_options.every", "messages[].name"];
    let ignored_fields = paths.map(str::to_owned).into();
    let server = Server::start(server::Options { ignored_fields, ..options() }).await;
    let mut body = chat();
    let content = json!([{ "type": "text", "text": "x", "id": 1 }, { "type": "text", "text": "y" }]);
    body["messages"] = json!([
        { "role": "user", "content": content, "id": "a" },
        { "role": "assistant", "content": "z", "id": null },
        { "role": "user", "content": "x", "id": "b", "name": 7 },
    ]);
    assert_eq!(server.send(Ask::new("POST", CHAT).json(&body)).await.status, 200);
    for (path, count) in paths.into_iter().zip([1.0, 1.0, 0.0, 1.0]) {
        let series = format!("samosa_ignored_fields_total{{field=\"{path}\"}}");
        assert_eq!(server.metric(&series).await, count, "{path}: once a request, however many there are");
    }
    (body["stream"], body["stream_options"]) = (json!(true), json!({ "every": 2 }));
    assert_eq!(server.send(Ask::new("POST", CHAT).json(&body)).await.status, 200);
    body["messages"][1]["age"] = json!(1);
    assert_eq!(refused(&server, Ask::new("POST", CHAT).json(&body)).await.2, "messages[1].age");
    let generate = json!({ "messages": [{ "role": "user", "content": "x", "id": 1 }], "max_tokens": 1 });
    assert_eq!(server.send(Ask::new("POST", "/generate").json(&generate)).await.status, 200);
    assert_eq!(server.metric("samosa_ignored_fields_total{field=\"messages[].id\"}").await, 3.0);
}

#[tokio::test]
async fn more_answers_than_idle_engines_accept_are_400() {
    let mut options = options();
    let engine = &mut options.models.engine;
    (engine.max_running, engine.max_queued, engine.max_queued_tokens) = (1, 2, 1000);
    options.models.workers = 2;
    let server = Server::start(options).await;
    let answers = |path: &str, base: Value, fields: Value| {
        let mut body = base;
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        server.send(Ask::new("POST", path).json(&body))
    };
    for (path, base, fields, param, says) in [
        (
            CHAT,
            chat(),
            json!({ "n": 3 }),
            "n",
            "3 answers are asked for at once, but at most 2 can be: the larger of MAX_RUNNING_REQUESTS and \
             MAX_QUEUED_REQUESTS.",
        ),
        (CHAT, chat(), json!({ "n": 8, "stream": true }), "n", "8 answers"),
        (TEXT, text(), json!({ "n": 3 }), "n", "3 answers"),
        (
            TEXT,
            text(),
            json!({ "prompt": vec!["x"; 5] }),
            "prompt",
            "5 answers are asked for at once, but at most 4 can be: the larger of MAX_RUNNING_REQUESTS and \
             MAX_QUEUED_REQUESTS for each of 2 workers.",
        ),
        (
            CHAT,
            chat(),
            json!({ "n": 2, "max_tokens": 4096 }),
            "n",
            "reserve 1024 tokens with their prompts, but at most 1000 may wait: MAX_QUEUED_TOKENS.",
        ),
    ] {
        let reply = answers(path, base, fields).await;
        assert_eq!(reply.header("retry-after"), None, "it would not help");
        let (status, error) = error(reply).await;
        assert_eq!((status, &error["code"], &error["param"]), (400, &json!("invalid_value"), &json!(param)));
        assert!(error["message"].as_str().unwrap().contains(says), "{error:?}");
    }
    for (path, base, fields) in [
        (CHAT, chat(), json!({ "n": 2 })),
        (CHAT, chat(), json!({ "n": 1, "max_tokens": 4096 })),
        (TEXT, text(), json!({ "prompt": vec!["x"; 4] })),
    ] {
        let idle = |stats: &Value| stats["running"] == 0 && stats["queue"]["requests"] == 0;
        server.until("it is idle", idle).await;
        assert_eq!(answers(path, base, fields.clone()).await.status, 200, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_are_queued_all_or_none() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    (options.models.engine.max_running, options.models.engine.max_queued) = (1, 8);
    let server = Server::start(options).await;
    let long = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 4096 });
    let mut first = server.send(Ask::new("POST", "/generate").json(&long)).await;
    assert!(first.piece().await.is_some(), "it runs");
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(&Ask::new("POST", "/generate").json(&long).bytes()).await.unwrap();
    server.until("one waits", |stats| stats["queue"]["requests"] == 1).await;
    let body = json!({ "model": "long", "messages": [{ "role": "user", "content": "Hello!" }], "n": 8, "max_tokens": 4096 });
    for stream in [false, true] {
        let mut body = body.clone();
        body["stream"] = json!(stream);
        let reply = server.send(Ask::new("POST", CHAT).json(&body)).await;
        assert!(reply.header("retry-after").is_some());
        let (status, error) = error(reply).await;
        assert_eq!((status, &error["code"]), (503, &json!("queue_full")));
        let idle = |stats: &Value| stats["running"] == 1 && stats["queue"]["requests"] == 1;
        server.until("those that were taken are given up", idle).await;
    }
    let stats = server.get("/stats").await;
    let aborted = stats["requests"]["aborted"].as_u64().unwrap();
    assert!(aborted == 14 && stats["requests"]["client_gone"] == 0, "{}", stats["requests"]);
    assert_eq!(server.metric("active_generations").await, 2.0);
    drop((first, second));
    assert_eq!(server.metric("samosa_refused_total{reason=\"queue_full\"}").await, 2.0);
}
