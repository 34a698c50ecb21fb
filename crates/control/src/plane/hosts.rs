//! The names that resolve inside a seal.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use sinew_spec::application::Application;
use sinew_spec::egress;
use sinew_spec::name::ServiceName;

use crate::addresses::Addresses;

/// What the seals of one service are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The whole of `/etc/hosts`.
    pub content: String,
    /// Services that may be called and declared egress hosts, with their virtual addresses.
    pub names: BTreeMap<String, Ipv4Addr>,
}

/// `None`: no such service.
pub(super) fn of(application: &Application, addresses: &Addresses, service: &ServiceName) -> Option<Hosts> {
    let service = application.services.get(service)?;
    let mut names = BTreeMap::new();
    for host in egress::host_names(service) {
        if let Some(address) = addresses.hosts().get(&host) {
            names.insert(host, *address);
        }
    }
    // A service's name wins over a declared host that is called the same.
    for other in application.services.values().filter(|other| service.may_call(other)) {
        if let Some(address) = addresses.service(&other.name) {
            names.insert(other.name.to_string(), address);
        }
    }

    let mut content = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if let Some(hostname) = service.hostname.as_ref().filter(|hostname| !names.contains_key(*hostname)) {
        let _ = writeln!(content, "127.0.0.1\t{hostname}");
    }
    for (name, address) in &names {
        let _ = writeln!(content, "{address}\t{name}");
    }
    Some(Hosts { content, names })
}
