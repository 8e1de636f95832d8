//! Where two models do not fit, one goes before the other comes: requests wait meanwhile, and none is cut.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use server::Options;
use serving::plan::SwapMode;

use crate::support::{
    self, Ask, Reply, Server, ask, copy, goldens, long_options, long_storage, options_in, spoiled, storage,
    weights, with,
};

fn serial(options: Options) -> Options {
    with(options, |models| models.swap_mode = SwapMode::Serial)
}

/// Embeddings that are no numbers: found when they are read, after the old model is gone.
fn spoil_g6(root: &Path) {
    let path = weights(root, "g6");
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, spoiled(&sound, "model_000102/data/0", 90112, 0xff)).unwrap();
}

/// `long` answers somebody for some seconds, and a swap to `to` waits for that answer's end.
async fn swap_waits(server: &Server, to: &str) -> Reply {
    let mut reply = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 512))).await;
    reply.piece().await.unwrap();
    let swap = Ask::new("POST", "/models/swap").json(&json!({ "model_tag": to })).header("Prefer", "wait=0");
    assert_eq!(server.send(swap).await.status, 202);
    server.until("requests are held", |stats| stats["swap"]["current"]["phase"] == "drain").await;
    reply
}

fn last(stats: &Value) -> &Value {
    &stats["swap"]["last"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_finish_and_those_who_come_meanwhile_get_the_new_model() {
    let root = long_storage();
    copy(&goldens().join("g6"), &root.path().join("g6"));
    let alone = Server::start(options_in(root.path(), "g6")).await.told(&ask("Hello!", 0.0, 16)).await.text();
    let mut options = serial(long_options(root.path()));
    options.limits.heartbeat = Duration::from_millis(50);
    let server = Server::start(options).await;
    let old = swap_waits(&server, "g6").await;
    let health = server.get("/health").await;
    assert_eq!(
        (&health["status"], &health["ready"], &health["current_model"]),
        (&json!("loading"), &json!(true), &Value::Null)
    );
    let question = ask("Hello!", 0.0, 16);
    let (old, waited) = tokio::join!(old.rest(), join_all((0..4).map(|_| server.told(&question))));
    let old = support::told(&old);
    assert_eq!(
        (&old.last["model_tag"], &old.last["usage"]["completion_tokens"]),
        (&json!("long"), &json!(512))
    );
    for told in waited {
        assert_eq!((&told.last["model_tag"], told.text()), (&json!("g6"), alone.clone()));
        assert!(told.comments > 0, "a heartbeat keeps callers patient");
    }
    let stats = server.until("the swap is over", |stats| last(stats)["outcome"] == "ok").await;
    let phases: Vec<&String> = last(&stats)["phase_seconds"].as_object().unwrap().keys().collect();
    assert_eq!(phases, ["resolve", "download", "verify", "drain", "free", "load", "selftest", "cutover"]);
    assert_eq!((&last(&stats)["mode"], &last(&stats)["previous_model"]), (&json!("serial"), &json!("long")));
    assert_eq!((&stats["requests"]["client_gone"], &stats["requests"]["error"]), (&json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_asked_for_by_name_is_looked_for_when_it_serves() {
    let root = long_storage();
    copy(&goldens().join("g6"), &root.path().join("g6"));
    let server = Server::start(serial(long_options(root.path()))).await;
    let old = swap_waits(&server, "g6").await;
    let named = |name: &str| json!({ "model": name, "prompt": "Hello!", "max_tokens": 4, "temperature": 0 });
    let asked = ["g6", "long"].map(|name| Ask::new("POST", "/v1/completions").json(&named(name)));
    let (_, replies) = tokio::join!(old.rest(), join_all(asked.map(|ask| server.send(ask))));
    assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 404]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_wait_than_may_and_who_leaves_gives_the_place_back() {
    let root = long_storage();
    copy(&goldens().join("g6"), &root.path().join("g6"));
    let mut options = serial(long_options(root.path()));
    options.models.engine.max_queued = 2;
    let server = Server::start(options).await;
    let old = swap_waits(&server, "g6").await;
    let question = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4)).bytes();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &question).await.unwrap();
        waiting.push(socket);
    }
    server.until("two wait", |stats| stats["queue"]["requests"] == 2).await;
    let refused = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4))).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(refused.problem().await["code"], "queue_full");
    assert_eq!(server.metric("samosa_requests_held").await, 2.0);
    drop(waiting.pop());
    server.until("one has left", |stats| stats["queue"]["requests"] == 1).await;
    let (_, answered) = tokio::join!(old.rest(), async {
        support::told(&Reply::read(waiting.pop().unwrap()).await.rest().await)
    });
    assert_eq!(answered.last["model_tag"], "g6");
}

