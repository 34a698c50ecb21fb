//! What a service's declared egress means on both sides of its seal. One function for both, because the number of a UDP
//! socket is its place among the UDP entries: the init makes the sockets in this order, the sidecar reads them in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::application::{Egress, EgressHost, Service, Transport};
use crate::proxy::{EgressDestination, EgressMatch};
use crate::seal::SealEgress;

/// Virtual addresses of named egress hosts, by the name in lower case.
pub type HostAddresses = BTreeMap<String, Ipv4Addr>;

/// The names that need a virtual address, in lower case.
pub fn host_names(service: &Service) -> impl Iterator<Item = String> + '_ {
    service.egress.iter().filter_map(|egress| match &egress.host {
        EgressHost::Name(name) => Some(name.to_ascii_lowercase()),
        EgressHost::Network { .. } => None,
    })
}

/// What the seal redirects, and what the sidecar makes of it, entry by entry. Left out, and so refused and shown as
/// undeclared: a name without a virtual address, and UDP to a network of more than one address (the original
/// destination of a redirected datagram is unknown; the reader of the file refuses it).
pub fn plan(service: &Service, addresses: &HostAddresses) -> (Vec<SealEgress>, Vec<EgressDestination>) {
    let mut seal = Vec::new();
    let mut destinations = Vec::new();
    let mut sockets = 0;
    for egress in &service.egress {
        let Some((network, prefix, host)) = target(egress, addresses) else { continue };
        let single = prefix == if network.is_ipv4() { 32 } else { 128 };
        let matches = match egress.transport {
            Transport::Tcp => EgressMatch::Tcp { network, prefix },
            Transport::Udp if single => EgressMatch::Udp { socket: sockets, address: network },
            Transport::Udp => continue,
        };
        let redirect = SealEgress { network, prefix, port: egress.port, transport: egress.transport };
        // Declared twice: the first one counts.
        if seal.contains(&redirect) {
            continue;
        }
        sockets += usize::from(egress.transport == Transport::Udp);
        seal.push(redirect);
        destinations.push(EgressDestination { label: label(egress), host, port: egress.port, matches });
    }
    (seal, destinations)
}

fn target(egress: &Egress, addresses: &HostAddresses) -> Option<(IpAddr, u8, Option<String>)> {
    match &egress.host {
        EgressHost::Name(name) => {
            let name = name.to_ascii_lowercase();
            let address = *addresses.get(&name)?;
            Some((address.into(), 32, Some(name)))
        }
        EgressHost::Network { address, prefix } => Some((*address, *prefix, None)),
    }
}

/// As declared: `plc.example:502`, `10.0.0.0/8:443`, `[2001:db8::1]:53/udp`.
fn label(egress: &Egress) -> String {
    let port = egress.port;
    let suffix = if egress.transport == Transport::Udp { "/udp" } else { "" };
    match &egress.host {
        EgressHost::Name(name) => format!("{name}:{port}{suffix}"),
        EgressHost::Network { address: IpAddr::V4(address), prefix: 32 } => {
            format!("{address}:{port}{suffix}")
        }
        EgressHost::Network { address: IpAddr::V6(address), prefix: 128 } => {
            format!("[{address}]:{port}{suffix}")
        }
        EgressHost::Network { address: IpAddr::V4(address), prefix } => {
            format!("{address}/{prefix}:{port}{suffix}")
        }
        EgressHost::Network { address: IpAddr::V6(address), prefix } => {
            format!("[{address}/{prefix}]:{port}{suffix}")
        }
    }
}

#[cfg(test)]
mod tests;
