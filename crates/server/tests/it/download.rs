//! Models that are not here yet: a swap fetches them, and what a source does wrong changes nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path as InPath;
use axum::http::{StatusCode, header};
use axum::routing::get;
use fetch::{FetchSettings, Fetcher};
use futures_util::stream::{self, StreamExt};
use registry::{Offer, Tag};
use serde_json::{Value, json};
use server::Options;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Ask, Server, ask, goldens, options_in, storage, weights, with};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with one repository, `someone/far`, of these files. Returns its address.
async fn hub(files: BTreeMap<String, Vec<u8>>) -> String {
    slow_hub(files, watch::channel(true).1).await
}

/// The same; the end of each file waits until `go_on` says so.
async fn slow_hub(files: BTreeMap<String, Vec<u8>>, go_on: watch::Receiver<bool>) -> String {
    let files = Arc::new(files);
    let listed: Vec<Value> = files
        .iter()
        .map(|(path, bytes)| json!({ "type": "file", "path": path, "size": bytes.len() }))
        .collect();
    let file = async move |InPath(path): InPath<String>| {
        let bytes = Bytes::from(files.get(&path).cloned().ok_or(StatusCode::NOT_FOUND)?);
        let length = [(header::CONTENT_LENGTH, bytes.len())];
        let cut = bytes.len().saturating_sub(1000);
        let (most, rest) = (bytes.slice(..cut), bytes.slice(cut..));
        let mut go_on = go_on.clone();
        let rest = async move {
            // A test that is over holds nothing back.
            let _ = go_on.wait_for(|go_on| *go_on).await;
            rest
        };
        let parts = stream::iter([most]).chain(stream::once(rest)).map(Ok::<_, Infallible>);
        Ok::<_, StatusCode>((length, Body::from_stream(parts)))
    };
    let resolve = format!("/someone/far/resolve/{COMMIT}/{{*path}}");
    let tree = format!("/api/models/someone/far/tree/{COMMIT}");
    let app = Router::new()
        .route("/api/models/someone/far/revision/main", get(async || axum::Json(json!({ "sha": COMMIT }))))
        .route(&tree, get(async || axum::Json(listed)))
        .route(&resolve, get(file));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_count_while_they_come() {
    let root = storage(&["g7"]);
    let (go_on, gone_on) = watch::channel(false);
    let endpoint = slow_hub(model("g6"), gone_on).await;
    let server = Arc::new(Server::start(options(root.path(), &endpoint)).await);
    let swap = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.swap("far").await.status }
    });
    // Bytes count once they are written, a megabyte at a time.
    let here = |stats: &Value| stats["swap"]["current"]["download"]["bytes_done"].as_u64() > Some(1 << 20);
    server.until("most of it is here", here).await;
    let (total, expected) = ("samosa_download_bytes_total", "samosa_download_expected_bytes");
    let so_far = server.metric(total).await;
    let whole = server.metric(expected).await;
    assert!(so_far > 1_000_000.0 && so_far < whole, "{so_far} of {whole}");
    assert!(server.metric("samosa_download_present_bytes").await >= so_far);
    assert!(!swap.is_finished());
    go_on.send_replace(true);
    assert_eq!(swap.await.unwrap(), 202);
    assert_eq!((server.metric(total).await, server.metric(expected).await), (whole, 0.0));
}

