//! A base model, whose tokenizer knows no conversations: texts are completed, messages refused.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Ask, Server, goldens, options_in, storage};

/// The golden tokenizer with `<|reserved_0|>` and its like alone, as autoresearch writes it.
fn base_tokenizer(path: &Path) {
    let bytes = std::fs::read(goldens().join("tokenizer/tokenizer.pkl")).unwrap();
    let read = formats::read_tokenizer_pickle("tokenizer.pkl", &bytes).unwrap();
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap();
    let hex = |token: &[u8]| token.iter().flat_map(|b| [b >> 4, b & 15]).map(digit).collect::<String>();
    let ranks: serde_json::Map<_, _> =
        read.ranks.iter().map(|(token, rank)| (hex(token), (*rank).into())).collect();
    let special: serde_json::Map<_, _> =
        (0..9).map(|i| (format!("<|reserved_{i}|>"), (692 + i).into())).collect();
    let file = json!({ "pattern": read.pattern, "mergeable_ranks": ranks, "special_tokens": special });
    std::fs::write(path, file.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_completed_and_messages_are_refused() {
    let root = storage(&["g7"]);
    base_tokenizer(&root.path().join("g7/tokenizer.json"));
    let server = Server::start(options_in(root.path(), "g7")).await;
    let health = server.until("ready", |health| health["ready"] == true).await;
    assert_eq!(health["current_model"], "g7");
    let post = async |path: &str, body: &Value| {
        let reply = server.send(Ask::new("POST", path).json(body)).await;
        (reply.status, reply.json().await)
    };
    let text = json!({ "model": "g7", "prompt": "Hello", "max_tokens": 8, "temperature": 0 });
    let (status, answer) = post("/v1/completions", &text).await;
    assert_eq!((status, &answer["usage"]["completion_tokens"]), (200, &json!(8)), "{answer}");
    // The prompt is one token and the text.
    let tokens = json!({ "model": "g7", "prompt": [692, 72], "max_tokens": 8, "temperature": 0 });
    assert_eq!(post("/v1/completions", &tokens).await.0, 200);
    let messages = json!([{ "role": "user", "content": "Hello" }]);
    let (status, refused) =
        post("/v1/chat/completions", &json!({ "model": "g7", "messages": messages })).await;
    let said = refused["error"]["message"].as_str().unwrap();
    assert!(status == 400 && said.contains("has no chat tokens"), "{refused}");
    let reply = server.send(Ask::new("POST", "/generate").json(&json!({ "messages": messages }))).await;
    let status = reply.status;
    let refused = reply.problem().await;
    assert_eq!((status, &refused["code"]), (400, &json!("unsupported_value")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("/v1/completions"), "{refused}");
}
