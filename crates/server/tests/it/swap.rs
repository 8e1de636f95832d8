//! Weights change while people chat: nothing is cut, failures change nothing, old memory is given back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use registry::Tag;
use serde_json::{Value, json};
use server::Options;

use crate::support::{
    self, Ask, Server, ask, copy, goldens, options, options_in, spoiled, storage, weights, with,
};

const PROMPTS: [&str; 8] =
    ["Hello!", "Who are you?", "Thank you!", "a", "The fox and the sea", "12 * 7?", "नमस्ते 👋", "x y z"];

fn prefer_swap(tag: &str, prefer: &str) -> Ask {
    Ask::new("POST", "/models/swap").json(&json!({ "model_tag": tag })).header("Prefer", prefer)
}

async fn fails(server: &Server, tag: &str, (status, code): (u16, &str)) -> String {
    let reply = server.swap(tag).await;
    assert_eq!(reply.status, status, "{tag}");
    let problem = reply.problem().await;
    assert_eq!(problem["code"], code, "{tag}: {problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

/// The model that served goes on serving, and `/stats` says why another does not.
async fn still_serves(server: &Server, expected: &str, reason: &str) {
    let health = server.get("/health").await;
    assert_eq!((&health["status"], &health["ready"]), (&json!("ok"), &json!(true)));
    assert_eq!(server.told(&ask("Hello!", 0.0, 16)).await.text(), expected);
    let last = server.get("/stats").await["swap"]["last"].clone();
    assert_eq!((&last["outcome"], &last["reason"]), (&json!("failed"), &json!(reason)), "{last}");
}

async fn solo(options: Options) -> Vec<String> {
    let server = Server::start(options).await;
    let mut texts = Vec::new();
    for (prompt, seed) in PROMPTS.iter().zip(0..) {
        texts.push(server.told_with(&ask(prompt, 0.8, 48), Some(seed)).await.text());
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_eight_streams_refuse_and_cut_none() {
    let root = storage(&["g7"]);
    let mut expected = BTreeMap::new();
    expected.insert("samosa-mini".to_owned(), solo(options()).await);
    expected.insert("g7".to_owned(), solo(options_in(root.path(), "g7")).await);
    assert_ne!(expected["g7"], expected["samosa-mini"]);
    let server = Server::start(options_in(root.path(), "samosa-mini")).await;
    let over = AtomicBool::new(false);
    let stream = async |i: usize| {
        let mut tags = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let told = server.told_with(&ask(PROMPTS[i], 0.8, 48), Some(i as u64)).await;
            let tag = told.last["model_tag"].as_str().unwrap().to_owned();
            assert_eq!(told.text(), expected[&tag][i], "stream {i} on {tag}");
            tags.push(tag);
        }
        tags
    };
    let swaps = async {
        for tag in ["g7", "samosa-mini"].iter().cycle().take(10) {
            let reply = server.swap(tag).await;
            assert_eq!(reply.status, 202);
            assert_eq!(reply.json().await, json!({ "status": "ok", "current_model": tag }));
            let served = server.told(&ask("Hello!", 0.0, 4)).await.last["model_tag"].clone();
            assert_eq!(served, *tag, "whoever comes after the swap gets the new weights");
        }
        over.store(true, Ordering::Relaxed);
    };
    let (tags, ()) = tokio::join!(join_all((0..8).map(stream)), swaps);
    let used: BTreeSet<String> = tags.concat().into_iter().collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["g7", "samosa-mini"], "streams ran on both");
    let stats = server.until("old engines are gone", |stats| stats["retired_engines"] == 0).await;
    for end in ["client_gone", "slow_client", "aborted", "error"] {
        assert_eq!(stats["requests"][end], 0, "{end}");
    }
    // The first load is a swap too.
    assert_eq!(server.metric("samosa_swaps_total{outcome=\"ok\"}").await, 11.0);
    assert_eq!(server.metric("samosa_swaps_total{outcome=\"failed\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_finishes_on_its_weights_and_only_then_they_go() {
    let long = support::long_storage();
    copy(&goldens().join("g6"), &long.path().join("g6"));
    let server = Server::start(support::long_options(long.path())).await;
    let request = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 768));
    let mut reply = server.send(request).await;
    let mut body = reply.piece().await.unwrap();
    assert_eq!(server.swap("g6").await.status, 202);
    assert_eq!(server.get("/health").await["current_model"], "g6");
    server.until("its engine is on its way out", |stats| stats["retired_engines"] == 1).await;
    body.extend(reply.rest().await);
    let told = support::told(&body);
    let counted = &told.last["usage"]["completion_tokens"];
    assert_eq!((&told.last["model_tag"], counted), (&json!("long"), &json!(768)));
    server.until("its engine is gone", |stats| stats["retired_engines"] == 0).await;
    let over = |stats: &Value| stats["swap"]["last"]["phase_seconds"].get("free").is_some();
    let phases = server.until("all phases are over", over).await["swap"]["last"]["phase_seconds"].clone();
    let names: Vec<&String> = phases.as_object().unwrap().keys().collect();
    assert_eq!(names, ["resolve", "download", "verify", "load", "selftest", "cutover", "drain", "free"]);
    assert!(phases["drain"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn the_live_tag_is_ok_at_once_and_changed_files_are_loaded_anew() {
    let root = storage(&["g7"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let ok = json!({ "status": "ok", "current_model": "g7" });
    let reply = server.swap("g7").await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json().await, ok);
    assert_eq!(server.get("/stats").await["swap"]["last"]["swap_id"], 1, "nothing was loaded");
    std::fs::copy(weights(&goldens(), "g7"), root.path().join("g7/model_000101.pt")).unwrap();
    std::fs::copy(root.path().join("g7/meta_000100.json"), root.path().join("g7/meta_000101.json")).unwrap();
    assert_eq!(server.swap("g7").await.json().await, ok);
    let stats = server.get("/stats").await;
    assert_eq!((&stats["swap"]["last"]["swap_id"], &stats["model"]["step"]), (&json!(2), &json!(101)));
}

#[tokio::test]
async fn the_step_that_is_set_is_the_default_models_though_nothing_is_loaded_at_start() {
    let root = storage(&["g7"]);
    std::fs::copy(weights(&goldens(), "g7"), root.path().join("g7/model_000101.pt")).unwrap();
    std::fs::copy(root.path().join("g7/meta_000100.json"), root.path().join("g7/meta_000101.json")).unwrap();
    for load_at_start in [true, false] {
        let mut options = Options { load_at_start, ..options_in(root.path(), "g7") };
        options.models.step = Some(100);
        let server = Server::start(options).await;
        assert_eq!(server.swap("g7").await.status, 202);
        assert_eq!(server.get("/stats").await["model"]["step"], 100);
    }
}

#[tokio::test]
async fn tags_that_do_not_exist_and_tags_like_paths_are_404() {
    let root = storage(&["g7"]);
    let inside = root.path().join("g7");
    let server = Server::start(options_in(root.path(), "g7")).await;
    let absolute = inside.to_str().unwrap();
    for tag in ["d99", "", ".", "..", "../g7", "g7/", "./g7", "a/b", "/etc", absolute, "..\\g7", "g7\0", "G7"]
    {
        let detail = fails(&server, tag, (404, "model_not_found")).await;
        assert!(!detail.contains(absolute), "{detail}");
    }
    assert_eq!(server.get("/health").await["current_model"], "g7");
    assert_eq!(server.get("/stats").await["swap"]["last"]["outcome"], "ok", "a slip is no failed swap");
    assert!(
        !server.get("/stats").await.to_string().contains(root.path().to_str().unwrap()),
        "no path in /stats"
    );
}

#[tokio::test]
async fn a_truncated_file_is_422_and_the_old_model_goes_on() {
    let root = storage(&["g7", "g6", "g5"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await.text();
    for (tag, keep) in [("g6", 0.9), ("g5", 0.001)] {
        let path = weights(root.path(), tag);
        let length = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len((length as f64 * keep) as u64).unwrap();
        let detail = fails(&server, tag, (422, "bad_checkpoint")).await;
        assert!(detail.starts_with("In model_") && detail.ends_with('.'), "{detail}");
        still_serves(&server, &before, &detail).await;
    }
    std::fs::write(weights(root.path(), "g6"), b"").unwrap();
    let detail = fails(&server, "g6", (422, "bad_checkpoint")).await;
    still_serves(&server, &before, &detail).await;
    assert_eq!(server.metric("samosa_swaps_total{outcome=\"failed\"}").await, 3.0);
}

#[tokio::test]
async fn the_tokenizer_of_another_model_is_422() {
    let root = storage(&["g7", "g6"]);
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/samosa-mini/tokenizer");
    copy(&other, &root.path().join("g6/tokenizer"));
    let server = Server::start(options_in(root.path(), "g7")).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await.text();
    let detail = fails(&server, "g6", (422, "bad_checkpoint")).await;
    assert!(detail.contains("4096") && detail.contains("701"), "{detail}");
    still_serves(&server, &before, &detail).await;
    std::fs::write(root.path().join("g6/tokenizer/tokenizer.pkl"), b"not a pickle").unwrap();
    let detail = fails(&server, "g6", (422, "bad_checkpoint")).await;
    still_serves(&server, &before, &detail).await;
}

#[tokio::test]
async fn missing_files_are_422_and_named() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await.text();
    std::fs::remove_file(root.path().join("g6/meta_000102.json")).unwrap();
    let detail = fails(&server, "g6", (422, "bad_checkpoint")).await;
    assert!(detail.contains("metadata"), "{detail}");
    still_serves(&server, &before, &detail).await;
}

#[tokio::test]
async fn weights_that_make_no_sense_fail_before_the_cut_over() {
    let root = storage(&["g7", "g6"]);
    let path = weights(root.path(), "g6");
    let sound = std::fs::read(&path).unwrap();
    let server = Server::start(options_in(root.path(), "g7")).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await.text();
    // Embeddings that are no numbers, and an output matrix of zeros: no two tokens would be told apart.
    for (name, length, byte, says, failed_in) in [
        ("model_000102/data/0", 90112, 0xff, "not finite", "load"),
        ("model_000102/data/27", 180_224, 0, "self-test", "selftest"),
    ] {
        std::fs::write(&path, spoiled(&sound, name, length, byte)).unwrap();
        let detail = fails(&server, "g6", (422, "bad_checkpoint")).await;
        assert!(detail.contains(says), "{detail}");
        still_serves(&server, &before, &detail).await;
        let phases = server.get("/stats").await["swap"]["last"]["phase_seconds"].clone();
        assert_eq!(phases.as_object().unwrap().keys().next_back().unwrap(), failed_in, "{phases}");
    }
    std::fs::write(&path, sound).unwrap();
    assert_eq!(server.swap("g6").await.status, 202, "mended files are taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tag_is_409_the_same_is_joined_and_nobody_need_wait() {
    let root = storage(&["g7", "g6"]);
    // The built-in model is the largest here, and scalar kernels test it slowly: its swap outlasts the questions.
    let slow = with(options_in(root.path(), "g7"), |models| models.isa = cpu::Isa::SCALAR);
    let server = Server::start(slow).await;
    let first = server.send(prefer_swap("samosa-mini", "wait=0")).await;
    let (second, other, live, stats, told) = tokio::join!(
        server.send(prefer_swap("samosa-mini", "respond-async, wait=0")),
        server.swap("g6"),
        server.swap("g7"),
        server.get("/stats"),
        async { server.told(&ask("Hello!", 0.0, 1)).await },
    );
    let swapping =
        json!({ "status": "swapping", "current_model": "g7", "target_model": "samosa-mini", "swap_id": 2 });
    for reply in [first, second] {
        assert_eq!(reply.status, 202);
        assert_eq!(reply.json().await, swapping, "the second joins the first");
    }
    assert_eq!((other.status, other.header("retry-after").is_some()), (409, true));
    assert_eq!(other.problem().await["code"], "swap_in_progress");
    assert_eq!(live.status, 409, "the live tag too is another one");
    let current = &stats["swap"]["current"];
    assert_eq!((&current["target_model"], &current["outcome"]), (&json!("samosa-mini"), &json!("running")));
    assert_eq!(told.last["model_tag"], "g7", "requests are served meanwhile");
    let (third, fourth) = tokio::join!(server.swap("samosa-mini"), server.swap("samosa-mini"));
    for joined in [third, fourth] {
        assert_eq!(joined.status, 202);
        assert_eq!(joined.json().await, json!({ "status": "ok", "current_model": "samosa-mini" }));
    }
    assert_eq!(server.get("/stats").await["swap"]["last"]["swap_id"], 2, "all asked for one swap");
    assert_eq!(server.swap("g6").await.status, 202, "the way is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tags_at_once_one_goes_live_and_the_other_is_409() {
    let root = storage(&["g7", "g7-wide-heads"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let (mini, wide) = tokio::join!(server.swap("samosa-mini"), server.swap("g7-wide-heads"));
    let mut statuses = [mini.status, wide.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409]);
    let winner = if mini.status == 202 { "samosa-mini" } else { "g7-wide-heads" };
    assert_eq!(server.get("/health").await["current_model"], winner);
    let tags: Vec<Value> = join_all((0..4).map(|_| server.swap("g7")).collect::<Vec<_>>())
        .await
        .into_iter()
        .map(|reply| json!(reply.status))
        .collect();
    assert_eq!(tags, [202, 202, 202, 202]);
    assert_eq!(server.get("/stats").await["swap"]["last"]["swap_id"], 3, "four askers, one swap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_while_the_swap_ends_begins_no_other() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    for (tag, id) in ["g6", "g7"].iter().cycle().zip(2..42) {
        for reply in join_all((0..48).map(|_| server.swap(tag))).await {
            assert_eq!(reply.json().await, json!({ "status": "ok", "current_model": tag }));
        }
        assert_eq!(server.get("/stats").await["swap"]["history"][0]["swap_id"], id);
    }
}

#[tokio::test]
async fn a_default_model_that_is_missing_or_broken_does_not_stop_the_start() {
    let root = storage(&["g7", "g6"]);
    std::fs::write(weights(root.path(), "g6"), b"nonsense").unwrap();
    for (tag, reason) in [("d20", "d20"), ("g6", "")] {
        let server = Server::start(options_in(root.path(), tag)).await;
        let health = server.get("/health").await;
        assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!(false)));
        let said = health["reason"].as_str().unwrap();
        assert!(!said.is_empty() && said.contains(reason), "{health}");
        assert!(health["current_model"].is_null() && health["workers"] == json!([]));
        assert_eq!(server.send(Ask::new("GET", "/readyz")).await.status, 503);
        assert_eq!(server.swap("g7").await.status, 202);
        let health = server.get("/health").await;
        assert_eq!((&health["status"], &health["current_model"]), (&json!("ok"), &json!("g7")));
        assert_eq!(server.send(Ask::new("GET", "/readyz")).await.status, 200);
    }
}

#[tokio::test]
async fn hidden_and_half_written_directories_are_no_models() {
    let root = storage(&["g7"]);
    for (directory, file) in [
        (".staging", "model_000001.pt"),
        (".d20.tmp", "model.safetensors"),
        ("partial", "model_000001.pt.part"),
        ("partial", "meta_000001.json"),
        ("optimizer", "optim_000001.pt"),
        ("unfinished", "model_000001.pt"),
        ("lost+found", "model_000001.pt"),
    ] {
        std::fs::create_dir_all(root.path().join(directory)).unwrap();
        std::fs::write(root.path().join(directory).join(file), b"half").unwrap();
    }
    std::fs::write(root.path().join("d30"), b"a file").unwrap();
    let server = Server::start(with(options_in(root.path(), "g7"), |models| models.default_tag = None)).await;
    let listed = server.get("/models").await;
    let tags: Vec<&Value> = listed["models"].as_array().unwrap().iter().map(|m| &m["model_tag"]).collect();
    assert_eq!(tags, ["g7", "samosa-mini"]);
    assert_eq!(listed["current_model"], "g7", "and none of them is chosen");
    for tag in [".staging", "partial", "optimizer", "d30", "tokenizer"] {
        fails(&server, tag, (404, "model_not_found")).await;
    }
    let detail = fails(&server, "unfinished", (422, "bad_checkpoint")).await;
    assert!(detail.starts_with("`unfinished` has no metadata"), "{detail}");
    assert!(Tag::new(".staging").is_none());
    let empty = root.path().join("not-there-yet");
    let server = Server::start(with(options(), |models| models.storage = Some(empty))).await;
    assert_eq!(server.get("/health").await["current_model"], "samosa-mini");
}
