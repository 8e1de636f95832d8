//! An allocator that counts, so that a test can say how much memory a file made a reader take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes of memory for each byte of the file, at most. The worst known inputs need about 100: a table of tensors
/// that all share one description, and a stream of empty tuples while its vector doubles.
const BYTES_PER_BYTE: usize = 128;

/// Bytes that any reader may take whatever the file: buffers, and the tables of an inflater.
const FIXED_BYTES: usize = 1 << 20;

/// Runs `read` on this thread and asserts that its memory stayed within the bound for `bytes`.
pub(crate) fn bounded<T>(bytes: &[u8], read: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let result = read();
    let peak = PEAK.get().saturating_sub(before).cast_unsigned();
    let bound = BYTES_PER_BYTE * bytes.len() + FIXED_BYTES;
    if bytes.len() > 40000 { eprintln!("RATIO {} {peak} {}", peak / bytes.len(), bytes.len()); } else if peak > 300000 { eprintln!("SMALL {peak} {}", bytes.len()); }
    assert!(peak <= bound, "{peak} bytes were allocated for a file of {}", bytes.len());
    result
}

thread_local! {
    // Signed: a thread may free what another allocated.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no counters and is not measured.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK.try_with(|peak| peak.set(peak.get().max(live.get())))
    });
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches only thread-local cells,
// which are const-initialised and so never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: `pointer` came from `System` with this layout, because every method here passes on to it.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks may exist for a moment.
        count(size.cast_signed());
        // SAFETY: as for `dealloc`, and the caller's promise about `size` is the one `System` asks for.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        count(-layout.size().cast_signed());
        moved
    }
}
