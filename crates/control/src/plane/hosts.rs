//! The names that resolve inside a seal.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use sinew_spec::application::Application;
use sinew_spec::egress::{self, HostAddresses};
use sinew_spec::name::ServiceName;

use crate::addresses::Addresses;

/// What the seals of one service are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The whole of `/etc/hosts`.
    pub content: String,
    /// Services that may be called, the service itself among them.
    pub services: BTreeMap<ServiceName, Ipv4Addr>,
    /// Declared egress hosts.
    pub hosts: HostAddresses,
}

/// `None`: no such service.
pub(super) fn of(application: &Application, addresses: &Addresses, service: &ServiceName) -> Option<Hosts> {
    let service = application.services.get(service)?;
    let services: BTreeMap<ServiceName, Ipv4Addr> = application
        .services
        .values()
        .filter(|other| service.may_call(other))
        .filter_map(|other| Some((other.name.clone(), addresses.service(&other.name)?)))
        .collect();
    let hosts: HostAddresses = egress::host_names(service)
        .filter_map(|name| addresses.hosts().get(&name).map(|address| (name, *address)))
        .collect();

    // A service's name wins over a declared host that is called the same.
    let mut names: BTreeMap<&str, Ipv4Addr> =
        hosts.iter().map(|(name, address)| (name.as_str(), *address)).collect();
    names.extend(services.iter().map(|(name, address)| (name.as_str(), *address)));
    let mut content = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if let Some(hostname) = service.hostname.as_deref().filter(|hostname| !names.contains_key(hostname)) {
        let _ = writeln!(content, "127.0.0.1\t{hostname}");
    }
    for (name, address) in &names {
        let _ = writeln!(content, "{address}\t{name}");
    }
    Some(Hosts { content, services, hosts })
}
