//! Virtual addresses: one per service and per named egress host, the same after every restart.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use sinew_spec::application::Application;
use sinew_spec::egress::{self, HostAddresses};
use sinew_spec::name::ServiceName;
use sinew_spec::proxy::{MESH_ADDRESS, OWN_ADDRESS, RESOLVER_ADDRESS, VIRTUAL_NETWORK};

use crate::store::{Change, Record};

pub const SERVICE_ADDRESS: &str = "service-address";
pub const HOST_ADDRESS: &str = "host-address";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {} virtual addresses are taken", capacity())]
pub struct Exhausted;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    services: BTreeMap<ServiceName, Ipv4Addr>,
    hosts: HostAddresses,
}

impl Addresses {
    /// What was stored; records that are no address of ours are passed over and assigned anew.
    pub fn from_records(services: &[Record], hosts: &[Record]) -> Self {
        let address = |record: &Record| {
            let address: Ipv4Addr = std::str::from_utf8(&record.value).ok()?.parse().ok()?;
            is_assignable(address).then_some(address)
        };
        Self {
            services: services.iter().filter_map(|r| Some((r.name.as_str().into(), address(r)?))).collect(),
            hosts: hosts.iter().filter_map(|r| Some((r.name.clone(), address(r)?))).collect(),
        }
    }

    pub fn service(&self, name: &ServiceName) -> Option<Ipv4Addr> {
        self.services.get(name).copied()
    }

    pub fn hosts(&self) -> &HostAddresses {
        &self.hosts
    }

    /// Gives the lowest free addresses to names that have none, and says what is to be stored. A name that went away
    /// keeps its address, so that it has the same one when it comes back, until the addresses run out.
    pub fn assign(&mut self, application: &Application) -> Result<Vec<Change>, Exhausted> {
        let services: BTreeSet<&ServiceName> = application.services.keys().collect();
        let hosts: BTreeSet<String> = application.services.values().flat_map(egress::host_names).collect();
        let mut changes = Vec::new();
        let wanted = services.iter().filter(|name| !self.services.contains_key(**name)).count()
            + hosts.iter().filter(|name| !self.hosts.contains_key(*name)).count();
        if wanted > capacity() - self.services.len() - self.hosts.len() {
            for (name, _) in self.services.extract_if(.., |name, _| !services.contains(name)) {
                changes.push(Change::Delete { kind: SERVICE_ADDRESS, name: name.to_string() });
            }
            for (name, _) in self.hosts.extract_if(.., |name, _| !hosts.contains(name)) {
                changes.push(Change::Delete { kind: HOST_ADDRESS, name });
            }
        }

        let taken: BTreeSet<u32> =
            self.services.values().chain(self.hosts.values()).map(|a| a.to_bits()).collect();
        let mut free = assignable().filter(|bits| !taken.contains(bits)).map(Ipv4Addr::from_bits);
        for name in services {
            if let Entry::Vacant(entry) = self.services.entry(name.clone()) {
                let address = free.next().ok_or(Exhausted)?;
                changes.push(put(SERVICE_ADDRESS, name.as_str(), address));
                entry.insert(address);
            }
        }
        for name in hosts {
            if let Entry::Vacant(entry) = self.hosts.entry(name) {
                let address = free.next().ok_or(Exhausted)?;
                changes.push(put(HOST_ADDRESS, entry.key(), address));
                entry.insert(address);
            }
        }
        Ok(changes)
    }
}

fn put(kind: &'static str, name: &str, address: Ipv4Addr) -> Change {
    Change::Put { kind, name: name.to_owned(), value: address.to_string().into_bytes() }
}

/// Addresses of the network that mean something in every seal.
const RESERVED: [Ipv4Addr; 3] = [RESOLVER_ADDRESS, OWN_ADDRESS.0, MESH_ADDRESS.0];

/// All of the network but its first address, its last one, and those that are reserved.
fn assignable() -> impl Iterator<Item = u32> {
    let first = VIRTUAL_NETWORK.0.to_bits();
    let size = 1u32 << (32 - VIRTUAL_NETWORK.1);
    (first + 1..first + size - 1).filter(|bits| !RESERVED.contains(&Ipv4Addr::from_bits(*bits)))
}

fn is_assignable(address: Ipv4Addr) -> bool {
    let first = VIRTUAL_NETWORK.0.to_bits();
    let size = 1u32 << (32 - VIRTUAL_NETWORK.1);
    let bits = address.to_bits();
    bits > first && bits < first + size - 1 && !RESERVED.contains(&address)
}

fn capacity() -> usize {
    (1usize << (32 - VIRTUAL_NETWORK.1)) - 2 - RESERVED.len()
}

#[cfg(test)]
mod tests;
