//! System calls on processes that no safe wrapper of ours offers: pidfds, and a child's descriptor at a fixed number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::LIFELINE_DESCRIPTOR;

/// Close-on-exec.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and no memory.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Tells the runtime to watch a pidfd.
pub fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `register_with_interest` is unsafe because a type's `AsRawFd` may lie about which descriptor it owns;
    // `OwnedFd` cannot, and it lives as long as the registration. There is no safe constructor.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)
}

pub fn pidfd_send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo means that of kill(2); no memory is read.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// In a session of its own; `lifeline` becomes [`LIFELINE_DESCRIPTOR`].
pub fn spawn(command: &mut Command, lifeline: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    let lifeline = lifeline.map(|lifeline| lifeline.as_raw_fd());
    // SAFETY: between fork and exec only setsid, dup2 and fcntl are called, all async-signal-safe; the closure owns an
    // integer and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            let Some(lifeline) = lifeline else { return Ok(()) };
            let moved = if lifeline == LIFELINE_DESCRIPTOR {
                libc::fcntl(lifeline, libc::F_SETFD, 0)
            } else {
                libc::dup2(lifeline, LIFELINE_DESCRIPTOR)
            };
            if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    command.spawn()
}
