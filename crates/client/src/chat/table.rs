//! `/stats` and `/set` as a few lines.

use serde_json::Value;

use crate::ask::SamplingOptions;
use crate::http::shortened;

/// What a service does, from its `/stats`. Servers of other versions may say less.
pub(super) fn stats(stats: &Value) -> String {
    let number = |pointer: &str| stats.pointer(pointer).and_then(Value::as_f64);
    let figure = |pointer: &str| number(pointer).map_or_else(|| "–".to_owned(), |n| format!("{n:.0}"));
    let share = |part: f64, whole: f64| format!("{:.0} %", 100.0 * part / whole.max(1.0));
    let text = |pointer: &str| stats.pointer(pointer).and_then(Value::as_str);
    let ms = |pointer: &str| number(pointer).map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0} ms"));
    let mut lines = vec![
        ("model", shortened(text("/current_model").unwrap_or("none").as_bytes())),
        ("status", shortened(text("/status").unwrap_or("unknown").as_bytes())),
        (
            "tokens/s",
            format!(
                "{} over 10 s, {} over 60 s",
                figure("/tokens_per_second/10s"),
                figure("/tokens_per_second/60s")
            ),
        ),
        (
            "first token",
            format!("p50 {}, p95 {}", ms("/time_to_first_token_ms/p50"), ms("/time_to_first_token_ms/p95")),
        ),
        ("queue", format!("{} running, {} waiting", figure("/running"), figure("/queue/requests"))),
    ];
    if let (Some(used), Some(total)) = (number("/kv_pages/used"), number("/kv_pages/total")) {
        lines.push(("KV pages", format!("{used:.0} of {total:.0} ({})", share(used, total))));
    }
    if let (Some(hits), Some(queries)) = (number("/prefix_cache/hits"), number("/prefix_cache/queries")) {
        lines.push(("prefix hits", format!("{hits:.0} of {queries:.0} tokens ({})", share(hits, queries))));
    }
    table(&lines)
}

/// How answers are sampled; `stats` knows what is not set here.
pub(super) fn sampling(sampling: &SamplingOptions, stats: &Value) -> String {
    let default = |name: &str| {
        let value = &stats["settings"][format!("default_{name}")];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if value == "null" {
            "default".to_owned()
        } else {
            format!("{} (default)", shortened(value.as_bytes()))
        }
    };
    let SamplingOptions { temperature, top_k, max_tokens, seed } = sampling;
    let or_default = |value: Option<String>, name: &str| value.unwrap_or_else(|| default(name));
    table(&[
        ("temperature", or_default(temperature.map(|n| n.to_string()), "temperature")),
        ("top_k", or_default(top_k.map(|n| n.to_string()), "top_k")),
        ("max_tokens", or_default(max_tokens.map(|n| n.to_string()), "max_tokens")),
        ("seed", seed.map_or_else(|| "random".to_owned(), |n| n.to_string())),
    ])
}

fn table(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(name, value)| format!("{name:<12} {value}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_may_be_missing() {
        let some = stats(
            &json!({ "kv_pages": { "used": 1, "total": 4 }, "running": 2, "current_model": "d\x1b20" }),
        );
        assert!(
            some.contains("KV pages     1 of 4 (25 %)") && some.contains("2 running, – waiting"),
            "{some}"
        );
        assert!(some.starts_with("model        d20") && !some.contains("prefix"), "{some}");
        assert!(stats(&Value::Null).starts_with("model        none"));
        assert!(sampling(&SamplingOptions::default(), &Value::Null).contains("top_k        default"));
    }
}
