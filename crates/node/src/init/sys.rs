//! System calls of a seal that have no safe wrapper elsewhere: namespaces, mounts by descriptor, capabilities, filters.
//! Everything here is a thin call; what it is called for is decided by the callers.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn c_text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a text"))
}

/// Takes over a descriptor that this process was started with.
///
/// It must be called once per number, by the process that was promised that number at its start.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number is harmless whether it is open or not.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open (checked above) and by the contract of our own start-up nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(check(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// For a number that is open in this process but owned by nobody in it.
pub fn keep_across_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: plain fcntl.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into())?;
    Ok(())
}

/// Puts `from` at the number `to` (of which this process knows that it is free or standard), not close-on-exec.
pub fn place(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    if from.as_raw_fd() == to {
        // SAFETY: plain fcntl on an open descriptor.
        check(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }.into())?;
        return Ok(());
    }
    // SAFETY: dup2 replaces a number that by contract no Rust value owns.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.into())?;
    Ok(())
}

/// A copy of `from` with a number of at least `least`, close-on-exec.
pub fn copy_above(from: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain fcntl; the result is ours.
    owned(unsafe { libc::fcntl(from.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }.into())
}

/// Closes every descriptor from `first` on when the next program is executed.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no memory is involved; descriptors stay open until exec.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Closes every descriptor above the standard ones but `kept`, whoever owned it: for a process that from here on
/// uses no other and ends with [`exit`].
pub fn close_all_but(kept: &OwnedFd) {
    let kept = kept.as_raw_fd() as u32;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: by contract nothing uses or closes these descriptors any more.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

pub enum Fork {
    Parent(i32),
    Child,
}

/// A copy of this process (which must have one thread) in new namespaces, as a sibling: its parent is ours, so that it
/// can be waited for by who started us.
pub fn clone_sibling(namespaces: u64) -> io::Result<Fork> {
    #[repr(C)]
    #[derive(Default)]
    struct CloneArguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    let arguments = CloneArguments { flags: namespaces | libc::CLONE_PARENT as u64, ..Default::default() };
    let size = size_of::<CloneArguments>();
    // SAFETY: no shared memory, no own stack: it behaves as fork, in a process with one thread.
    match check(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// fork(2) for a process with one thread.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: the process has one thread, so the child may do everything that the parent could.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// Ends this process without running anything of the parent's it was copied from.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Replaces this process by the program behind a descriptor. Returns only on failure.
pub fn execute_descriptor(program: BorrowedFd<'_>, arguments: &[CString]) -> io::Error {
    let arguments = pointers(arguments);
    let environment = pointers(&[]);
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Returns only on failure.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

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

pub fn kill(pid: i32) {
    if pid > 1 {
        // SAFETY: plain call. An error: it has ended.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
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

/// For a socket of the internet families.
pub fn bind_address_without_port(socket: &OwnedFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: pointer and length belong together.
    check(
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const yes).cast(),
                size,
            )
        }
        .into(),
    )?;
    Ok(())
}

pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a number, no pointer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())?;
    Ok(())
}

/// The inner end of a pseudo-terminal whose outer end was just opened.
pub fn inner_terminal(outer: &OwnedFd) -> io::Result<OwnedFd> {
    let locked: libc::c_int = 0;
    // SAFETY: the request reads one `int` from the pointer, which points at one.
    check(unsafe { libc::ioctl(outer.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes a number, no pointer.
    owned(unsafe { libc::ioctl(outer.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())
}

pub fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads one `winsize` from the pointer, which points at one.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())?;
    Ok(())
}

/// Signal dispositions and mask as a program expects them at its start.
pub fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is no function of ours. Numbers that cannot be set (SIGKILL, SIGSTOP) fail harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is what sigemptyset makes on Linux; it outlives the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()).into())?;
    }
    Ok(())
}

/// Attributes of mounts (`MOUNT_ATTR_*`).
pub const READ_ONLY: u64 = 0x1;
pub const NO_SET_UID: u64 = 0x2;
pub const NO_DEVICES: u64 = 0x4;
pub const NO_EXECUTE: u64 = 0x8;

/// A copy of the mounts at and below `path`, attached nowhere.
pub fn copy_tree(path: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC as libc::c_uint
        | libc::AT_RECURSIVE as libc::c_uint
        | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is a constant; the result is a new descriptor.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, path.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Adds attributes to a mount, and to those below it when `recursive`.
pub fn restrict(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let change = MountAttributes { set: attributes, ..Default::default() };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the size that is passed and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached mount on top of what `target` is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    move_mount(mount, target, 0)
}

/// Attaches a detached mount beneath the mount whose root `target` is: it comes to light when that one goes. Linux 6.5.
pub fn attach_beneath(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    const BENEATH: libc::c_uint = 0x200;
    move_mount(mount, target, BENEATH)
}

fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    const FROM_EMPTY_AND_TO_EMPTY: libc::c_uint = 0x4 | 0x40;
    // SAFETY: both paths are constants.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            FROM_EMPTY_AND_TO_EMPTY | flags,
        )
    })?;
    Ok(())
}

/// Makes the working directory the root, the old root stacked on it and then taken away, for every process of this
/// mount namespace.
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: constant paths.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: constant path.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
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

