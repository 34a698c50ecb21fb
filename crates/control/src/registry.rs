//! What is there: instances, their health as the launcher tells it, and the leases of their proxies.
//!
//! In memory only, and without a clock: `now` is passed in. Two kinds of news are told apart. The death of a process is
//! known to the launcher, which removes the instance at once. The end of a proxy's stream says little (a control plane
//! that restarts, a hand-off, a partition): it starts a grace, and when most streams end together nobody is removed,
//! because then the cause is more likely here than there. A stream on which nothing is said any more counts as
//! ended: its process is frozen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::{Endpoint, HopAddress};

/// One life of an instance; a later life has a higher number.
pub type Epoch = u64;

/// How long a proxy's stream may be away before its instance leaves routing.
pub const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{instance} is in its life number {known}; news of number {told} comes too late")]
pub struct Stale {
    pub instance: InstanceName,
    pub known: Epoch,
    pub told: Epoch,
}

/// The right to be in routing, of one (instance, epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The proxy has not served anything yet: a call would only wait.
    Fresh,
    Held,
    /// The proxy's stream is away since then; still in routing.
    Away {
        since: Instant,
    },
    /// Away for longer than the grace.
    Expired,
}

/// What the launcher wants of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Started, and healthy where a check is declared: callers may choose it.
    In,
    Out,
    /// Nobody chooses it, and its own proxy closes what is idle and answers with `Connection: close`.
    Draining,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub service: ServiceName,
    pub epoch: Epoch,
    /// `None`: it is called by nobody (the gateway).
    pub hop: Option<HopAddress>,
    pub routing: Routing,
    pub lease: Lease,
}

impl Instance {
    /// A life that begins: its proxy has served nothing.
    pub fn fresh(service: &ServiceName, epoch: Epoch, hop: Option<HopAddress>) -> Self {
        Self { service: service.clone(), epoch, hop, routing: Routing::Out, lease: Lease::Fresh }
    }

    pub fn in_routing(&self) -> bool {
        self.routing == Routing::In && matches!(self.lease, Lease::Held | Lease::Away { .. })
    }

    fn visible(&self) -> (bool, Routing) {
        (self.in_routing(), self.routing)
    }
}

#[derive(Debug)]
pub struct Registry {
    grace: Duration,
    instances: BTreeMap<InstanceName, Instance>,
    visible_changes: u64,
}

impl Registry {
    pub fn new(grace: Duration) -> Self {
        Self { grace, instances: BTreeMap::new(), visible_changes: 0 }
    }

    /// An instance, or a later life of a known one. Its lease says how it came: `Fresh` when it begins, `Away` when it
    /// outlived the last control plane and its proxy is given the grace to come back.
    pub fn enter(&mut self, name: &InstanceName, instance: Instance) -> Result<(), Stale> {
        let known = self.instances.get(name).map(|known| known.epoch);
        if let Some(known) = known.filter(|known| *known > instance.epoch) {
            return Err(Stale { instance: name.clone(), known, told: instance.epoch });
        }
        self.instances.insert(name.clone(), instance);
        self.visible_changes += 1;
        Ok(())
    }

    pub fn remove(&mut self, name: &InstanceName) {
        self.visible_changes += u64::from(self.instances.remove(name).is_some());
    }

    /// False: there is no such instance.
    pub fn route(&mut self, name: &InstanceName, routing: Routing) -> bool {
        self.change(name, |instance| instance.routing = routing);
        self.instances.contains_key(name)
    }

    /// The proxy has a stream and serves a configuration.
    pub fn serves(&mut self, name: &InstanceName) {
        self.change(name, |instance| instance.lease = Lease::Held);
    }

    pub fn stream_ended(&mut self, name: &InstanceName, now: Instant) {
        self.change(name, |instance| {
            if instance.lease == Lease::Held {
                instance.lease = Lease::Away { since: now };
            }
        });
    }

    /// The stream was silent and is not any more. Whoever had served nothing before still serves nothing.
    pub fn is_back(&mut self, name: &InstanceName) {
        self.change(name, |instance| {
            if matches!(instance.lease, Lease::Away { .. } | Lease::Expired) {
                instance.lease = Lease::Held;
            }
        });
    }

    fn change(&mut self, name: &InstanceName, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.instances.get_mut(name) {
            let before = instance.visible();
            change(instance);
            self.visible_changes += u64::from(instance.visible() != before);
        }
    }

    /// Lets leases expire whose grace is over, unless it is a mass loss.
    pub fn sweep(&mut self, now: Instant) {
        if self.is_mass_loss() {
            return;
        }
        let grace = self.grace;
        let over: Vec<InstanceName> = self
            .instances
            .iter()
            .filter(|(_, instance)| matches!(instance.lease, Lease::Away { since } if now >= since + grace))
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            self.change(&name, |instance| instance.lease = Lease::Expired);
        }
    }

    /// Grows with everything that a proxy could be told of; a lease that is held instead of away is nothing of that.
    pub fn visible_changes(&self) -> u64 {
        self.visible_changes
    }

    /// When [`Registry::sweep`] may next change something; `None`: not before further news.
    pub fn next_expiry(&self) -> Option<Instant> {
        if self.is_mass_loss() {
            return None;
        }
        let away = self.instances.values().filter_map(|instance| match instance.lease {
            Lease::Away { since } => Some(since + self.grace),
            _ => None,
        });
        away.min()
    }

    /// More than half of all proxies are away.
    fn is_mass_loss(&self) -> bool {
        let mut lost = 0;
        let mut present = 0;
        for instance in self.instances.values() {
            match instance.lease {
                Lease::Fresh => {}
                Lease::Held => present += 1,
                Lease::Away { .. } | Lease::Expired => lost += 1,
            }
        }
        lost > present
    }

    pub fn instances(&self) -> impl Iterator<Item = (&InstanceName, &Instance)> {
        self.instances.iter()
    }

    pub fn get(&self, name: &InstanceName) -> Option<&Instance> {
        self.instances.get(name)
    }

    /// Those of a service that may be chosen, by name.
    pub fn endpoints(&self, service: &ServiceName) -> Vec<Endpoint> {
        self.instances
            .iter()
            .filter(|(_, instance)| instance.service == *service && instance.in_routing())
            .filter_map(|(name, instance)| {
                Some(Endpoint { instance: name.clone(), hop: instance.hop.clone()? })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
