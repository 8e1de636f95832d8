//! Downloads that end early, meet each other, or find something in their place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fetch::{Error, FetchSettings, Fetcher};
use registry::Category;
use registry::provenance::{DownloadRequest, Provenance};

use crate::support::{Bench, CHUNK, Files, Hub, Manner, Reply, TOY_FILES, golden, tag, toy_model, wanted};

const SOURCE: &str = "huggingface:owner/name";

fn total(files: &Files) -> usize {
    TOY_FILES.iter().map(|name| files[*name].len()).sum()
}

/// A Hub whose store falls silent after some requests, until it is told otherwise.
async fn hub_that_falls_silent(files: Files, after: usize) -> (Hub, Arc<AtomicBool>) {
    let healed = Arc::new(AtomicBool::new(false));
    let (heals, seen) = (healed.clone(), AtomicUsize::new(0));
    let cdn = move |_: &_| {
        let silent = seen.fetch_add(1, Ordering::Relaxed) >= after && !heals.load(Ordering::Relaxed);
        silent.then(|| Reply::status(200).manner(Manner::Silent))
    };
    (Hub::with(files, |_| None, cdn).await, healed)
}

/// Fetches until nothing more comes and is dropped.
async fn fetch_and_drop(bench: &Bench, wanted: &DownloadRequest) {
    let patient = FetchSettings { stall_window: Duration::from_mins(1), ..bench.settings.clone() };
    let fetcher = Fetcher::new(patient).unwrap();
    let fetch = fetcher.fetch(wanted, bench.root.path(), &bench.progress);
    let silence = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = bench.progress.snapshot().bytes_done;
            if now > 0 && now == before {
                return;
            }
            before = now;
        }
    };
    tokio::select! {
        fetched = fetch => panic!("{fetched:?}"),
        () = silence => {}
    }
    assert!(!bench.model().exists());
}

#[tokio::test]
async fn what_was_fetched_before_is_not_fetched_again() {
    let files = toy_model(1);
    let (hub, healed) = hub_that_falls_silent(files.clone(), 5).await;
    let bench = Bench::of(&hub);
    fetch_and_drop(&bench, &wanted(SOURCE)).await;
    let before = hub.sent();
    assert!(before > 3 * CHUNK && before < total(&files), "{before} bytes came before the end");
    healed.store(true, Ordering::Relaxed);
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&files, &TOY_FILES);
    assert_eq!(hub.sent(), total(&files), "no piece was sent twice");
    assert_eq!(bench.progress.snapshot().bytes_resumed, before as u64);
}

#[tokio::test]
async fn pieces_of_another_size_go_on_as_well() {
    let files = toy_model(1);
    let (hub, healed) = hub_that_falls_silent(files.clone(), 4).await;
    let mut bench = Bench::of(&hub);
    fetch_and_drop(&bench, &wanted(SOURCE)).await;
    healed.store(true, Ordering::Relaxed);
    bench.settings.chunk_bytes = 10_007;
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&files, &TOY_FILES);
    assert_eq!(hub.sent(), total(&files));
}

#[tokio::test]
async fn staged_bytes_that_rotted_are_found_and_fetched_anew() {
    let files = toy_model(1);
    let (hub, healed) = hub_that_falls_silent(files.clone(), 5).await;
    let bench = Bench::of(&hub);
    fetch_and_drop(&bench, &wanted(SOURCE)).await;
    healed.store(true, Ordering::Relaxed);
    let part = bench.root.path().join(".staging/d20/model_000007.pt.part");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&files, &TOY_FILES);
}

#[tokio::test]
async fn what_another_source_left_is_not_used() {
    let (hub, _) = hub_that_falls_silent(toy_model(1), 5).await;
    let bench = Bench::of(&hub);
    fetch_and_drop(&bench, &wanted(SOURCE)).await;
    let other = Hub::start(toy_model(2)).await;
    let bench = Bench { settings: other.settings(), ..bench };
    // The same names, sizes and commit, but other contents.
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&toy_model(2), &TOY_FILES);
    assert_eq!(other.sent(), total(&toy_model(2)));
}

#[tokio::test]
async fn staging_that_makes_no_sense_is_dropped() {
    let hub = Hub::start(toy_model(1)).await;
    for (name, contents) in [
        ("manifest.json", "{"),
        ("model_000007.pt.part", "short"),
        ("ready/.samosa.json", "{}"),
        ("ready/other.pt", "x"),
        ("strange/file", "x"),
    ] {
        let bench = Bench::of(&hub);
        let path = bench.root.path().join(".staging/d20").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
        bench.fetch(&wanted(SOURCE)).await.unwrap();
        bench.assert_installed(&toy_model(1), &TOY_FILES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_ask_at_once_make_one_download() {
    let files = toy_model(1);
    let hub = Hub::start(files.clone()).await;
    let bench = Arc::new(Bench::of(&hub));
    let fetches: Vec<_> = (0..4)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.fetch(&wanted(SOURCE)).await.unwrap() })
        })
        .collect();
    let mut provenances = Vec::new();
    for fetch in fetches {
        provenances.push(fetch.await.unwrap());
    }
    assert!(provenances.windows(2).all(|pair| pair[0] == pair[1]));
    bench.assert_installed(&files, &TOY_FILES);
    assert_eq!(hub.sent(), total(&files));
}

