//! The second step, as the first process of the seal: a child builds what needs privileges, then everything is given
//! up that serving does not need.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};
use sinew_spec::application::Transport;
use sinew_spec::seal::{DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, SealContainer, SealSpec};
use sinew_transport::descriptors;

use super::container::{Container, mounts_itself};
use super::keep::Keeper;
use super::layer::{self, Tree};
use super::network::Failure;
use super::serve::{Around, Seal, Standing};
use super::service::Origin;
use super::sys::{
    self, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID,
    CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE, Fork,
};
use super::{
    CHANNEL, HOP, LIFELINE, LISTENER, LOG_FOLDER, Report, SPEC, fail, filter, network, report, root,
};

/// Standing sockets besides UDP egress, and the hosts file.
const HANDED_OVER: usize = 5;

/// What an init may still do. The last three: to keep trees ([`Keeper`]). Services and commands have none.
const KEPT: &[u32] = &[CAP_KILL, CAP_SETUID, CAP_SETGID, CAP_SYS_ADMIN, CAP_DAC_OVERRIDE, CAP_CHOWN];

/// The same of the init of a container that works in its mounts (`container::mounts`, `container::fill`).
const KEPT_TO_MOUNT: &[u32] = &[
    CAP_KILL,
    CAP_SYS_ADMIN,
    CAP_SYS_CHROOT,
    CAP_SYS_PTRACE,
    CAP_DAC_OVERRIDE,
    CAP_CHOWN,
    CAP_FOWNER,
    CAP_FSETID,
];

/// What the child tells when all is built; with the descriptors of [`HANDED_OVER`], then UDP egress. One message for
/// each tree follows.
#[derive(Debug, Serialize, Deserialize)]
enum Built {
    Done {
        udp_egress: usize,
        trees: usize,
        lifeline: bool,
        log_bytes_max: u64,
        map_all_users: bool,
        container: Option<Box<SealContainer>>,
        notes: Vec<String>,
    },
    Failed {
        reason: Failure,
    },
}

pub fn run(_title: &[OsString]) -> i32 {
    let Ok(channel) = sys::inherited(CHANNEL) else { return 2 };
    match prepare(&channel) {
        Ok(seal) => {
            report(channel.as_fd(), &Report::Ready);
            drop(channel);
            seal.serve()
        }
        Err(reason) => fail(&channel, reason),
    }
}

fn prepare(channel: &OwnedFd) -> Result<Seal, Failure> {
    let handed = |number| sys::inherited(number).map_err(|e| format!("take over descriptor {number}: {e}"));
    let (hop, listener, log_folder) = (handed(HOP)?, handed(LISTENER)?, handed(LOG_FOLDER)?);
    let (lifeline, spec) = (handed(LIFELINE)?, handed(SPEC)?);
    // The own root follows when the child leaves the host's; a working directory elsewhere would stay behind.
    std::env::set_current_dir("/").map_err(|e| format!("enter /: {e}"))?;
    // Before /proc/self belongs to nobody: the processes started later get another value than this one.
    let out_of_memory = File::options().write(true).open("/proc/self/oom_score_adj").ok();

    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = pair.map_err(|e| format!("make a socket pair: {e}"))?;
    let builder = match sys::fork().map_err(|e| format!("fork: {e}"))? {
        Fork::Child => {
            drop((ours, hop, listener, log_folder, lifeline));
            sys::exit(build_and_tell(spec, &theirs, channel))
        }
        Fork::Parent(pid) => pid,
    };
    drop((theirs, spec));
    let built = receive(&ours)?;
    sys::wait_for(builder);

    sys::set_undumpable().map_err(|e| format!("close /proc/1: {e}"))?;
    let mounts = built.container.as_ref().is_some_and(|container| mounts_itself(container));
    let kept = match built.container {
        Some(_) if mounts => KEPT_TO_MOUNT,
        Some(_) => &[CAP_KILL],
        None => KEPT,
    };
    sys::give_up_capabilities(kept).map_err(|e| format!("give up capabilities: {e}"))?;
    sys::set_no_new_privileges().map_err(|e| format!("forbid new privileges: {e}"))?;
    let program = if mounts { filter::of_who_mounts() } else { filter::of_the_init() };
    sys::install_filter(&program).map_err(|e| format!("install the filter of system calls: {e}"))?;

    let [outbound_v4, outbound_v6, dns, refused, hosts] = built.sockets;
    let sockets = [outbound_v4, outbound_v6, dns, refused, hop];
    let standing = Standing { sockets, udp_egress: built.udp_egress };
    let filter = Some(filter::of_services());
    let origin = Origin { map_all_users: built.map_all_users, out_of_memory, filter };
    let lifeline = built.lifeline.then_some(lifeline);
    let container = built.container.as_deref().map(|container| Box::new(Container::of(container)));
    let keeper = Keeper::new(built.trees);
    let around = Around::Seal { standing, hosts: hosts.into(), keeper, container };
    let mut seal = Seal::new(around, listener, lifeline, log_folder, built.log_bytes_max, origin)
        .map_err(|e| format!("prepare to serve: {e}"))?;
    built.notes.iter().for_each(|note| seal.note(note));
    Ok(seal)
}