#[tokio::test]
async fn what_fails_after_the_old_model_is_gone_brings_it_back() {
    let root = storage(&["g7", "g6"]);
    spoil_g6(root.path());
    let server = Server::start(serial(options_in(root.path(), "g7"))).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await;
    let reply = server.swap("g6").await;
    assert_eq!(reply.status, 422);
    let problem = reply.problem().await;
    assert!(problem["detail"].as_str().unwrap().contains("not finite"), "{problem}");
    let health = server.get("/health").await;
    assert_eq!((&health["status"], &health["current_model"]), (&json!("ok"), &json!("g7")));
    let after = server.told(&ask("Hello!", 0.0, 16)).await;
    assert_eq!((after.text(), &after.last["weights"]), (before.text(), &before.last["weights"]));
    let stats = server.get("/stats").await;
    assert_eq!((&last(&stats)["outcome"], &last(&stats)["reason"]), (&json!("restored"), &problem["detail"]));
    assert!(last(&stats)["phase_seconds"].get("restore").is_some(), "{stats}");
    assert_eq!(server.metric("samosa_swaps_total{outcome=\"restored\"}").await, 1.0);
    assert_eq!(server.swap("samosa-mini").await.status, 202, "and the way is free");
}

#[tokio::test]
async fn the_weights_that_served_come_back_though_their_tag_has_newer_ones() {
    let root = storage(&["g6"]);
    let server = Server::start(serial(options_in(root.path(), "g6"))).await;
    let before = server.get("/stats").await["model"].clone();
    let (old, new) = (weights(root.path(), "g6"), root.path().join("g6/model_000103.pt"));
    std::fs::copy(root.path().join("g6/meta_000102.json"), root.path().join("g6/meta_000103.json")).unwrap();
    let sound = std::fs::read(old).unwrap();
    std::fs::write(new, spoiled(&sound, "model_000102/data/0", 90112, 0xff)).unwrap();
    assert_eq!(server.swap("g6").await.status, 422);
    let stats = server.get("/stats").await;
    assert_eq!((&stats["status"], &last(&stats)["outcome"]), (&json!("ok"), &json!("restored")));
    let after = &stats["model"];
    assert_eq!((&after["step"], &after["sha256"]), (&before["step"], &before["sha256"]));
}

#[tokio::test]
async fn if_the_old_model_cannot_come_back_health_says_both_reasons() {
    let root = storage(&["g7", "g6"]);
    spoil_g6(root.path());
    let server = Server::start(serial(options_in(root.path(), "g7"))).await;
    std::fs::remove_file(weights(root.path(), "g7")).unwrap();
    assert_eq!(server.swap("g6").await.status, 422);
    let health = server.get("/health").await;
    assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!(false)));
    let reason = health["reason"].as_str().unwrap();
    assert!(reason.contains("not finite") && reason.contains("restore") && reason.contains("g7"), "{reason}");
    let refused = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4))).await;
    assert_eq!((refused.status, refused.problem().await["code"].clone()), (503, json!("no_model")));
    assert_eq!(server.swap("samosa-mini").await.status, 202);
    assert_eq!(server.get("/health").await["status"], "ok");
}

#[tokio::test]
async fn what_can_be_known_beforehand_costs_the_old_model_nothing() {
    let root = storage(&["g7", "g6"]);
    std::fs::write(weights(root.path(), "g6"), b"PK no more").unwrap();
    let server = Server::start(serial(options_in(root.path(), "g7"))).await;
    assert_eq!(server.swap("g6").await.status, 422);
    let stats = server.get("/stats").await;
    assert_eq!((&stats["model"]["serving_since_swap"], &stats["current_model"]), (&json!(1), &json!("g7")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answers_who_waits() {
    let root = long_storage();
    copy(&goldens().join("g6"), &root.path().join("g6"));
    let drain_timeout = Duration::from_millis(100);
    let server = Server::start(Options { drain_timeout, ..serial(long_options(root.path())) }).await;
    let old = swap_waits(&server, "g6").await;
    let question = Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4));
    let (waited, ()) = tokio::join!(server.send(question), async {
        server.until("it waits", |stats| stats["queue"]["requests"] == 1).await;
        server.tell_to_stop();
    });
    assert_eq!((waited.status, waited.problem().await["code"].clone()), (503, json!("shutting_down")));
    assert_eq!(support::told(&old.rest().await).last["error"]["code"], "shutting_down");
    server.stopped().await;
}
