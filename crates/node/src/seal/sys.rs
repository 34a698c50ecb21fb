//! Descriptors by number for a child, and processes by descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// The child begins a session of its own (a terminal's Ctrl-C is meant for the launcher only), and gets copies of the
/// descriptors at the numbers beside them, and no other descriptor but the standard ones.
pub(super) fn hand_over<const N: usize>(
    command: &mut Command,
    handed: [(BorrowedFd<'_>, i32); N],
) -> io::Result<()> {
    let above = handed.iter().map(|(_, number)| *number).max().unwrap_or(2) + 1;
    // Copies above all wanted numbers, so that none is overwritten before it was copied. They live in the closure,
    // which the command owns.
    let copies = handed.map(|(from, to)| crate::init::sys::copy_above(from, above).map(|copy| (copy, to)));
    let mut held = Vec::with_capacity(N);
    for copy in copies {
        held.push(copy?);
    }
    // SAFETY: between fork and exec only setsid, dup2 and close_range are called; nothing is allocated or locked.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            for (copy, to) in &held {
                if libc::dup2(copy.as_raw_fd(), *to) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            crate::init::sys::close_on_exec_from(above as u32)
        });
    }
    Ok(())
}

pub(super) fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain call.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        // SAFETY: the kernel made this descriptor for us just now.
        number if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn kill_process(process: BorrowedFd<'_>) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: a null pointer stands for the information of kill(2).
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, none, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The exit code (128 + signal) of an ended child. `None`: it lives, when `wait` is not set.
pub(super) fn reap_process(process: BorrowedFd<'_>, wait: bool) -> io::Result<Option<i32>> {
    // SAFETY: all-zero is a valid value of this plain structure, which outlives the call.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | if wait { 0 } else { libc::WNOHANG };
        if libc::waitid(libc::P_PIDFD, process.as_raw_fd() as libc::id_t, &raw mut info, flags) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(match info.si_code {
            libc::CLD_EXITED => Some(info.si_status()),
            libc::CLD_KILLED | libc::CLD_DUMPED => Some(128 + info.si_status()),
            _ => None,
        })
    }
}

/// Tells the runtime to watch `process`.
pub(super) fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, which is as long as the registration.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}