struct Parts {
    sockets: [OwnedFd; HANDED_OVER],
    udp_egress: Vec<OwnedFd>,
    trees: Vec<Tree>,
    lifeline: bool,
    log_bytes_max: u64,
    map_all_users: bool,
    container: Option<Box<SealContainer>>,
    notes: Vec<String>,
}

fn receive(socket: &OwnedFd) -> Result<Parts, Failure> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let received = descriptors::receive(socket.as_fd(), &mut buffer);
    let (length, mut sockets) = received.map_err(|e| format!("take over what was built: {e}"))?;
    if length == 0 {
        return Err("the builder of the seal died".to_owned());
    }
    match serde_json::from_slice(&buffer[..length]).map_err(|e| format!("take over what was built: {e}"))? {
        Built::Failed { reason } => Err(reason),
        Built::Done { udp_egress, trees, lifeline, log_bytes_max, map_all_users, container, notes } => {
            if sockets.len() != HANDED_OVER + udp_egress {
                return Err(format!("{} descriptors were built", sockets.len()));
            }
            let udp_egress = sockets.split_off(HANDED_OVER);
            let sockets = sockets.try_into().map_err(|_| "descriptors are missing".to_owned())?;
            let trees: io::Result<Vec<_>> = (0..trees).map(|_| receive_tree(socket)).collect();
            let trees = trees.map_err(|e| format!("take over what was built: {e}"))?;
            Ok(Parts { sockets, udp_egress, trees, lifeline, log_bytes_max, map_all_users, container, notes })
        }
    }
}

fn receive_tree(socket: &OwnedFd) -> io::Result<Tree> {
    let (_, descriptors) = descriptors::receive(socket.as_fd(), &mut [0; 16])?;
    let descriptors: [OwnedFd; layer::DESCRIPTORS] =
        descriptors.try_into().map_err(|_| io::Error::other("a folder is missing"))?;
    Tree::take_over(descriptors)
}

fn send_tree(socket: &OwnedFd, tree: Tree) -> io::Result<()> {
    let descriptors = tree.hand_over()?;
    descriptors::send(socket.as_fd(), b"tree", &descriptors.each_ref().map(AsFd::as_fd))
}

fn build_and_tell(spec: OwnedFd, socket: &OwnedFd, channel: &OwnedFd) -> i32 {
    let tell = |built: &Built, sockets: &[&OwnedFd]| {
        let bytes = serde_json::to_vec(built).map_err(io::Error::other)?;
        let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        descriptors::send(socket.as_fd(), &bytes, &sockets)
    };
    let told = match build(spec) {
        Ok((done, network, hosts, trees)) => {
            let hosts = OwnedFd::from(hosts);
            let mut all =
                vec![&network.outbound_v4, &network.outbound_v6, &network.dns, &network.refused, &hosts];
            all.extend(&network.udp_egress);
            tell(&done, &all).and_then(|()| trees.into_iter().try_for_each(|tree| send_tree(socket, tree)))
        }
        Err(reason) => tell(&Built::Failed { reason }, &[]),
    };
    match told {
        Ok(()) => 0,
        Err(error) => fail(channel, format!("hand over what was built: {error}")),
    }
}

fn build(spec: OwnedFd) -> Result<(Built, network::Sockets, File, Vec<Tree>), Failure> {
    let mut bytes = Vec::new();
    let mut file = File::from(spec);
    io::Seek::rewind(&mut file)
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|e| format!("read the seal's specification: {e}"))?;
    let spec: SealSpec =
        serde_json::from_slice(&bytes).map_err(|e| format!("read the seal's specification: {e}"))?;
    let udp_egress = spec.egress.iter().filter(|egress| egress.transport == Transport::Udp).count();
    let udp_egress_max = DESCRIPTORS_MAX - HANDED_OVER;
    if udp_egress > udp_egress_max {
        return Err(format!("{udp_egress} UDP destinations are declared; {udp_egress_max} are possible"));
    }
    let (network, root::Built { hosts, trees, notes }) = match &spec.container {
        // Names, users and files are the engine's to make; here they are the host's.
        Some(container) => {
            let hosts = File::options().write(true).open(&container.hosts_file);
            let hosts = hosts.map_err(|e| format!("open {}: {e}", container.hosts_file.display()))?;
            (network::build(&spec.egress)?, root::Built { hosts, trees: Vec::new(), notes: Vec::new() })
        }
        None => {
            nix::unistd::sethostname(&spec.hostname).map_err(|e| format!("set the host name: {e}"))?;
            let network = network::build(&spec.egress)?;
            std::fs::write("/proc/sys/user/max_user_namespaces", "0")
                .map_err(|e| format!("forbid further user namespaces: {e}"))?;
            (network, root::build(&spec)?)
        }
    };
    let done = Built::Done {
        udp_egress,
        trees: trees.len(),
        lifeline: spec.lifeline,
        log_bytes_max: spec.log_bytes_max,
        map_all_users: spec.map_all_users,
        container: spec.container.map(Box::new),
        notes,
    };
    Ok((done, network, hosts, trees))
}
