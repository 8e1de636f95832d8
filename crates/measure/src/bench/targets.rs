//! What figures should come to, in words. Nothing fails for missing one: machines differ.

/// The machine that absolute targets are for.
pub(crate) const MACHINE: &str = "targets in absolute numbers are for two cores that read 32 GB/s and compute \
                                  445 GFLOP/s in bf16 and 900 GOP/s in int8";

/// A figure, how weights are held (empty: however they are), and what it should come to.
type Target = (&'static str, &'static str, &'static str);

const TARGETS: &[Target] = &[
    ("matmul, 64 rows, arithmetic", "bf16", "at least 340, 76 % of the limit"),
    ("matmul, 64 rows, arithmetic", "int8", "at least 650, 72 % of the limit"),
    ("matmul, 512 rows, arithmetic", "bf16", "at least 340, 76 % of the limit"),
    ("matmul, 512 rows, arithmetic", "int8", "at least 650, 72 % of the limit"),
    ("decode, 1 stream", "bf16", "at least 85 % of the limit"),
    ("decode, 1 stream", "int8", "at least 85 % of the limit"),
    ("decode, 1 stream", "int4", "at least 75 % of the limit"),
    ("decode, 16 streams", "int8", "at least 1,200"),
    ("decode, 16 streams, between tokens p95", "int8", "at most 25"),
    ("decode, 32 streams", "int8", "at least 1,600"),
    ("prefill of 512", "bf16", "at least 1,400"),
    ("prefill of 512", "int8", "at least 2,500"),
    ("first token p50, 8 streams of 128", "", "at most 150"),
    ("512-token prefix seen before, over one token", "", "at most 1.5"),
    ("1,900-token prompt adds to 8 streams", "", "at most 60"),
    ("decode beside a busy thread, 1 stream", "", "at least 60 % of quiet"),
    ("idle engine", "", "at most 1"),
    ("load from file cache to ready", "", "at most 1.5"),
    ("peak resident beyond weights and cache", "", "at most 150"),
    ("built-in model, start to first token", "", "at most 0.3"),
    ("other processes meanwhile", "", "none: they are missing from every figure"),
];

/// The target of a figure for weights held as `format`.
pub(crate) fn of(figure: &str, format: &str) -> Option<&'static str> {
    let meant = |(name, held, _): &&Target| *name == figure && (held.is_empty() || *held == format);
    TARGETS.iter().find(meant).map(|(_, _, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_belongs_to_a_figure_and_a_format() {
        assert!(of("decode, 1 stream", "int4").unwrap().contains("75 %"));
        assert_eq!(of("decode, 1 stream", "f32"), None);
        assert!(of("idle engine", "f32").is_some());
        assert_eq!(of("decode", "bf16"), None);
    }
}
