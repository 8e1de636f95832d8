//! `METRICS_ADDR`, as the binary obeys it.

use serde_json::json;

use crate::support::running::Running;

#[test]
fn metrics_move_to_the_address_that_is_set_and_stop_with_the_server() {
    let mut running =
        Running::start(&[("METRICS_ADDR", "127.0.0.1:0"), ("LOG_FORMAT", "json"), ("DRAIN_TIMEOUT", "20")]);
    let (service, metrics) = (running.address.clone(), running.logged("metrics_address"));
    assert_ne!(service, metrics);
    running.wait_for("the model", |running| running.health()["ready"] == true);
    let body = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 8 });
    assert_eq!(running.generate(&body).whole().0, 200);
    assert_eq!(running.ask("GET", "/metrics", ("", "")).whole().0, 404);
    running.address = metrics;
    let (status, text) = running.ask("GET", "/metrics", ("", "")).whole();
    assert_eq!(status, 200);
    assert!(text.contains("\nsamosa_stream_ends_total{reason=\"length\"} "), "{text}");
    assert!(text.contains("\nprocess_cpu_seconds_total ") || !cfg!(target_os = "linux"), "{text}");
    assert_eq!(running.ask("GET", "/livez", ("", "")).whole().0, 200);
    assert_eq!(running.ask("GET", "/stats", ("", "")).whole().0, 404);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0), "{}", running.stderr());
}
