//! What two processes of one proxy say to each other while one takes the place of the other, and what the launcher asks:
//! JSON messages over a `SOCK_SEQPACKET` Unix socket in the instance's private folder, which the process that serves
//! listens on.
//!
//! ```text
//! successor                 serving
//!   Take ───────────────────▶          it asks to take its place
//!        ◀─────────────────── Published   listeners of published ports, as descriptors beside the message
//!   Ready ──────────────────▶          everything else that it needs is there
//!                              (nothing new is accepted, read or acknowledged from here on)
//!        ◀─────────────────── Flows       the sockets of flows of datagrams; any number of such messages
//!        ◀─────────────────── Go
//!   Prepared ───────────────▶          it has compiled what the other one served last
//!        ◀─────────────────── Done    from here on it serves, and the other one drains
//! ```
//! Whichever side ends the connection before `Done`, the old process goes on and the new one ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a process that was succeeded still serves its admin API: whose requests have not ended is asked there.
pub fn succeeded_admin(admin: &Path, pid: u32) -> PathBuf {
    admin.with_file_name(format!("{SUCCEEDED}{pid}"))
}

/// What the names of such sockets begin with.
pub const SUCCEEDED: &str = "old";

/// Of one message.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverMessage {
    /// The launcher asks who serves. As long as its connection lives, nobody else takes the place.
    Who,
    Serves {
        pid: i32,
    },
    Take,
    /// One descriptor for each address, in their order.
    Published {
        addresses: Vec<SocketAddr>,
        /// Another such message follows.
        more: bool,
    },
    Ready,
    /// One descriptor for each flow, in their order.
    Flows {
        flows: Vec<UdpFlow>,
    },
    Go,
    Prepared,
    Done,
}

/// A client of a declared destination of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UdpFlow {
    /// Of the standing socket (`EgressMatch::Udp`).
    pub socket: usize,
    pub client: SocketAddr,
}
