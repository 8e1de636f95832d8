//! What the existing callers rely on: every sentence, status, header and frame, over a real socket.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use server::{ContextOverflow, Keys, Limits, Options};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{self, Ask, Reply, Server, ask, long_options, long_storage, options, options_in, told};

fn generate(body: &Value) -> Ask {
    Ask::new("POST", "/generate").json(body)
}

/// The answer is a problem of this status and code.
async fn refused(server: &Server, request: Ask, (status, code): (u16, &str)) -> Value {
    let reply = server.send(request).await;
    assert_eq!(reply.status, status, "{code}");
    let problem = reply.problem().await;
    assert_eq!(problem["code"], code, "{problem}");
    problem
}

/// The same with a time to try again after.
async fn unavailable(server: &Server, request: Ask, code: &str) -> u64 {
    let reply = server.send(request).await;
    assert_eq!(reply.status, 503, "{code}");
    let seconds = reply.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(reply.problem().await["code"], code);
    seconds
}

fn conversation(messages: &[(&str, &str)]) -> Value {
    let message = |(role, content): &(&str, &str)| json!({ "role": role, "content": content });
    json!({ "messages": messages.iter().map(message).collect::<Vec<_>>(), "temperature": 0, "max_tokens": 8 })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = ask("Hello!", 0.0, 8);
    body[field] = value;
    body
}

