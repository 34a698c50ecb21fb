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

/// For so many threads that each do as much as the other: a heap for each, so that none waits for another's.
pub fn give_heaps(threads: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above; the allocator's own lock is held while it is set, and a thread that has a heap keeps it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(threads).unwrap_or(libc::c_int::MAX))
    };
}

/// Unmaps the pages of our own code, once everything is running: half of what was mapped has done its work by then
/// (parsers of arguments and configurations, certificates). What is called again comes back from the page cache with the
/// next call. The rest counts as memory of this process no longer, and is the first to go where memory is short.
#[cfg(target_os = "linux")]
pub fn let_go_of_startup_code() {
    let here = let_go_of_startup_code as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        (rest.starts_with("r-xp") && (start..end).contains(&here)).then_some((start, end - start))
    });
    if let Some((start, length)) = code {
        // SAFETY: the range is one mapping of our executable's file, private and never writable, so that no page in it
        // differs from the file, which the kernel reads again. Nothing is freed. There is no safe wrapper.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

#[cfg(not(target_os = "linux"))]
pub fn let_go_of_startup_code() {}
