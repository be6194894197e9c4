//! Peak memory of a piece of work, for tests of decoders: a length that a file claims must not make a reader allocate it.
//!
//! The test binary's global allocator counts the bytes that each thread holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTED: Counted = Counted;

/// An allocator that forwards to the system's, and counts each thread's current and peak bytes.
struct Counted;

thread_local! {
    static BYTES: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that ends frees memory after its counter was destroyed.
    let _ = BYTES.try_with(|cell| {
        let (now, most) = cell.get();
        cell.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: all calls go to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `realloc`, which is passed on unchanged.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on unchanged.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Runs `work` and returns its result and the peak of the bytes that the thread allocated meanwhile, above those it held before.
pub(crate) fn with_peak_memory<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.get().0;
    BYTES.set((before, before));
    let made = work();
    (made, usize::try_from(BYTES.get().1 - before).unwrap_or(0))
}

#[test]
fn the_most_is_counted_and_not_the_sum() {
    let (made, bytes) = with_peak_memory(|| {
        for _ in 0..10 {
            drop(vec![0_u8; 1000]);
        }
        let mut grown = Vec::with_capacity(10);
        grown.resize(5000, 1_u8);
        grown.len()
    });
    assert_eq!(made, 5000);
    assert!((5000..20_000).contains(&bytes), "{bytes}");
}
