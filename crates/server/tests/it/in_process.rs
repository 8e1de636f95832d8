//! The service without a socket: the same key, the same answers, and a stream that nobody reads any more ends.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use server::State;
use tokio::time::sleep;

use crate::support::{KEY, options_in, storage};

fn request(method: &str, path: &str, key: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("x-internal-api-key", key).header("content-type", "application/json");
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

async fn stats(state: &Arc<State>) -> Value {
    get(state, "/stats").await
}

async fn get(state: &Arc<State>, path: &str) -> Value {
    let response = server::answer(Arc::clone(state), request("GET", path, KEY, &Value::Null)).await;
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn it_answers_as_on_a_network_and_leaves_no_trace_in_the_storage() {
    let storage = storage(&["g7"]);
    let state = State::in_process(options_in(storage.path(), "g7"));
    state.load_at_start();
    while state.current_tag().is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    let denied = server::answer(Arc::clone(&state), request("GET", "/stats", "wrong", &Value::Null)).await;
    assert_eq!(denied.status(), 401);
    let body =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "temperature": 0, "max_tokens": 400 });
    let asked = request("POST", "/generate", KEY, &body);
    let mut answer = server::answer(Arc::clone(&state), asked).await;
    let frame = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!((answer.status(), frame.starts_with(b"data: {")) == (hyper::StatusCode::OK, true), "{frame:?}");
    drop(answer);
    while state.open_streams() > 0 || stats(&state).await["running"] != 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let ends = &stats(&state).await["requests"];
    assert_eq!(ends["client_gone"].as_u64().unwrap() + ends["length"].as_u64().unwrap(), 1, "{ends}");
    assert_eq!(stats(&state).await["streams"], json!({ "total": 0, "listed": [] }));
    let history = get(&state, "/stats/history").await;
    assert_eq!((&history["samples"]["at"], &history["swaps"][0]["target_model"]), (&json!([]), &json!("g7")));
    assert!(!storage.path().join(".samosa/last_model.json").exists());
}
