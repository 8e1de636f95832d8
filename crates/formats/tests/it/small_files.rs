//! Tokenizer and meta files in each way they are written, made up here in full.

use formats::{
    ErrorKind, JsonFault, LIMITS, TokenizerFault, TokenizerFile, read_meta, read_shard_index,
    read_tokenizer_json,
};
use serde_json::{Value, json};

const PATTERN: &str = r"\p{N}{1,2}|\s+(?!\S)";

fn tokenizer(file: &Value) -> Result<TokenizerFile, formats::Error> {
    read_tokenizer_json("tokenizer.json", file.to_string().as_bytes())
}

fn hugging_face() -> Value {
    json!({
        "version": "1.0", "truncation": null, "normalizer": null,
        "added_tokens": [
            {"id": 0, "content": "<|bos|>", "special": true, "lstrip": false},
            {"id": 9, "content": "<|extra|>", "special": true},
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": "", "byte_fallback": true,
            "vocab": {"<|bos|>": 0, "a": 3, "Ġ": 1, "Ċ": 2, "é": 4, "Ġa": 6, "Ġaa": 5},
            "merges": [["Ġ", "a"], ["Ġa", "a"]],
        },
    })
}

#[test]
fn hugging_face_bpe() {
    let read = tokenizer(&hugging_face()).unwrap();
    assert_eq!(read.pattern.as_deref(), Some(PATTERN));
    assert_eq!(read.special, [("<|bos|>".to_owned(), 0), ("<|extra|>".to_owned(), 9)]);
    let mut ranks = read.ranks.clone();
    ranks.sort_by_key(|(_, id)| *id);
    let expected = [(&b" "[..], 1), (b"\n", 2), (b"a", 3), (b"\xe9", 4), (b" aa", 5), (b" a", 6)];
    assert_eq!(ranks, expected.map(|(token, id)| (token.to_vec(), id)));
    assert_eq!(read.merges, Some(vec![(1, 3), (6, 3)]));
    let mut older = hugging_face();
    older["model"]["merges"] = json!(["Ġ a", "Ġa a"]);
    assert_eq!(tokenizer(&older).unwrap(), read);
}

#[test]
fn hugging_face_files_that_do_more_are_refused() {
    let changed = |path: &str, value: Value| {
        let mut file = hugging_face();
        *file.pointer_mut(path).unwrap() = value;
        match tokenizer(&file).unwrap_err().kind() {
            ErrorKind::Tokenizer(fault) => fault.clone(),
            other => panic!("{path}: {other:?}"),
        }
    };
    let split = "/pre_tokenizer/pretokenizers";
    for (path, value, fault) in [
        ("/model/type".to_owned(), json!("Unigram"), TokenizerFault::Unsupported("model type")),
        ("/model/dropout".to_owned(), json!(0.1), TokenizerFault::Unsupported("dropout")),
        (
            "/model/end_of_word_suffix".to_owned(),
            json!("</w>"),
            TokenizerFault::Unsupported("end_of_word_suffix"),
        ),
        ("/normalizer".to_owned(), json!({"type": "NFC"}), TokenizerFault::Unsupported("normalizer")),
        ("/pre_tokenizer".to_owned(), Value::Null, TokenizerFault::Missing("pre_tokenizer")),
        (
            "/pre_tokenizer".to_owned(),
            json!({"type": "Whitespace"}),
            TokenizerFault::Unsupported("pre_tokenizer"),
        ),
        (format!("{split}/0/behavior"), json!("Removed"), TokenizerFault::Unsupported("pre_tokenizer")),
        (format!("{split}/0/invert"), json!(true), TokenizerFault::Unsupported("pre_tokenizer")),
        (format!("{split}/0/pattern"), json!({"String": " "}), TokenizerFault::Unsupported("pre_tokenizer")),
        (format!("{split}/1/use_regex"), json!(true), TokenizerFault::Unsupported("pre_tokenizer")),
        (format!("{split}/1/add_prefix_space"), json!(true), TokenizerFault::Unsupported("pre_tokenizer")),
        ("/model/merges".to_owned(), json!([["Ġ", "b"]]), TokenizerFault::Merge),
        ("/model/merges".to_owned(), json!([["a", "Ġ"]]), TokenizerFault::Merge),
        ("/model/vocab".to_owned(), json!({"日": 3, "a": 1}), TokenizerFault::Merge),
        ("/added_tokens/1/content".to_owned(), json!("<|bos|>"), TokenizerFault::DuplicateToken),
    ] {
        assert_eq!(changed(&path, value), fault, "{path}");
    }
    let mut file = hugging_face();
    file["model"]["merges"] = json!([]);
    file["model"]["vocab"] = json!({"日": 3});
    let error = tokenizer(&file).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Tokenizer(TokenizerFault::Token)), "{error}");
}

