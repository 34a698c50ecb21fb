//! What has no safe wrapper.
#![allow(unsafe_code)]

/// For processes that exist once per instance: one heap, and what is large is given back to the system when it is freed.
/// The C library otherwise keeps a heap per thread (name lookups run on one), and after the first large buffer was freed
/// it takes large ones from the heap for good.
pub fn keep_heap_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 64 * 1024), (libc::M_TRIM_THRESHOLD, 64 * 1024)]
    {
        // SAFETY: takes two integers and changes settings of the allocator; called before there is a second thread. A
        // refusal leaves the default. There is no safe wrapper.
        unsafe { libc::mallopt(parameter, value) };
    }
}
