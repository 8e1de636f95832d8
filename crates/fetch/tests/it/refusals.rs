//! What is refused, and what the refusal says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fetch::{Error, FetchSettings};
use registry::models_file::Pins;
use registry::provenance::DownloadRequest;
use registry::{Category, Identity};
use serde_json::json;

use crate::support::{
    self, Bench, COMMIT, Files, Hub, Reply, Request, TOY_FILES, files, settings, sha256, toy_model, wanted,
};

const SOURCE: &str = "huggingface:owner/name";

async fn refusal(hub: &Hub, settings: FetchSettings) -> Error {
    let bench = Bench::new(FetchSettings { hf_endpoint: hub.api.url(), ..settings });
    let error = bench.fetch(&wanted(SOURCE)).await.unwrap_err();
    assert!(!bench.model().exists(), "nothing is installed");
    let text = format!("{error} {error:?} {}", error.public());
    for secret in ["hf_token_of_a_test", "secret_of_the_store", "/tmp"] {
        assert!(!text.contains(secret), "{text}");
    }
    error
}

fn to_files(hub: &Hub) -> FetchSettings {
    FetchSettings { redirect_hosts: vec![hub.cdn.host.clone()], ..settings() }
}

#[tokio::test]
async fn redirects_go_to_hosts_of_the_list_alone() {
    let hub = Hub::start(toy_model(1)).await;
    let cdn = format!("http://{}", hub.cdn.host);
    let error = refusal(&hub, settings()).await;
    assert_error!(error, Error::Redirect { from, to } if *from == hub.api.host && *to == cdn);
    assert!(hub.cdn.log().is_empty(), "it was not even asked");
    for location in ["file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "//127.0.0.2/x"] {
        let api = move |request: &Request| {
            request.target.contains("/resolve/").then(|| Reply::status(302).with("Location", location))
        };
        let hub = Hub::with(toy_model(1), api, |_| None).await;
        assert_error!(refusal(&hub, to_files(&hub)).await, Error::Redirect { .. });
    }
    let circle = |request: &Request| Some(Reply::status(302).with("Location", request.target.clone()));
    let hub = Hub::with(toy_model(1), circle, |_| None).await;
    let error = refusal(&hub, to_files(&hub)).await;
    assert_error!(error, Error::Unreachable { reason, .. } if reason.contains("5 redirects"));
}

#[tokio::test]
async fn the_hub_says_why_and_we_say_what_to_do() {
    let refused = async |status: u16, code: &'static str| {
        let api = move |_: &Request| Some(Reply::status(status).with("X-Error-Code", code));
        let hub = Hub::with(toy_model(1), api, |_| None).await;
        let error = refusal(&hub, to_files(&hub)).await;
        assert_eq!(error.category(), Category::SourceFailed);
        assert_eq!(hub.api.log().len(), 1, "asked once");
        error
    };
    for status in [401, 403] {
        assert_error!(refused(status, "GatedRepo").await, Error::Gated { .. });
    }
    for status in [401, 404] {
        assert_error!(refused(status, "RepoNotFound").await, Error::RepositoryNotFound { .. });
    }
    assert_error!(refused(404, "RevisionNotFound").await, Error::RevisionNotFound { .. });
    assert_error!(refused(451, "").await, Error::Status { status: 451, .. });
    let hub = Hub::start(toy_model(1)).await;
    let bench = Bench::of(&hub);
    let mut other = wanted(SOURCE);
    other.revision = Some("v9".to_owned());
    let error = bench.fetch(&other).await.unwrap_err();
    assert_error!(error, Error::RevisionNotFound { revision, .. } if revision == "v9");
    let error = bench.fetch(&wanted("huggingface:owner/other")).await.unwrap_err();
    assert_error!(error, Error::RepositoryNotFound { repository } if repository == "owner/other");
}

#[tokio::test]
async fn nothing_is_asked_offline() {
    let hub = Hub::start(toy_model(1)).await;
    let bench = Bench::new(FetchSettings { offline: true, ..hub.settings() });
    let error = bench.fetch(&wanted(SOURCE)).await.unwrap_err();
    assert_eq!(error.category(), Category::SourceFailed);
    assert_error!(error, Error::Offline { .. });
    assert!(hub.api.log().is_empty());
    assert_error!(bench.fetch(&wanted("local:/srv/d20")).await.unwrap_err(), Error::NotRemote { .. });
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_never_written() {
    let mut hostile = toy_model(1);
    for name in
        ["../../model_000009.pt", "/tmp/x/model_000009.pt", "a/../model_000009.pt", "..\\model_000009.pt"]
    {
        hostile.insert(name.to_owned(), std::sync::Arc::new(vec![9; 100]));
        hostile
            .insert(name.replace("model_000009.pt", "meta_000009.json"), std::sync::Arc::new(vec![9; 100]));
    }
    let hub = Hub::start(hostile.clone()).await;
    let bench = Bench::of(&hub);
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&hostile, &TOY_FILES);
}

