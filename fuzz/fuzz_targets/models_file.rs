//! Any bytes as a `models.toml`; see `registry::fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::fuzz::fuzz_models_file(bytes));