/// An anonymous file in memory. `executable`: a program may be run from it.
pub fn memory_file(name: &CStr, executable: bool) -> io::Result<OwnedFd> {
    const MFD_NOEXEC_SEAL: libc::c_uint = 8;
    let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let flags = if executable { base | libc::MFD_EXEC } else { base | MFD_NOEXEC_SEAL };
    // SAFETY: the name is a C string that outlives the call.
    match owned(unsafe { libc::memfd_create(name.as_ptr(), flags) }.into()) {
        // Kernels before 6.3 know neither of the two flags.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // SAFETY: as above.
            owned(unsafe { libc::memfd_create(name.as_ptr(), base) }.into())
        }
        made => made,
    }
}

/// Nobody, not even its owner, can change the file from now on.
pub fn freeze(file: BorrowedFd<'_>) -> io::Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: plain fcntl.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())?;
    Ok(())
}

/// Accepts one connection, non-blocking and close-on-exec.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let nobody = std::ptr::null_mut();
    // SAFETY: null pointers are allowed for an address nobody asks for.
    owned(unsafe { libc::accept4(listener.as_raw_fd(), nobody, std::ptr::null_mut(), flags) }.into())
}

/// Pids count in the namespace of the asker: 0 is a process outside of it.
pub fn peer_pid_and_uid(socket: BorrowedFd<'_>) -> io::Result<(i32, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: buffer and length belong together.
    check(
        unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut length,
            )
        }
        .into(),
    )?;
    Ok((peer.pid, peer.uid))
}

pub fn effective_uid() -> u32 {
    // SAFETY: it cannot fail.
    unsafe { libc::geteuid() }
}

pub fn effective_gid() -> u32 {
    // SAFETY: it cannot fail.
    unsafe { libc::getegid() }
}

/// Kills every process of this pid namespace but the asker, which must be its first process: elsewhere -1 means
/// everything the user may kill.
pub fn kill_all_others() {
    if std::process::id() == 1 {
        // SAFETY: plain call. ESRCH: there is nobody else.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

pub fn signal_group(leader: i32, signal: i32) -> io::Result<()> {
    if leader <= 1 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: plain call.
    check(unsafe { libc::kill(-leader, signal) }.into())?;
    Ok(())
}

/// A process by descriptor: it names this one also after its number went to another.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain call; the result is ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

pub fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: a null pointer stands for the information of kill(2).
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0) })?;
    Ok(())
}

/// Enters a namespace of `kind` (`CLONE_NEW…`): a user namespace with all its capabilities when this user made it, which
/// only a process of one thread can; another one with capabilities in the user namespace that it belongs to.
pub fn enter_namespace(namespace: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: plain call.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }.into())?;
    Ok(())
}

/// Rows and columns. `None`: it is no terminal.
pub fn terminal_size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which points at one.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0).then_some((size.ws_row, size.ws_col))
}

pub enum Reaped {
    /// pid, exit code (128 + signal), signal.
    Ended(i32, i32, Option<i32>),
    /// Children live, none has ended.
    None,
    NoChildren,
}

pub fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    match pid {
        0 => Reaped::None,
        pid if pid > 0 && libc::WIFSIGNALED(status) => {
            let signal = libc::WTERMSIG(status);
            Reaped::Ended(pid, 128 + signal, Some(signal))
        }
        pid if pid > 0 => Reaped::Ended(pid, libc::WEXITSTATUS(status), None),
        _ => Reaped::NoChildren,
    }
}

/// Waits for one child; `false`: it did not end with code 0.
pub fn wait_for(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return false;
        }
    }
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// Blocks the signals and makes a descriptor that is readable when one arrived.
pub fn signals(wanted: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero set is what sigemptyset makes on Linux; the set outlives the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in wanted {
            libc::sigaddset(&mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()).into())?;
        owned(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())
    }
}

/// Empties a descriptor of [`signals`]: true when a signal other than SIGCHLD was in it.
pub fn drain_signals(descriptor: &OwnedFd) -> bool {
    let mut other = false;
    loop {
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: buffer and size belong together.
        let read = unsafe { libc::read(descriptor.as_fd().as_raw_fd(), (&raw mut info).cast(), size) };
        if read != size as isize {
            return other;
        }
        other |= info.ssi_signo != libc::SIGCHLD as u32;
    }
}

/// Tells of changes in folders. Errors: `EMFILE`, the user has as many as the host allows.
pub fn changes() -> io::Result<OwnedFd> {
    // SAFETY: plain call; the result is ours.
    owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }.into())
}

/// Entries of `folder` that come, go, or were written. The answer names the folder to [`forget`]; it is the same for
/// the same folder.
pub fn watch(changes: &OwnedFd, folder: BorrowedFd<'_>) -> io::Result<i32> {
    let mask = libc::IN_CREATE
        | libc::IN_DELETE
        | libc::IN_MOVED_FROM
        | libc::IN_MOVED_TO
        | libc::IN_CLOSE_WRITE
        | libc::IN_ONLYDIR;
    let path = CString::new(format!("/proc/self/fd/{}", folder.as_raw_fd())).map_err(io::Error::other)?;
    // SAFETY: the path outlives the call.
    let watch = unsafe { libc::inotify_add_watch(changes.as_raw_fd(), path.as_ptr(), mask) };
    check(watch.into())?;
    Ok(watch)
}

pub fn forget(changes: &OwnedFd, watch: i32) {
    // SAFETY: plain call. An error: the folder is gone, and its watch with it.
    unsafe { libc::inotify_rm_watch(changes.as_raw_fd(), watch) };
}

/// Waits until one of `polled` is ready, or `timeout_ms` (-1: for ever) have passed: then the answer is false.
pub fn poll(polled: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<bool> {
    // SAFETY: pointer and length belong together.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) }.into()) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

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
