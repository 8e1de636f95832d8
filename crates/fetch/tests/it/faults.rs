//! Servers that fail, lie, stall or break off: what heals is tried again from where it stopped, and what does
//! not is an error that says what happened.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fetch::Error;
use registry::Category;
use tokio::time::Instant;

use crate::support::{
    Bench, CHUNK, Files, Hub, Manner, Reply, Request, TOY_FILES, golden, toy_model, wanted,
};

const SOURCE: &str = "huggingface:owner/name";
const WEIGHTS: &str = "model_000007.pt";

/// Calls `wrong` for the first requests that `concerns`, and for none after.
fn first(
    times: usize,
    concerns: impl Fn(&Request) -> bool + Send + Sync + 'static,
    wrong: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static {
    let seen = AtomicUsize::new(0);
    move |request| {
        let now = concerns(request) && seen.fetch_add(1, Ordering::Relaxed) < times;
        now.then(|| wrong(request))
    }
}

/// What a server says instead.
type Wrong = dyn Fn(&Request) -> Reply + Send + Sync;

fn is_weights(request: &Request) -> bool {
    request.target.contains(WEIGHTS)
}

/// A Hub whose store answers otherwise, and what fetching from it gives.
async fn fetch_from(
    cdn: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Hub, Bench, Result<(), Error>) {
    let hub = Hub::with(toy_model(1), |_| None, cdn).await;
    let bench = Bench::of(&hub);
    let fetched = bench.fetch(&wanted(SOURCE)).await.map(|_| ());
    (hub, bench, fetched)
}

fn assert_fetched(bench: &Bench, fetched: Result<(), Error>) {
    fetched.unwrap();
    bench.assert_installed(&toy_model(1), &TOY_FILES);
}

fn total(files: &Files) -> usize {
    TOY_FILES.iter().map(|name| files[*name].len()).sum()
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says() {
    let busy = first(1, |_| true, |_| Reply::status(429).with("Retry-After", "1"));
    let start = Instant::now();
    let (_, bench, fetched) = fetch_from(busy).await;
    assert_fetched(&bench, fetched);
    assert!(start.elapsed() >= Duration::from_secs(1), "its wait is kept");
    assert_eq!(bench.progress.snapshot().retries, 1);
}

#[tokio::test]
async fn failures_that_pass_are_not_seen() {
    for status in [500, 502, 503, 504, 408, 425, 429] {
        let (_, bench, fetched) = fetch_from(first(3, |_| true, move |_| Reply::status(status))).await;
        assert_fetched(&bench, fetched);
        assert_eq!(bench.progress.snapshot().retries, 3, "{status}");
    }
    let api = first(3, |_| true, |_| Reply::status(503));
    let hub = Hub::with(toy_model(1), api, |_| None).await;
    let bench = Bench::of(&hub);
    assert_fetched(&bench, bench.fetch(&wanted(SOURCE)).await.map(|_| ()));
}

#[tokio::test]
async fn a_server_that_only_fails_is_given_up() {
    let (hub, bench, fetched) = fetch_from(|_| Some(Reply::status(500))).await;
    let error = fetched.unwrap_err();
    assert_eq!(error.category(), Category::SourceFailed);
    assert_error!(error, Error::Unreachable { host, attempts: 4, .. } if *host == hub.api.host);
    assert!(!bench.model().exists());
}

#[tokio::test]
async fn other_refusals_are_not_tried_again() {
    let (hub, bench, fetched) = fetch_from(|request| {
        is_weights(request).then(|| Reply::body(403, "<Error><Code>AccessDenied</Code></Error>"))
    })
    .await;
    assert_eq!(fetched.unwrap_err().to_string(), format!("{} answered 403: AccessDenied", hub.cdn.host));
    assert_eq!(bench.progress.snapshot().retries, 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_on_where_it_stopped() {
    let cut = first(3, is_weights, |request| {
        let bytes = &toy_model(1)[WEIGHTS];
        Reply::file(request, bytes).manner(Manner::Cut(5000))
    });
    let (hub, bench, fetched) = fetch_from(cut).await;
    assert_fetched(&bench, fetched);
    assert_eq!(hub.sent(), total(&toy_model(1)), "no byte twice");
    assert_eq!(bench.progress.snapshot().retries, 3);
}

#[tokio::test]
async fn connections_that_die_or_stall_or_trickle_are_cut() {
    for manner in [Manner::Drop, Manner::Silent, Manner::Stall(3000), Manner::Stall(0), Manner::Trickle] {
        let wrong =
            first(1, is_weights, move |request| Reply::file(request, &toy_model(1)[WEIGHTS]).manner(manner));
        let start = Instant::now();
        let (_, bench, fetched) = fetch_from(wrong).await;
        assert_fetched(&bench, fetched);
        assert_eq!(bench.progress.snapshot().retries, 1, "{manner:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{manner:?} took {:?}", start.elapsed());
    }
    let (_, _, fetched) = fetch_from(|request| {
        is_weights(request).then(|| Reply::file(request, &toy_model(1)[WEIGHTS]).manner(Manner::Trickle))
    })
    .await;
    let error = fetched.unwrap_err().to_string();
    assert!(error.contains("failed 4 times") && error.contains("bytes came in 0.6 s"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_listen_is_named() {
    let hub = Hub::start(toy_model(1)).await;
    let mut settings = hub.settings();
    // Bound and let go: nobody listens there.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    settings.hf_endpoint = format!("http://{address}");
    let error = Bench::new(settings).fetch(&wanted(SOURCE)).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{address} failed 4 times")) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_without_ranges_is_read_in_one_go() {
    let whole = |request: &Request| {
        let path = request.target.split('?').next().unwrap().trim_start_matches("/blob/");
        Some(Reply::body(200, toy_model(1)[path].to_vec()))
    };
    let (_, bench, fetched) = fetch_from(whole).await;
    assert_fetched(&bench, fetched);
    assert_eq!(bench.progress.snapshot().bytes_done, total(&toy_model(1)) as u64);
    // One that forgets how after a part that broke off sends it once more, and it counts once.
    let cut = first(1, is_weights, |request| {
        Reply::file(request, &toy_model(1)[WEIGHTS]).manner(Manner::Cut(5000))
    });
    let (_, bench, fetched) = fetch_from(move |request| cut(request).or_else(|| whole(request))).await;
    assert_fetched(&bench, fetched);
    assert_eq!(bench.progress.snapshot().bytes_done, total(&toy_model(1)) as u64);
    // One that breaks off, too, begins anew.
    let broken = first(
        2,
        |request| is_weights(request) && request.range().is_none(),
        |_| Reply::body(200, toy_model(1)[WEIGHTS].to_vec()).manner(Manner::Cut(100_000)),
    );
    let (_, bench, fetched) = fetch_from(move |request| broken(request).or_else(|| whole(request))).await;
    assert_fetched(&bench, fetched);
    let progress = bench.progress.snapshot();
    assert_eq!((progress.bytes_done, progress.retries), (total(&toy_model(1)) as u64, 2));
}

#[tokio::test]
async fn answers_that_are_not_what_was_asked_for_are_not_written() {
    let bytes = || toy_model(1)[WEIGHTS].clone();
    let shifted = move |request: &Request| {
        let range = request.range().unwrap();
        let value = format!("bytes {}-{}/{}", range.start + 1, range.end, bytes().len());
        Reply::body(206, vec![0; range.len()]).with("Content-Range", value)
    };
    let missing = |request: &Request| Reply::body(206, vec![0; request.range().unwrap().len()]);
    let longer = move |request: &Request| {
        let mut reply = Reply::file(request, &bytes());
        reply.body.extend([0; 100]);
        reply
    };
    let encoded = move |request: &Request| Reply::file(request, &bytes()).with("Content-Encoding", "gzip");
    let wrong: [Box<Wrong>; 4] = [Box::new(shifted), Box::new(missing), Box::new(longer), Box::new(encoded)];
    for wrong in wrong {
        let (_, bench, fetched) = fetch_from(first(2, is_weights, wrong)).await;
        assert_fetched(&bench, fetched);
        assert_eq!(bench.progress.snapshot().retries, 2);
    }
}

#[tokio::test]
async fn bytes_that_were_altered_on_the_way_are_fetched_once_more_and_then_refused() {
    let flip = |request: &Request| {
        let mut reply = Reply::file(request, &toy_model(1)[WEIGHTS]);
        reply.body[17] ^= 1;
        reply
    };
    let (_, bench, fetched) = fetch_from(first(1, is_weights, flip)).await;
    assert_fetched(&bench, fetched);

    let (hub, bench, fetched) = fetch_from(move |request| is_weights(request).then(|| flip(request))).await;
    let error = fetched.unwrap_err();
    let Error::DigestMismatch { file, expected, found } = &error else {
        panic!("{error}");
    };
    assert_eq!((file.as_str(), expected), (WEIGHTS, &crate::support::sha256(&toy_model(1)[WEIGHTS])));
    assert_ne!(expected, found);
    assert!(!bench.model().exists());
    let staging = bench.root.path().join(".staging/d20");
    assert!(!staging.join("model_000007.pt.part").exists(), "nothing builds on wrong bytes");
    let pieces = toy_model(1)[WEIGHTS].len().div_ceil(CHUNK);
    let asked = hub.cdn.log().iter().filter(|logged| is_weights(&logged.request)).count();
    assert_eq!(asked, 2 * pieces, "one fresh attempt");
    let others = hub.cdn.log().iter().filter(|logged| !is_weights(&logged.request)).count();
    assert_eq!(others, 1, "what was right is kept");
}

#[tokio::test]
async fn a_sharded_model_comes_with_the_shards_of_its_index() {
    let index =
        r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let mut files = crate::support::files([
        ("hf/model.safetensors.index.json", index.as_bytes().to_vec()),
        ("hf/model-00001-of-00002.safetensors", vec![1; 100_000]),
        ("hf/model-00002-of-00002.safetensors", vec![2; 100_000]),
        ("hf/model-00003-of-00002.safetensors", vec![3; 100_000]),
        ("hf/config.json", b"{}".to_vec()),
    ]);
    files.insert("hf/tokenizer.json".to_owned(), golden("tokenizer/tokenizer.pkl"));
    let hub = Hub::start(files.clone()).await;
    let bench = Bench::of(&hub);
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    let names: Vec<&str> = files.keys().map(String::as_str).filter(|name| !name.contains("00003")).collect();
    bench.assert_installed(&files, &names);
}

#[tokio::test]
async fn many_downloads_through_a_bad_line_come_out_right() {
    let seen = AtomicUsize::new(0);
    let cdn = move |request: &Request| {
        let n = seen.fetch_add(1, Ordering::Relaxed);
        let reply = || Reply::file(request, &toy_model(1)[WEIGHTS]);
        match n % 5 {
            _ if !is_weights(request) => None,
            0 => Some(reply().manner(Manner::Cut(20_000))),
            2 => Some(Reply::status(503)),
            3 => Some(reply().manner(Manner::Drop)),
            _ => None,
        }
    };
    let hub = Hub::with(toy_model(1), |_| None, cdn).await;
    let mut bench = Bench::of(&hub);
    // Which piece meets which failure is chance: one may meet several in a row.
    bench.settings.retry.attempts = 50;
    bench.settings.chunk_bytes = 10_000;
    assert_fetched(&bench, bench.fetch(&wanted(SOURCE)).await.map(|_| ()));
    assert!(bench.progress.snapshot().retries > 20);
}
