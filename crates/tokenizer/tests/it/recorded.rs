//! Ids recorded from the reference: the golden files, tiktoken and Hugging Face tokenizers.
//! Vocabularies come from `fixtures/*.json`, which `fixtures/make.py` writes; reading pickles is `formats`' job.

use serde_json::Value;
use std::path::Path;
use tokenizer::{ChatFormat, Message, NANOCHAT_PATTERN, Role, Tokenizer, Vocabulary};

fn read(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn vocabulary(part: &Value) -> Vocabulary {
    let pairs = |key: &str| part[key].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let id = |value: &Value| value.as_u64().unwrap() as u32;
    Vocabulary {
        pattern: text(&part["pattern"]),
        ranks: pairs("ranks").iter().map(|pair| (bytes(&text(&pair[0])), id(&pair[1]))).collect(),
        special: pairs("special").iter().map(|pair| (text(&pair[0]), id(&pair[1]))).collect(),
        merges: part["merges"]
            .is_array()
            .then(|| pairs("merges").iter().map(|pair| (id(&pair[0]), id(&pair[1]))).collect()),
    }
}

fn tiktoken_vocabulary(index: usize) -> Vocabulary {
    vocabulary(&read("tests/fixtures/tiktoken.json")[index])
}

fn golden_tokenizer() -> Tokenizer {
    Tokenizer::new(tiktoken_vocabulary(0)).unwrap()
}

fn builtin_tokenizer() -> Tokenizer {
    Tokenizer::new(tiktoken_vocabulary(1)).unwrap()
}

/// Checks every recorded case, and returns how many there were.
fn check_cases(tokenizer: &Tokenizer, cases: &Value) -> usize {
    let cases = cases.as_array().unwrap();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text), numbers(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
    }
    cases.len()
}

#[test]
fn golden_texts_have_their_recorded_ids() {
    assert_eq!(tiktoken_vocabulary(0).pattern, NANOCHAT_PATTERN);
    let expected = read("../../goldens/tokenizer/expected.json");
    let tokenizer = golden_tokenizer();
    assert_eq!(check_cases(&tokenizer, &expected["cases"]), 26);
    let special = expected["special"].as_object().unwrap();
    assert_eq!(special.len(), 9);
    for (name, id) in special {
        assert_eq!(tokenizer.special(name).map(u64::from), id.as_u64());
        assert_eq!(tokenizer.token_bytes(id.as_u64().unwrap() as u32), Some(name.as_bytes()));
    }
    assert_eq!(tokenizer.vocab_size(), 701);
    assert_eq!(tokenizer.token_bytes(701), None);
}

#[test]
fn tiktoken_cases_have_their_ids() {
    for part in read("tests/fixtures/tiktoken.json").as_array().unwrap() {
        let tokenizer = Tokenizer::new(vocabulary(part)).unwrap();
        assert!(check_cases(&tokenizer, &part["cases"]) > 50);
    }
}

#[test]
fn hugging_face_cases_have_their_ids() {
    for part in read("tests/fixtures/hugging_face.json").as_array().unwrap() {
        let tokenizer = Tokenizer::new(vocabulary(part)).unwrap();
        assert!(check_cases(&tokenizer, &part["cases"]) > 50);
    }
}

#[test]
fn the_order_of_the_merge_list_matters() {
    let part = &read("tests/fixtures/hugging_face.json")[1];
    let mut reversed = vocabulary(part);
    reversed.merges.as_mut().unwrap().reverse();
    let (listed, reversed) = (Tokenizer::new(vocabulary(part)).unwrap(), Tokenizer::new(reversed).unwrap());
    let cases = part["cases"].as_array().unwrap();
    let differs = |case: &&Value| {
        let text = case["text"].as_str().unwrap();
        listed.encode(text) != reversed.encode(text)
    };
    assert!(cases.iter().filter(differs).count() > 10);
}

#[test]
fn chat_goldens_have_their_ids() {
    let golden = ["g0", "g1", "g3", "g5", "g6", "g7", "g7-wide-heads"]
        .map(|name| (golden_tokenizer(), format!("../../goldens/{name}/expected.json")));
    let builtin = (builtin_tokenizer(), "../registry/samosa-mini/expected.json".to_owned());
    let mut n_prompts = 0;
    for (tokenizer, path) in golden.into_iter().chain([builtin]) {
        for prompt in read(&path)["prompts"].as_array().unwrap() {
            let messages: Vec<Message<'_>> = prompt["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|message| Message {
                    role: match message["role"].as_str().unwrap() {
                        "system" => Role::System,
                        "user" => Role::User,
                        "assistant" => Role::Assistant,
                        other => panic!("role {other}"),
                    },
                    content: message["content"].as_str().unwrap(),
                })
                .collect();
            let rendered =
                ChatFormat::nanochat(&tokenizer).unwrap().render(&tokenizer, &messages, None).unwrap();
            assert_eq!(rendered.ids, numbers(&prompt["tokens"]), "{path} {messages:?}");
            assert_eq!(rendered.dropped_messages, 0);
            n_prompts += 1;
        }
    }
    assert!(n_prompts > 20, "{n_prompts}");
}

#[test]
fn greedy_replies_of_the_builtin_model_decode_to_their_text() {
    let tokenizer = builtin_tokenizer();
    for prompt in read("../registry/samosa-mini/expected.json")["prompts"].as_array().unwrap() {
        let mut ids = numbers(&prompt["greedy"]);
        ids.retain(|id| Some(*id) != tokenizer.special("<|assistant_end|>"));
        assert_eq!(tokenizer.decode(&ids), prompt["text"].as_str().unwrap());
    }
}
