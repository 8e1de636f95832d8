//! OpenAI's API: the same answers as `POST /generate`, streamed or whole, for chats and for texts.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Ask, Server, long_options, long_storage, options};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const MODEL: &str = "samosa-mini";

async fn post(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.send(Ask::new("POST", path).json(body)).await;
    let (status, media_type) = (reply.status, reply.header("content-type").unwrap().to_owned());
    let answer = reply.json().await;
    assert_eq!((status, media_type.as_str()), (200, "application/json"), "{body}: {answer}");
    answer
}

/// The events of a stream, without comments; the last is `[DONE]` as text.
async fn stream(server: &Server, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let reply = server.send(Ask::new("POST", path).json(&body)).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"), "{body}: {}", reply.status);
    let text = String::from_utf8(reply.rest().await).unwrap();
    let frames = text.strip_suffix("\n\n").unwrap().split("\n\n").filter(|frame| !frame.starts_with(':'));
    let event = |frame: &str| match frame.strip_prefix("data: ").unwrap() {
        "[DONE]" => json!("[DONE]"),
        data => serde_json::from_str(data).unwrap(),
    };
    frames.map(event).collect()
}

/// The text of one choice in a stream, and why it ended.
fn joined(events: &[Value], index: usize) -> (String, String) {
    let choices = events.iter().filter_map(|event| event["choices"].as_array()).flatten();
    let own: Vec<&Value> = choices.filter(|choice| choice["index"] == index).collect();
    let text = |choice: &&Value| {
        let text = if choice["text"].is_null() { &choice["delta"]["content"] } else { &choice["text"] };
        text.as_str().unwrap_or_default().to_owned()
    };
    let ends: Vec<&str> = own.iter().filter_map(|choice| choice["finish_reason"].as_str()).collect();
    assert_eq!(ends.len(), 1, "it ends once: {events:?}");
    assert!(own.last().unwrap()["finish_reason"].is_string(), "and nothing comes after that");
    (own.iter().map(text).collect(), ends[0].to_owned())
}

fn chat(content: &str) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": content }], "temperature": 0 })
}

