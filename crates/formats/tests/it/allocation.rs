//! How much memory a file made a reader take, and how much it may.

use allocation_counter::measure;

/// Bytes of memory for each byte of the file, at most. The worst known input needs 75: a table of tensors that
/// all share one description, at six bytes a tensor.
const BYTES_PER_BYTE: usize = 96;

/// Bytes that any reader may take whatever the file: buffers, and the tables of an inflater.
const FIXED_BYTES: usize = 1 << 20;

/// Runs `read` on this thread and asserts that its memory stayed within the bound for `bytes`.
pub(crate) fn bounded<T>(bytes: &[u8], read: impl FnOnce() -> T) -> T {
    let mut result = None;
    let peak = measure(|| result = Some(read())).bytes_max;
    let bound = BYTES_PER_BYTE * bytes.len() + FIXED_BYTES;
    assert!(peak <= bound as u64, "{peak} bytes were allocated for a file of {}", bytes.len());
    result.expect("read ran")
}
