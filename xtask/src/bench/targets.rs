//! What each figure should come to, in words. Nothing fails for missing one: machines differ.

/// The target of a figure for weights held as `format`.
pub(crate) fn of(name: &str, format: &str) -> Option<&'static str> {
    match (name, format) {
        ("decode, 1 stream", "bf16" | "int8") => Some("at least 85 % of the limit"),
        ("decode, 1 stream", "int4") => Some("at least 75 % of the limit"),
        ("decode, 16 streams", "int8") => Some("at least 1,200"),
        ("decode, 32 streams", "int8") => Some("at least 1,600"),
        ("decode, 16 streams, between tokens p95", "int8") => Some("at most 25"),
        ("prefill of 512", "int8") => Some("at least 2,500"),
        ("prefill of 512", "bf16") => Some("at least 1,400"),
        ("matmul, 64 rows, arithmetic" | "matmul, 512 rows, arithmetic", "int8") => Some("at least 650"),
        ("matmul, 64 rows, arithmetic" | "matmul, 512 rows, arithmetic", "bf16") => Some("at least 340"),
        ("first token p50, 8 streams of 128", _) => Some("at most 150"),
        ("512-token prefix seen before, over one token", _) => Some("at most 1.5"),
        ("1,900-token prompt beside 8 streams adds", _) => Some("at most 60"),
        ("load, file in cache, to ready", _) => Some("at most 1.5"),
        ("built-in model, start to first token", _) => Some("at most 0.3"),
        ("peak resident beyond weights and cache", _) => Some("at most 150"),
        ("idle engine", _) => Some("at most 1"),
        ("decode beside a busy thread, of quiet", _) => Some("at least 60"),
        _ => None,
    }
}
