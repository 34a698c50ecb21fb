//! `sinew __init`: the first process of a seal. It is a program of its own that shares the binary: synchronous, one
//! thread, no runtime, as little memory as possible, as there is one for every instance.
//!
//! It runs in three steps. *Outside*: in the host's namespaces, it makes the namespaces with a copy of itself in them,
//! maps the users and ends. *Inside*: the copy executes the program again from a read-only mount, so that nothing in the
//! seal can ever write to the binary through `/proc`; a child builds network and root file system and hands over the
//! sockets, so that no secret and no parsed text stays in the first process. Then it *serves* until the seal ends.
//!
//! Of a container, only the network is made here, and the init stays on the host (`container`): the engine does the rest.
//!
//! In the explicit posture there are no namespaces: a pair of processes supervises instead (`explicit`), and what is
//! served is the same.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

mod container;
mod explicit;
mod filter;
mod inside;
mod keep;
mod layer;
mod listeners;
mod log;
mod netlink;
mod network;
mod outside;
mod root;
mod rules;
mod serve;
mod service;
pub(crate) mod sys;
mod terminal;

/// The first argument with which the binary becomes an init.
pub const COMMAND: &str = "__init";
/// The argument of the second step.
const INSIDE: &str = "--inside";

/// Descriptors that the launcher hands over, by number.
pub(crate) const CHANNEL: RawFd = 3;
pub(crate) const HOP: RawFd = 4;
pub(crate) const LISTENER: RawFd = 5;
pub(crate) const LOG_FOLDER: RawFd = 6;
/// Open also without a lifeline (then `/dev/null`), so that numbers stay the same.
pub(crate) const LIFELINE: RawFd = 7;
/// From the first step to the second: the spec, in memory.
const SPEC: RawFd = 8;

/// More text than this is no spec.
pub(crate) const SPEC_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What the launcher is told, one line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// As seen from the host.
    Born {
        pid: i32,
    },
    Ready,
    Failed {
        reason: String,
    },
}

/// To be called first thing in `main`: runs and never returns when the process is an init.
pub fn run_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(COMMAND)) {
        return;
    }
    let rest: Vec<OsString> = arguments.collect();
    let code = match rest.as_slice() {
        [inside, rest @ ..] if inside == INSIDE => inside::run(rest),
        rest => outside::run(rest),
    };
    sys::exit(code);
}

/// Tells the launcher, if it still listens.
fn report(channel: BorrowedFd<'_>, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let mut rest = line.as_slice();
        while let Ok(written @ 1..) = nix::unistd::write(channel, rest) {
            rest = &rest[written..];
        }
    }
}

/// Ends with code 1 after the launcher was told why.
fn fail(channel: &OwnedFd, reason: String) -> i32 {
    report(channel.as_fd(), &Report::Failed { reason });
    1
}