#[test]
fn byte_level_alone_splits_as_gpt2() {
    let mut file = hugging_face();
    file["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false});
    assert!(tokenizer(&file).unwrap().pattern.unwrap().starts_with("'(?:[sdmt]|ll|ve|re)| ?\\p{L}+"));
}

#[test]
fn ranks_in_hexadecimal_and_base64() {
    let file = |ranks: Value| json!({"name": "rustbpe", "pattern": PATTERN, "mergeable_ranks": ranks, "special_tokens": {"<|bos|>": 3}});
    let hex = tokenizer(&file(json!({"61": 0, "ff": 1, "61ff": 2}))).unwrap();
    let mut ranks = hex.ranks.clone();
    ranks.sort_by_key(|(_, rank)| *rank);
    assert_eq!(ranks, [(b"a".to_vec(), 0), (vec![255], 1), (b"a\xff".to_vec(), 2)]);
    assert_eq!((hex.pattern.as_deref(), &hex.merges), (Some(PATTERN), &None));
    assert_eq!(hex.special, [("<|bos|>".to_owned(), 3)]);
    let mut base64 = tokenizer(&file(json!({"YQ==": 0, "/w==": 1, "Yf8=": 2}))).unwrap();
    base64.ranks.sort_by_key(|(_, rank)| *rank);
    assert_eq!(base64.ranks, ranks);
    for ranks in [json!({"": 0}), json!({"YQ==": 0, "é": 1})] {
        assert!(matches!(
            tokenizer(&file(ranks)).unwrap_err().kind(),
            ErrorKind::Tokenizer(TokenizerFault::Token)
        ));
    }
    let twice = r#"{"pattern":"","special_tokens":{},"mergeable_ranks":{"61":0,"61":1}}"#;
    let error = read_tokenizer_json("t.json", twice.as_bytes()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Tokenizer(TokenizerFault::DuplicateToken)), "{error}");
    for id in ["-1", "4294967296", "1.5", "\"1\""] {
        let text = twice.replace(r#","61":1"#, "").replace(":0}", &format!(":{id}}}"));
        let error = read_tokenizer_json("t.json", text.as_bytes()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Json { line: 1, .. }), "{id}: {error}");
    }
}

