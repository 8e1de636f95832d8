//! Any bytes as a tokenizer that encodes and decodes; see `registry::fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| registry::fuzz::fuzz_vocabulary(bytes));