fn with(mut body: Value, fields: &Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// Numbers that only look random: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn text(&mut self) -> String {
        const WORDS: [&str; 16] = [
            "tell",
            "me",
            "a",
            "story",
            "about",
            "the fox",
            "12 * 7",
            "?",
            "समोसा",
            "🥟",
            "\n\n",
            "who are you",
            "<|bos|>",
            "é",
            "sea",
            "Hello!",
        ];
        let count = 1 + self.below(8);
        (0..count).map(|_| WORDS[self.below(16) as usize]).collect::<Vec<_>>().join(" ")
    }

    /// A conversation that may begin with instructions.
    fn messages(&mut self) -> Value {
        let mut roles = if self.below(3) == 0 { vec!["system"] } else { Vec::new() };
        for _ in 0..self.below(3) {
            roles.extend(["user", "assistant"]);
        }
        roles.push("user");
        roles.into_iter().map(|role| json!({ "role": role, "content": self.text() })).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seed_gives_one_text_streamed_whole_and_by_generate() {
    let server = Server::start(options()).await;
    let mut numbers = Numbers(7);
    let mut texts = std::collections::BTreeSet::new();
    for case in 0..40 {
        let seed = if case % 4 == 0 { numbers.next() } else { numbers.below(1 << 53) };
        let asked = json!({
            "messages": numbers.messages(),
            "temperature": numbers.below(21) as f64 / 10.0,
            "top_k": numbers.below(201),
            "max_tokens": 1 + numbers.below(40),
        });
        let told = server.told_with(&asked, Some(seed)).await;
        let body = with(asked.clone(), &json!({ "model": MODEL, "seed": seed }));
        let whole = post(&server, CHAT, &body).await;
        let streamed =
            stream(&server, CHAT, &with(body, &json!({ "stream_options": { "include_usage": true } }))).await;
        let (text, end) = joined(&streamed, 0);
        assert_eq!((content(&whole), text.as_str()), (told.text().as_str(), told.text().as_str()), "{asked}");
        let ends = [&told.last["finish_reason"], &whole["choices"][0]["finish_reason"], &json!(end)];
        assert!(ends.iter().all(|other| *other == ends[0]), "{asked}: {ends:?}");
        let usages = [&told.last["usage"], &whole["usage"], &streamed[streamed.len() - 2]["usage"]];
        for field in ["prompt_tokens", "completion_tokens"] {
            assert!(usages.iter().all(|usage| usage[field] == usages[0][field]), "{asked}: {usages:?}");
        }
        texts.insert(text);
    }
    assert!(texts.len() > 25, "the answers differ, or this shows nothing: {}", texts.len());
}

#[tokio::test]
async fn a_stream_is_these_bytes() {
    let server = Server::start(options()).await;
    let body = with(chat("Hello!"), &json!({ "stream": true, "max_tokens": 2 }));
    let ask = Ask::new("POST", CHAT).json(&body).header("X-Request-Id", "its-id");
    let reply = server.send(ask).await;
    let headers = ["cache-control", "x-accel-buffering", "x-request-id"].map(|name| reply.header(name));
    assert_eq!(headers, [Some("no-cache"), Some("no"), Some("its-id")]);
    let text = String::from_utf8(reply.rest().await).unwrap();
    let created = text.split("\"created\":").nth(1).unwrap().split(',').next().unwrap();
    let head = format!(
        "data: {{\"id\":\"chatcmpl-its-id\",\"object\":\"chat.completion.chunk\",\"created\":{created},\
         \"model\":\"samosa-mini\",\"system_fingerprint\":\"fp_6e4d2fb6380d\",\"choices\":[{{\"index\":0,\"delta\":"
    );
    let rest = ",\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let expected = format!(
        "{head}{{\"role\":\"assistant\",\"content\":\"\"}}{rest}{head}{{\"content\":\"Hello\"}}{rest}\
         {head}{{\"content\":\"!\"}}{rest}{head}{{}},\"logprobs\":null,\"finish_reason\":\"length\"}}]}}\n\n\
         data: [DONE]\n\n"
    );
    assert_eq!(text, expected);
    let body = json!({ "model": MODEL, "prompt": "Once upon", "temperature": 0, "max_tokens": 1, "stream": true,
        "stream_options": { "include_usage": true } });
    let reply = server.send(Ask::new("POST", TEXT).json(&body).header("X-Request-Id", "its-id")).await;
    let text = String::from_utf8(reply.rest().await).unwrap();
    let created = text.split("\"created\":").nth(1).unwrap().split(',').next().unwrap();
    let head = format!(
        "data: {{\"id\":\"cmpl-its-id\",\"object\":\"text_completion\",\"created\":{created},\"model\":\"samosa-mini\",\
         \"system_fingerprint\":\"fp_6e4d2fb6380d\",\"choices\":["
    );
    let expected = format!(
        "{head}{{\"index\":0,\"text\":\" a\",\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n\
         {head}{{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}}],\"usage\":null}}\n\n\
         {head}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4,\
         \"prompt_tokens_details\":{{\"cached_tokens\":0}}}}}}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn stop_texts_end_answers_wherever_tokens_begin() {
    let server = Server::start(options()).await;
    let whole = post(&server, CHAT, &chat("Hello!")).await;
    assert_eq!(content(&whole), "Hello! How can I help you today?");
    for (stop, text) in [
        (json!("can I h"), "Hello! How "),
        (json!(["llo"]), "He"),
        (json!(["never", "today?"]), "Hello! How can I help you "),
        (json!(["today", "you tod"]), "Hello! How can I help "),
        (json!("Hello"), ""),
        (json!([]), "Hello! How can I help you today?"),
        (json!("today? not"), "Hello! How can I help you today?"),
    ] {
        let body = with(chat("Hello!"), &json!({ "stop": stop, "logprobs": true }));
        let answer = post(&server, CHAT, &body).await;
        assert_eq!(
            (content(&answer), &answer["choices"][0]["finish_reason"]),
            (text, &json!("stop")),
            "{stop}"
        );
        let events = stream(&server, CHAT, &body).await;
        assert_eq!(joined(&events, 0), (text.to_owned(), "stop".to_owned()), "{stop}");
        // Tokens are told of only if all of their text is in the answer.
        let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
        let spelled: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert!(
            text.starts_with(&spelled) && text.len() - spelled.len() < 5,
            "{stop}: {spelled:?} of {text:?}"
        );
    }
}

#[tokio::test]
async fn several_choices_have_seeds_of_their_own_and_share_their_prompt() {
    let server = Server::start(options()).await;
    let body = with(
        chat("Tell me a short story about a fox."),
        &json!({
            "temperature": 1.2, "seed": -7, "n": 4, "max_tokens": 24, "stream_options": { "include_usage": true },
        }),
    );
    let events = stream(&server, CHAT, &body).await;
    let mut whole = body.clone();
    whole.as_object_mut().unwrap().remove("stream_options");
    let whole = post(&server, CHAT, &whole).await;
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<&str> =
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
    for (i, text) in texts.iter().enumerate() {
        assert_eq!((joined(&events, i).0.as_str(), &choices[i]["index"]), (*text, &json!(i)));
        assert!(!texts[..i].contains(text), "each is another: {texts:?}");
    }
    let alone = json!({ "n": 1, "stream_options": null });
    let first = post(&server, CHAT, &with(body.clone(), &alone)).await;
    assert_eq!(content(&first), texts[0], "the first has the seed itself");
    let bits = post(&server, CHAT, &with(body, &with(alone, &json!({ "seed": u64::MAX - 6 })))).await;
    assert_eq!(content(&bits), texts[0], "a negative seed counts by its bits");
    let (usage, single) = (&whole["usage"], &first["usage"]);
    assert_eq!(usage["prompt_tokens"], single["prompt_tokens"], "a prompt counts once");
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], usage["completion_tokens"]);
    assert!(usage["completion_tokens"].as_u64() > single["completion_tokens"].as_u64());
    assert_eq!(server.metric("samosa_stream_ends_total{reason=\"client_gone\"}").await, 0.0);
    assert_eq!(server.metric("active_generations").await, 0.0);
}

