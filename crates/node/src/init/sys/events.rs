//! What an init waits for: children that end, signals, changes in folders.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{check, owned};

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
