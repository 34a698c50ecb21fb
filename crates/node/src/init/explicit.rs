//! The init of the explicit posture, without any namespace: two processes. The *guard* is what the launcher knows; its
//! child, the *init*, supervises the service as the init of a seal does. Both are subreapers, and each watches the
//! other: when the init dies, everything it had becomes the guard's, which kills it; when the guard dies, the init is
//! told by the kernel and ends everything. So a kill -9 of either leaves nothing.
//!
//! What it cannot do: hold back a service that wants to interfere. It runs as the same user, and may signal both.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::{POLLIN, pollfd};
use sinew_spec::seal::{FixedListener, LISTENERS_MAX, SealSpec};

use super::serve::{Around, Seal};
use super::service::Origin;
use super::sys::{self, Fork, Reaped};
use super::{HOP, LIFELINE, LISTENER, LOG_FOLDER, Report, fail, report};
use crate::process;

/// How long the guard goes on killing what the init has left behind.
const LEFTOVERS: Duration = Duration::from_secs(5);
const LOOK_AGAIN_MS: i32 = 20;

/// In the process that the launcher started: it makes the guard, as a sibling of itself, and ends.
pub fn run(channel: &OwnedFd, spec: &SealSpec) -> Result<(), String> {
    match sys::clone_sibling(0).map_err(|e| format!("fork: {e}"))? {
        Fork::Parent(_) => Ok(()),
        Fork::Child => {
            let code = guard(channel, spec).unwrap_or_else(|reason| fail(channel, reason));
            sys::exit(code)
        }
    }
}

fn guard(channel: &OwnedFd, spec: &SealSpec) -> Result<i32, String> {
    // A terminal's Ctrl-C is meant for the launcher.
    nix::unistd::setsid().map_err(|e| format!("begin a session: {e}"))?;
    sys::adopt_orphans().map_err(|e| format!("adopt orphans: {e}"))?;
    // A program that gains privileges could not be ended by who started it.
    sys::set_no_new_privileges().map_err(|e| format!("forbid new privileges: {e}"))?;
    let own = std::process::id();
    report(channel.as_fd(), &Report::Born { pid: own as i32 });
    let signals = sys::signals(&[libc::SIGCHLD]).map_err(|e| format!("listen to signals: {e}"))?;
    let init = match sys::fork().map_err(|e| format!("fork: {e}"))? {
        Fork::Child => {
            drop(signals);
            let code = init(channel, spec, own).unwrap_or_else(|reason| fail(channel, reason));
            sys::exit(code)
        }
        Fork::Parent(pid) => pid,
    };
    // The init's business alone: its channel tells the launcher by its end that the birth failed.
    sys::close_all_but(&signals);
    Ok(keep(&signals, init))
}

/// Until the init has ended, and everything that was below it.
fn keep(signals: &OwnedFd, init: i32) -> i32 {
    let mut result = None;
    let mut since = None;
    loop {
        match sys::reap() {
            Reaped::Ended(pid, code, _) if pid == init => {
                result = Some(code);
                since = Some(Instant::now());
            }
            Reaped::Ended(..) => {}
            Reaped::NoChildren => return result.unwrap_or(1),
            Reaped::None => {
                if result.is_some() {
                    kill_descendants();
                }
                if since.is_some_and(|since: Instant| since.elapsed() > LEFTOVERS) {
                    return result.unwrap_or(1);
                }
                let mut polled = [pollfd { fd: raw(signals), events: POLLIN, revents: 0 }];
                let _ = sys::poll(&mut polled, if result.is_some() { LOOK_AGAIN_MS } else { -1 });
                sys::drain_signals(signals);
            }
        }
    }
}

fn raw(descriptor: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(descriptor)
}

fn init(channel: &OwnedFd, spec: &SealSpec, guard: u32) -> Result<i32, String> {
    sys::adopt_orphans().map_err(|e| format!("adopt orphans: {e}"))?;
    // Blocked and read from a descriptor by the loop that serves, which ends in order.
    sys::die_with_parent(libc::SIGTERM).map_err(|e| format!("end with the guard: {e}"))?;
    if std::os::unix::process::parent_id() != guard {
        return Err("its guard died".to_owned());
    }
    let handed = |number| sys::inherited(number).map_err(|e| format!("take over descriptor {number}: {e}"));
    let (hop, listener, log_folder) = (handed(HOP)?, handed(LISTENER)?, handed(LOG_FOLDER)?);
    let lifeline = handed(LIFELINE)?;
    let origin = Origin { map_all_users: spec.map_all_users, out_of_memory: None, filter: None };
    let seal = Seal::new(
        Around::Host(Listeners { hop, fixed: Vec::new() }),
        listener,
        spec.lifeline.then_some(lifeline),
        log_folder,
        spec.log_bytes_max,
        origin,
    );
    let seal = seal.map_err(|e| format!("prepare to serve: {e}"))?;
    report(channel.as_fd(), &Report::Ready);
    Ok(seal.serve())
}

/// Everything that came of this process. What forks meanwhile is found by the next call.
pub fn kill_descendants() {
    process::descendants(std::process::id() as i32).into_iter().for_each(sys::kill);
}

/// What a sidecar serves without a seal; kept here, so that ports outlive sidecars.
pub struct Listeners {
    hop: OwnedFd,
    fixed: Vec<(FixedListener, OwnedFd)>,
}

impl Listeners {
    /// With listeners for `destinations` too. The descriptors: the hop's, then one for each.
    pub fn with(&mut self, destinations: &[SocketAddr]) -> io::Result<(Vec<FixedListener>, Vec<OwnedFd>)> {
        for destination in destinations {
            if self.fixed.iter().any(|(fixed, _)| fixed.destination == *destination) {
                continue;
            }
            if self.fixed.len() == LISTENERS_MAX {
                return Err(io::Error::other("there are more"));
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let fixed = FixedListener { destination: *destination, listen: listener.local_addr()? };
            self.fixed.push((fixed, listener.into()));
        }
        let sockets = std::iter::once(&self.hop).chain(self.fixed.iter().map(|(_, socket)| socket));
        let copies: io::Result<Vec<_>> = sockets.map(OwnedFd::try_clone).collect();
        Ok((self.fixed.iter().map(|(fixed, _)| *fixed).collect(), copies?))
    }
}