#[tokio::test]
async fn log_probabilities_are_of_the_text_and_add_up() {
    let server = Server::start(options()).await;
    let body = with(
        chat("नमस्ते 👋 Say 🥟 समोसा."),
        &json!({
            "temperature": 1.5, "seed": 3, "logprobs": true, "top_logprobs": 20, "max_tokens": 60,
            "logit_bias": { "240": 6, "159": 6 },
        }),
    );
    let whole = post(&server, CHAT, &body).await;
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(String::from_utf8_lossy(&bytes), content(&whole), "all bytes, in order");
    assert_eq!(tokens.len(), whole["usage"]["completion_tokens"].as_u64().unwrap() as usize);
    for token in tokens {
        let top: Vec<f64> = token["top_logprobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|top| top["logprob"].as_f64().unwrap())
            .collect();
        let sum: f64 = top.iter().map(|logprob| logprob.exp()).sum();
        assert!(top.len() == 20 && top.is_sorted_by(|a, b| a >= b) && sum <= 1.0 + 1e-4, "{token}");
        assert!(token["logprob"].as_f64().unwrap() <= top[0] + 1e-6, "{token}");
    }
    let events = stream(&server, CHAT, &body).await;
    let streamed: Vec<&Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert!(
        streamed.iter().zip(tokens).all(|(one, other)| **one == *other) && streamed.len() == tokens.len()
    );
}

#[tokio::test]
async fn log_probabilities_of_texts_have_places_and_name_what_was_taken() {
    let server = Server::start(options()).await;
    let body =
        json!({ "model": MODEL, "prompt": "Once upon", "temperature": 0, "max_tokens": 8, "logprobs": 20 });
    let answer = post(&server, TEXT, &body).await;
    let likely = &answer["choices"][0]["logprobs"];
    let tokens: Vec<&str> =
        likely["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), answer["choices"][0]["text"]);
    let offsets: Vec<u64> =
        likely["text_offset"].as_array().unwrap().iter().map(|offset| offset.as_u64().unwrap()).collect();
    let expected = tokens.iter().scan(0, |at, token| {
        *at += token.chars().count() as u64;
        Some(*at - token.chars().count() as u64)
    });
    assert_eq!(offsets, expected.collect::<Vec<_>>());
    for (i, token) in tokens.iter().enumerate() {
        let top = likely["top_logprobs"][i].as_object().unwrap();
        assert_eq!(top[*token], likely["token_logprobs"][i], "the likeliest was taken");
        let sum: f64 = top.values().map(|logprob| logprob.as_f64().unwrap().exp()).sum();
        assert!((0.3..1.0001).contains(&sum) && top.len() == 20, "{sum}");
    }
}

#[tokio::test]
async fn texts_and_tokens_are_gone_on_with_alike() {
    let server = Server::start(options()).await;
    let ids = post(&server, "/tokenize", &json!({ "prompt": "Once upon" })).await["tokens"].clone();
    let base = json!({ "model": MODEL, "temperature": 0, "max_tokens": 8 });
    let of = |prompt: Value| with(base.clone(), &json!({ "prompt": prompt }));
    let text = post(&server, TEXT, &of(json!("Once upon"))).await;
    let tokens = post(&server, TEXT, &of(ids.clone())).await;
    assert_eq!(text["choices"], tokens["choices"]);
    assert_eq!(text["usage"]["prompt_tokens"], ids.as_array().unwrap().len());
    let both = post(&server, TEXT, &with(of(json!(["The sea", "Once upon"])), &json!({ "n": 2 }))).await;
    let choices = both["choices"].as_array().unwrap();
    assert_eq!(
        choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!([&choices[2]["text"], &choices[3]["text"]], [&text["choices"][0]["text"]; 2]);
    assert_ne!(choices[0]["text"], choices[2]["text"]);
    let lists = post(&server, TEXT, &of(json!([ids, ids]))).await;
    assert_eq!(lists["choices"][1]["text"], text["choices"][0]["text"]);
    assert_eq!(lists["usage"]["prompt_tokens"], 2 * ids.as_array().unwrap().len());
    let short =
        post(&server, TEXT, &json!({ "model": MODEL, "prompt": "Once upon", "temperature": 0 })).await;
    assert_eq!(short["usage"]["completion_tokens"], 16, "for those who do not say");
    assert!(!post(&server, TEXT, &of(json!(""))).await["choices"][0]["text"].is_null());
}

#[tokio::test]
async fn roles_parts_nulls_and_aliases_are_taken() {
    let server = Server::start(server::Options {
        model_aliases: vec!["gpt-4o-mini".to_owned(), "org/name".to_owned()],
        ..options()
    })
    .await;
    let plain =
        json!([{ "role": "system", "content": "Be short." }, { "role": "user", "content": "Who are you?" }]);
    let parts = json!([
        { "role": "developer", "content": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "short." }] },
        { "role": "user", "content": "Who are you?", "name": null, "tool_calls": [], "refusal": null },
    ]);
    let expected = post(&server, CHAT, &with(chat(""), &json!({ "messages": plain }))).await;
    let neutral = json!({
        "model": "org/name", "messages": parts, "n": 1.0, "tools": [], "tool_choice": "auto", "store": false,
        "parallel_tool_calls": null, "user": "someone", "response_format": { "type": "text" }, "grammar": null,
        "max_tokens": 100, "max_completion_tokens": 100, "top_p": 1, "min_p": 0, "frequency_penalty": 0,
        "presence_penalty": -0.0, "repetition_penalty": 1, "logit_bias": {}, "stream": false, "nobody_knows": null,
    });
    let answer = post(&server, CHAT, &with(chat(""), &neutral)).await;
    assert_eq!(answer["choices"], expected["choices"]);
    assert_eq!(answer["model"], MODEL, "an answer says what served");
    let models = server.get("/v1/models").await;
    let ids: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, [MODEL, "gpt-4o-mini", "org/name"]);
    assert_eq!(
        (&models["data"][1]["root"], &models["data"][0]["max_model_len"]),
        (&json!(MODEL), &json!(512))
    );
    for path in ["/v1/models/org/name", "/v1/models/org%2Fname"] {
        assert_eq!(server.get(path).await["id"], "org/name");
    }
}

