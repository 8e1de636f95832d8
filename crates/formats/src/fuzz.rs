//! Entry points for fuzzing: each takes any bytes and must return, whatever they are.
//!
//! The targets in `fuzz/` and the replayed corpus (`tests/it/memory.rs`) call these and nothing else.

use std::sync::Arc;

use crate::{TensorTable, read_meta, read_shard_index, read_tokenizer_json, read_tokenizer_pickle};

/// Reads a checkpoint and every element of every tensor.
pub fn fuzz_checkpoint(bytes: &[u8]) {
    let Ok(table) = TensorTable::read("fuzz", Arc::new(bytes.to_vec())) else {
        return;
    };
    // Tensors may share a storage, so the number read in full bounds the time, not the memory.
    for tensor in table.iter().take(64) {
        let read = tensor.read();
        assert!(
            read.is_ok_and(|elements| elements.len() == tensor.element_count()),
            "a checked tensor reads"
        );
        let mut last = vec![0.0; tensor.row_elements()];
        if let Some(row) = tensor.row_count().checked_sub(1) {
            let read = tensor.read_rows(row..tensor.row_count(), &mut last);
            assert!(read.is_ok(), "the last row of a checked tensor reads");
        }
    }
}

/// Reads a tokenizer in every format.
pub fn fuzz_tokenizer(bytes: &[u8]) {
    drop(read_tokenizer_pickle("fuzz", bytes));
    drop(read_tokenizer_json("fuzz", bytes));
}

/// Reads a meta file and a shard index.
pub fn fuzz_meta(bytes: &[u8]) {
    drop(read_meta("fuzz", bytes));
    drop(read_shard_index("fuzz", bytes));
}