#[tokio::test]
async fn values_out_of_range_are_400_with_the_exact_sentences() {
    let server = Server::start(options()).await;
    let problem = refused(&server, generate(&json!({ "messages": [] })), (400, "no_messages")).await;
    assert_eq!(problem["detail"], "At least one message is required");
    for role in ["tool", "User", "", "<|assistant_start|>"] {
        let body = conversation(&[(role, "x")]);
        let problem = refused(&server, generate(&body), (400, "invalid_role")).await;
        assert!(problem["detail"].as_str().unwrap().contains("invalid role"), "{problem}");
        assert_eq!(problem["param"], "/messages/0/role");
    }
    for late in
        [&[("system", "x")][..], &[("user", "x"), ("system", "x")], &[("system", "x"), ("assistant", "x")]]
    {
        let problem = refused(&server, generate(&conversation(late)), (400, "invalid_role")).await;
        assert!(problem["detail"].as_str().unwrap().contains("invalid role"), "{problem}");
    }
    let long = "x".repeat(8001);
    let full = "x".repeat(8000);
    for (body, code, says) in [
        (conversation(&vec![("user", "x"); 501]), "too_many_messages", "501"),
        (conversation(&[("user", "")]), "empty_message", "empty"),
        (conversation(&[("user", "x"), ("assistant", ""), ("user", "")]), "empty_message", "Message 2"),
        (conversation(&[("user", &long)]), "message_too_long", "8001"),
        (conversation(&[("user", full.as_str()); 5]), "conversation_too_long", "40000"),
        (with("temperature", json!(2.01)), "invalid_temperature", "2.01"),
        (with("temperature", json!(-0.1)), "invalid_temperature", "-0.1"),
        (with("top_k", json!(201)), "invalid_top_k", "201"),
        (with("top_k", json!(-1)), "invalid_top_k", "-1"),
        (with("max_tokens", json!(0)), "invalid_max_tokens", "0"),
        (with("max_tokens", json!(4097)), "invalid_max_tokens", "4097"),
    ] {
        let problem = refused(&server, generate(&body), (400, code)).await;
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    let infinite = br#"{"messages":[{"role":"user","content":"x"}],"temperature":1e999}"#;
    let request = generate(&json!({})).body(infinite);
    assert_eq!(server.send(request).await.status, 400, "a temperature that is not finite");
    for broken in ["", "{", "nonsense", "{\"messages\":[}", "\u{0}"] {
        refused(&server, generate(&json!({})).body(broken.as_bytes()), (400, "invalid_json")).await;
    }
}

#[tokio::test]
async fn the_bound_of_a_message_is_a_setting() {
    let limits = Limits { message_chars: 8400, ..Limits::default() };
    let server = Server::start(Options { load_at_start: false, limits, ..options() }).await;
    let of = |chars: usize| "x".repeat(chars);
    refused(&server, generate(&conversation(&[("user", &of(8318))])), (503, "no_model")).await;
    refused(&server, generate(&conversation(&[("user", &of(8400))])), (503, "no_model")).await;
    let problem =
        refused(&server, generate(&conversation(&[("user", &of(8401))])), (400, "message_too_long"));
    assert_eq!(problem.await["detail"], "Message 0 has 8401 characters, but at most 8400 are allowed.");
    let (long, full) = (of(8400), of(32_001));
    let messages = [("user", long.as_str()); 4];
    refused(&server, generate(&conversation(&messages)), (400, "conversation_too_long")).await;
    refused(&server, generate(&conversation(&[("user", &full)])), (400, "message_too_long")).await;
    assert_eq!(server.get("/stats").await["limits"]["message_chars"], 8400, "where the page reads it");
}

#[tokio::test]
async fn shapes_that_do_not_fit_are_422_and_name_the_field() {
    let server = Server::start(Options { load_at_start: false, ..options() }).await;
    for (body, code, param) in [
        (with("force_web_search", json!(false)), "unknown_field", "/force_web_search"),
        (with("seed", json!(1)), "unknown_field", "/seed"),
        (
            json!({ "messages": [{ "role": "user", "content": "x", "id": 1 }] }),
            "unknown_field",
            "/messages/0/id",
        ),
        (json!({}), "missing_field", "/messages"),
        (json!({ "messages": [{ "role": "user" }] }), "missing_field", "/messages/0/content"),
        (json!({ "messages": [{ "content": "x" }] }), "missing_field", "/messages/0/role"),
        (json!({ "messages": "x" }), "wrong_type", "/messages"),
        (json!({ "messages": null }), "wrong_type", "/messages"),
        (json!({ "messages": [{ "role": "user", "content": [] }] }), "wrong_type", "/messages/0/content"),
        (with("temperature", json!("0")), "wrong_type", "/temperature"),
        (with("top_k", json!(1.5)), "wrong_type", "/top_k"),
        (with("max_tokens", json!(true)), "wrong_type", "/max_tokens"),
        (json!([1]), "wrong_type", ""),
    ] {
        assert_eq!(refused(&server, generate(&body), (422, code)).await["param"], param, "{body}");
    }
    for (body, code) in [(json!({}), "missing_field"), (json!({ "model_tag": 7 }), "wrong_type")] {
        let request = Ask::new("POST", "/models/swap").json(&body);
        assert_eq!(refused(&server, request, (422, code)).await["param"], "/model_tag");
    }
}

#[tokio::test]
async fn keys_paths_methods_types_and_sizes_have_their_statuses() {
    let server = Server::start(Options { load_at_start: false, ..options() }).await;
    let hello = generate(&ask("Hello!", 0.0, 8));
    for key in ["wrong", "", "key-of-the-tests,", "KEY-OF-THE-TESTS"] {
        let request = generate(&ask("Hello!", 0.0, 8)).header("X-Internal-API-Key", key);
        let problem = refused(&server, request, (401, "unauthorized")).await;
        assert_eq!(problem["detail"], "Invalid internal API key");
    }
    let problem = refused(&server, hello.without("X-Internal-API-Key"), (401, "unauthorized")).await;
    assert_eq!(problem["detail"], "Invalid internal API key");
    refused(&server, Ask::new("GET", "/nothing"), (404, "not_found")).await;
    refused(&server, Ask::new("GET", "/generate/"), (404, "not_found")).await;
    for (method, path, allowed) in [
        ("GET", "/generate", "POST"),
        ("DELETE", "/generate", "POST"),
        ("GET", "/models/swap", "POST"),
        ("POST", "/models", "GET"),
        ("PUT", "/stats", "GET"),
        ("POST", "/health", "GET"),
    ] {
        let reply = server.send(Ask::new(method, path)).await;
        assert_eq!(reply.status, 405, "{method} {path}");
        let allow =
            reply.header("allow").unwrap_or_else(|| panic!("{method} {path} has no Allow")).to_owned();
        assert!(allow.split(',').any(|word| word.trim() == allowed), "{method} {path}: {allow}");
        assert_eq!(reply.problem().await["code"], "method_not_allowed");
    }
    let text = generate(&ask("Hello!", 0.0, 8)).header("Content-Type", "text/plain");
    refused(&server, text, (415, "unsupported_media_type")).await;
    let untyped = generate(&ask("Hello!", 0.0, 8)).without("Content-Type");
    refused(&server, untyped, (415, "unsupported_media_type")).await;
    let charset =
        generate(&json!({ "messages": [] })).header("Content-Type", "Application/JSON; charset=utf-8");
    refused(&server, charset, (400, "no_messages")).await;
    let problem =
        refused(&server, generate(&json!({})).body(&vec![b' '; (1 << 20) + 1]), (413, "body_too_large"));
    assert!(problem.await["detail"].as_str().unwrap().contains("1048576"));
    refused(&server, generate(&json!({})).body(&vec![b' '; 1 << 20]), (400, "invalid_json")).await;
    let wide = generate(&ask("Hello!", 0.0, 8)).header("X-Wide", &"x".repeat(17 << 10));
    refused(&server, wide, (431, "headers_too_large")).await;
    let narrow = generate(&json!({ "messages": [] })).header("X-Wide", &"x".repeat(15 << 10));
    refused(&server, narrow, (400, "no_messages")).await;
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408() {
    let limits = Limits { body_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(Options { load_at_start: false, limits, ..options() }).await;
    for path in ["/generate", "/models/swap"] {
        let bytes = Ask::new("POST", path).json(&ask("Hello!", 0.0, 8)).bytes();
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
        let reply = Reply::read(socket).await;
        assert_eq!(reply.status, 408, "{path}");
        assert_eq!(reply.problem().await["code"], "request_timeout");
    }
}

#[tokio::test]
async fn without_a_model_or_a_key_it_is_503_with_a_time_to_retry() {
    let server = Server::start(Options { load_at_start: false, ..options() }).await;
    assert!(unavailable(&server, generate(&ask("Hello!", 0.0, 8)), "no_model").await > 0);
    let health = server.get("/health").await;
    assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!(false)));
    assert!(health["reason"].is_string() && health["current_model"].is_null(), "{health}");
    assert_eq!(server.send(Ask::new("GET", "/readyz")).await.status, 503);
    assert_eq!(server.send(Ask::new("GET", "/livez")).await.status, 200);
    let refused = "samosa_refused_total{reason=\"no_model\"}";
    assert_eq!(server.metric(refused).await, 1.0, "a probe does not count as refused");
    let keyless = Server::start(Options { keys: Keys::default(), load_at_start: false, ..options() }).await;
    for path in ["/generate", "/nothing"] {
        assert!(unavailable(&keyless, Ask::new("POST", path), "not_configured").await > 0);
    }
    assert_eq!(keyless.get("/health").await["status"], "degraded", "health stays public");
}

#[tokio::test]
async fn a_full_queue_is_503_and_counts_as_no_stream() {
    let storage = long_storage();
    let mut all = long_options(storage.path());
    (all.models.engine.max_running, all.models.engine.max_queued) = (1, 1);
    let server = Server::start(all).await;
    let long = ask("Hello!", 0.0, 4096);
    let mut running = server.send(generate(&long)).await;
    assert!(running.piece().await.is_some(), "it runs");
    let waiting = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (reader, mut writer) = waiting.into_split();
    writer.write_all(&generate(&long).bytes()).await.unwrap();
    server.until("one waits", |stats| stats["queue"]["requests"] == 1).await;
    let before = server.get("/stats").await;
    for _ in 0..3 {
        let seconds = unavailable(&server, generate(&long), "queue_full").await;
        assert!((1..=600).contains(&seconds), "{seconds}");
    }
    let after = server.get("/stats").await;
    assert_eq!(after["requests"], before["requests"], "a refused request is not a stream that ended");
    assert_eq!(server.metric("samosa_refused_total{reason=\"queue_full\"}").await, 3.0);
    drop((running, reader, writer));
    server.until("both are gone", |stats| stats["running"] == 0 && stats["queue"]["requests"] == 0).await;
}

#[tokio::test]
async fn where_nobody_may_wait_an_idle_engine_still_answers() {
    let mut all = options();
    all.models.engine.max_queued = 0;
    let server = Server::start(all).await;
    let reply = server.send(generate(&ask("Hello!", 0.0, 2))).await;
    assert_eq!(reply.status, 200, "nobody runs and nobody waits");
}

#[tokio::test]
async fn draining_is_503_and_what_does_not_finish_in_time_ends_with_an_error() {
    let storage = long_storage();
    let mut all = long_options(storage.path());
    (all.models.engine.max_running, all.drain_timeout) = (1, Duration::from_millis(300));
    let server = Server::start(all).await;
    let long = ask("Hello!", 0.0, 4096);
    let mut running = server.send(generate(&long)).await;
    let mut body = running.piece().await.unwrap();
    let mut waiting = TcpStream::connect(server.address).await.unwrap();
    waiting.write_all(&generate(&long).bytes()).await.unwrap();
    server.until("one waits", |stats| stats["queue"]["requests"] == 1).await;
    server.tell_to_stop();
    let health = server.until("it drains", |stats| stats["draining"] == true).await;
    assert_eq!((&health["status"], &health["ready"]), (&json!("draining"), &json!(false)));
    assert!(unavailable(&server, generate(&long), "draining").await > 0);
    let swap = Ask::new("POST", "/models/swap").json(&json!({ "model_tag": "samosa-mini" }));
    assert!(unavailable(&server, swap, "draining").await > 0);
    body.extend(running.rest().await);
    let told = told(&body);
    assert_eq!(told.last["error"]["code"], "shutting_down", "{}", told.last);
    assert!(told.last["error"]["message"].is_string() && told.last["error"]["retryable"] == true);
    let waited = Reply::read(waiting).await;
    assert_eq!(waited.status, 503);
    assert_eq!(waited.problem().await["code"], "shutting_down");
    server.stopped().await;
}

#[tokio::test]
async fn ids_are_echoed_and_made_up() {
    let server = Server::start(options()).await;
    for body in [ask("Hello!", 0.0, 2), json!({ "messages": [] })] {
        let request = generate(&body).header("X-Request-Id", "req-1").header("X-Trace-Id", "trace-2");
        let reply = server.send(request).await;
        let found = (reply.header("x-request-id"), reply.header("x-trace-id"));
        assert_eq!(found, (Some("req-1"), Some("trace-2")));
        let reply = server.send(generate(&body).header("X-Request-Id", "req-3")).await;
        assert_eq!(reply.header("x-trace-id"), Some("req-3"), "the request's id stands in");
        let reply = server.send(generate(&body)).await;
        assert_eq!(reply.header("x-request-id").unwrap().len(), 32);
        let reply = server.send(generate(&body).header("X-Request-Id", "a b\t\"c")).await;
        assert_eq!(reply.header("x-request-id").unwrap().len(), 32, "not fit for a log");
    }
}

#[tokio::test]
async fn frames_of_a_greedy_answer_are_these_bytes() {
    let server = Server::start(options()).await;
    let request = generate(&ask("Hello!", 0.0, 64)).header("X-Seed", "7");
    let reply = server.send(request).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    let body = String::from_utf8(reply.rest().await).unwrap();
    let (frames, timings) = body.split_once("\"timings_ms\":").unwrap();
    let tokens = ["Hello", "!", " How", " can", " I", " help", " you", " today", "?"];
    let mut expected = tokens.map(|token| format!("data: {{\"token\":\"{token}\",\"gpu\":0}}\n\n")).concat();
    // Of the built-in model: `sha256sum model_002384.pt meta_002384.json tokenizer.pkl | sort -k2 | sha256sum`.
    let weights = "6e4d2fb6380df3ce3155d0be1b66beba141d88c7b4865683c487cfbdf6892eb5";
    expected +=
        "data: {\"done\":true,\"finish_reason\":\"stop\",\"model_tag\":\"samosa-mini\",\"weights\":\"";
    expected += weights;
    expected += "\",\"seed\":7,\"usage\":{\"prompt_tokens\":6,\"cached_tokens\":0,\"completion_tokens\":9},";
    assert_eq!(frames, expected);
    let timings: Value = serde_json::from_str(timings.strip_suffix("}\n\n").unwrap()).unwrap();
    let names: Vec<&str> = timings.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["queue", "prefill", "decode"]);
    assert!(timings.as_object().unwrap().values().all(|ms| ms.as_f64().unwrap() >= 0.0), "{timings}");
    assert!(timings["prefill"].as_f64().unwrap() > 0.0 && timings["decode"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn named_fields_are_ignored_and_counted_and_others_refused() {
    let series = "samosa_ignored_fields_total{field=\"force_web_search\"}";
    let ignored_fields = BTreeSet::from(["force_web_search".to_owned()]);
    let server = Server::start(Options { ignored_fields, ..options() }).await;
    assert_eq!(server.metric(series).await, 0.0);
    let plain = server.told(&ask("Hello!", 0.0, 8)).await;
    let told = server.told(&with("force_web_search", json!(false))).await;
    assert_eq!(told.tokens, plain.tokens);
    assert_eq!(server.metric(series).await, 1.0);
    refused(&server, generate(&with("web_search", json!(false))), (422, "unknown_field")).await;
}

#[tokio::test]
async fn a_system_message_is_the_head_of_the_first_user_message() {
    let server = Server::start(options()).await;
    let apart = server.told(&conversation(&[("system", "Be brief."), ("user", "Who are you?")])).await;
    let merged = server.told(&conversation(&[("user", "Be brief.\n\nWho are you?")])).await;
    let without = server.told(&conversation(&[("user", "Who are you?")])).await;
    assert_eq!(apart.tokens, merged.tokens);
    assert_eq!(apart.last["usage"], merged.last["usage"]);
    assert_ne!(apart.last["usage"], without.last["usage"]);
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_nothing_else_is_a_seed() {
    let server = Server::start(options()).await;
    let body = ask("Tell me a short story about a fox.", 1.0, 32);
    let first = server.told_with(&body, Some(u64::MAX)).await;
    let again = server.told_with(&body, Some(u64::MAX)).await;
    let other = server.told_with(&body, Some(1)).await;
    assert_eq!(first.tokens, again.tokens);
    assert_ne!(first.tokens, other.tokens);
    assert_eq!(first.last["seed"], u64::MAX);
    let chosen = server.told(&body).await;
    let seed = chosen.last["seed"].as_u64().unwrap();
    assert_eq!(
        server.told_with(&body, Some(seed)).await.tokens,
        chosen.tokens,
        "the seed it tells repeats it"
    );
    for wrong in ["-1", "1.5", "18446744073709551616", "seven", ""] {
        let request = generate(&body).header("X-Seed", wrong);
        refused(&server, request, (400, "invalid_seed")).await;
    }
}

#[tokio::test]
async fn absent_and_null_take_the_configured_defaults() {
    let mut all = options();
    (all.defaults.temperature, all.defaults.top_k, all.defaults.max_tokens) = (0.0, 1, 3);
    let server = Server::start(all).await;
    let absent = json!({ "messages": [{ "role": "user", "content": "Hello!" }] });
    let mut null = absent.clone();
    (null["temperature"], null["top_k"], null["max_tokens"]) = (Value::Null, Value::Null, Value::Null);
    for body in [absent, null] {
        let told = server.told(&body).await;
        assert_eq!((told.text().as_str(), &told.last["finish_reason"]), ("Hello! How", &json!("length")));
    }
}

#[tokio::test]
async fn a_conversation_too_long_loses_its_oldest_turns_or_is_refused() {
    let old = "Tell me about the sea and the sun, please. ".repeat(6);
    let mut messages = Vec::new();
    for _ in 0..20 {
        messages.extend([("user", old.as_str()), ("assistant", "It is warm and blue.")]);
    }
    messages.push(("user", "Who are you?"));
    let server = Server::start(options()).await;
    let told = server.told(&conversation(&messages)).await;
    let dropped = told.last["dropped_messages"].as_u64().unwrap() as usize;
    assert!(dropped > 0 && dropped.is_multiple_of(2) && dropped < messages.len(), "{dropped}");
    let kept = server.told(&conversation(&messages[dropped..])).await;
    assert_eq!(kept.tokens, told.tokens);
    assert_eq!(kept.last["usage"]["prompt_tokens"], told.last["usage"]["prompt_tokens"]);
    assert!(kept.last.get("dropped_messages").is_none(), "nothing was dropped from what fits");
    let (prompt, answer) = (&told.last["usage"]["prompt_tokens"], &told.last["usage"]["completion_tokens"]);
    assert!(prompt.as_u64().unwrap() + answer.as_u64().unwrap() <= 512);
    let huge = "sea ".repeat(1900);
    let request = generate(&conversation(&[("user", &huge)]));
    refused(&server, request, (400, "prompt_too_long")).await;
    let strict = Options { context_overflow: ContextOverflow::Error, ..options() };
    let strict = Server::start(strict).await;
    let problem = refused(&strict, generate(&conversation(&messages)), (400, "prompt_too_long")).await;
    assert_eq!(problem["param"], "/messages");
    assert!(problem["detail"].as_str().unwrap().contains("511"), "{problem}");
}

#[tokio::test]
async fn max_tokens_is_cut_to_what_fits() {
    let server = Server::start(options()).await;
    let mut body = ask(&"sea ".repeat(400), 2.0, 4096);
    body["top_k"] = json!(0);
    let usage = server.told_with(&body, Some(3)).await.last["usage"].clone();
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 384 && sum <= 512, "{usage}");
}

#[tokio::test]
async fn models_and_health_have_exactly_their_fields() {
    let server =
        Server::start(support::with(options_in(&support::goldens(), "g7"), |models| models.workers = 2))
            .await;
    let models = server.get("/models").await;
    assert_eq!(models["current_model"], "g7");
    let list = models["models"].as_array().unwrap();
    let tags: Vec<&str> = list.iter().map(|model| model["model_tag"].as_str().unwrap()).collect();
    let g7 = ["g7", "g7-backout", "g7-constants", "g7-softcap-30", "g7-wide-heads"];
    assert_eq!(tags, [&["g0", "g1", "g3", "g5", "g6"], &g7[..], &["samosa-mini"]].concat());
    for model in list {
        let fields: Vec<&str> = model.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["model_tag", "source", "path", "loaded"]);
        assert_eq!(model["loaded"], model["model_tag"] == "g7");
        let builtin = model["model_tag"] == "samosa-mini";
        assert_eq!(model["source"], if builtin { "builtin" } else { "local" });
        assert_eq!(model["path"], if builtin { json!("") } else { model["model_tag"].clone() });
    }
    let health = server.get("/health").await;
    let expected = json!({
        "status": "ok", "ready": true, "current_model": "g7", "total_workers": 2, "available_workers": 2,
        "busy_workers": 0, "draining": false, "workers": [
            { "gpu_id": 0, "device": "cpu", "model_tag": "g7" }, { "gpu_id": 1, "device": "cpu", "model_tag": "g7" }
        ],
    });
    assert_eq!(health, expected);
    let stats = server.get("/stats").await;
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(stats[field], *value, "{field}");
    }
    for field in
        ["tokens_per_second", "requests", "queue", "kv_pages", "memory_bytes", "swap", "limits", "version"]
    {
        assert!(stats.get(field).is_some(), "{field} in {stats}");
    }
}