#[tokio::test]
async fn sampling_fields_do_what_they_say() {
    let server = Server::start(options()).await;
    let hot = |fields: Value| {
        with(chat("Tell me a story."), &with(json!({ "temperature": 2, "top_k": -1, "seed": 5 }), &fields))
    };
    let greedy = post(&server, CHAT, &chat("Tell me a story.")).await;
    for fields in
        [json!({ "top_p": 1e-9 }), json!({ "min_p": 1 }), json!({ "top_k": 1 }), json!({ "temperature": 0 })]
    {
        let answer = post(&server, CHAT, &hot(fields.clone())).await;
        assert_eq!(content(&answer), content(&greedy), "{fields}");
    }
    let any = post(&server, CHAT, &hot(json!({}))).await;
    assert_ne!(content(&any), content(&greedy));
    let tokens = post(&server, "/tokenize", &json!({ "prompt": "Hello", "add_special_tokens": false })).await;
    let hello = tokens["tokens"][0].to_string();
    let banned = post(&server, CHAT, &with(chat("Hello!"), &json!({ "logit_bias": { hello: -100 } }))).await;
    assert!(!content(&banned).contains("Hello"), "{banned}");
    for field in ["frequency_penalty", "presence_penalty", "repetition_penalty"] {
        let answer = post(&server, CHAT, &hot(json!({ field: 2 }))).await;
        assert_ne!(content(&answer), content(&any), "{field}");
    }
}

