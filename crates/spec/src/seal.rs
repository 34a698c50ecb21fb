//! The words between the launcher (or a sidecar, or the CLI) and the init of a seal: JSON messages over a
//! `SOCK_SEQPACKET` Unix socket, descriptors beside them (`SCM_RIGHTS`). One message out, one reply back per request;
//! events are sent to connections that asked for them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::application::Transport;
use crate::proxy::OWN_ADDRESS;

/// What launcher, init and proxy of one instance say to each other, here and in `proxy`. Raised with every change that
/// the other side must know of; a launcher takes over instances from [`PROTOCOL_OLDEST`] on and replaces all others.
pub const PROTOCOL: u32 = 2;
/// 0: before it was written down.
pub const PROTOCOL_OLDEST: u32 = 0;

pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Descriptors in one message at the most.
pub const DESCRIPTORS_MAX: usize = 64;

/// How a seal is built: handed to `sinew __init` by the launcher, on the descriptor that is its first channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealSpec {
    pub hostname: String,
    /// Bind mounts in order, beyond the base root file system.
    pub mounts: Vec<SealMount>,
    /// Host folders that services may write: below them no link on the way to a mount's source is followed.
    #[serde(default)]
    pub writable: Vec<PathBuf>,
    /// Host paths that are covered by nothing-to-see (file: empty and unreadable, folder: empty), after the mounts.
    pub masked: Vec<PathBuf>,
    /// Host paths shown read-only at their own place: the project folder, prefixes of programs, `x-sinew.read`.
    pub shown: Vec<PathBuf>,
    /// Empty writable file systems in memory.
    pub tmpfs: Vec<PathBuf>,
    /// Files with given content (configs, secrets) on a private file system in memory.
    pub files: Vec<SealFile>,
    pub devices: Vec<SealMount>,
    pub egress: Vec<SealEgress>,
    /// First content of `/etc/hosts`.
    pub hosts: String,
    /// Identity map of 65536 users (launcher is root); false: only the launcher's own user exists inside.
    pub map_all_users: bool,
    /// End the seal when the lifeline descriptor reports end of file (foreground).
    pub lifeline: bool,
    /// Size of one of the two log files that are kept.
    pub log_bytes_max: u64,
    /// cgroup folders (one per controller on v1) whose `cgroup.procs` the init is put in before it starts anything.
    pub cgroups: Vec<PathBuf>,
    /// Explicit posture: no namespaces, mounts, rules or standing sockets, only supervision. What is said above of
    /// mounts, files, egress, names and hosts must be empty then.
    #[serde(default)]
    pub explicit: bool,
    /// A container of an engine gets the network; all but the network, the hosts file and the lifeline is the engine's
    /// to make. What is said above of mounts, files, devices and cgroups must be empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<SealContainer>,
}