/// The files of a golden and of its tokenizer.
fn model(case: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for directory in [case, "tokenizer"] {
        for entry in std::fs::read_dir(goldens().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

/// `g7` serves, and `far` and `lost` are offered.
fn options(root: &Path, endpoint: &str) -> Options {
    let offer = |tag: &str| Offer {
        tag: Tag::new(tag).unwrap(),
        source: format!("huggingface:someone/{tag}").parse().unwrap(),
    };
    let settings = FetchSettings { hf_endpoint: endpoint.to_owned(), ..FetchSettings::default() };
    with(options_in(root, "g7"), |models| {
        models.offers = vec![offer("far"), offer("lost")];
        models.fetcher = Fetcher::new(settings).unwrap();
    })
}

fn listed<'a>(models: &'a Value, tag: &str) -> &'a Value {
    models["models"].as_array().unwrap().iter().find(|model| model["model_tag"] == tag).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offered_model_is_fetched_by_the_swap_to_it() {
    let root = storage(&["g7", "g6"]);
    let alone = Server::start(options_in(root.path(), "g6")).await.told(&ask("Hello!", 0.0, 16)).await.text();
    let endpoint = hub(model("g6")).await;
    let server = Server::start(options(root.path(), &endpoint)).await;
    let far =
        json!({ "model_tag": "far", "source": "huggingface:someone/far", "path": "far", "loaded": false });
    assert_eq!(listed(&server.get("/models").await, "far"), &far);
    let reply = server.swap("far").await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json().await, json!({ "status": "ok", "current_model": "far" }));
    assert_eq!(server.told(&ask("Hello!", 0.0, 16)).await.text(), alone);
    let models = server.get("/models").await;
    let far = listed(&models, "far");
    assert_eq!((&far["source"], &far["loaded"]), (&json!("huggingface:someone/far"), &json!(true)));
    let stats = server.get("/stats").await;
    let download = &stats["swap"]["last"]["download"];
    assert_eq!((&download["files_done"], &download["bytes_done"]), (&json!(3), &download["bytes_total"]));
    assert!(server.metric("samosa_download_bytes_total").await > 100_000.0);
    assert_eq!(
        std::fs::read(weights(root.path(), "far")).unwrap(),
        std::fs::read(weights(root.path(), "g6")).unwrap()
    );
    assert_eq!(server.swap("far").await.json().await["status"], "ok", "it is there and unchanged");
    assert_eq!(server.get("/stats").await["swap"]["last"]["swap_id"], 2, "so nothing was begun");
    let again = Server::start(with(options(root.path(), "http://127.0.0.1:9"), |models| {
        models.default_tag = Tag::new("far");
    }));
    assert_eq!(again.await.get("/health").await["current_model"], "far", "and no source is asked for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_revision_of_the_live_tag_is_not_passed_over() {
    let root = storage(&["g7"]);
    let endpoint = hub(model("g6")).await;
    let server = Server::start(options(root.path(), &endpoint)).await;
    assert_eq!(server.swap("far").await.status, 202);
    let said = "[[model]]\ntag = \"far\"\nsource = \"huggingface:someone/far\"\nrevision = \"v2\"\n";
    std::fs::write(root.path().join("models.toml"), said).unwrap();
    let reply = server.swap("far").await;
    assert_eq!((reply.status, reply.problem().await["code"].clone()), (502, json!("source_failed")));
    assert_eq!(server.get("/health").await["current_model"], "far", "the one that is here goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_is_502_and_the_old_model_goes_on() {
    let root = storage(&["g7"]);
    let mut damaged = model("g6");
    damaged.insert("model_000102.pt".to_owned(), b"not found".to_vec());
    let endpoint = hub(damaged).await;
    let server = Server::start(options(root.path(), &endpoint)).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await.text();
    let lost = server.swap("lost").await;
    assert_eq!(lost.status, 502);
    let problem = lost.problem().await;
    assert_eq!(problem["code"], "source_failed");
    assert!(problem["detail"].as_str().unwrap().contains("someone/lost"), "{problem}");
    let damaged = server.swap("far").await;
    assert_eq!((damaged.status, damaged.problem().await["code"].clone()), (422, json!("bad_checkpoint")));
    assert_eq!(server.told(&ask("Hello!", 0.0, 16)).await.text(), before);
    let stats = server.get("/stats").await;
    assert_eq!((&stats["status"], &stats["swap"]["last"]["outcome"]), (&json!("ok"), &json!("failed")));
    let text = stats["swap"].to_string();
    assert!(!text.contains(root.path().to_str().unwrap()), "{text}");
    assert_eq!(server.send(Ask::new("GET", "/readyz")).await.status, 200);
}
