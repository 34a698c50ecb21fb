//! System calls of a seal that have no safe wrapper elsewhere: here descriptors, processes and namespaces, below mounts,
//! privileges, and what is waited for.
//! Everything here is a thin call; what it is called for is decided by the callers.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

pub use events::{Reaped, changes, drain_signals, forget, poll, reap, signals, wait_for, watch};
pub use memory::{give_memory_back, keep_little_memory};
pub use mounts::{
    NO_DEVICES, NO_EXECUTE, NO_SET_UID, READ_ONLY, attach, attach_beneath, copy_tree, pivot_here, restrict,
};
pub use privileges::{
    CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN,
    CAP_SYS_CHROOT, CAP_SYS_PTRACE, adopt_orphans, become_user, die_with_parent, drop_all_capabilities,
    give_up_capabilities, install_filter, keep_capabilities_across_exec, limit_processes,
    set_no_new_privileges, set_undumpable,
};

mod events;
mod memory;
mod mounts;
mod privileges;

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

pub fn kill(pid: i32) {
    if pid > 1 {
        // SAFETY: plain call. An error: it has ended.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
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
