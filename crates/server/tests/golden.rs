//! Recorded greedy answers of every model generation, over HTTP: exact weights give the reference's words.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[expect(dead_code, reason = "each test file uses its part of it")]
mod support;

use std::path::Path;
use std::sync::Arc;

use registry::{Catalog, Tag};
use serde_json::{Value, json};
use support::{Server, options, options_in};
use tokenizer::Tokenizer;

const CASES: [&str; 7] = ["g0", "g1", "g3", "g5", "g6", "g7", "g7-wide-heads"];

fn recorded(path: &Path) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let prompts = all["prompts"].as_array().unwrap();
    assert!(!prompts.is_empty());
    prompts.clone()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn tokenizer() -> Arc<Tokenizer> {
    let options = options_in(&support::goldens(), "g7");
    let catalog: Catalog = options.catalog();
    let entry = catalog.find(&Tag::new("g7").unwrap()).unwrap();
    registry::load::open(&catalog, &entry, &options.load)
        .unwrap()
        .load(&engine::Compute::new(engine::Isa::SCALAR, 1))
        .unwrap()
        .tokenizer
}

/// The recorded ids without the token that ended the turn, and how the answer ends.
fn without_stop(greedy: &[u32], tokenizer: &Tokenizer) -> (Vec<u32>, &'static str) {
    let special = tokenizer.special();
    let stop = greedy.iter().position(|id| [special.bos, special.assistant_end].contains(id));
    match stop {
        Some(end) => {
            assert_eq!(end + 1, greedy.len(), "nothing was recorded after a stop token");
            (greedy[..end].to_vec(), "stop")
        }
        None => (greedy.to_vec(), "length"),
    }
}

/// The reference was recorded without a calculator; an answer that called one would have to differ.
fn calls_no_calculator(ids: &[u32], tokenizer: &Tokenizer) -> bool {
    let special = tokenizer.special();
    let start = ids.iter().position(|id| *id == special.python_start);
    start.is_none_or(|start| !ids[start..].contains(&special.python_end))
}

async fn matches_the_record(server: &Server, case: &str, prompt: &Value, tokenizer: &Tokenizer) {
    let greedy = ids(&prompt["greedy"]);
    let (expected, reason) = without_stop(&greedy, tokenizer);
    assert!(calls_no_calculator(&expected, tokenizer), "{case}: record a prompt that calls none");
    let body = json!({ "messages": prompt["messages"], "temperature": 0, "max_tokens": 24 });
    let told = server.told(&body).await;
    assert_eq!(told.text(), tokenizer.decode(&expected), "{case} {}", prompt["messages"]);
    let done = &told.last;
    assert_eq!((&done["finish_reason"], &done["model_tag"]), (&json!(reason), &json!(case)));
    let usage = &done["usage"];
    assert_eq!(usage["completion_tokens"], expected.len(), "{case}");
    assert_eq!(usage["prompt_tokens"], ids(&prompt["tokens"]).len(), "{case}");
}

#[tokio::test]
async fn golden_generations_answer_over_http_as_recorded() {
    let tokenizer = tokenizer();
    let server = Server::start(options_in(&support::goldens(), "g7")).await;
    for case in CASES {
        let reply = server.swap(case).await;
        assert_eq!(reply.status, 202, "{case}");
        assert_eq!(reply.json().await, json!({ "status": "ok", "current_model": case }));
        for prompt in recorded(&support::goldens().join(case).join("expected.json")) {
            matches_the_record(&server, case, &prompt, &tokenizer).await;
        }
    }
}

#[tokio::test]
async fn golden_prompts_together_answer_as_alone() {
    let tokenizer = tokenizer();
    for case in CASES {
        let mut all = options_in(&support::goldens(), case);
        all.limits.engine.step_tokens = 7;
        let server = Server::start(all).await;
        let prompts = recorded(&support::goldens().join(case).join("expected.json"));
        let answers = prompts.iter().map(|prompt| matches_the_record(&server, case, prompt, &tokenizer));
        futures_util::future::join_all(answers).await;
    }
}

#[tokio::test]
async fn golden_answers_of_the_built_in_model() {
    let server = Server::start(options()).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/samosa-mini/expected.json");
    for prompt in recorded(&path) {
        let body = json!({ "messages": prompt["messages"], "temperature": 0, "max_tokens": 128 });
        let told = server.told(&body).await;
        assert_eq!(told.text(), prompt["text"].as_str().unwrap());
        assert_eq!(told.last["finish_reason"], "stop");
        // The recorded ids end with the stop token, which no answer counts.
        assert_eq!(told.last["usage"]["completion_tokens"], ids(&prompt["greedy"]).len() - 1);
        assert_eq!(told.last["usage"]["prompt_tokens"], ids(&prompt["tokens"]).len());
    }
}