#[test]
fn more_tokens_than_the_limit_are_refused() {
    let file = |count| {
        format!(r#"{{"pattern":"","special_tokens":{{}},"mergeable_ranks":{{{}"#, r#""":0,"#.repeat(count))
    };
    let stops_at = |count| match read_tokenizer_json("t.json", file(count).as_bytes()).unwrap_err().kind() {
        ErrorKind::Json { fault, .. } => *fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(stops_at(LIMITS.tokens), JsonFault::Eof);
    assert_eq!(stops_at(LIMITS.tokens + 1), JsonFault::Data);
}

#[test]
fn native_meta_with_numbers_only_python_reads() {
    let text = br#"{"step": 650, "val_bpb": NaN, "loop_state": {"min_val_bpb": Infinity, "x": [-Infinity, -1]},
        "model_config": {"sequence_len": 2048, "vocab_size": 65536, "n_layer": 20, "n_head": 10, "n_kv_head": 5,
        "n_embd": 1280, "window_pattern": "SSSL"}, "user_config": {"run": "NaN \" Infinity \\", "lr": NaN}}"#;
    let meta = read_meta("meta_000650.json", text).unwrap();
    assert_eq!(meta.step, Some(650));
    assert_eq!((meta.sequence_len, meta.vocab_size, meta.n_layer), (Some(2048), Some(65536), Some(20)));
    assert_eq!((meta.n_head, meta.n_kv_head, meta.n_embd), (Some(10), Some(5), Some(1280)));
    assert_eq!(meta.window_pattern.as_deref(), Some("SSSL"));
    assert_eq!(meta.user_config["run"], "NaN \" Infinity \\");
    assert_eq!(meta.user_config["lr"], "NaN", "a constant that is none can be refused by its value");
    assert_eq!(meta.beside.keys().collect::<Vec<_>>(), ["step", "val_bpb", "loop_state"]);
    let nan = read_meta("m.json", b"{\"n_layer\": NaN}").unwrap_err();
    assert!(matches!(nan.kind(), ErrorKind::Field { field: "n_layer", .. }), "{nan}");
    assert_eq!(nan.file(), "m.json");
    for text in ["{\"a\": NaNa}", "{\"a\": nan}", "{\"a\": --Infinity}", "{\"a\": Inf}"] {
        assert!(read_meta("m.json", text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn flat_meta_and_hugging_face_config() {
    let meta =
        read_meta("m.json", br#"{"sequence_len": 8, "n_head": 4, "n_kv_head": null, "n_layer": 1}"#).unwrap();
    assert_eq!(
        (meta.sequence_len, meta.n_head, meta.n_kv_head, meta.n_embd),
        (Some(8), Some(4), Some(4), None)
    );
    let config = json!({
        "architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "vocab_size": 65536, "hidden_size": 1280,
        "intermediate_size": 5120, "num_hidden_layers": 20, "num_attention_heads": 10, "num_key_value_heads": null,
        "max_position_embeddings": 2048, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "final_logit_softcapping": 15.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "qkv_bias": false,
        "padded_vocab_size": 65600, "text_vocab_size": 65529,
    });
    let meta = read_meta("config.json", config.to_string().as_bytes()).unwrap();
    assert_eq!((meta.n_embd, meta.n_layer), (Some(1280), Some(20)));
    assert_eq!((meta.n_head, meta.n_kv_head, meta.sequence_len), (Some(10), Some(10), Some(2048)));
    assert_eq!(Value::Object(meta.model.clone()), config, "constants are left to the model crate");
    assert!(meta.beside.is_empty());
    assert_eq!(meta.text_vocab_size, Some(65529));
    assert_eq!(meta.architectures, ["NanoChatForCausalLM"]);
}

#[test]
fn two_names_of_one_size_agree_or_are_refused() {
    let read = |text: &str| read_meta("m.json", text.as_bytes());
    let meta = read(
        r#"{"n_head": 4, "num_attention_heads": 4, "sequence_len": 512, "max_position_embeddings": 2048}"#,
    );
    let meta = meta.unwrap();
    assert_eq!((meta.n_head, meta.sequence_len), (Some(4), Some(512)), "windows follow sequence_len");
    let error = read(r#"{"n_head": 4, "num_attention_heads": 8}"#).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Field { field: "num_attention_heads", .. }), "{error}");
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let marked = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let meta = read_meta("m.json", &marked(r#"{"model_config": {"n_head": 4}}"#)).unwrap();
    assert_eq!(meta.n_head, Some(4));
    assert_eq!(read_shard_index("i.json", &marked(r#"{"weight_map": {"x": "a.pt"}}"#)).unwrap(), ["a.pt"]);
    let file = hugging_face().to_string();
    let read = read_tokenizer_json("tokenizer.json", &marked(&file)).unwrap();
    assert_eq!(read, tokenizer(&hugging_face()).unwrap());
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(matches!(read_meta("m.json", &utf16).unwrap_err().kind(), ErrorKind::Json { .. }));
}