#[tokio::test]
async fn an_index_cannot_name_files_outside_or_twice() {
    let with_index = |map: serde_json::Value| -> Files {
        let index = json!({ "weight_map": map }).to_string().into_bytes();
        files([
            ("model.safetensors.index.json", index),
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{}".to_vec()),
            ("a.safetensors", vec![0; 10]),
        ])
    };
    let refused = async |map| {
        let hub = Hub::start(with_index(map)).await;
        refusal(&hub, to_files(&hub)).await
    };
    for map in [json!({ "x": "../../etc/passwd" }), json!({ "x": ".samosa.json" }), json!({})] {
        assert_error!(refused(map).await, Error::Listing { .. });
    }
    let twice = refused(json!({ "x": "config.json" })).await;
    assert_error!(twice, Error::Duplicate { name, .. } if name == "config.json");
    let missing = refused(json!({ "x": "b.safetensors" })).await;
    assert_error!(missing, Error::FileNotFound { file, .. } if file == "b.safetensors");
}

#[tokio::test]
async fn lists_without_end_are_cut() {
    let pages = AtomicUsize::new(0);
    let endless = move |request: &Request| {
        let n = pages.fetch_add(1, Ordering::Relaxed);
        let next = format!("</api/models/owner/name/tree/{COMMIT}?cursor={n}>; rel=\"next\"");
        request.target.contains("/tree/").then(|| Reply::body(200, "[]").with("Link", next))
    };
    let hub = Hub::with(toy_model(1), endless, |_| None).await;
    let error = refusal(&hub, to_files(&hub)).await;
    assert_error!(error, Error::Listing { reason, .. } if reason.contains("500 pages"));

    let entry = |i: usize| json!({ "type": "file", "path": format!("f{i}"), "size": 1 });
    let many = json!((0..20_001).map(entry).collect::<Vec<_>>()).to_string();
    let huge =
        move |request: &Request| request.target.contains("/tree/").then(|| Reply::body(200, many.clone()));
    let hub = Hub::with(toy_model(1), huge, |_| None).await;
    let error = refusal(&hub, to_files(&hub)).await;
    assert_error!(error, Error::Listing { reason, .. } if reason.contains("20000 files"));

    let fat = |request: &Request| {
        request.target.contains("/tree/").then(|| Reply::body(200, vec![b' '; (16 << 20) + 1]))
    };
    let hub = Hub::with(toy_model(1), fat, |_| None).await;
    let settings = FetchSettings { stall_window: Duration::from_secs(5), ..to_files(&hub) };
    let error = refusal(&hub, settings).await;
    assert_error!(error, Error::Listing { reason, .. } if reason.contains("16777216 bytes"));

    let elsewhere = |request: &Request| {
        let next = "<https://evil.example/page>; rel=\"next\"";
        request.target.contains("/tree/").then(|| Reply::body(200, "[]").with("Link", next))
    };
    let hub = Hub::with(toy_model(1), elsewhere, |_| None).await;
    let error = refusal(&hub, to_files(&hub)).await;
    assert_error!(error, Error::Listing { reason, .. } if reason.contains("evil.example"));
}

#[tokio::test]
async fn sizes_are_checked_before_anything_is_written() {
    let hub = Hub::start(toy_model(1)).await;
    let error = refusal(&hub, FetchSettings { max_bytes: 100_000, ..to_files(&hub) }).await;
    assert_error!(error, Error::TooLarge { limit: 100_000, hint, .. } if hint.contains("DOWNLOAD_MAX_GB"));
    let error = refusal(&hub, FetchSettings { reserve_bytes: u64::MAX / 4, ..to_files(&hub) }).await;
    assert_eq!(error.category(), Category::StorageFull);
    assert_error!(error, Error::StorageFull { .. });
    let big = json!([
        { "type": "file", "path": "model_000001.pt", "size": 10 },
        { "type": "file", "path": "meta_000001.json", "size": (64_u64 << 20) + 1 },
        { "type": "file", "path": "tokenizer.pkl", "size": 10 },
    ]);
    let api =
        move |request: &Request| request.target.contains("/tree/").then(|| Reply::body(200, big.to_string()));
    let hub = Hub::with(toy_model(1), api, |_| None).await;
    let error = refusal(&hub, to_files(&hub)).await;
    assert_error!(error, Error::TooLarge { what, bytes: 67_108_865, .. } if what == "meta_000001.json");
    assert!(hub.cdn.log().is_empty());
}

