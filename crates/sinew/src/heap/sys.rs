//! The allocator of the system, counted.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// A thread that batches tells the others when its own sum is so much.
const BATCH_BYTES: isize = 64 * 1024;

static TOTAL: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    /// What this thread has not told yet. `None`: it tells at once, so that nothing is lost when it ends. Needs no
    /// memory and no destructor, so it can be used from within the allocator.
    static OWN: Cell<Option<isize>> = const { Cell::new(None) };
}

/// For a thread that lives long and asks for much: no atomic instruction for each.
pub fn batch() {
    OWN.set(OWN.get().or(Some(0)));
}

/// Before such a thread ends: what it has not told is told.
pub fn settle() {
    if let Some(sum) = OWN.take() {
        TOTAL.fetch_add(sum, Relaxed);
    }
}

/// Exact but for what other threads that batch have not told.
pub fn bytes_in_use() -> usize {
    let own = OWN.get().unwrap_or(0);
    usize::try_from(TOTAL.load(Relaxed) + own).unwrap_or(0)
}

fn count(bytes: isize) {
    // Fails only where a thread's own things are gone already, which these are not: they have no destructor.
    let _ = OWN.try_with(|own| match own.get() {
        Some(sum) if (sum + bytes).abs() < BATCH_BYTES => own.set(Some(sum + bytes)),
        Some(sum) => {
            TOTAL.fetch_add(sum + bytes, Relaxed);
            own.set(Some(0));
        }
        None => {
            TOTAL.fetch_add(bytes, Relaxed);
        }
    });
}

struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

// SAFETY: every call goes to the system's allocator as it came, and what that says is given back as it is; the counting
// beside it asks for no memory. There is no safe way to be told of allocations.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that are asked for.
        let memory = unsafe { System.alloc(layout) };
        if !memory.is_null() {
            count(layout.size() as isize);
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            count(layout.size() as isize);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; all memory that was given out came from there.
        unsafe { System.dealloc(memory, layout) };
        count(-(layout.size() as isize));
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { System.realloc(memory, layout, size) };
        if !moved.is_null() {
            count(size as isize - layout.size() as isize);
        }
        moved
    }
}
