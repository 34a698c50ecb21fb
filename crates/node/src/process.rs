//! Processes as they are known to somebody who may not be their parent: by pid and start time, watched by pidfd.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

pub mod memory;
pub mod program;
mod sys;
#[cfg(test)]
mod tests;

/// Where a proxy finds its lifeline (`spec::proxy::Bootstrap::lifeline`).
const LIFELINE_DESCRIPTOR: i32 = 3;

/// A process that was killed is gone in much less.
const KILLED: Duration = Duration::from_secs(2);

/// A pid alone may be somebody else's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks after boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

impl ProcessId {
    /// `None`: no such process, or only its exit status is left.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!matches!(stat.state, b'Z' | b'X')).then_some(Self { pid, start_ticks: stat.start_ticks })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// True when it is gone or on its way out: a process that is being killed has lost its memory before its descriptors,
/// so its locks and sockets are still there.
pub fn is_ending(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
}

struct Stat {
    state: u8,
    parent: i32,
    threads: u64,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// proc(5): the name in parentheses may hold anything, parentheses too.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let threads = fields.nth(15)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        Some(Self { state, parent, threads, start_ticks })
    }
}

/// A live process that tells its end.
#[derive(Debug)]
pub struct Watched {
    pub id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    end: OnceLock<End>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Killed(i32),
    /// It was no child of ours: only its parent is told.
    Unknown,
}

impl Watched {
    /// `None`: it has ended. Must be called within a runtime.
    pub fn open(id: ProcessId) -> io::Result<Option<Self>> {
        let pidfd = match sys::pidfd_open(id.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            pidfd => pidfd?,
        };
        // Compared after opening: from here on the descriptor means one process for good.
        if !id.is_alive() {
            reap(id.pid);
            return Ok(None);
        }
        Ok(Some(Self { id, pidfd: sys::watch(pidfd)?, end: OnceLock::new() }))
    }

    /// Returns when the process has ended; reaps it when it is a child of ours. Safe to cancel and to call again.
    pub async fn ended(&self) -> End {
        // The descriptor stays readable, so readiness is never cleared. An error is the runtime going down.
        let _ = self.pidfd.readable().await;
        *self.end.get_or_init(|| reap(self.id.pid))
    }

    /// A process that has ended is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match sys::pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }
}

fn reap(pid: i32) -> End {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, status)) => End::Exited(status),
        Ok(WaitStatus::Signaled(_, signal, _)) => End::Killed(signal as i32),
        // ECHILD: not ours, somebody else reaps it.
        _ => End::Unknown,
    }
}

/// Kills a process of an earlier launcher and returns; its end can be watched.
pub fn kill(id: ProcessId) {
    if let Ok(pidfd) = sys::pidfd_open(id.pid)
        && id.is_alive()
    {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
    }
}

/// Kills a process of an earlier launcher and waits a moment for its end.
pub async fn end(id: ProcessId) {
    kill(id);
    if let Ok(Some(process)) = Watched::open(id) {
        let _ = tokio::time::timeout(KILLED, process.ended()).await;
    }
}

/// Starts a process in a session of its own (a terminal's Ctrl-C is meant for the launcher only). `lifeline`, a pipe's
/// read end, becomes its descriptor 3.
pub fn spawn(command: &mut Command, lifeline: Option<BorrowedFd<'_>>) -> io::Result<ProcessId> {
    let child = sys::spawn(command, lifeline)?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // A child that ended at once still has its start time.
    let start_ticks = Stat::read(pid).ok_or_else(|| io::Error::other("it vanished"))?.start_ticks;
    Ok(ProcessId { pid, start_ticks })
}

/// Live processes of ours in that role (`__init`, `proxy`) that were started with `argument`.
pub fn started_with(role: &str, argument: &OsStr) -> Vec<ProcessId> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_ours(&line, role, argument)
        })
        .filter_map(ProcessId::of)
        .collect()
}

/// The arguments say so: nobody else's process that happens to name the folder (an `ls`, say) is meant.
fn is_ours(command_line: &[u8], role: &str, argument: &OsStr) -> bool {
    let mut words = command_line.split(|byte| *byte == 0);
    words.next() == Some(b"sinew")
        && words.next() == Some(role.as_bytes())
        && words.any(|word| word == argument.as_encoded_bytes())
}

/// Live children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    if let Ok(text) = listed {
        return text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    // A kernel without CONFIG_PROC_CHILDREN.
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| Stat::read(*child).is_some_and(|stat| stat.parent == pid))
        .collect()
}

/// The process that is `inside` in the pid namespace whose init is `init`, as it is seen from here.
pub fn seen_from_here(init: i32, inside: i32) -> Option<i32> {
    let mut rest = children(init);
    // Breadth first: a service is a child of its init.
    let mut next = 0;
    while let Some(&pid) = rest.get(next) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let innermost = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .and_then(|pids| pids.split_ascii_whitespace().last()?.parse().ok());
        if innermost == Some(inside) {
            return Some(pid);
        }
        next += 1;
        if rest.len() < DESCENDANTS_MAX {
            rest.extend(children(pid));
        }
    }
    None
}

/// Processes of one seal that are looked at.
const DESCENDANTS_MAX: usize = 4096;

/// Threads of live processes, a process without further ones counting as one.
pub fn threads_of_all(pids: &[i32]) -> u64 {
    pids.iter().filter_map(|pid| Stat::read(*pid)).map(|stat| stat.threads).sum()
}

/// All descendants of a process.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        if found.len() < DESCENDANTS_MAX {
            found.extend(children(pid));
        }
    }
    found
}