#[tokio::test]
async fn answers_that_are_not_the_hubs_are_said_to_be_so() {
    for body in ["<html>", "[]", "{\"sha\":\"../../x\"}", "{\"sha\":1}"] {
        let hub = Hub::with(toy_model(1), move |_| Some(Reply::body(200, body)), |_| None).await;
        assert_error!(refusal(&hub, to_files(&hub)).await, Error::Listing { .. });
    }
    let talkative = json!({ "sha": { "x".repeat(1 << 20): 1 } }).to_string();
    let endless = json!([{ "type": "file", "path": "a", "size": "x".repeat(1 << 20) }]).to_string();
    let api =
        move |request: &Request| request.target.contains("/tree/").then(|| Reply::body(200, endless.clone()));
    for hub in [
        Hub::with(toy_model(1), move |_| Some(Reply::body(200, talkative.clone())), |_| None).await,
        Hub::with(toy_model(1), api, |_| None).await,
    ] {
        let error = refusal(&hub, to_files(&hub)).await;
        assert_error!(error, Error::Listing { reason, .. } if reason.len() < 300);
    }
    let hub = Hub::start(files([("README.md", vec![])])).await;
    let error = refusal(&hub, to_files(&hub)).await;
    assert_eq!(error.category(), Category::BadCheckpoint);
    assert_error!(error, Error::NoModel { .. });
}

#[tokio::test]
async fn pins_are_held_to() {
    let toy = toy_model(1);
    let hub = Hub::start(toy.clone()).await;
    let weights = sha256(&toy["model_000007.pt"]);
    let hashes = TOY_FILES.map(|name| (name.to_owned(), sha256(&toy[name]))).into();
    let files = |pins: [(&str, String); 1]| {
        Some(Pins::Files(pins.map(|(name, hash)| (name.to_owned(), hash)).into()))
    };
    let right = [
        Some(Pins::Weights(weights.to_uppercase())),
        Some(Pins::Weights(Identity::of(&hashes).to_string())),
        files([("meta_000007.json", sha256(&toy["meta_000007.json"]))]),
    ];
    for sha256 in right {
        let bench = Bench::of(&hub);
        bench.fetch(&DownloadRequest { sha256, ..wanted(SOURCE) }).await.unwrap();
        bench.assert_installed(&toy, &TOY_FILES);
    }
    let wrong = "0".repeat(64);
    for sha256 in [
        Some(Pins::Weights(wrong.clone())),
        files([("meta_000007.json", wrong.clone())]),
        files([("model_000007.pt", wrong.clone())]),
        files([("other.pt", weights.clone())]),
    ] {
        let bench = Bench::of(&hub);
        let error = bench.fetch(&DownloadRequest { sha256, ..wanted(SOURCE) }).await.unwrap_err();
        assert!(matches!(error, Error::PinMismatch { .. }), "{error}");
        assert!(!bench.model().exists());
    }
    // What the source itself says otherwise is not fetched first.
    let before = hub.sent();
    let sha256 = files([("model_000007.pt", wrong)]);
    Bench::of(&hub).fetch(&DownloadRequest { sha256, ..wanted(SOURCE) }).await.unwrap_err();
    assert_eq!(hub.sent(), before);
}

#[tokio::test]
async fn logs_hold_no_secret() {
    let failing = AtomicUsize::new(0);
    let cdn = move |_: &Request| (failing.fetch_add(1, Ordering::Relaxed) < 2).then(|| Reply::status(500));
    let hub = Hub::with(toy_model(1), |_| None, cdn).await;
    Bench::of(&hub).fetch(&wanted(SOURCE)).await.unwrap();
    let (ours, url) = (support::logged(), hub.api.url());
    let host = url.trim_start_matches("http://");
    let retried = |line: &&String| line.contains("made again: status 500") && line.contains(host);
    assert!(ours.iter().any(|line| retried(&line)), "the retries of {host} are logged");
    assert!(ours.iter().any(|line| line.contains("downloading a model")), "so are downloads");
    for secret in ["hf_token_of_a_test", "secret_of_the_store"] {
        let told: Vec<&String> = ours.iter().filter(|line| line.contains(secret)).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}
