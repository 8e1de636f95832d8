//! Any bytes as a meta file; see `formats::fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| formats::fuzz::fuzz_meta(bytes));
