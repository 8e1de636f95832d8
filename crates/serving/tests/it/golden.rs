//! The golden checkpoints as an operator would serve them: found by tag, read from their files, tokenized by
//! their own pickle, self-tested.

use std::path::{Path, PathBuf};

use cpu::{Compute, Isa, WeightFormat};
use registry::{Catalog, Tag, builtin, open};
use serde_json::Value;
use serving::{LoadedModel, self_test};
use tokenizer::{Message, Role};

const CASES: [&str; 10] =
    ["g0", "g1", "g3", "g5", "g6", "g7", "g7-backout", "g7-constants", "g7-softcap-30", "g7-wide-heads"];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

fn load(catalog: &Catalog, tag: &str) -> LoadedModel {
    let entry = catalog.find(&Tag::new(tag).unwrap()).unwrap();
    let verified = open::open(catalog, &entry, None).unwrap();
    LoadedModel::load(verified, WeightFormat::F32, &Compute::new(Isa::SCALAR, 1)).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn message(message: &Value) -> Message<'_> {
    let role = if message["role"] == "user" { Role::User } else { Role::Assistant };
    Message { role, content: message["content"].as_str().unwrap() }
}

/// Renders every conversation of an expected.json and compares with its tokens.
fn check_prompts(model: &LoadedModel, expected: &Value) {
    for prompt in expected["prompts"].as_array().unwrap() {
        let messages: Vec<Message<'_>> = prompt["messages"].as_array().unwrap().iter().map(message).collect();
        assert_eq!(
            model.chat.render(&model.tokenizer, &messages, None).unwrap().ids,
            ids(&prompt["tokens"]),
            "{}",
            model.tag
        );
    }
}

#[test]
fn golden_checkpoints_are_found_and_pass_their_self_test() {
    let catalog = Catalog::new(Some(goldens()));
    let listed: Vec<String> = catalog.list().unwrap().iter().map(|entry| entry.tag.to_string()).collect();
    assert_eq!(listed, CASES.iter().copied().chain([builtin::TAG]).collect::<Vec<_>>());
    for case in CASES {
        let model = load(&catalog, case);
        let expected = json(&goldens().join(case).join("expected.json"));
        assert_eq!(model.weights.config.architecture, expected["generation"].as_str().unwrap());
        self_test::run(&model, &Compute::new(Isa::detect(), 2)).unwrap();
        check_prompts(&model, &expected);
    }
}

#[test]
fn golden_texts_have_their_ids_through_the_pickle() {
    let model = load(&Catalog::new(Some(goldens())), "g7");
    let expected = json(&goldens().join("tokenizer/expected.json"));
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        assert_eq!(model.tokenizer.encode(text), ids(&case["ids"]), "{text:?}");
        assert_eq!(model.tokenizer.decode(&ids(&case["ids"])), text);
    }
    for (name, id) in expected["special"].as_object().unwrap() {
        assert_eq!(model.tokenizer.special(name).map(u64::from), id.as_u64());
    }
}

#[test]
fn golden_prompts_of_the_built_in_model() {
    let model = load(&Catalog::new(None), builtin::TAG);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/samosa-mini/expected.json");
    check_prompts(&model, &json(&path));
    self_test::run(&model, &Compute::new(Isa::detect(), 2)).unwrap();
}
