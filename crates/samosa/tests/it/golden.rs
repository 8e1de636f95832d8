//! Recorded greedy answers of every model generation, from the server that is shipped: exact weights give the
//! reference's words.

use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use crate::support::running::Running;

const CASES: [&str; 10] =
    ["g0", "g1", "g3", "g5", "g6", "g7", "g7-wide-heads", "g7-constants", "g7-softcap-30", "g7-backout"];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn prompts(path: &Path) -> Vec<Value> {
    let prompts = read(path)["prompts"].as_array().unwrap().clone();
    assert!(!prompts.is_empty());
    prompts
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// A server of the golden models, as exact as they were recorded.
fn start(case: &str, more: &[(&str, &str)]) -> Running {
    let storage = goldens();
    let exact = [
        ("MODEL_STORAGE_PATH", storage.to_str().unwrap()),
        ("DEFAULT_MODEL_TAG", case),
        ("NANOCHAT_DTYPE", "float32"),
    ];
    Running::start(&[&exact, more].concat())
}

/// The recorded ids without the token that ended the turn, and how the answer ends.
fn without_stop<'a>(greedy: &'a [u64], special: &Value) -> (&'a [u64], &'static str) {
    let ends = ["<|bos|>", "<|assistant_end|>"].map(|name| special[name].as_u64().unwrap());
    match greedy.iter().position(|id| ends.contains(id)) {
        Some(end) => {
            assert_eq!(end + 1, greedy.len(), "nothing was recorded after a stop token");
            (&greedy[..end], "stop")
        }
        None => (greedy, "length"),
    }
}

/// The reference was recorded without a calculator; an answer that called one would have to differ.
fn calls_no_calculator(ids: &[u64], special: &Value) -> bool {
    let mut rest = ids.iter().skip_while(|id| special["<|python_start|>"] != **id);
    rest.all(|id| special["<|python_end|>"] != *id)
}

fn decoded(server: &Running, ids: &[u64]) -> String {
    let body = json!({ "tokens": ids }).to_string();
    let (status, body) = server.ask("POST", "/detokenize", ("", &body)).whole();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["prompt"].as_str().unwrap().to_owned()
}

fn matches_the_record(server: &Running, case: &str, prompt: &Value) {
    let special = &read(&goldens().join("tokenizer/expected.json"))["special"];
    let greedy = ids(&prompt["greedy"]);
    let (expected, reason) = without_stop(&greedy, special);
    assert!(calls_no_calculator(expected, special), "{case}: record a prompt that calls none");
    let body = json!({ "messages": prompt["messages"], "temperature": 0, "max_tokens": 24 });
    let (text, done) = server.generate(&body).told();
    assert_eq!(text, decoded(server, expected), "{case} {}", prompt["messages"]);
    assert_eq!((&done["finish_reason"], &done["model_tag"]), (&json!(reason), &json!(case)));
    let usage = &done["usage"];
    assert_eq!(usage["completion_tokens"], expected.len(), "{case}");
    assert_eq!(usage["prompt_tokens"], ids(&prompt["tokens"]).len(), "{case}");
}

#[test]
fn golden_generations_answer_over_http_as_recorded() {
    let server = start("g7", &[]);
    for case in CASES {
        let (status, body) =
            server.ask("POST", "/models/swap", ("", &json!({ "model_tag": case }).to_string())).whole();
        assert_eq!(status, 202, "{case}: {body}");
        for prompt in prompts(&goldens().join(case).join("expected.json")) {
            matches_the_record(&server, case, &prompt);
        }
    }
}

#[test]
fn golden_prompts_together_answer_as_alone() {
    for case in CASES {
        // A step is never smaller than what may run together and one row more.
        let server = start(case, &[("STEP_TOKENS", "7"), ("MAX_RUNNING_REQUESTS", "6")]);
        thread::scope(|scope| {
            for prompt in prompts(&goldens().join(case).join("expected.json")) {
                let server = &server;
                scope.spawn(move || matches_the_record(server, case, &prompt));
            }
        });
    }
}

#[test]
fn golden_answers_of_the_built_in_model() {
    let server = Running::start(&[("NANOCHAT_DTYPE", "float32")]);
    for prompt in
        prompts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/samosa-mini/expected.json"))
    {
        let body = json!({ "messages": prompt["messages"], "temperature": 0, "max_tokens": 128 });
        let (text, done) = server.generate(&body).told();
        assert_eq!(text, prompt["text"].as_str().unwrap());
        assert_eq!(done["finish_reason"], "stop");
        // The recorded ids end with the stop token, which no answer counts.
        assert_eq!(done["usage"]["completion_tokens"], ids(&prompt["greedy"]).len() - 1);
        assert_eq!(done["usage"]["prompt_tokens"], ids(&prompt["tokens"]).len());
    }
}
