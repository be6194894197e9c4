//! How much memory work takes, for tests of decoders: what a file says of its own size must not be believed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTED: Counted = Counted;

/// The system's allocator, which counts what each thread has, and the most that it had.
struct Counted;

thread_local! {
    static BYTES: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // Threads that end give back memory when their count is gone.
    let _ = BYTES.try_with(|cell| {
        let (now, most) = cell.get();
        cell.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: everything is the system's allocator's; counting takes no memory.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

/// What work makes, and the most bytes that it had at one time, beside what there was before.
pub(crate) fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.get().0;
    BYTES.set((before, before));
    let made = work();
    (made, usize::try_from(BYTES.get().1 - before).unwrap_or(0))
}

#[test]
fn the_most_is_counted_and_not_the_sum() {
    let (made, bytes) = most(|| {
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
