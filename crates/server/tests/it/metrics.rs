//! `/metrics`: what exists from the start, what is documented, and that figures are right when streams end early, when
//! weights change and while a listener of its own serves them.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use server::{Ending, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::{
    self, Ask, Reply, Server, ask, long_options, long_storage, options, options_in, storage,
};

/// Every series of a server that has no model yet.
const SERIES: &str = include_str!("metrics/series.txt");
/// What is written about them.
const DOCUMENT: &str = include_str!("../../../../deploy/prometheus/METRICS.md");

async fn scrape(server: &Server) -> String {
    let reply = server.send(Ask::new("GET", "/metrics")).await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(reply.rest().await).unwrap()
}

/// Series by name and labels.
fn values(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    let samples: Vec<(String, f64)> = samples.map(sample).collect();
    let series: BTreeMap<String, f64> = samples.iter().cloned().collect();
    assert_eq!(series.len(), samples.len(), "each once");
    series
}

fn value(values: &BTreeMap<String, f64>, series: &str) -> f64 {
    *values.get(series).unwrap_or_else(|| panic!("no {series}"))
}

/// A server that loads nothing.
async fn fresh() -> Server {
    let ignored_fields = BTreeSet::from(["force_web_search".to_owned()]);
    Server::start(Options { load_at_start: false, ignored_fields, ..options() }).await
}

#[tokio::test]
async fn every_series_exists_from_the_start_at_zero() {
    let text = scrape(&fresh().await).await;
    let mut found = Vec::new();
    for (series, value) in values(&text) {
        let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
        // Which bounds there are is no matter of names.
        if name.ends_with("_bucket") {
            continue;
        }
        let told_by_system = name.starts_with("process_") || name == "samosa_memory_available_bytes";
        let one = name == "samosa_build_info" || labels.starts_with("status=\"degraded\"");
        let resident = labels.starts_with("kind=\"resident\"");
        // The scrape itself.
        let scraped = labels.contains("path=\"/metrics\"") || labels.starts_with("state=\"busy\"");
        assert!(value == 0.0 || told_by_system || one || resident || scraped, "{series} is {value}");
        // What this build and machine are is different elsewhere.
        found.push(if name == "samosa_build_info" { format!("{name}{{…}}") } else { series });
    }
    let expected: Vec<&str> = SERIES.lines().collect();
    let missing: Vec<_> = expected.iter().filter(|series| !found.iter().any(|f| f == *series)).collect();
    let new: Vec<_> = found.iter().filter(|series| !expected.contains(&series.as_str())).collect();
    assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}\nnot listed: {new:#?}");
}

/// Names, types and names of labels in a scrape.
fn kinds(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut kinds: BTreeMap<String, (String, BTreeSet<String>)> = types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new())))
        .collect();
    for series in values(text).keys() {
        let (sample, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut of_histogram =
            ["_bucket", "_sum", "_count"].iter().filter_map(|end| sample.strip_suffix(end));
        let family = of_histogram.rfind(|name| kinds.contains_key(*name));
        let name = family.unwrap_or(sample).to_owned();
        let labels = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next());
        let names = labels.filter(|label| !["}", "le", ""].contains(label)).map(str::to_owned);
        kinds.get_mut(&name).unwrap_or_else(|| panic!("{series} has no type")).1.extend(names);
    }
    kinds
}

/// The rows of all tables of the document: `name`, type, labels, unit, meaning.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, unit, meaning] = cells[..] else { panic!("{row}") };
        assert!(!unit.is_empty() && meaning.ends_with('.'), "{row}");
        // Values stand in brackets behind the names.
        let labels = labels.split('`').skip(1).step_by(2).filter(|label| !label.starts_with('='));
        let labels = labels.map(str::to_owned).collect();
        (name.trim_end_matches('`').to_owned(), (kind.to_owned(), labels))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_is_what_is_documented() {
    let ignored_fields = BTreeSet::from(["force_web_search".to_owned()]);
    let server = Server::start(Options { ignored_fields, ..options() }).await;
    let (found, documented) = (kinds(&scrape(&server).await), documented());
    for (name, kind) in &found {
        assert_eq!(documented.get(name), Some(kind), "{name} in METRICS.md");
    }
    let gone: Vec<&String> = documented.keys().filter(|name| !found.contains_key(*name)).collect();
    assert!(gone.is_empty(), "documented, but not there: {gone:?}");
}

