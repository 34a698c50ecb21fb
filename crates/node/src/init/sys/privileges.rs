//! What this process and those that it starts may do: capabilities, user, limits, filters for system calls.

use std::io;

use super::check;

fn prctl(option: i32, two: libc::c_ulong, three: libc::c_ulong) -> io::Result<libc::c_long> {
    // SAFETY: only options without pointers are passed by the callers below.
    check(unsafe { libc::prctl(option, two, three, 0, 0) }.into())
}

/// What `/proc/1/` of this process shows to others ends here: memory, descriptors, root, program.
pub fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Processes below this one whose parents die become its children.
pub fn adopt_orphans() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// This process is sent `signal` when its parent dies.
pub fn die_with_parent(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, 0).map(drop)
}

/// The kernel names capabilities 0..=`capability_last`.
fn capability_last() -> u32 {
    (0..64).take_while(|capability| prctl(libc::PR_CAPBSET_READ, *capability, 0).is_ok()).count() as u32 - 1
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective and permitted become `kept`, inheritable becomes `inheritable`; bit numbers are capabilities.
fn set_capabilities(kept: u64, inheritable: u64) -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |bits: u64, index: u32| (bits >> (32 * index)) as u32;
    let data = [0, 1].map(|index| CapabilityData {
        effective: half(kept, index),
        permitted: half(kept, index),
        inheritable: half(inheritable, index),
    });
    // SAFETY: version 3 takes two data structures; both arguments outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// Lets a program that is executed next keep every capability, also when the user is not root.
pub fn keep_capabilities_across_exec() -> io::Result<()> {
    let last = capability_last();
    let all = u64::MAX >> (63 - last);
    set_capabilities(all, all)?;
    for capability in 0..=last {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, capability.into())?;
    }
    Ok(())
}

pub const CAP_CHOWN: u32 = 0;
pub const CAP_DAC_OVERRIDE: u32 = 1;
pub const CAP_FOWNER: u32 = 3;
pub const CAP_FSETID: u32 = 4;
pub const CAP_KILL: u32 = 5;
pub const CAP_SETGID: u32 = 6;
pub const CAP_SETUID: u32 = 7;
const CAP_SETPCAP: u32 = 8;
pub const CAP_SYS_CHROOT: u32 = 18;
pub const CAP_SYS_PTRACE: u32 = 19;
pub const CAP_SYS_ADMIN: u32 = 21;

/// Nothing that this process starts can ever have a capability; it keeps `kept` itself.
pub fn give_up_capabilities(kept: &[u32]) -> io::Result<()> {
    const SECBIT_NOROOT_AND_LOCKED: libc::c_ulong = 0b11;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    for capability in 0..=capability_last() {
        prctl(libc::PR_CAPBSET_DROP, capability.into(), 0)?;
    }
    // A user 0 that executes a program gains nothing by being 0, even if the bounding set were not empty.
    prctl(libc::PR_SET_SECUREBITS, SECBIT_NOROOT_AND_LOCKED, 0)?;
    debug_assert!(!kept.contains(&CAP_SETPCAP));
    set_capabilities(kept.iter().fold(0, |bits, capability| bits | 1 << capability), 0)
}

/// For a process that is about to become a service.
pub fn drop_all_capabilities() -> io::Result<()> {
    set_capabilities(0, 0)
}

/// `None` for `groups`: they cannot be changed in this user namespace.
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        // SAFETY: pointer and length belong together.
        check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }.into())?;
    }
    // SAFETY: plain calls; the process has one thread.
    check(unsafe { libc::setresgid(gid, gid, gid) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) }.into())?;
    Ok(())
}

/// Of this process's user, as counted in this user namespace; what it starts inherits it and cannot raise it.
pub fn limit_processes(most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit).into())?;
        let most = limit.rlim_max.min(most);
        limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        check(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit).into())?;
    }
    Ok(())
}

/// Installs a filter for system calls; it stays for this process and all that it starts.
pub fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program and does not write to it.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}
