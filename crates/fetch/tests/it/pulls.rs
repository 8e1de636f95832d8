//! Whole downloads in every layout, and what of them is asked for.

use registry::provenance::Provenance;
use registry::{Catalog, Identity, open};

use crate::support::{Bench, CHUNK, COMMIT, Files, Hub, TOY_FILES, golden, tag, toy_model, wanted};

const SOURCE: &str = "huggingface:owner/name";

/// The golden checkpoint under the names that a repository may give it.
fn golden_files(weights: &str, meta: &str, tokenizer: &str) -> Files {
    [
        (weights.to_owned(), golden("g7/model_000100.pt")),
        (meta.to_owned(), golden("g7/meta_000100.json")),
        (tokenizer.to_owned(), golden("tokenizer/tokenizer.pkl")),
    ]
    .into()
}

/// The model can be found, understood and has the hashes that were recorded.
fn assert_usable(bench: &Bench) {
    let catalog = Catalog::new(Some(bench.root.path().to_owned()));
    let verified = open::open(&catalog, &catalog.find(&tag("d20")).unwrap(), None).unwrap();
    let provenance = Provenance::read(&bench.model()).unwrap().unwrap();
    assert_eq!(verified.identity, Identity::of(&provenance.hashes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_repository_is_pulled_in_pieces_and_runs() {
    let names = ["model_000100.pt", "meta_000100.json", "tokenizer.pkl"];
    let files = golden_files(names[0], names[1], names[2]);
    let hub = Hub::start(files.clone()).await;
    let bench = Bench::of(&hub);
    let provenance = bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&files, &names);
    assert_eq!((provenance.source.as_str(), provenance.revision.as_deref()), (SOURCE, None));
    assert_eq!((provenance.commit.as_deref(), provenance.step), (Some(COMMIT), Some(100)));
    let weights = files[names[0]].len();
    let pieces = hub.cdn.log().iter().filter(|l| l.request.target.contains("model_")).count();
    assert_eq!(pieces, weights.div_ceil(CHUNK));
    assert!(hub.cdn.most_at_once() > 1, "pieces are asked for side by side");
    let total: usize = files.values().map(|bytes| bytes.len()).sum();
    assert_eq!(hub.sent(), total, "every byte is sent once");
    let progress = bench.progress.snapshot();
    assert_eq!((progress.bytes_done, progress.bytes_total), (total as u64, total as u64));
    assert_eq!((progress.files_done, progress.files_total, progress.retries), (3, 3, 0));
    assert_usable(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_directory_is_flattened() {
    let names = [
        "chatsft_checkpoints/d20/model_000100.pt",
        "chatsft_checkpoints/d20/meta_000100.json",
        "tokenizer/tokenizer.pkl",
    ];
    let mut files = golden_files(names[0], names[1], names[2]);
    files.extend(golden_files(
        "base_checkpoints/d20/model_000900.pt",
        "base_checkpoints/d20/meta_000900.json",
        "x",
    ));
    let hub = Hub::start(files.clone()).await;
    let bench = Bench::of(&hub);
    let provenance = bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&files, &names);
    assert_eq!(provenance.directory.as_deref(), Some("chatsft_checkpoints/d20"));
    assert_usable(&bench);
}

#[tokio::test]
async fn the_token_goes_to_the_hub_alone() {
    let hub = Hub::start(toy_model(1)).await;
    let bench = Bench::of(&hub);
    bench.fetch(&wanted(SOURCE)).await.unwrap();
    bench.assert_installed(&toy_model(1), &TOY_FILES);
    assert!(
        hub.api.log().iter().all(|l| l.request.header("authorization") == Some("Bearer hf_token_of_a_test"))
    );
    assert!(hub.cdn.log().iter().all(|l| l.request.header("authorization").is_none()));
    assert!(hub.cdn.log().len() > 3);
}

#[tokio::test]
async fn bytes_are_asked_for_as_they_are() {
    let hub = Hub::start(toy_model(1)).await;
    Bench::of(&hub).fetch(&wanted(SOURCE)).await.unwrap();
    for server in [&hub.api, &hub.cdn] {
        assert!(server.log().iter().all(|l| l.request.header("accept-encoding") == Some("identity")));
    }
}

#[tokio::test]
async fn a_model_that_is_there_costs_no_request() {
    let hub = Hub::start(toy_model(1)).await;
    let bench = Bench::of(&hub);
    let first = bench.fetch(&wanted(SOURCE)).await.unwrap();
    let before = hub.api.log().len();
    assert_eq!(bench.fetch(&wanted(SOURCE)).await.unwrap(), first);
    assert_eq!(hub.api.log().len(), before);
    let mut pinned = wanted(SOURCE);
    pinned.revision = Some("refs/pr/1".to_owned());
    let second = bench.fetch(&pinned).await.unwrap();
    assert_eq!(second.revision.as_deref(), Some("refs/pr/1"), "another revision is another model");
    assert!(hub.api.log().len() > before);
}