/// How the init of a container finds its engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealContainer {
    /// The engine's socket.
    pub engine: PathBuf,
    /// What the container is called, also before it is made.
    pub name: String,
    /// The file that is shown to it as `/etc/hosts`.
    pub hosts_file: PathBuf,
    /// The user namespace that an ordinary user's engine has its containers in, as a path. `None`: the host's.
    pub user_namespace: Option<PathBuf>,
    /// What the init mounts itself, between the making of the container's root and its start: the sources lie below
    /// folders that services may write, and no path to them is given to the engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<SealContainerMount>,
    /// Volumes that were empty when the container was made: each gets what the image has at its target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_volumes: Vec<SealContainerVolume>,
    /// Host folders that services may write: as in [`SealSpec::writable`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<PathBuf>,
    /// The empty folder and the empty file that the engine mounts over what is hidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nothing: Vec<PathBuf>,
    /// The network that the engine has made for it, as a path; a container of its own holds it. `None`: the init makes one.
    #[serde(default)]
    pub network: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealContainerVolume {
    /// The volume's folder.
    pub source: PathBuf,
    /// As the engine mounts it.
    pub target: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealContainerMount {
    pub mount: SealMount,
    /// What the engine mounts at the target until then: an empty folder or file, of this mount alone.
    pub place: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealMount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
    /// What is hidden in it instead of [`SealSpec::masked`]. `None`: nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<Vec<PathBuf>>,
    /// Host paths that something empty is mounted over, so that the folders above them stay writable. What is renamed
    /// over such a path on the host is seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covered: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealFile {
    pub target: PathBuf,
    pub content: Vec<u8>,
    pub mode: u32,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealEgress {
    pub network: IpAddr,
    pub prefix: u8,
    pub port: u16,
    pub transport: Transport,
}

/// A process to be started inside. Of a container, only `argv`, `environment` and `working_dir` of further commands count,
/// and the latter are what is other than the container's own; the service's command was given to the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    pub working_dir: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Explicit posture: declared ports and where they are listened on. `None`: sealed, every port is where it says.
    // No map: this travels in what is tagged from inside, where serde cannot read numbers as keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<(u16, u16)>>,
    /// Bound on processes and threads of its user within the seal (`RLIMIT_NPROC`). `None`: none, or another one holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<u64>,
}

impl Command {
    /// The loopback port on which the service serves its port `declared`. `None`: a port that it does not declare, which
    /// without a seal may be anybody's.
    pub fn port(&self, declared: u16) -> Option<u16> {
        let Some(ports) = &self.ports else { return Some(declared) };
        ports.iter().find(|(known, _)| *known == declared).map(|(_, given)| *given)
    }

    /// Where the launcher and its user look for the service, in this order; callers come by another way.
    pub fn dialed(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let all = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(OWN_ADDRESS.0),
            IpAddr::V6(OWN_ADDRESS.1),
        ];
        // Without a seal there is no address of its own.
        let count = if self.ports.is_some() { 2 } else { all.len() };
        all.into_iter().take(count)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InitRequest {
    /// Start the service. Refused while it runs.
    Start {
        command: Command,
    },
    /// Send a signal to the service's process group.
    Signal {
        signal: i32,
    },
    /// Kill everything in the seal but the init.
    KillAll,
    /// Run a further command; its standard streams are the three descriptors sent along, or, with `tty`, a new
    /// pseudo-terminal of the seal (from protocol 2 on), whose outer end comes with the answer. Its end is reported to this connection as
    /// [`InitEvent::ExecExited`]; when the connection closes, it is killed.
    Exec {
        command: Command,
        tty: bool,
        /// Of the terminal; `None`: as the kernel makes it.
        #[serde(default)]
        size: Option<TerminalSize>,
    },
    /// The standing sockets: made once, the same for every asker.
    StandingSockets,
    /// Explicit posture: the hop listener, and one loopback listener for each destination. Those that are known keep
    /// their ports; new ones are added.
    Listeners {
        destinations: Vec<SocketAddr>,
    },
    /// Unconnected stream sockets made inside, for dialing the application.
    DialSockets {
        count: usize,
        ipv6: bool,
    },
    /// Whether the application listens on that port, but on loopback alone.
    IsOnLoopbackOnly {
        port: u16,
    },
    /// Replace the content of `/etc/hosts`, in place.
    Hosts {
        content: String,
    },
    Status,
    /// Send [`InitEvent`]s to this connection from now on, the present state first.
    Watch,
    /// Kill everything and end the seal.
    Shutdown,
}

/// In characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InitReply {
    Done,
    Started {
        /// As seen inside the seal.
        pid: i32,
    },
    /// With descriptors, in the order of [`StandingSockets`].
    Standing {
        sockets: StandingSockets,
    },
    /// With descriptors: the hop listener, then all of these in order.
    Listeners {
        listeners: Vec<FixedListener>,
    },
    /// With that many descriptors.
    Dial {
        count: usize,
    },
    OnLoopbackOnly {
        answer: bool,
    },
    Status {
        state: ServiceState,
    },
    /// The program of a [`InitRequest::Start`] or [`InitRequest::Exec`] could not be run. `code`: what a shell says then,
    /// 127 for one that is not there and 126 for one that cannot be executed.
    NotStarted {
        reason: String,
        code: i32,
    },
    Failed {
        reason: String,
    },
}

/// Everything that connects to `listen` is meant for `destination`, a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedListener {
    pub destination: SocketAddr,
    pub listen: SocketAddr,
}

/// Destinations of one instance in the explicit posture; they and the hop listener travel in one message.
pub const LISTENERS_MAX: usize = DESCRIPTORS_MAX - 1;

/// Which descriptors come with [`InitReply::Standing`], in this order: outbound TCP listener (IPv4), outbound TCP
/// listener (IPv6), DNS over UDP, NFLOG netlink socket, hop listener (handed in by the launcher), then UDP egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingSockets {
    pub udp_egress: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InitEvent {
    Service { state: ServiceState },
    ExecExited { code: i32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ServiceState {
    /// Nothing was started yet.
    Empty,
    Running {
        pid: i32,
        started_unix_ms: u64,
    },
    /// `code`: 128 + signal for a death by signal.
    Exited {
        code: i32,
        signal: Option<i32>,
        started_unix_ms: u64,
        ended_unix_ms: u64,
    },
}

/// Everything an init sends: a client tells replies from events by this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitMessage {
    Reply(InitReply),
    Event(InitEvent),
}
