//! Once warm, the engines do not allocate.

#[path = "../examples/engines/work.rs"]
#[allow(dead_code)]
mod work;

/// Counts what this thread allocates.
mod sys {
    #![allow(unsafe_code)]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    struct Counting;

    // SAFETY: everything is left to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            COUNT.set(COUNT.get() + 1);
            // SAFETY: the caller's promises are passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's promises are passed on.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    pub fn count() -> usize {
        COUNT.get()
    }
}

fn check(mut work: impl FnMut()) {
    (0..200).for_each(|_| work());
    let before = sys::count();
    (0..500).for_each(|_| work());
    assert_eq!(sys::count() - before, 0);
}

#[test]
fn http1_requests_do_not_allocate() {
    let mut h1 = work::H1::new();
    check(|| h1.request());
}

#[test]
fn http2_requests_do_not_allocate() {
    let mut h2 = work::H2::new(32);
    check(|| h2.round());
    let mut h2 = work::H2::new(1);
    check(|| h2.round());
}

#[test]
fn the_counter_counts() {
    let before = sys::count();
    drop(Box::new(1));
    assert_eq!(sys::count() - before, 1);
}
