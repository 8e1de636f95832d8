//! The prefix cache and guessed tokens over HTTP: who shares with whom, that answers are the same, and what is
//! counted.

use serde_json::{Value, json};
use server::Keys;

use crate::support::{self, Ask, KEY, Server, Told, ask, options, told};

const LONG: &str = "Tell me about the sea, the sun, the old woman who knew the way and the fox who wanted to see \
                    it all, and about the boat that they built, and about the storm that they met far out.";

async fn ask_with(server: &Server, key: &str, body: &Value) -> Told {
    let ask = Ask::new("POST", "/generate").json(body).header("X-Internal-API-Key", key);
    told(&server.send(ask.header("X-Seed", "7")).await.rest().await)
}

fn cached(told: &Told) -> u64 {
    told.last["usage"]["cached_tokens"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_one_key_share_prefixes_and_others_do_not() {
    let keys = Keys::parse(&format!("{KEY}, second-key"));
    let server = Server::start(server::Options { keys, ..options() }).await;
    let body = ask(LONG, 0.8, 24);
    let first = ask_with(&server, KEY, &body).await;
    let prompt_tokens = first.last["usage"]["prompt_tokens"].as_u64().unwrap();
    let shared = (prompt_tokens - 1) / 32 * 32;
    assert!(shared >= 32, "{prompt_tokens} tokens");
    for (key, expected) in [("second-key", 0), (KEY, shared), ("second-key", shared)] {
        let again = ask_with(&server, key, &body).await;
        assert_eq!(cached(&again), expected, "{key}");
        assert_eq!(again.tokens, first.tokens);
    }
    assert_eq!(cached(&first), 0);
    // The next turn goes on from the answer.
    let turns = [("user", LONG), ("assistant", &first.tokens.concat()), ("user", "And then?")];
    let messages: Vec<Value> = turns.iter().map(|(r, c)| json!({ "role": r, "content": c })).collect();
    let next = ask_with(&server, KEY, &json!({ "messages": messages, "max_tokens": 4 })).await;
    assert!(cached(&next) >= shared, "{} of {shared}", cached(&next));

    let stats = server.until("all is given back", |stats| stats["kv_pages"]["used"] == 0).await;
    let cache = &stats["prefix_cache"];
    assert_eq!(cache["hits"], 2 * shared + cached(&next));
    assert!(cache["queries"].as_u64().unwrap() > 4 * prompt_tokens && cache["hit_rate"].as_f64() > Some(0.2));
    assert!(cache["pages"].as_u64() > Some(0) && cache["evictions"] == 0, "{cache}");
    for name in ["queries_total", "hits_total", "evictions_total", "pages"] {
        let series = server.metric(&format!("samosa_prefix_cache_{name}")).await;
        assert_eq!(series, cache[name.trim_end_matches("_total")].as_f64().unwrap(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_cache_everything_is_computed_and_the_answers_are_the_same() {
    let mut off = options();
    off.models.engine.prefix_cache = false;
    let (with, without) = (Server::start(options()).await, Server::start(off).await);
    let body = ask(LONG, 0.8, 24);
    for _ in 0..2 {
        let (with, without) = (with.told_with(&body, Some(3)).await, without.told_with(&body, Some(3)).await);
        assert_eq!(cached(&without), 0);
        assert_eq!(with.tokens, without.tokens);
    }
    assert_eq!(without.get("/stats").await["prefix_cache"]["queries"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_outlive_the_engines_that_counted() {
    let storage = support::storage(&["g7", "g5"]);
    let server = Server::start(support::options_in(storage.path(), "g7")).await;
    let body = ask(LONG, 0.0, 2);
    let (mut queries, series) = (0.0, "samosa_prefix_cache_queries_total");
    for tag in ["g5", "g7"] {
        let told = server.told_with(&body, None).await;
        queries += told.last["usage"]["prompt_tokens"].as_f64().unwrap();
        assert_eq!(
            (server.metric(series).await, cached(&told)),
            (queries, 0),
            "caches die with their weights"
        );
        assert_eq!(server.swap(tag).await.status, 202);
        server.until("the old engine's end", |stats| stats["retired_engines"] == 0).await;
        assert_eq!(server.metric(series).await, queries);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessed_tokens_change_no_byte_and_are_counted() {
    let mut off = options();
    off.models.engine.speculation_tokens = 0;
    let (with, without) = (Server::start(options()).await, Server::start(off).await);
    for (i, content) in ["What is 1234 * 5678?", LONG, "What is 12 * 7?"].into_iter().enumerate() {
        let body = ask(content, [0.0, 0.8][i % 2], 128);
        let [with, without] = [&with, &without].map(|server| server.told_with(&body, Some(3)));
        let (with, without) = (with.await, without.await);
        assert_eq!(with.tokens, without.tokens);
        for field in ["usage", "finish_reason"] {
            assert_eq!(with.last[field], without.last[field]);
        }
    }
    let stats = with.get("/stats").await;
    let (drafted, accepted) =
        ("samosa_spec_decode_draft_tokens_total", "samosa_spec_decode_accepted_tokens_total");
    assert_eq!(with.metric(drafted).await, stats["speculation"]["drafted_tokens"].as_f64().unwrap());
    assert_eq!(with.metric(accepted).await, stats["speculation"]["accepted_tokens"].as_f64().unwrap());
    assert!(with.metric(accepted).await > 0.0 && without.metric(drafted).await == 0.0);
}
