//! Which weights serve, told by the hash of their files; and which serve again after a restart.

use std::path::Path;

use serde_json::{Value, json};
use server::Options;

use crate::support::{self, Ask, Reply, Server, ask, options_in, storage, weights, with};

async fn swap_if(server: &Server, tag: &str, condition: &str) -> Reply {
    let body = json!({ "model_tag": tag });
    server.send(Ask::new("POST", "/models/swap").json(&body).header("If-Match", condition)).await
}

async fn identity(server: &Server) -> String {
    server.get("/stats").await["model"]["sha256"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_same_identity_is_in_stats_metrics_swaps_and_answers() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let g7 = identity(&server).await;
    assert!(g7.len() == 64 && g7.bytes().all(|b| b.is_ascii_hexdigit()), "{g7}");
    assert_eq!(server.told(&ask("Hello!", 0.0, 4)).await.last["weights"], g7);
    assert_eq!(server.swap("g6").await.status, 202);
    let stats = server.get("/stats").await;
    let g6 = identity(&server).await;
    assert_eq!((&stats["swap"]["last"]["identity"], g6 == g7), (&json!(g6), false));
    let text = String::from_utf8(server.send(Ask::new("GET", "/metrics")).await.rest().await).unwrap();
    let info: Vec<&str> = text.lines().filter(|line| line.starts_with("samosa_model_info{")).collect();
    assert!(info.len() == 1 && info[0].contains(&g6) && info[0].contains("model_tag=\"g6\""), "{info:?}");
    let built_in = Server::start(support::options()).await;
    assert_eq!(identity(&built_in).await.len(), 64);
}

#[tokio::test]
async fn a_swap_can_demand_that_certain_weights_serve() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let g7 = identity(&server).await;
    let refused = swap_if(&server, "g6", &format!("\"{}\"", "0".repeat(64))).await;
    assert_eq!(refused.status, 412);
    let problem = refused.problem().await;
    assert_eq!(problem["code"], "precondition_failed");
    assert!(problem["detail"].as_str().unwrap().contains(&g7), "{problem}");
    assert_eq!(swap_if(&server, "g7", &g7).await.status, 412, "without quotes it is no entity tag");
    assert_eq!(server.get("/stats").await["swap"]["last"]["swap_id"], 1, "no swap began");
    assert_eq!(swap_if(&server, "g6", &format!("\"x\", \"{g7}\"")).await.status, 202);
    assert_eq!(swap_if(&server, "g6", &format!("\"{g7}\"")).await.status, 412, "others were faster");
    assert_eq!(swap_if(&server, "g7", "*").await.status, 202);
    let idle = Server::start(Options { load_at_start: false, ..options_in(root.path(), "g7") }).await;
    assert_eq!(swap_if(&idle, "g7", "*").await.status, 412, "nothing serves");
}

/// The model that serves after a start.
async fn started(options: Options) -> Value {
    Server::start(options).await.get("/health").await["current_model"].clone()
}

fn restoring(root: &Path) -> Options {
    with(options_in(root, "g7"), |models| models.restore_last_model = true)
}

#[tokio::test]
async fn a_restart_serves_the_last_good_model_if_that_is_wished() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    assert_eq!(server.swap("g6").await.status, 202);
    assert_eq!(server.swap("nothing-like-it").await.status, 404);
    drop(server);
    assert_eq!(started(options_in(root.path(), "g7")).await, "g7");
    // That start remembers what it serves, so the order matters.
    let server = Server::start(options_in(root.path(), "g7")).await;
    assert_eq!(server.swap("g6").await.status, 202);
    assert_eq!(started(restoring(root.path())).await, "g6");
    std::fs::write(weights(root.path(), "g6"), b"PK no more").unwrap();
    assert_eq!(started(restoring(root.path())).await, "g7", "what no longer loads is passed over");
    std::fs::remove_dir_all(root.path().join("g6")).unwrap();
    registry::last_model::remember(root.path(), &registry::Tag::new("g6").unwrap()).unwrap();
    assert_eq!(started(restoring(root.path())).await, "g7", "and so is what is gone");
}

#[tokio::test]
async fn history_is_told_from_the_latest_on() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    assert_eq!(server.swap("g6").await.status, 202);
    std::fs::write(weights(root.path(), "g7"), b"PK no more").unwrap();
    assert_eq!(server.swap("g7").await.status, 422);
    let over = |stats: &Value| {
        stats["swap"]["history"].as_array().unwrap().iter().all(|swap| swap["outcome"] != "live")
    };
    let history = server.until("old engines have ended", over).await["swap"]["history"].clone();
    let told: Vec<(u64, &str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|swap| {
            let text = |key: &str| swap[key].as_str().unwrap();
            (swap["swap_id"].as_u64().unwrap(), text("target_model"), text("outcome"))
        })
        .collect();
    assert_eq!(told, [(3, "g7", "failed"), (2, "g6", "ok"), (1, "g7", "ok")]);
    assert_eq!((&history[0]["previous_model"], &history[2]["previous_model"]), (&json!("g6"), &Value::Null));
    assert!(history[1]["resident_bytes"]["after"].as_u64().unwrap() > 0);
}
