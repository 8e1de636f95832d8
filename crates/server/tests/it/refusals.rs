//! Requests that an engine has taken, but that end before they said anything.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use server::trace::{Collector, SpanValue, TraceSpan};

use crate::support::{self, Ask, Server, ask, long_options, long_storage};

#[derive(Default, Debug)]
struct Kept(Mutex<Vec<TraceSpan>>);

impl Collector for Kept {
    fn collect(&self, span: TraceSpan) {
        self.0.lock().unwrap().push(span);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_time_in_the_queue_is_over_has_one_span_that_says_so() {
    let (storage, kept) = (long_storage(), Arc::new(Kept::default()));
    let mut options = long_options(storage.path());
    options.spans = Some(Arc::clone(&kept) as Arc<dyn Collector>);
    let engine = &mut options.models.engine;
    (engine.max_running, engine.queue_timeout) = (1, Duration::from_millis(100));
    let server = Server::start(options).await;
    let long = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096))).await;
    assert_eq!(long.status, 200);
    let refused = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 8))).await;
    let id = SpanValue::Text(refused.header("x-request-id").unwrap().to_owned());
    assert_eq!((refused.status, refused.json().await["code"].as_str()), (503, Some("queue_timeout")));
    let spans = kept.0.lock().unwrap();
    let roots: Vec<&TraceSpan> = spans
        .iter()
        .filter(|span| {
            span.attributes.iter().any(|(name, value)| *name == "samosa.request_id" && *value == id)
        })
        .collect();
    assert_eq!(roots.len(), 1, "{roots:?}");
    assert_eq!(roots[0].error.as_deref(), Some("queue_timeout"));
    assert!(roots[0].attributes.contains(&("http.response.status_code", SpanValue::Count(503))), "{roots:?}");
    let parts = spans.iter().filter(|span| span.parent == Some(roots[0].id)).map(|span| span.name.as_str());
    assert_eq!(parts.collect::<Vec<_>>(), ["queue"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_answers_to_a_request_have_one_span_that_names_its_route() {
    let kept = Arc::new(Kept::default());
    let mut options = support::options();
    options.spans = Some(Arc::clone(&kept) as Arc<dyn Collector>);
    let server = Server::start(options).await;
    for (path, stream) in
        [("/v1/chat/completions", true), ("/v1/chat/completions", false), ("/v1/completions", false)]
    {
        let mut body =
            json!({ "model": "samosa-mini", "n": 3, "temperature": 0, "max_tokens": 4, "stream": stream });
        match path {
            "/v1/completions" => body["prompt"] = json!("Hello!"),
            _ => body["messages"] = json!([{ "role": "user", "content": "Hello!" }]),
        }
        let reply = server.send(Ask::new("POST", path).json(&body)).await;
        assert_eq!(reply.status, 200);
        drop(reply.rest().await);
        server.until("all ended", |stats| stats["running"] == 0).await;
        let all = std::mem::take(&mut *kept.0.lock().unwrap());
        let roots: Vec<&TraceSpan> = all.iter().filter(|span| span.name == format!("POST {path}")).collect();
        assert_eq!(roots.len(), 1, "{path}: {roots:?}");
        for expected in [
            ("http.route", SpanValue::Text(path.to_owned())),
            ("gen_ai.usage.output_tokens", SpanValue::Count(12)),
            ("gen_ai.response.finish_reasons", SpanValue::Text("length".to_owned())),
        ] {
            assert!(roots[0].attributes.contains(&expected), "{path}: {roots:?}");
        }
        let parts = all.iter().filter(|span| span.parent == Some(roots[0].id));
        assert_eq!(parts.filter(|span| span.name == "decode").count(), 3, "{path}: one for each answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_hangs_keeps_nobody_waiting_for_ever() {
    let storage = long_storage();
    let mut options = long_options(storage.path());
    // One step reads all of a long prompt, and nothing looks at the time meanwhile.
    (options.models.engine.step_tokens, options.models.engine.request_timeout) =
        (8192, Duration::from_millis(5));
    options.limits.unread_for = Duration::from_millis(5);
    let server = Server::start(options).await;
    let body = ask(&"samosa chaat ".repeat(600), 0.0, 8);
    let reply = server.send(Ask::new("POST", "/generate").json(&body)).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json().await["code"], "deadline_exceeded");
    let ended = server.until("it ended", |stats| stats["running"] == 0).await;
    assert_eq!((&ended["requests"]["deadline"], &ended["requests"]["slow_client"]), (&1.into(), &0.into()));
}
