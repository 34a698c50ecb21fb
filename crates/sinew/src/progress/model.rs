//! The state of an application on its way up, and what can be told from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sinew_spec::admin::Event;
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::{ApplicationStatus, InstanceState, InstanceStatus, ServiceStatus};

use super::words::{describe, failed_beside, is_hopeless, is_unheard, phase, serve_on};
use crate::terminal::harmless;
use crate::units::{count, span};
use crate::view::is_good;

/// An instance in trouble may be about to be replaced.
pub const HOPELESS_FOR: Duration = Duration::from_millis(400);

/// Why it will not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub service: ServiceName,
    pub instance: Option<InstanceName>,
    pub reason: String,
}

/// The state as far as it is known, kept up to date by events.
pub struct Model {
    /// Those that are waited for; empty: all.
    only: BTreeSet<ServiceName>,
    services: BTreeMap<ServiceName, ServiceStatus>,
    pub failed: Option<Failed>,
    /// The engine said so: it alone knows what is about to be replaced.
    ready: bool,
    /// Something ended: how it ended is told by the next status.
    pub stale: bool,
    /// Instances that will not come up by themselves, and since when this is known.
    hopeless: BTreeMap<InstanceName, Instant>,
    /// A published port at which nobody is served.
    unserved: Option<Failed>,
    /// Whoever says how long to wait knows of services that need long until they listen.
    pub waits_for_listeners: bool,
}

impl Model {
    /// `only`: the services that are waited for; empty: all.
    pub fn new(mut status: ApplicationStatus, only: BTreeSet<ServiceName>) -> Self {
        let mut ready = status.ready;
        if !only.is_empty() {
            status.services.retain(|service| only.contains(&service.name));
            status.published.retain(|port| only.contains(&port.service));
            ready = status.services.iter().all(|service| service.ready);
        }
        let unserved = status.published.iter().find_map(|port| {
            let reason = harmless(port.message.as_ref()?, false);
            Some(Failed { service: port.service.clone(), instance: None, reason })
        });
        let services = status.services.into_iter().map(|service| (service.name.clone(), service)).collect();
        Self {
            only,
            services,
            ready,
            failed: None,
            stale: false,
            hopeless: BTreeMap::new(),
            unserved,
            waits_for_listeners: false,
        }
    }

    pub fn services(&self) -> impl Iterator<Item = &ServiceStatus> {
        self.services.values()
    }

    pub fn is_ready(&self) -> bool {
        self.ready && !self.stale
    }

    /// The first thing that makes waiting pointless. An instance that is about to be replaced is none: it has to stay
    /// so for [`HOPELESS_FOR`].
    pub fn failed(&mut self, now: Instant) -> Option<Failed> {
        if self.failed.is_some() || self.stale {
            return self.failed.clone();
        }
        if self.unserved.is_some() {
            return self.unserved.clone();
        }
        let hopeless: Vec<(&ServiceStatus, &InstanceStatus)> = self
            .services
            .values()
            .filter(|service| service.instances.len() <= service.wanted as usize)
            .flat_map(|service| service.instances.iter().map(move |instance| (service, instance)))
            .filter(|(_, instance)| {
                is_hopeless(instance) || (!self.waits_for_listeners && is_unheard(instance))
            })
            .collect();
        self.hopeless.retain(|name, _| hopeless.iter().any(|(_, instance)| instance.name == *name));
        for (service, instance) in hopeless {
            let since = *self.hopeless.entry(instance.name.clone()).or_insert(now);
            if now.duration_since(since) >= HOPELESS_FOR {
                let mut reason = instance.message.clone().unwrap_or_else(|| phase(service));
                if let Some(port) = instance.unheard_port {
                    reason.push_str(&format!(
                        " (the file declares port {port}: take it out, or name the one that the service listens on; \
                         if it only needs longer, say so with --wait-timeout)"
                    ));
                }
                let (service, instance) = (service.name.clone(), Some(instance.name.clone()));
                return Some(Failed { service, instance, reason });
            }
        }
        None
    }

