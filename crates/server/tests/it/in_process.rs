//! The service without a socket: the same key, the same answers, and a stream that nobody reads any more ends.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use server::App;
use tokio::time::sleep;

use crate::support::{KEY, options_in, storage, with};

fn request(method: &str, path: &str, key: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("x-internal-api-key", key).header("content-type", "application/json");
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

async fn stats(app: &App) -> Value {
    get(app, "/stats").await
}

async fn get(app: &App, path: &str) -> Value {
    let response = server::answer(app.clone(), request("GET", path, KEY, &Value::Null)).await;
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn it_answers_as_on_a_network_and_leaves_no_trace_in_the_storage() {
    let storage = storage(&["g7"]);
    let app = App::new(with(options_in(storage.path(), "g7"), |models| models.remember_last_model = false));
    app.models.load_at_start();
    while app.models.current_tag().is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    let denied = server::answer(app.clone(), request("GET", "/stats", "wrong", &Value::Null)).await;
    assert_eq!(denied.status(), 401);
    let body =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "temperature": 0, "max_tokens": 400 });
    let asked = request("POST", "/generate", KEY, &body);
    let mut answer = server::answer(app.clone(), asked).await;
    let frame = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!((answer.status(), frame.starts_with(b"data: {")) == (hyper::StatusCode::OK, true), "{frame:?}");
    drop(answer);
    while app.open_streams() > 0 || stats(&app).await["running"] != 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let ends = &stats(&app).await["requests"];
    assert_eq!(ends["client_gone"].as_u64().unwrap() + ends["length"].as_u64().unwrap(), 1, "{ends}");
    assert_eq!(stats(&app).await["streams"], json!({ "total": 0, "listed": [] }));
    let history = get(&app, "/stats/history").await;
    assert_eq!((&history["samples"]["at"], &history["swaps"][0]["target_model"]), (&json!([]), &json!("g7")));
    assert!(!storage.path().join(".samosa/last_model.json").exists());
}