#[tokio::test]
async fn what_a_person_put_there_stays() {
    let hub = Hub::start(toy_model(1)).await;
    let put: [fn(&std::path::Path); 4] = [
        |path| std::fs::create_dir(path).unwrap(),
        |path| {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("model.pt"), b"mine").unwrap();
        },
        |path| std::fs::write(path, b"mine").unwrap(),
        |path| std::os::unix::fs::symlink("/nowhere", path).unwrap(),
    ];
    for put in put {
        let bench = Bench::of(&hub);
        put(&bench.model());
        let error = bench.fetch(&wanted(SOURCE)).await.unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(error.category(), Category::Storage);
        assert!(std::fs::symlink_metadata(bench.model()).is_ok());
        assert!(!bench.root.path().join(".staging").exists());
    }
    assert!(hub.api.log().is_empty(), "it was refused before anything was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_replaced_without_a_moment_between() {
    let hub = Hub::start(toy_model(1)).await;
    let bench = Bench::of(&hub);
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    for (name, bytes) in toy_model(2) {
        hub.replace(&name, bytes.to_vec());
    }
    let (model, done) = (bench.model(), Arc::new(AtomicBool::new(false)));
    let stop = done.clone();
    // Opens the directory once and reads in it: whichever it is, it is whole.
    let watcher = std::thread::Builder::new().spawn(move || {
        let mut looks = 0;
        while !stop.load(Ordering::Relaxed) {
            let provenance = Provenance::read(&model).unwrap().expect("one of the two is always there");
            assert!(provenance.files.len() == 3);
            looks += 1;
        }
        looks
    });
    let other = DownloadRequest { revision: Some("refs/pr/1".to_owned()), ..wanted(SOURCE) };
    bench.fetch(&other).await.unwrap();
    done.store(true, Ordering::Relaxed);
    assert!(watcher.unwrap().join().unwrap() > 10);
    bench.assert_installed(&toy_model(2), &TOY_FILES);
}

#[tokio::test]
async fn a_model_that_lost_a_file_is_fetched_again() {
    let hub = Hub::start(toy_model(1)).await;
    let bench = Bench::of(&hub);
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    std::fs::remove_file(bench.model().join("tokenizer.pkl")).unwrap();
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&toy_model(1), &TOY_FILES);
}

#[tokio::test]
async fn steps_and_directories_that_are_asked_for() {
    let mut files = toy_model(1);
    for (step, seed) in [(8, 3), (9, 4)] {
        let toy = toy_model(seed);
        files.insert(format!("model_{step:06}.pt"), toy["model_000007.pt"].clone());
        files.insert(format!("meta_{step:06}.json"), toy["meta_000007.json"].clone());
    }
    files.insert("other/model_000001.pt".to_owned(), golden("g7/model_000100.pt"));
    files.insert("other/meta_000001.json".to_owned(), golden("g7/meta_000100.json"));
    files.insert("other/tokenizer.pkl".to_owned(), golden("tokenizer/tokenizer.pkl"));
    let hub = Hub::start(files.clone()).await;
    let bench = Bench::of(&hub);
    assert_eq!(bench.fetch(&wanted(SOURCE)).await.unwrap().step, Some(9), "the latest");
    let eighth = DownloadRequest { step: Some(8), ..wanted(SOURCE) };
    assert_eq!(bench.fetch(&eighth).await.unwrap().step, Some(8));
    bench.assert_installed(&files, &["model_000008.pt", "meta_000008.json", "tokenizer.pkl"]);
    let other = DownloadRequest { directory: Some("other".to_owned()), ..wanted(SOURCE) };
    assert_eq!(bench.fetch(&other).await.unwrap().directory.as_deref(), Some("other"));
    let missing = DownloadRequest { step: Some(5), ..wanted(SOURCE) };
    assert_error!(bench.fetch(&missing).await.unwrap_err(), Error::NoModel { .. });
    let provenance = Provenance::read(&bench.model()).unwrap().unwrap();
    assert_eq!(provenance.directory.as_deref(), Some("other"), "a failure leaves what was there");
    assert!(!bench.root.path().join("d21").exists());
    let renamed = DownloadRequest { tag: tag("d21"), ..eighth };
    bench.fetch(&renamed).await.unwrap();
    assert!(bench.root.path().join("d21/model_000008.pt").exists());
}