    /// Further services that do not come up, as far as it is known.
    pub fn fail_beside(&self, failed: &Failed) -> Vec<&ServiceName> {
        let others = self.services().filter(|service| service.name != failed.service);
        let in_trouble = |service: &&ServiceStatus| {
            failed_beside(service).is_some() || service.instances.iter().any(is_hopeless)
        };
        others.filter(in_trouble).map(|service| &service.name).collect()
    }

    /// What was there before the service's failed replacement, in words; `None`: nothing.
    pub fn serves_on(&self, failed: &Failed) -> Option<String> {
        let service =
            self.services.get(&failed.service).filter(|service| failed_beside(service).is_some())?;
        Some(serve_on(service.instances.iter().filter(|instance| is_good(instance)).count()))
    }

    /// Lines about what changed, for a plain output.
    pub fn apply(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Status { status, .. } => return self.resync(status),
            Event::Instance { service, instance, state, health, message, .. } => {
                let Some(known) = self.services.get_mut(&service) else { return Vec::new() };
                let before = phase(known);
                match known.instances.iter_mut().find(|known| known.name == instance) {
                    Some(known) if !matches!(state, InstanceState::Exited | InstanceState::Backoff) => {
                        (known.state, known.health, known.message) = (state, health, message);
                    }
                    // It is new, or has an exit code now.
                    _ => self.stale = true,
                }
                return changed(before, known);
            }
            Event::Waits { service, waits_for, .. } => {
                let Some(known) = self.services.get_mut(&service) else { return Vec::new() };
                let before = phase(known);
                known.waits_for = waits_for;
                return changed(before, known);
            }
            Event::Ready { .. } => self.stale = true,
            Event::Failed { service, .. } if !self.services.contains_key(&service) => {}
            Event::Failed { service, instance, reason, .. } => {
                let line = format!("{service}: failed: {reason}");
                self.failed = Some(Failed { service, instance, reason });
                return vec![line];
            }
            Event::ProxyLost { instance, how, .. } => {
                return vec![format!("{instance}: its proxy {how}; another one is started")];
            }
            Event::Update { .. } | Event::Lagged { .. } | Event::Down { .. } => {}
        }
        Vec::new()
    }

    pub fn resync(&mut self, status: ApplicationStatus) -> Vec<String> {
        let Self { services: now, ready, unserved, .. } = Self::new(status, self.only.clone());
        let mut lines = Vec::new();
        for service in now.values() {
            let before = self.services.get(&service.name).map(phase).unwrap_or_default();
            lines.extend(changed(before, service));
        }
        if let Some(unserved) = unserved.as_ref().filter(|_| unserved != self.unserved) {
            lines.push(format!("{}: {}", unserved.service, unserved.reason));
        }
        (self.services, self.ready, self.unserved) = (now, ready, unserved);
        self.stale = false;
        lines
    }

    pub fn first_lines(&self) -> Vec<String> {
        self.services().map(describe).collect()
    }

    pub fn summary(&self, elapsed: Duration) -> String {
        // Instances that are about to go are not counted, nor what is no longer in the file.
        let stays = |instance: &&InstanceStatus| {
            !matches!(instance.state, InstanceState::Draining | InstanceState::Stopping)
        };
        let of = |service: &ServiceStatus| service.instances.iter().filter(stays).count();
        let instances: usize = self.services().map(of).sum();
        let gone = self.services().filter(|service| service.wanted == 0 && of(service) == 0).count();
        let services = count(self.services.len() - gone, "service");
        format!("{services} ({}) up in {}", count(instances, "instance"), span(elapsed))
    }
}

fn changed(before: String, service: &ServiceStatus) -> Vec<String> {
    let now = phase(service);
    if now == before { Vec::new() } else { vec![format!("{}: {now}", service.name)] }
}
