//! OpenAI's API: chat and text completions, streamed and whole.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, reason = "each test file uses its part of it")]
mod support;

use serde_json::{Value, json};
use support::{Ask, Server, options};

#[tokio::test]
async fn look() {
    let server = Server::start(options()).await;
    let mut body = json!({"model":"samosa-mini","messages":[{"role":"user","content":"Hello!"}],"temperature":0,"max_tokens":12, "logprobs":true,"top_logprobs":2});
    let reply = server.send(Ask::new("POST", "/v1/chat/completions").json(&body)).await;
    println!("{} {}", reply.status, String::from_utf8(reply.rest().await).unwrap());
    body["stream"] = json!(true);
    body["logprobs"] = json!(null);
    body["top_logprobs"] = json!(null);
    body["stop"] = json!(["I help"]);
    body["n"] = json!(2);
    body["stream_options"] = json!({"include_usage":true});
    let reply = server.send(Ask::new("POST", "/v1/chat/completions").json(&body)).await;
    println!("{} {}", reply.status, String::from_utf8(reply.rest().await).unwrap());
    body["model"] = json!("x");
    let reply = server.send(Ask::new("POST", "/v1/chat/completions").json(&body)).await;
    println!("{} {}", reply.status, String::from_utf8(reply.rest().await).unwrap());
    let body =
        json!({"model":"samosa-mini","prompt":["Once upon","The sea"],"temperature":0,"logprobs":1,"n":2});
    let reply = server.send(Ask::new("POST", "/v1/completions").json(&body)).await;
    println!("{} {}", reply.status, String::from_utf8(reply.rest().await).unwrap());
    println!("{}", server.get("/v1/models").await);
    println!("{}", server.get("/v1/models/samosa-mini").await);
    let body = json!({"prompt":"Once upon", "return_token_strs": true});
    let reply = server.send(Ask::new("POST", "/tokenize").json(&body)).await;
    println!("{} {}", reply.status, String::from_utf8(reply.rest().await).unwrap());
    let _: Value = json!(null);
}