#[tokio::test]
async fn tokens_and_text_are_made_of_each_other() {
    let server = Server::start(options()).await;
    for text in ["Hello world", "समोसा 🥟", "<|bos|> is text", ""] {
        let plain = post(&server, "/tokenize", &json!({ "prompt": text, "add_special_tokens": false })).await;
        let back = post(&server, "/detokenize", &json!({ "model": MODEL, "tokens": plain["tokens"] })).await;
        assert_eq!(back, json!({ "prompt": text }));
        let begun =
            post(&server, "/tokenize", &json!({ "model": MODEL, "prompt": text, "return_token_strs": true }))
                .await;
        assert_eq!(begun["count"].as_u64(), plain["count"].as_u64().map(|count| count + 1), "{text}");
        assert_eq!((&begun["token_strs"][0], &begun["max_model_len"]), (&json!("<|bos|>"), &json!(512)));
        assert_eq!(plain["token_strs"], Value::Null);
    }
    let messages = json!([{ "role": "user", "content": "Hello!" }]);
    let chat_tokens = post(&server, "/tokenize", &json!({ "messages": messages })).await;
    let without = json!({ "messages": messages, "add_generation_prompt": false });
    let without = post(&server, "/tokenize", &without).await;
    assert_eq!(chat_tokens["count"].as_u64(), without["count"].as_u64().map(|count| count + 1));
    let answer = post(&server, CHAT, &with(chat("Hello!"), &json!({ "max_tokens": 1 }))).await;
    assert_eq!(answer["usage"]["prompt_tokens"], chat_tokens["count"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_before_a_whole_answer_cancels_it() {
    let storage = long_storage();
    let server = Server::start(long_options(storage.path())).await;
    let body = with(chat("Hello!"), &json!({ "model": "long", "max_tokens": 4096, "n": 2 }));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&Ask::new("POST", CHAT).json(&body).bytes()).await.unwrap();
    server.until("both run", |stats| stats["running"] == 2).await;
    drop(socket);
    let gone = |stats: &Value| stats["running"] == 0 && stats["requests"]["client_gone"] == 2;
    server.until("both are cancelled", gone).await;
    assert_eq!(server.metric("active_generations").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_hears_comments_and_then_the_answer_or_why_there_is_none() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    options.limits.heartbeat = Duration::from_millis(50);
    let engine = &mut options.models.engine;
    (engine.max_running, engine.queue_timeout) = (1, Duration::from_millis(300));
    let server = Server::start(options).await;
    let long = with(chat("Hello!"), &json!({ "model": "long", "max_tokens": 4096, "stream": true }));
    let mut running = server.send(Ask::new("POST", CHAT).json(&long)).await;
    assert!(running.piece().await.is_some());
    let reply = server.send(Ask::new("POST", CHAT).json(&long)).await;
    assert_eq!(reply.status, 200);
    let text = String::from_utf8(reply.rest().await).unwrap();
    assert!(text.starts_with(": waiting\n\n: waiting\n\n") && !text.contains("[DONE]"), "{text}");
    let last: Value = serde_json::from_str(text.rsplit("data: ").next().unwrap()).unwrap();
    assert_eq!(
        (&last["error"]["code"], &last["error"]["type"]),
        (&json!("queue_timeout"), &json!("server_error"))
    );
    drop(running);
}

#[tokio::test]
async fn fields_of_no_effect_change_no_answer() {
    let server = Server::start(options()).await;
    let expected = post(&server, CHAT, &with(chat("Who are you?"), &json!({ "max_tokens": 100 }))).await;
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": {} } });
    for fields in [
        json!({ "tools": [tool], "tool_choice": "none", "parallel_tool_calls": true }),
        json!({ "functions": [{ "name": "f" }], "function_call": "none" }),
        json!({ "tools": [], "tool_choice": "auto", "functions": [], "parallel_tool_calls": false }),
        json!({ "verbosity": "medium", "prompt_cache_key": "k", "safety_identifier": "s", "user": "u" }),
        json!({ "prompt_cache_retention": "in_memory", "metadata": { "a": "b" }, "store": false }),
        json!({ "service_tier": "auto", "modalities": ["text"], "prediction": null, "stop": null, "n": 1 }),
        json!({ "logprobs": false, "top_logprobs": 0, "reasoning_effort": "none", "audio": null, "seed": null }),
        json!({ "stream": false, "max_tokens": null, "max_completion_tokens": 100_000 }),
        json!({ "max_tokens": u64::MAX, "max_completion_tokens": u64::MAX }),
        json!({ "max_tokens": i64::MAX }),
        json!({ "max_tokens": 1e30 }),
        json!({ "add_generation_prompt": true, "continue_final_message": false }),
    ] {
        let answer = post(&server, CHAT, &with(chat("Who are you?"), &fields)).await;
        assert_eq!(answer["choices"], expected["choices"], "{fields}");
    }
    let streamed = json!({ "stream_options": { "include_obfuscation": false, "include_usage": true } });
    for obfuscated in [json!(false), json!(true), Value::Null] {
        let mut fields = streamed.clone();
        fields["stream_options"]["include_obfuscation"] = obfuscated;
        let events = stream(&server, CHAT, &with(chat("Who are you?"), &fields)).await;
        assert_eq!(joined(&events, 0).0, content(&expected));
    }
    let ephemeral = json!({ "type": "ephemeral" });
    let message = json!({
        "role": "user", "name": "sam", "cache_control": ephemeral, "refusal": null, "tool_calls": null, "annotations": [],
        "content": [{ "type": "text", "text": "Who are you?", "cache_control": ephemeral }],
    });
    let answer = post(&server, CHAT, &with(chat(""), &json!({ "messages": [message] }))).await;
    assert_eq!(answer["choices"], expected["choices"]);
}

/// The tokens that a chat becomes, spelled out.
async fn spelled(server: &Server, body: &Value) -> String {
    let answer = post(server, "/tokenize", &with(body.clone(), &json!({ "return_token_strs": true }))).await;
    answer["token_strs"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect()
}

#[tokio::test]
async fn empty_assistant_messages_are_accepted_in_the_history() {
    let server = Server::start(options()).await;
    let turns = |assistant: Value| json!({ "messages": [{ "role": "user", "content": "Hi" }, assistant, { "role": "user", "content": "Who?" }] });
    let empty = turns(json!({ "role": "assistant", "content": "" }));
    assert_eq!(
        spelled(&server, &empty).await,
        "<|bos|><|user_start|>Hi<|user_end|><|assistant_start|><|assistant_end|><|user_start|>Who?<|user_end|>\
         <|assistant_start|>"
    );
    let base = json!({ "model": MODEL, "temperature": 0 });
    let expected = post(&server, CHAT, &with(base.clone(), &empty)).await;
    for assistant in [
        json!({ "role": "assistant", "content": null }),
        json!({ "role": "assistant" }),
        json!({ "role": "assistant", "content": [] }),
        json!({ "role": "assistant", "content": [{ "type": "text", "text": "" }] }),
        json!({ "role": "assistant", "content": null, "tool_calls": [], "function_call": null, "audio": null }),
        json!({ "role": "assistant", "content": "", "reasoning_content": "Hm.", "reasoning": "Hm." }),
        json!({ "role": "assistant", "content": "", "provider_specific_fields": { "refusal": null } }),
    ] {
        let answer = post(&server, CHAT, &with(base.clone(), &turns(assistant.clone()))).await;
        assert_eq!(
            (&answer["choices"], &answer["usage"]["prompt_tokens"]),
            (&expected["choices"], &expected["usage"]["prompt_tokens"]),
            "{assistant}"
        );
    }
    let told = server.told(&with(empty, &json!({ "temperature": 0 }))).await;
    assert_eq!(told.text(), content(&expected), "on /generate too");
}

#[tokio::test]
async fn a_last_assistant_message_is_continued() {
    let server = Server::start(options()).await;
    let hello = "Hello! How can I help you today?";
    let messages = |text: &str| json!([{ "role": "user", "content": "Hello!" }, { "role": "assistant", "content": text }]);
    let base = |text: &str| json!({ "model": MODEL, "messages": messages(text), "temperature": 0 });
    for (begun, rest) in [
        ("Hello! How can", " I help you today?"),
        ("Hello! How can I help you today", "?"),
        ("", hello),
        (hello, ""),
    ] {
        let whole = post(&server, CHAT, &base(begun)).await;
        assert_eq!(
            (content(&whole), &whole["choices"][0]["finish_reason"]),
            (rest, &json!("stop")),
            "{begun:?}"
        );
        assert_eq!(joined(&stream(&server, CHAT, &base(begun)).await, 0).0, rest, "only what is new");
    }
    let open = "<|bos|><|user_start|>Hello!<|user_end|><|assistant_start|>Hello! How can";
    let closed = format!("{open}<|assistant_end|>");
    let new = format!("{closed}<|assistant_start|>");
    for (fields, expected) in [
        (json!({}), open),
        (json!({ "continue_final_message": true }), open),
        (json!({ "continue_final_message": true, "add_generation_prompt": false }), open),
        (json!({ "continue_final_message": false }), new.as_str()),
        (json!({ "add_generation_prompt": true }), &new),
        (json!({ "add_generation_prompt": true, "continue_final_message": false }), &new),
        (json!({ "add_generation_prompt": false }), &closed),
        (json!({ "add_generation_prompt": false, "continue_final_message": false }), &closed),
    ] {
        let chat = with(json!({ "messages": messages("Hello! How can") }), &fields);
        assert_eq!(spelled(&server, &chat).await, expected, "{fields}");
        let answer =
            post(&server, CHAT, &with(base("Hello! How can"), &with(fields, &json!({ "max_tokens": 1 }))))
                .await;
        let count = post(&server, "/tokenize", &chat).await["count"].clone();
        assert_eq!(answer["usage"]["prompt_tokens"], count, "a chat has the prompt that /tokenize shows");
    }
    let user =
        json!({ "messages": [{ "role": "user", "content": "Hello!" }], "add_generation_prompt": false });
    assert_eq!(spelled(&server, &user).await, "<|bos|><|user_start|>Hello!<|user_end|>");
    let again = server.told(&json!({ "messages": messages(""), "temperature": 0 })).await;
    let fresh = post(&server, CHAT, &with(base(""), &json!({ "add_generation_prompt": true }))).await;
    assert_eq!(again.text(), content(&fresh), "/generate always begins a message");
}
