//! Any bytes as a checkpoint file; see `formats::fuzz`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| formats::fuzz::fuzz_checkpoint(bytes));
