//! An init lives long and does little: what it holds meanwhile.

/// Makes the allocator give large buffers back at once: by default it learns to keep what was large once, and an init
/// has one such buffer in a day.
pub fn keep_little_memory() {
    const LARGE_BYTES: i32 = 32 * 1024;
    // SAFETY: plain calls; both settings are only hints to the allocator of the C library.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
    }
}

/// Gives back the heap's free pages and the program's pages that the last events needed.
pub fn give_memory_back() {
    // SAFETY: plain call.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: the callback has the signature that is asked for, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(forget_pages), std::ptr::null_mut()) };
}

/// Unmaps the pages of a program's unwritable parts, which come back from the page cache one by one when they are
/// needed. The kernel maps 16 around each that is used, so that a few calls make megabytes.
unsafe extern "C" fn forget_pages(
    program: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller is dl_iterate_phdr, which hands out a valid structure and array.
    let (base, headers) = unsafe {
        let program = &*program;
        (program.dlpi_addr, std::slice::from_raw_parts(program.dlpi_phdr, program.dlpi_phnum.into()))
    };
    let page = 4096;
    for header in headers {
        // What may be written holds relocated addresses, which no file knows.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (base + header.p_vaddr) / page * page;
        let end = (base + header.p_vaddr + header.p_memsz) / page * page;
        let length = end.saturating_sub(start) as usize;
        let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start as usize);
        // SAFETY: a private mapping of a file that was never written: forgotten pages are read again, unchanged.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
    0
}
