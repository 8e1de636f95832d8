//! Every bound this crate puts on its input, in one place.
//!
//! A bound here is a promise about memory or time, not a guess at what is plausible: each is at least four
//! times what the largest known nanochat file needs. Sizes of tensors have no entry: they are bounded by the
//! length of the file that holds them. Exceeding a bound is `ErrorKind::TooLarge` with the name used here.

/// The bounds; see [`LIMITS`] for the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one pickle: `data.pkl`, the head of a legacy file, or `tokenizer.pkl`.
    pub pickle_bytes: u64,
    /// Values on the pickle stack. Picklers write dictionaries in batches of 1000 pairs.
    pub pickle_stack: usize,
    /// Open marks on the pickle stack.
    pub pickle_marks: usize,
    /// Tuples, lists, dictionaries and calls in one pickle.
    pub pickle_nodes: usize,
    /// Remembered values in one pickle. A tokenizer remembers every token.
    pub pickle_memo: usize,
    /// Bytes of one string in a pickle.
    pub pickle_text_bytes: usize,
    /// Tensors in one table.
    pub tensors: usize,
    /// Bytes of one tensor name, and of one file name inside an archive.
    pub name_bytes: usize,
    /// Dimensions of one tensor.
    pub dimensions: usize,
    /// Bytes of the central directory of a zip archive.
    pub zip_directory_bytes: u64,
    /// Inflated bytes in all, as a multiple of the length of the archive. Weights hardly compress.
    pub inflate_ratio: u64,
    /// Bytes of the header of a safetensors file.
    pub safetensors_header_bytes: u64,
    /// Bytes of a tokenizer file, pickle or JSON.
    pub tokenizer_bytes: u64,
    /// Ranks, special tokens or merges in a tokenizer file.
    pub tokens: usize,
    /// Bytes of a meta or config file.
    pub meta_bytes: u64,
    /// Objects and arrays in a meta or config file.
    pub meta_containers: usize,
    /// Bytes of a shard index.
    pub shard_index_bytes: u64,
    /// Shards in a shard index.
    pub shards: usize,
}

/// The values in force.
pub const LIMITS: Limits = Limits {
    pickle_bytes: 32 << 20,
    pickle_stack: 16 << 10,
    pickle_marks: 1 << 10,
    pickle_nodes: 256 << 10,
    pickle_memo: 1 << 20,
    pickle_text_bytes: 1 << 20,
    tensors: 16 << 10,
    name_bytes: 512,
    dimensions: 8,
    zip_directory_bytes: 16 << 20,
    inflate_ratio: 8,
    safetensors_header_bytes: 16 << 20,
    tokenizer_bytes: 32 << 20,
    tokens: 1 << 20,
    meta_bytes: 1 << 20,
    meta_containers: 4 << 10,
    shard_index_bytes: 4 << 20,
    shards: 1 << 10,
};