#[tokio::test]
async fn openmetrics_is_for_who_asks_for_it() {
    let server = fresh().await;
    let request = Ask::new("GET", "/metrics").header("Accept", "application/openmetrics-text;version=1.0.0");
    let reply = server.send(request).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(reply.header("content-type"), Some(kind));
    let text = String::from_utf8(reply.rest().await).unwrap();
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE http_requests counter\n"));
    let plain = scrape(&server).await;
    assert!(!plain.contains("# EOF") && plain.contains("# TYPE http_requests_total counter\n"));
    let names = |text: &str| values(text.trim_end_matches("# EOF\n")).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&plain), names(&text));
}

/// Histograms that every answer counts in once.
const STAGES: [&str; 3] =
    ["samosa_request_queue_seconds", "samosa_request_prefill_seconds", "samosa_request_prompt_tokens"];
/// Those that only complete answers count in.
const COMPLETE: [&str; 3] = [
    "samosa_request_decode_seconds",
    "samosa_e2e_request_latency_seconds",
    "samosa_request_generation_tokens",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_answer_counts_once_everywhere() {
    let server = Server::start(options()).await;
    let (mut tokens, mut prompts) = (0.0, 0.0);
    for (prompt, most) in [("Hello!", 64), ("What is 12 * 7?", 64), ("Thank you!", 1)] {
        let told = server.told(&ask(prompt, 0.0, most)).await;
        tokens += told.last["usage"]["completion_tokens"].as_f64().unwrap();
        prompts += told.last["usage"]["prompt_tokens"].as_f64().unwrap();
    }
    server.until("the streams are over", |stats| stats["requests"]["stop"] == 2).await;
    let values = values(&scrape(&server).await);
    let value = |series: &str| value(&values, series);
    for name in STAGES.iter().chain(&COMPLETE) {
        assert_eq!(value(&format!("{name}_count")), 3.0, "{name}");
    }
    assert_eq!(value("inference_duration_seconds_count"), 3.0);
    assert_eq!(value("samosa_time_per_output_token_seconds_count"), 2.0, "one token has no gap");
    for name in ["tokens_generated_total", "samosa_generation_tokens_total"] {
        assert_eq!(value(name), tokens, "{name}");
    }
    assert_eq!(value("samosa_request_generation_tokens_sum"), tokens);
    assert_eq!(
        (value("samosa_prompt_tokens_total"), value("samosa_request_prompt_tokens_sum")),
        (prompts, prompts)
    );
    assert_eq!(value("samosa_inter_token_latency_seconds_count"), tokens - 3.0);
    assert_eq!(value("samosa_inter_token_latency_during_swap_seconds_count"), 0.0);
    let sum = |name: &str| value(&format!("samosa_{name}_sum"));
    let whole = sum("e2e_request_latency_seconds");
    let parts = sum("request_queue_seconds") + sum("request_prefill_seconds") + sum("request_decode_seconds");
    assert!((whole - parts).abs() < 1e-6, "{whole} is {parts}");
    let gaps = sum("inter_token_latency_seconds");
    assert!(gaps <= sum("request_decode_seconds") && gaps > 0.5 * sum("request_decode_seconds"), "{gaps}");
    let steps = value("samosa_step_seconds_count");
    assert!(steps > 0.0 && steps == value("samosa_step_tokens_count") && steps < tokens + prompts, "{steps}");
    assert!(sum("step_seconds") <= whole && sum("step_tokens") >= tokens - 3.0);
    assert_eq!(value("samosa_last_token_age_seconds"), 0.0);
    let pages: f64 = ["used", "cached", "free"]
        .map(|state| value(&format!("samosa_kv_pages{{state=\"{state}\"}}")))
        .iter()
        .sum();
    assert!(pages > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_and_who_is_cut_off_count_as_that() {
    let storage = long_storage();
    let server = Server::start(long_options(storage.path())).await;
    let open = || server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096)));
    let mut leaves = open().await;
    assert!(leaves.piece().await.is_some());
    let running = values(&scrape(&server).await);
    let value_of = |name: &str| value(&running, name);
    assert_eq!((value_of("samosa_requests_running"), value_of("active_generations")), (1.0, 1.0));
    assert_eq!(value_of("samosa_generation_requests_active{generation=\"1\"}"), 1.0);
    assert!(value_of("samosa_kv_pages{state=\"used\"}") > 0.0 && value_of("workers_busy") == 1.0);
    drop(leaves);
    server.until("it is gone", |stats| stats["requests"]["client_gone"] == 1 && stats["running"] == 0).await;
    let mut cut = open().await;
    assert!(cut.piece().await.is_some());
    server.app.models.abort_all();
    cut.rest().await;
    server.until("it is cut", |stats| stats["requests"]["aborted"] == 1 && stats["running"] == 0).await;
    let values = values(&scrape(&server).await);
    let value = |series: &str| value(&values, series);
    for name in STAGES {
        assert_eq!(value(&format!("{name}_count")), 2.0, "{name}");
    }
    for name in COMPLETE {
        assert_eq!(value(&format!("{name}_count")), 0.0, "{name}");
    }
    assert_eq!(value("inference_duration_seconds_count"), 2.0);
    assert_eq!(value("samosa_time_to_first_token_seconds_count"), 2.0);
    for name in
        ["active_generations", "samosa_requests_running", "samosa_queue_tokens", "samosa_kv_usage_ratio"]
    {
        assert_eq!(value(name), 0.0, "{name}");
    }
    for reason in ["stop", "length", "slow_client", "error"] {
        assert_eq!(value(&format!("samosa_stream_ends_total{{reason=\"{reason}\"}}")), 0.0, "{reason}");
    }
}

