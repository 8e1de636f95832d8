//! `/stats` and `/stats/history`: each open stream with its phase and its weights until it is gone, and the last half hour
//! by the second. Neither says what was said.

use std::time::Duration;

use serde_json::{Value, json};
use server::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::{
    Ask, KEY, Server, ask, copy, goldens, long_options, long_storage, options, options_in, storage,
};

/// A word that is in no setting and no name.
const WORD: &str = "quagmire";

fn listed(stats: &Value) -> &[Value] {
    stats["streams"]["listed"].as_array().unwrap()
}

fn phases(stats: &Value) -> Vec<&str> {
    listed(stats).iter().map(|stream| stream["phase"].as_str().unwrap()).collect()
}

/// Everything is as if nobody had ever come.
fn nobody(stats: &Value) -> bool {
    stats["streams"] == json!({ "total": 0, "listed": [] })
}

/// A request whose answer goes on and on, sent on a connection of its own; nothing of the answer is read.
async fn sent(server: &Server, id: &str, body: &Value) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = Ask::new("POST", "/generate").header("X-Request-Id", id).json(body);
    socket.write_all(&request.bytes()).await.unwrap();
    socket
}

/// Checks what holds for every stream at any time.
fn check(stream: &Value) {
    let number = |name: &str| stream[name].as_f64().unwrap_or_else(|| panic!("{name} in {stream}"));
    let (tokens, most) = (number("completion_tokens"), number("max_tokens"));
    assert!(tokens <= most && number("prompt_tokens") > 0.0 && number("elapsed_ms") >= 0.0, "{stream}");
    match stream["phase"].as_str().unwrap() {
        "decode" if tokens > 0.0 => assert!(number("first_token_ms") <= number("elapsed_ms"), "{stream}"),
        "queued" | "prefill" | "decode" => assert!(stream["first_token_ms"].is_null(), "{stream}"),
        _ => panic!("{stream}"),
    }
    assert!(stream["tokens_per_second"].is_null() || number("tokens_per_second") > 0.0, "{stream}");
    assert!(tokens > 1.0 || stream["tokens_per_second"].is_null(), "{stream}");
    let mut names: Vec<&str> = stream.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let known = "completion_tokens elapsed_ms first_token_ms index max_tokens model_tag operation phase \
                 prompt_tokens request_id tokens_per_second worker";
    assert_eq!(names.join(" "), known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_listed_with_their_phases_until_they_are_over() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    (options.models.engine.max_running, options.models.engine.max_queued) = (1, 1);
    let server = Server::start(options).await;
    assert!(nobody(&server.get("/stats").await));
    let body = ask(WORD, 0.0, 4000);
    let first = sent(&server, "first", &body).await;
    let running = |stats: &Value| phases(stats) == ["decode"] && listed(stats)[0]["completion_tokens"] != 0;
    server.until("it has tokens", running).await;
    let second = sent(&server, "second", &body).await;
    let stats = server.until("the other one waits", |stats| phases(stats) == ["decode", "queued"]).await;
    listed(&stats).iter().for_each(check);
    let [old, new] = listed(&stats) else { panic!("{stats}") };
    assert_eq!((&old["request_id"], &new["request_id"]), (&json!("first"), &json!("second")));
    for (name, value) in [
        ("operation", json!("/generate")),
        ("model_tag", json!("long")),
        ("worker", json!(0)),
        ("index", json!(0)),
    ] {
        assert_eq!((&old[name], &new[name]), (&value, &value), "{name}");
    }
    assert_eq!((&old["max_tokens"], &new["completion_tokens"]), (&json!(4000), &json!(0)));
    let later = server.until("it goes on", |stats| {
        listed(stats)[0]["completion_tokens"].as_u64() > old["completion_tokens"].as_u64()
    });
    check(&listed(&later.await)[0]);
    // Who is refused was never a stream.
    assert_eq!(server.send(Ask::new("POST", "/generate").json(&body)).await.status, 503);
    assert_eq!(server.get("/stats").await["streams"]["total"], 2);
    // Who leaves makes room.
    drop(first);
    let moved = |stats: &Value| phases(stats) == ["decode"] && listed(stats)[0]["request_id"] == "second";
    server.until("the one that waited runs", moved).await;
    server.app.models.abort_all();
    server.until("all were cut", nobody).await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_prompt_is_seen_before_its_first_token() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    // The smallest steps there are, and no help from an earlier attempt.
    (options.models.engine.max_running, options.models.engine.step_tokens) = (1, 1);
    options.models.engine.prefix_cache = false;
    let server = Server::start(options).await;
    let body = ask(&"x y z 1 2 3 ".repeat(600), 0.0, 4000);
    for attempt in 0..20 {
        let socket = sent(&server, &format!("attempt-{attempt}"), &body).await;
        let stats =
            server.until("it is computed with", |stats| !["", "queued"].contains(&first_phase(stats))).await;
        let stream = &listed(&stats)[0];
        check(stream);
        drop(socket);
        server.until("it is gone", nobody).await;
        if stream["phase"] == "prefill" {
            assert_eq!((&stream["completion_tokens"], &stream["first_token_ms"]), (&json!(0), &Value::Null));
            assert!(stream["prompt_tokens"].as_u64().unwrap() > 1000, "{stream}");
            return;
        }
    }
    panic!("no prompt was ever seen being read");
}

/// The phase of the oldest stream, if there is one.
fn first_phase(stats: &Value) -> &str {
    phases(stats).first().copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_whole_are_gone_and_several_to_one_request_are_told_apart() {
    let storage = long_storage();
    let server = Server::start(long_options(storage.path())).await;
    let told = server.told(&ask("Hello!", 0.0, 8)).await;
    assert_eq!(told.last["done"], true, "{}", told.last);
    server.until("it is gone", nobody).await;
    let body = json!({ "model": "long", "prompt": WORD, "n": 2, "max_tokens": 3000, "stream": true });
    let request = Ask::new("POST", "/v1/completions").header("X-Request-Id", "twins").json(&body);
    let mut reply = server.send(request).await;
    assert!(reply.piece().await.is_some());
    let stats = server.until("both run", |stats| phases(stats) == ["decode", "decode"]).await;
    for (index, stream) in listed(&stats).iter().enumerate() {
        check(stream);
        assert_eq!((&stream["request_id"], &stream["index"]), (&json!("twins"), &json!(index)));
        assert_eq!(stream["operation"], "/v1/completions");
    }
    drop(reply);
    server.until("both are gone", nobody).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_old_weights_keep_their_tag() {
    let root = long_storage();
    copy(&goldens().join("g6"), &root.path().join("g6"));
    let server = Server::start(long_options(root.path())).await;
    let old = sent(&server, "old", &ask("Hello!", 0.0, 4096)).await;
    server.until("it runs", |stats| first_phase(stats) == "decode").await;
    assert_eq!(server.swap("g6").await.status, 202);
    server.until("the other serves", |stats| stats["current_model"] == "g6").await;
    let new = sent(&server, "new", &ask("Hello!", 0.0, 2000)).await;
    let stats = server.until("both run", |stats| phases(stats) == ["decode", "decode"]).await;
    let tags: Vec<&Value> = listed(&stats).iter().map(|stream| &stream["model_tag"]).collect();
    assert_eq!(tags, ["long", "g6"]);
    drop((old, new));
    server.until("both are gone", nobody).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_are_listed_and_all_are_counted() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    options.models.engine.max_running = 1;
    let server = Server::start(options).await;
    let body = ask("Hello!", 0.0, 3000);
    let mut sockets = Vec::new();
    for i in 0..150 {
        sockets.push(sent(&server, &format!("caller-{i}"), &body).await);
        if i == 0 {
            server.until("the first one came", |stats| stats["streams"]["total"] == 1).await;
        }
    }
    let stats = server.until("all came", |stats| stats["streams"]["total"] == 150).await;
    assert_eq!((listed(&stats).len(), &stats["limits"]["listed_streams"]), (100, &json!(100)));
    assert_eq!(listed(&stats)[0]["request_id"], "caller-0", "the oldest first");
    drop(sockets);
    server.until("all are gone", nobody).await;
}

const COLUMNS: [&str; 14] = [
    "at",
    "tokens_per_second",
    "prompt_tokens_per_second",
    "running",
    "queued",
    "first_token_ms_p50",
    "first_token_ms_p95",
    "inter_token_ms_p50",
    "inter_token_ms_p95",
    "kv_pages_used",
    "kv_pages_total",
    "prefix_hit_rate",
    "refusals_per_second",
    "resident_bytes",
];

fn column<'a>(history: &'a Value, name: &str) -> &'a [Value] {
    history["samples"][name].as_array().unwrap_or_else(|| panic!("no {name}"))
}

/// What a column has in it at its highest; 0 if nothing.
fn highest(history: &Value, name: &str) -> f64 {
    column(history, name).iter().filter_map(Value::as_f64).fold(0.0, f64::max)
}

/// Polls `/stats/history` until it says so, for some seconds.
async fn history(server: &Server, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut history = Value::Null;
    for _ in 0..500 {
        history = server.get("/stats/history").await;
        let rows = column(&history, "at").len();
        for name in COLUMNS {
            assert_eq!(column(&history, name).len(), rows, "{name}");
        }
        if holds(&history) {
            return history;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("never came: {what}; the last one: {history:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_grows_by_what_happens() {
    let storage = storage(&["g6"]);
    let server = Server::start(options_in(storage.path(), "samosa-mini")).await;
    let empty = server.get("/stats/history?since=1e12").await;
    assert_eq!((&empty["interval_s"], column(&empty, "at").len()), (&json!(1.0), 0));
    let mut names: Vec<&str> = empty["samples"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut known = COLUMNS.to_vec();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
    assert_eq!(server.told(&ask("Hello! Tell me about the sea.", 0.0, 32)).await.last["done"], true);
    assert_eq!(server.send(Ask::new("GET", "/nothing")).await.status, 404);
    let found =
        history(&server, "what was done", |history| highest(history, "tokens_per_second") > 0.0).await;
    let found = history(&server, "what was refused", |history| {
        highest(history, "refusals_per_second") > 0.0
            && column(history, "at").len() > column(&found, "at").len()
    })
    .await;
    for name in ["prompt_tokens_per_second", "first_token_ms_p50", "inter_token_ms_p95", "kv_pages_total"] {
        assert!(highest(&found, name) > 0.0, "{name}: {found}");
    }
    assert!(
        highest(&found, "resident_bytes") > 1e6
            && highest(&found, "kv_pages_used") <= highest(&found, "kv_pages_total")
    );
    assert!(highest(&found, "first_token_ms_p50") <= highest(&found, "first_token_ms_p95"));
    assert!(
        column(&found, "prefix_hit_rate").iter().any(Value::is_number),
        "the prompt was looked for: {found}"
    );
    let times: Vec<f64> = column(&found, "at").iter().filter_map(Value::as_f64).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(times[times.len() - 1] <= found["now"].as_f64().unwrap());
    // Only what is new, and that begins where the rest ended.
    let last = &column(&found, "at")[times.len() - 1];
    let path = format!("/stats/history?since={last}");
    history(&server, "another second", |history| column(history, "at").len() > times.len()).await;
    let new = server.get(&path).await;
    let first = column(&new, "at").first().and_then(Value::as_f64).unwrap();
    assert!(first > times[times.len() - 1], "{first} after {last}");
    swaps(&server).await;
}

/// Marks of the first load, of a swap and of one that failed.
async fn swaps(server: &Server) {
    assert_eq!(server.swap("g6").await.status, 202);
    server.until("it serves", |stats| stats["swap"]["last"]["outcome"] == "ok").await;
    let history = server.get("/stats/history").await;
    let swaps = history["swaps"].as_array().unwrap();
    let ids: Vec<u64> = swaps.iter().map(|swap| swap["swap_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2]);
    let models = swaps.iter().map(|swap| (&swap["previous_model"], &swap["target_model"]));
    let (mini, g6) = (json!("samosa-mini"), json!("g6"));
    assert_eq!(models.collect::<Vec<_>>(), [(&Value::Null, &mini), (&mini, &g6)]);
    for swap in swaps {
        assert_eq!(swap["outcome"], "ok", "{swap}");
        let [began, live, now] =
            [&swap["began"], &swap["live"], &history["now"]].map(|at| at.as_f64().unwrap());
        assert!(began <= live && live < now + 0.001, "{swap} at {now}");
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused_with_its_field() {
    let server = Server::start(Options { load_at_start: false, ..options() }).await;
    for (query, code, param) in [
        ("?since=yesterday", "invalid_value", "/since"),
        ("?since=", "invalid_value", "/since"),
        ("?since=1&since=2", "invalid_value", "/since"),
        ("?until=5", "unsupported_field", "/until"),
    ] {
        let reply = server.send(Ask::new("GET", &format!("/stats/history{query}"))).await;
        assert_eq!(reply.status, 400, "{query}");
        let problem = reply.problem().await;
        assert_eq!((&problem["code"], &problem["param"]), (&json!(code), &json!(param)), "{query}");
    }
    let reply = server.send(Ask::new("GET", "/stats/history").without("X-Internal-API-Key")).await;
    assert_eq!(reply.status, 401);
    assert_eq!(server.send(Ask::new("POST", "/stats/history")).await.status, 405);
    assert!(server.get("/stats/history?").await["swaps"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_what_is_said_is_told() {
    let storage = long_storage();
    let server = Server::start(long_options(storage.path())).await;
    let mut socket = sent(&server, "secretive", &ask(WORD, 0.0, 4000)).await;
    server.until("it runs", |stats| phases(stats) == ["decode"]).await;
    let mut buffer = vec![0; 4 << 10];
    assert!(socket.read(&mut buffer).await.unwrap() > 0);
    let has_run = |history: &Value| highest(history, "running") > 0.0;
    let texts =
        [server.get("/stats").await, history(&server, "it ran", has_run).await].map(|json| json.to_string());
    for text in texts {
        assert!(!text.contains(WORD) && !text.contains(KEY), "{text}");
    }
}
