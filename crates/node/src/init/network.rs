//! The network of a seal: a loopback interface to which every address is local, and the sockets that are made inside
//! before anything else runs. What is not ours or the application's own is refused by `rules`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, listen,
    setsockopt, socket, sockopt,
};
use sinew_spec::application::Transport;
use sinew_spec::proxy::{MESH_ADDRESS, OWN_ADDRESS, RESERVED_PORT};
use sinew_spec::seal::SealEgress;

use super::netlink::{self, Messages};
use super::{rules, sys};

/// What cannot be set up, in words, and why.
pub type Failure = String;

/// Connections that wait for a sidecar that is being restarted.
const OUTBOUND_QUEUE: i32 = 4096;
const LOOPBACK: u32 = 1;
/// Of the network of whoever looks.
const IPV6: &str = "/proc/sys/net/ipv6";

pub struct Sockets {
    pub outbound_v4: OwnedFd,
    pub outbound_v6: OwnedFd,
    pub dns: OwnedFd,
    pub refused: OwnedFd,
    pub udp_egress: Vec<OwnedFd>,
}

pub fn build(egress: &[SealEgress]) -> Result<Sockets, Failure> {
    let ipv6 = Path::new(IPV6).exists();
    if ipv6 {
        // Docker switches it off where it gives no address.
        for interface in ["all", "default", "lo"] {
            let _ = std::fs::write(format!("{IPV6}/conf/{interface}/disable_ipv6"), "0");
        }
    }
    let route =
        netlink::open(SockProtocol::NetlinkRoute).map_err(|e| format!("open a routing socket: {e}"))?;
    bring_up_loopback(&route).map_err(|e| format!("bring up the loopback interface: {e}"))?;
    make_all_local(&route, IpAddr::V4(Ipv4Addr::LOCALHOST))
        .map_err(|e| format!("add the local route: {e}"))?;
    // Resolvers ask for addresses of a family only where an interface has one that is not loopback (AI_ADDRCONFIG,
    // RFC 3493 section 6.1): without this one, and with that of IPv6 below, no name of the mesh would be found.
    add_address(&route, IpAddr::V4(OWN_ADDRESS.0)).map_err(|e| format!("add the own address: {e}"))?;
    if ipv6 {
        make_all_local(&route, IpAddr::V6(Ipv6Addr::LOCALHOST))
            .map_err(|e| format!("add the local IPv6 route: {e}"))?;
        // Where every address is local, IPv4 lets a socket be bound to any; IPv6 only to those of an interface.
        add_address(&route, IpAddr::V6(MESH_ADDRESS.1))
            .map_err(|e| format!("add the address of callers: {e}"))?;
    }
    // Every user may bind port 80 in a network of one's own.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let sockets = make_sockets(egress, ipv6).map_err(|e| format!("make the sockets of the sidecar: {e}"))?;
    rules::load(egress, sockets.udp_egress.len()).map_err(|e| {
        format!("load the rules of nftables (does the kernel have nf_tables with nat and log?): {e}")
    })?;
    Ok(sockets)
}

fn make_sockets(egress: &[SealEgress], ipv6: bool) -> io::Result<Sockets> {
    let v4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let outbound_v4 = made(v4(RESERVED_PORT), SockType::Stream)?;
    let udp = egress.iter().filter(|egress| egress.transport == Transport::Udp).enumerate();
    let udp_egress = udp.map(|(index, egress)| {
        let port = rules::udp_port(index);
        made(if egress.network.is_ipv4() { v4(port) } else { v6(port) }, SockType::Datagram)
    });
    Ok(Sockets {
        // Where the kernel has no IPv6 the one listener is there twice.
        outbound_v6: if ipv6 {
            made(v6(RESERVED_PORT), SockType::Stream)?
        } else {
            outbound_v4.try_clone()?
        },
        outbound_v4,
        dns: made(v4(RESERVED_PORT), SockType::Datagram)?,
        refused: rules::open_log()?,
        udp_egress: udp_egress.collect::<io::Result<_>>()?,
    })
}

/// A bound socket; a stream socket listens.
fn made(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let made = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match address {
        SocketAddr::V4(address) => bind(made.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => {
            setsockopt(&made, sockopt::Ipv6V6Only, &true)?;
            bind(made.as_raw_fd(), &SockaddrIn6::from(address))?;
        }
    }
    if kind == SockType::Stream {
        listen(&made, Backlog::new(OUTBOUND_QUEUE)?)?;
    }
    Ok(made)
}

/// An unconnected stream socket for dialing the application: it belongs to this network wherever it is used. Bound to an
/// address it takes its port when it connects, so that one port serves for connections to different destinations.
pub fn dial_socket(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    sys::bind_address_without_port(&made)?;
    Ok(made)
}

/// struct ifaddrmsg, RTM_NEWADDR
fn add_address(route: &OwnedFd, address: IpAddr) -> io::Result<()> {
    let (family, bits, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, 128, address.octets().to_vec()),
    };
    let mut fixed = vec![family as u8, bits, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_UNIVERSE];
    fixed.extend(LOOPBACK.to_ne_bytes());
    let mut messages = Messages::new();
    messages.begin(libc::RTM_NEWADDR, netlink::CREATE, &fixed);
    messages.attribute(libc::IFA_LOCAL, &octets);
    messages.attribute(libc::IFA_ADDRESS, &octets);
    messages.acknowledge();
    netlink::exchange(route, messages)
}

/// struct ifinfomsg, RTM_NEWLINK
fn bring_up_loopback(route: &OwnedFd) -> io::Result<()> {
    let up = libc::IFF_UP as u32;
    let mut fixed = vec![0; 4];
    fixed.extend(LOOPBACK.to_ne_bytes());
    fixed.extend(up.to_ne_bytes());
    fixed.extend(up.to_ne_bytes());
    let mut messages = Messages::new();
    messages.begin(libc::RTM_NEWLINK, 0, &fixed);
    messages.acknowledge();
    netlink::exchange(route, messages)
}

/// `ip route add local default dev lo src ADDRESS`: without a route connect() fails before any rule could see where
/// it wanted to go. struct rtmsg, RTM_NEWROUTE
fn make_all_local(route: &OwnedFd, source: IpAddr) -> io::Result<()> {
    const PROTOCOL_STATIC: u8 = 4;
    let family = if source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let scope = if source.is_ipv4() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    let mut fixed =
        vec![family as u8, 0, 0, 0, libc::RT_TABLE_LOCAL, PROTOCOL_STATIC, scope, libc::RTN_LOCAL];
    fixed.extend(0u32.to_ne_bytes());
    let mut messages = Messages::new();
    messages.begin(libc::RTM_NEWROUTE, netlink::CREATE, &fixed);
    messages.attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes());
    // Without it the kernel would take the destination itself for the source.
    match source {
        IpAddr::V4(address) => messages.attribute(libc::RTA_PREFSRC, &address.octets()),
        IpAddr::V6(address) => messages.attribute(libc::RTA_PREFSRC, &address.octets()),
    }
    messages.acknowledge();
    netlink::exchange(route, messages)
}
