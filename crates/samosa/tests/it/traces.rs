//! Spans as an OpenTelemetry collector gets them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::support::running::{Running, long_storage};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const PARENT: u64 = 0x00f0_67aa_0ba9_02b7;

/// A collector that keeps what it is sent.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
    service: Arc<Mutex<String>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { address, spans: Arc::default(), service: Arc::default() };
        let (spans, service) = (Arc::clone(&collector.spans), Arc::clone(&collector.service));
        let serve = move || {
            // A client that sends in turn needs one connection at a time.
            for socket in listener.incoming() {
                while take(socket.as_ref().unwrap(), &spans, &service).is_some() {}
            }
        };
        thread::Builder::new().name("collector".to_owned()).spawn(serve).unwrap();
        collector
    }

    /// Spans by name, of those that came.
    fn spans(&self) -> BTreeMap<String, Span> {
        self.spans.lock().unwrap().iter().map(|span| (span.name.clone(), span.clone())).collect()
    }
}

/// One request, and an empty answer, which means that all is well.
fn take(mut socket: &TcpStream, spans: &Mutex<Vec<Span>>, service: &Mutex<String>) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces "), "{head}");
    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let sent = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    for of_resource in sent.resource_spans {
        for attribute in of_resource.resource.unwrap().attributes {
            if let (true, Some(Any::StringValue(name))) =
                (attribute.key == "service.name", attribute.value.unwrap().value)
            {
                *service.lock().unwrap() = name;
            }
        }
        let scopes = of_resource.scope_spans.into_iter();
        spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
    }
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
}

fn attribute(span: &Span, key: &str) -> Any {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found.unwrap_or_else(|| panic!("{key} in {span:?}")).value.clone().unwrap().value.unwrap()
}

#[test]
fn an_answer_and_a_swap_are_seen_in_their_parts() {
    let (collector, storage) = (Collector::start(), long_storage());
    let mut server = Running::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("MODEL_STORAGE_PATH", storage.path().to_str().unwrap()),
        ("DEFAULT_MODEL_TAG", "samosa-mini"),
    ]);
    server.wait_for("its model", |server| server.health()["ready"] == true);
    server.wait_for("the first load", |_| collector.spans().contains_key("swap"));
    collector.spans.lock().unwrap().clear();
    let body = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 8 }).to_string();
    let traced = format!("traceparent: 00-{TRACE:032x}-{PARENT:016x}-01\r\n");
    assert_eq!(server.ask("POST", "/generate", (&traced, &body)).whole().0, 200);
    let unseen = format!("traceparent: 00-{TRACE:032x}-{PARENT:016x}-00\r\n");
    assert_eq!(server.ask("POST", "/generate", (&unseen, &body)).whole().0, 200);
    assert_eq!(server.ask("GET", "/nothing", ("", "")).whole().0, 404);
    let swap = json!({ "model_tag": "long" }).to_string();
    assert_eq!(server.ask("POST", "/models/swap", ("", &swap)).whole().0, 202);
    // It is live; its last phases come after that.
    server.wait_for("the swap's end", |_| collector.spans().contains_key("swap"));
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let all = collector.spans.lock().unwrap().clone();
    assert_eq!(
        all.iter().filter(|span| span.name == "POST /generate").count(),
        1,
        "unsampled ones are not sent"
    );
    assert_eq!(*collector.service.lock().unwrap(), "inference");
    let spans = collector.spans();
    let root = &spans["POST /generate"];
    assert_eq!(
        (root.trace_id.as_slice(), root.parent_span_id.as_slice()),
        (&TRACE.to_be_bytes()[..], &PARENT.to_be_bytes()[..])
    );
    assert_eq!(attribute(root, "gen_ai.response.model"), Any::StringValue("samosa-mini".to_owned()));
    let Any::IntValue(tokens) = attribute(root, "gen_ai.usage.output_tokens") else { panic!() };
    assert!((1..=8).contains(&tokens));
    let mut at = root.start_time_unix_nano;
    for name in ["queue", "prefill", "decode"] {
        let part = &spans[name];
        assert_eq!((&part.trace_id, &part.parent_span_id), (&root.trace_id, &root.span_id), "{name}");
        // Times are turned into those of the wall one by one.
        assert!(part.start_time_unix_nano.abs_diff(at) < 2_000_000, "{name} begins when the last part ends");
        at = part.end_time_unix_nano;
        assert!(part.start_time_unix_nano <= at + 1_000 && at <= root.end_time_unix_nano + 2_000_000);
    }
    let swap = &spans["swap"];
    assert_eq!(attribute(swap, "samosa.target_model"), Any::StringValue("long".to_owned()));
    for phase in ["resolve", "verify", "load", "selftest", "cutover", "drain", "free"] {
        assert_eq!(spans[phase].parent_span_id, swap.span_id, "{phase}");
    }
    assert!(spans.contains_key("POST /models/swap") && spans.contains_key("GET <unmatched>"));
}

#[test]
fn a_collector_that_is_away_costs_one_line_and_no_answer() {
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Running::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{away}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ]);
    server.wait_for("its model", |server| server.health()["ready"] == true);
    let warnings = |server: &Running| server.stdout().matches("does not take spans").count();
    let body = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 4 });
    for _ in 0..3 {
        assert_eq!(server.generate(&body).whole().0, 200);
        server.wait_for("a warning", |server| warnings(server) > 0);
    }
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert_eq!(warnings(&server), 1);
}