/// Counters, and what histograms counted.
fn counts(values: &BTreeMap<String, f64>) -> impl Iterator<Item = (&String, f64)> {
    let ends = ["_total", "_count", "_sum", "_bucket"];
    let counts = values.iter().filter(move |(series, _)| {
        let name = series.split('{').next().unwrap();
        ends.iter().any(|end| name.ends_with(end)) && name != "workers_total"
    });
    counts.map(|(series, value)| (series, *value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_weights_are_seen_until_they_are_gone_and_their_counts_stay() {
    let root = long_storage();
    support::copy(&support::goldens().join("g6"), &root.path().join("g6"));
    let server = Server::start(long_options(root.path())).await;
    let mut stream = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 4096))).await;
    assert!(stream.piece().await.is_some());
    let before = values(&scrape(&server).await);
    assert_eq!(server.swap("g6").await.status, 202);
    let mut new = server.send(Ask::new("POST", "/generate").json(&ask("Hello!", 0.0, 2000))).await;
    assert!(new.piece().await.is_some());
    let both = values(&scrape(&server).await);
    for generation in [1, 2] {
        let active = format!("samosa_generation_requests_active{{generation=\"{generation}\"}}");
        assert_eq!(value(&both, &active), 1.0, "{generation}");
        for kind in ["matrices", "embeddings", "kv_reserved", "scratch"] {
            let held = format!("samosa_memory_bytes{{kind=\"{kind}\",generation=\"{generation}\"}}");
            assert!(value(&both, &held) > 0.0, "{held}");
        }
    }
    assert_eq!((value(&both, "samosa_requests_running"), value(&both, "samosa_retired_engines")), (2.0, 1.0));
    drop((stream, new));
    server.until("the old one is gone", |stats| stats["retired_engines"] == 0).await;
    let after = values(&scrape(&server).await);
    assert!(after.keys().all(|series| !series.contains("generation=\"1\"")), "{after:#?}");
    assert!(after.keys().any(|series| series.starts_with("samosa_model_info{model_tag=\"g6\"")));
    for (earlier, later) in [(&before, &both), (&both, &after)] {
        for (series, count) in counts(earlier) {
            let later = value(later, series);
            assert!(later >= count, "{series} fell from {count} to {later}");
        }
    }
    assert!(value(&after, "samosa_step_seconds_count") > value(&before, "samosa_step_seconds_count"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_come_during_a_swap_count_apart() {
    let root = storage(&["g6"]);
    let server = Server::start(options_in(root.path(), "samosa-mini")).await;
    let body = ask("Tell me a long story about a fox.", 1.0, 500);
    // A tiny model is there at once: tried until a token falls into that time.
    for tag in ["g6", "samosa-mini"].iter().cycle().take(40) {
        let stream = server.told(&body);
        let swap = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(server.swap(tag).await.status, 202);
        };
        tokio::join!(stream, swap);
        let values = values(&scrape(&server).await);
        let during = value(&values, "samosa_inter_token_latency_during_swap_seconds_count");
        if during > 0.0 {
            assert!(during < value(&values, "samosa_inter_token_latency_seconds_count"));
            assert!(value(&values, "samosa_swap_in_progress") == 0.0);
            return;
        }
    }
    panic!("no token in forty swaps");
}

/// A server whose figures are on a listener of their own.
struct Apart {
    server: Server,
    metrics: std::net::SocketAddr,
    stop: watch::Sender<Option<Ending>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Apart {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = listener.local_addr().unwrap();
        let server = Server::start(Options { metrics_address: Some(metrics), ..options() }).await;
        let (stop, stopped) = watch::channel(None);
        let app = server.app.clone();
        let listening = tokio::spawn(server::serve_metrics(listener, app, stopped));
        Self { server, metrics, stop, listening }
    }

    async fn send(&self, method: &str, path: &str) -> Reply {
        use tokio::io::AsyncWriteExt;
        let mut socket = TcpStream::connect(self.metrics).await.unwrap();
        socket.write_all(&Ask::new(method, path).without("X-Internal-API-Key").bytes()).await.unwrap();
        Reply::read(socket).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_may_have_a_listener_of_their_own() {
    let apart = Apart::start().await;
    apart.server.told(&ask("Hello!", 0.0, 8)).await;
    let reply = apart.send("GET", "/metrics").await;
    assert_eq!(reply.status, 200);
    let text = String::from_utf8(reply.rest().await).unwrap();
    assert_eq!(value(&values(&text), "inference_duration_seconds_count"), 1.0);
    assert_eq!(apart.send("GET", "/livez").await.status, 200);
    for path in ["/", "/health", "/readyz", "/stats", "/models", "/generate", "/metrics/"] {
        let reply = apart.send("GET", path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json().await["code"], "not_found", "{path}");
    }
    assert_eq!(apart.send("POST", "/metrics").await.status, 405);
    for request in [Ask::new("GET", "/metrics"), Ask::new("GET", "/metrics").without("X-Internal-API-Key")] {
        let reply = apart.server.send(request).await;
        assert_eq!(reply.status, 404, "it has moved");
        reply.problem().await;
    }
    // Whoever holds a connection does not keep it from stopping.
    let held = TcpStream::connect(apart.metrics).await.unwrap();
    apart.server.tell_to_stop();
    apart.server.stopped().await;
    apart.stop.send_replace(Some(Ending::Drain));
    timeout(Duration::from_secs(5), apart.listening).await.unwrap().unwrap();
    assert!(TcpStream::connect(apart.metrics).await.is_err(), "nobody listens any more");
    drop(held);
}
