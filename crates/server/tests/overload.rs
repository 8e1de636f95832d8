//! Ten times as many callers as the server has places for: those that are taken are answered as if the others were
//! not there, and the others hear so at once and when to come back.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, reason = "each binary uses its part of it")]
#[path = "it/support.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use support::{Ask, Server, ask, long_options, long_storage, options};

/// Requests that run at once.
const PLACES: usize = 8;
/// How long each round of asking lasts.
const ROUND: Duration = Duration::from_secs(4);

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

/// What callers met.
#[derive(Default)]
struct Met {
    /// Times to the first byte of an answer, of those that were taken, and until its end.
    first: Vec<Duration>,
    whole: Vec<Duration>,
    /// Times to a refusal.
    refused: Vec<Duration>,
    /// What refusals said: seconds to wait.
    retry_after: Vec<u64>,
}

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

/// Asks for as long as a round lasts, coming back soon after a refusal.
async fn caller(server: Arc<Server>, i: usize) -> Met {
    let mut met = Met::default();
    let begun = now();
    let body = ask(&format!("Tell me about the number {i}."), 0.8, 48);
    while begun.elapsed() < ROUND {
        let asked = now();
        let mut reply = server.send(Ask::new("POST", "/generate").json(&body)).await;
        if reply.status == 200 {
            let mut text = reply.piece().await.unwrap();
            met.first.push(asked.elapsed());
            text.extend(reply.rest().await);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("\"done\":true"), "an answer that began is whole: {text}");
            met.whole.push(asked.elapsed());
        } else {
            met.refused.push(asked.elapsed());
            assert_eq!(reply.status, 503);
            met.retry_after.push(reply.header("retry-after").unwrap().parse().unwrap());
            let problem = reply.problem().await;
            let code = problem["code"].as_str().unwrap();
            assert!(["queue_full", "queue_timeout"].contains(&code), "{problem}");
            assert_eq!(problem["retryable"], true);
            // Sooner than anybody was told to come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    met
}

async fn round(server: &Arc<Server>, callers: usize) -> Met {
    let tasks: Vec<_> = (0..callers).map(|i| tokio::spawn(caller(Arc::clone(server), i))).collect();
    let mut all = Met::default();
    for task in tasks {
        let met = task.await.unwrap();
        all.first.extend(met.first);
        all.whole.extend(met.whole);
        all.refused.extend(met.refused);
        all.retry_after.extend(met.retry_after);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenfold_overload_leaves_the_accepted_their_latency_and_refuses_the_rest_at_once() {
    let mut options = options();
    let engine = &mut options.models.engine;
    (engine.max_running, engine.max_queued) = (PLACES, PLACES / 2);
    let server = Arc::new(Server::start(options).await);
    // Whatever is slow once only.
    assert_eq!(server.told(&ask("Hi!", 0.0, 8)).await.last["done"], true);
    let mut full = round(&server, PLACES).await;
    let mut over = round(&server, 10 * PLACES).await;
    assert!(full.refused.is_empty(), "there is a place for each");
    let p95 = |times: &mut [Duration]| percentile(times, 0.95);
    let (alone, beside) = (p95(&mut full.whole), p95(&mut over.whole));
    let (first, first_beside) = (p95(&mut full.first), p95(&mut over.first));
    let refused = p95(&mut over.refused);
    println!(
        "{PLACES} callers: {} answers, p95 first {first:?}, whole {alone:?}; {} callers: {} answers, p95 first \
         {first_beside:?}, whole {beside:?}; {} refused, p95 {refused:?}, Retry-After up to {} s",
        full.whole.len(),
        10 * PLACES,
        over.whole.len(),
        over.refused.len(),
        over.retry_after.iter().max().unwrap(),
    );
    assert!(over.refused.len() > over.whole.len() / 2, "it was too much indeed");
    // Half as many wait as run: an answer waits for one other at most, which takes twice the time and some.
    assert!(beside < alone * 4, "whole answers: {alone:?} with places for all, {beside:?} in the crowd");
    assert!(refused < Duration::from_millis(400), "{refused:?}");
    let done = over.whole.len() as f64 / full.whole.len() as f64;
    assert!(done > 0.5, "the server gets its work done in the crowd: {done}");
    server.until("nobody runs", |stats| stats["running"] == 0 && stats["queue"]["requests"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_retry_after_of_a_fresh_server_is_no_worst_case() {
    let mut options = options();
    (options.models.engine.max_running, options.models.engine.max_queued) = (1, 16);
    let server = Arc::new(Server::start(options).await);
    let begun = now();
    let calls = (0..64).map(|i| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let body = ask(&format!("Tell me about the number {i}."), 0.8, 4096);
            let reply = server.send(Ask::new("POST", "/generate").json(&body)).await;
            let retry_after = reply.header("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
            assert_eq!(retry_after.is_some(), reply.status == 503);
            drop(reply.rest().await);
            retry_after
        })
    });
    let mut said = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        said.extend(call.await.unwrap());
    }
    let took = begun.elapsed().as_secs() + 1;
    println!("the queue took {took} s; {} refusals said {said:?}", said.len());
    assert!(said.len() > 16, "it was full");
    assert!(said.iter().all(|seconds| *seconds <= 2 * took), "{said:?} of {took}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_for_a_place_or_an_answer_hears_why() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    let engine = &mut options.models.engine;
    (engine.max_running, engine.queue_timeout) = (1, Duration::from_millis(150));
    engine.request_timeout = Duration::from_millis(700);
    let server = Arc::new(Server::start(options).await);
    let ask = ask("Hello!", 0.0, 4096);
    let long = tokio::spawn({
        let (server, ask) = (Arc::clone(&server), ask.clone());
        async move { server.told(&ask).await }
    });
    server.until("it runs", |stats| stats["running"] == 1).await;
    let problem = server.send(Ask::new("POST", "/generate").json(&ask)).await;
    assert_eq!(problem.status, 503);
    assert!(problem.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(problem.problem().await["code"], "queue_timeout");
    let long = long.await.unwrap();
    assert_eq!(long.last["error"]["code"], "deadline_exceeded", "{}", long.last);
    assert!(!long.tokens.is_empty());
    let stats = server.until("both ended", |stats| stats["running"] == 0).await;
    assert_eq!((&stats["requests"]["queue_timeout"], &stats["requests"]["deadline"]), (&json!(1), &json!(1)));
}
