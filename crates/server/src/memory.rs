//! What the memory of this process is used for.

use serde_json::Value;

use crate::state::State;

/// Kinds of memory. What is resident beyond the others' sum is the program, its stacks and what the allocator keeps;
/// keys and values count as reserved, and become resident as they are first written.
pub(crate) const KINDS: [&str; 5] = ["resident", "matrices", "embeddings", "kv_reserved", "scratch"];

/// Bytes of each of [`KINDS`] now: of the model that serves, and of all engines.
pub(crate) fn bytes_by_kind(state: &State) -> [u64; 5] {
    let generation = state.generation();
    let weights = generation.as_ref().map(|generation| &generation.model.weights);
    let scratch: usize = state.workers().iter().map(|worker| worker.snapshot.scratch_bytes).sum();
    [
        registry::memory::resident().unwrap_or(0),
        weights.map_or(0, |weights| weights.matrix_bytes() as u64),
        weights.map_or(0, |weights| weights.embedding_bytes() as u64),
        generation.as_ref().map_or(0, |generation| generation.kv_bytes as u64),
        scratch as u64,
    ]
}

/// The same by name.
pub(crate) fn to_json(state: &State) -> Value {
    KINDS.into_iter().map(str::to_owned).zip(bytes_by_kind(state)).collect()
}
