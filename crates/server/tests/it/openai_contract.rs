//! `contract/openai-api.yaml` against what the server reads and writes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Ask, Server, options};

const CONTRACT: &str = include_str!("../../../../contract/openai-api.yaml");
const POSTED: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"];

fn contract() -> Value {
    serde_yaml_ng::from_str(CONTRACT).unwrap()
}

fn resolved<'a>(contract: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => contract.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    }
}

/// The schema of an operation's body.
fn body<'a>(contract: &'a Value, path: &str) -> &'a Value {
    resolved(
        contract,
        &contract["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"],
    )
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Whether a value fits a schema, as far as this contract uses JSON Schema for what is given.
fn fits(contract: &Value, schema: &Value, value: &Value) -> bool {
    let schema = resolved(contract, schema);
    let types: Vec<&str> = match &schema["type"] {
        Value::Null => Vec::new(),
        Value::String(name) => vec![name],
        names => names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect(),
    };
    let has_type = types.is_empty() || types.iter().any(|name| is_type(value, name));
    let is_listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    let is_one = schema["oneOf"]
        .as_array()
        .is_none_or(|schemas| schemas.iter().filter(|schema| fits(contract, schema, value)).count() == 1);
    let is_const = schema.get("const").is_none_or(|constant| constant == value);
    let bound = |name: &str| schema[name].as_f64();
    let is_within = value.as_f64().is_none_or(|number| {
        bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
    });
    let have_form = value.as_array().is_none_or(|items| {
        let is_short = bound("maxItems").is_none_or(|most| items.len() as f64 <= most);
        is_short
            && (schema["items"].is_null() || items.iter().all(|item| fits(contract, &schema["items"], item)))
    });
    let fields_fit = value.as_object().is_none_or(|fields| {
        let required = schema["required"].as_array();
        let all =
            required.is_none_or(|names| names.iter().all(|name| fields.contains_key(name.as_str().unwrap())));
        let fits = |(name, value): (&String, &Value)| match (
            schema["properties"].get(name),
            &schema["additionalProperties"],
        ) {
            (Some(schema), _) => fits(contract, schema, value),
            (None, Value::Bool(false)) => false,
            (None, Value::Object(_)) => fits(contract, &schema["additionalProperties"], value),
            (None, _) => true,
        };
        let are_few = bound("maxProperties").is_none_or(|most| fields.len() as f64 <= most);
        all && are_few && fields.iter().all(fits)
    });
    has_type && is_listed && is_one && is_const && is_within && have_form && fields_fit
}

#[test]
fn the_contract_has_the_fields_that_are_read_and_no_others() {
    let contract = contract();
    for path in POSTED {
        let schema = body(&contract, path);
        let written: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let read = server::openai_parameters(path).unwrap();
        let names = read.taken.iter().chain(read.unsupported.iter().map(|(name, _)| name)).copied();
        assert_eq!(written, names.collect(), "{path}");
        for (name, neutral) in read.unsupported {
            let neutral: Vec<Value> = serde_json::from_str(neutral).unwrap();
            let schema = &schema["properties"][name];
            assert!(
                neutral.iter().chain([&Value::Null]).all(|value| fits(&contract, schema, value)),
                "{name}"
            );
            for other in [json!("other"), json!(7), json!(true), json!([1]), json!({ "a": 1 })] {
                assert_eq!(fits(&contract, schema, &other), neutral.contains(&other), "{name}: {other}");
            }
        }
    }
    assert!(server::openai_parameters("/generate").is_none());
}

/// A value of the wrong type for each field.
#[tokio::test]
async fn every_field_is_read() {
    let server = Server::start(options()).await;
    let good = json!({
        "model": "samosa-mini", "messages": [{ "role": "user", "content": "x" }], "prompt": "x", "tokens": [1],
    });
    for path in POSTED {
        let contract = contract();
        let schema = body(&contract, path);
        let texts = ["user", "model", "prompt_cache_key", "safety_identifier"];
        let wrong = |name: &str| if texts.contains(&name) { json!(7) } else { json!("\u{1}") };
        for name in schema["properties"].as_object().unwrap().keys() {
            let needed = |name: &str| match path {
                "/v1/chat/completions" => ["model", "messages"].contains(&name),
                "/v1/completions" => ["model", "prompt"].contains(&name),
                "/tokenize" => name == "prompt",
                _ => name == "tokens",
            };
            let mut body: serde_json::Map<String, Value> =
                good.as_object().unwrap().clone().into_iter().filter(|(name, _)| needed(name)).collect();
            body.insert(name.clone(), if name == "prompt" { json!(7) } else { wrong(name) });
            if ["stop", "grammar"].contains(&name.as_str()) {
                body.insert(name.clone(), json!(7));
            }
            let body = Value::Object(body);
            assert!(!fits(&contract, &schema["properties"][name], &body[name]), "{path} {name}");
            let reply = server.send(Ask::new("POST", path).json(&body)).await;
            let status = reply.status;
            let error = reply.json().await;
            assert_eq!(status, 400, "{path} {name}: {error}");
            let param = error["error"]["param"].as_str().unwrap().to_owned();
            let both = name == "messages" && path == "/tokenize";
            assert!(param == *name || both, "{path} {name}: {error}");
        }
    }
}

#[tokio::test]
async fn real_answers_fit() {
    let (server, contract) = (Server::start(options()).await, contract());
    let schema = |path: &str, method: &str, media: &str| {
        contract["paths"][path][method]["responses"]["200"]["content"][media]["schema"].clone()
    };
    let chat = json!({ "model": "samosa-mini", "messages": [{ "role": "user", "content": "Hello!" }], "logprobs": true,
        "top_logprobs": 3, "n": 2, "max_tokens": 8 });
    let text = json!({ "model": "samosa-mini", "prompt": ["x", "y"], "logprobs": 3, "max_tokens": 4 });
    let tokenize = json!({ "prompt": "x", "return_token_strs": true });
    let detokenize = json!({ "tokens": [1, 2] });
    for (path, body) in POSTED.into_iter().zip([&chat, &text, &tokenize, &detokenize]) {
        let answer = server.send(Ask::new("POST", path).json(body)).await.json().await;
        assert!(fits(&contract, &schema(path, "post", "application/json"), &answer), "{path}: {answer}");
        let mut spoiled = answer.clone();
        spoiled["more"] = json!(1);
        assert!(
            !fits(&contract, &schema(path, "post", "application/json"), &spoiled),
            "{path}: it is looked at"
        );
    }
    for (path, body) in POSTED.into_iter().zip([chat, text]) {
        let mut body = body;
        (body["stream"], body["stream_options"]) = (json!(true), json!({ "include_usage": true }));
        let bytes = server.send(Ask::new("POST", path).json(&body)).await.rest().await;
        let stream = String::from_utf8(bytes).unwrap();
        let mut chunks = 0;
        for data in stream
            .split("\n\n")
            .filter_map(|frame| frame.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
        {
            let chunk: Value = serde_json::from_str(data).unwrap();
            assert!(fits(&contract, &schema(path, "post", "text/event-stream"), &chunk), "{path}: {chunk}");
            chunks += 1;
        }
        assert!(chunks > 6, "{stream}");
    }
    for (path, named) in [("/v1/models", "/v1/models"), ("/v1/models/samosa-mini", "/v1/models/{model}")] {
        let answer = server.get(path).await;
        assert!(fits(&contract, &schema(named, "get", "application/json"), &answer), "{path}: {answer}");
    }
}
