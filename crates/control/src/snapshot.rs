//! From (application, what is there) to what every proxy is told. Pure: the same input gives the same output, and the
//! revision is left at 0 for the caller to stamp.

use std::collections::{BTreeMap, BTreeSet};

use sinew_spec::application::{Application, Service};
use sinew_spec::egress;
use sinew_spec::name::{InstanceName, ServiceName, TrustDomain};
use sinew_spec::proxy::{
    Destination, GATEWAY_SERVICE, Inbound, ProxyConfig, ProxyLimits, Published, Workers,
};
use std::net::SocketAddr;

use crate::addresses::Addresses;
use crate::registry::{Instance, Registry, Routing};

pub struct View<'a> {
    pub application: &'a Application,
    /// What the gateway listens on.
    pub published: &'a [Published],
    pub trust_domain: &'a TrustDomain,
    pub addresses: &'a Addresses,
    pub registry: &'a Registry,
}

impl View<'_> {
    /// One configuration per instance, the gateway's among them.
    pub fn configs(&self) -> BTreeMap<InstanceName, ProxyConfig> {
        let destinations: BTreeMap<&ServiceName, Destination> = self
            .application
            .services
            .values()
            .filter_map(|service| Some((&service.name, self.destination(service)?)))
            .collect();
        let mut of_service: BTreeMap<&ServiceName, ProxyConfig> = BTreeMap::new();
        let mut configs = BTreeMap::new();
        for (name, instance) in self.registry.instances() {
            let shared = of_service
                .entry(&instance.service)
                .or_insert_with(|| self.service_config(&instance.service, &destinations));
            configs.insert(name.clone(), instance_config(shared, name, instance));
        }
        configs
    }

    fn destination(&self, service: &Service) -> Option<Destination> {
        Some(Destination {
            service: service.name.clone(),
            address: self.addresses.service(&service.name)?,
            protocols: service.protocols.clone(),
            send_proxy: service.send_proxy.clone(),
            endpoints: self.registry.endpoints(&service.name),
        })
    }

    /// What all instances of a service have in common.
    fn service_config(&self, name: &ServiceName, all: &BTreeMap<&ServiceName, Destination>) -> ProxyConfig {
        let mut config = ProxyConfig {
            revision: 0,
            trust_domain: self.trust_domain.clone(),
            namespace: self.application.name.clone(),
            service: name.clone(),
            instance: InstanceName::new(""),
            inbound: None,
            destinations: Vec::new(),
            egress: Vec::new(),
            published: Vec::new(),
            limits: ProxyLimits::default(),
        };
        let services = self.application.services.values();
        if name.as_str() == GATEWAY_SERVICE {
            let called = services.filter(|service| self.is_published(&service.name));
            config.destinations.extend(called.filter_map(|service| all.get(&service.name).cloned()));
            config.published = self.published.to_vec();
            // One for the edge of everything: it may use what the host has.
            config.limits.workers = Some(self.application.gateway.workers.unwrap_or(Workers::Auto));
            drain(self.application.gateway.handover_drain_ms, &mut config.limits);
        } else if let Some(service) = self.application.services.get(name) {
            let callable = services.filter(|other| service.may_call(other));
            config.destinations.extend(callable.filter_map(|other| all.get(&other.name).cloned()));
            config.limits.workers = service.workers;
            drain(service.handover_drain_ms, &mut config.limits);
            config.egress = egress::plan(service, self.addresses.hosts()).1;
            config.inbound = Some(Inbound {
                protocols: service.protocols.clone(),
                declared: service.declared_ports(),
                callers: self.callers(service),
                draining: false,
            });
        } else {
            // Its service left the application: nobody calls it any more, and it ends what it has.
            config.inbound = Some(Inbound {
                protocols: BTreeMap::new(),
                declared: BTreeSet::new(),
                callers: Vec::new(),
                draining: true,
            });
        }
        config
    }

    fn callers(&self, service: &Service) -> Vec<ServiceName> {
        let mut callers: Vec<ServiceName> = Vec::new();
        if self.is_published(&service.name) {
            callers.push(GATEWAY_SERVICE.into());
        }
        let others = self.application.services.values().filter(|other| other.may_call(service));
        callers.extend(others.map(|other| other.name.clone()));
        callers
    }

    fn is_published(&self, service: &ServiceName) -> bool {
        self.published.iter().any(|published| published.service == *service)
    }
}

/// The ports that an application publishes, as it says; port 0 where it leaves the choice.
pub fn published(application: &Application) -> Vec<Published> {
    let of_service = |service: &Service| -> Vec<Published> {
        let ports = service.published.iter().map(|port| Published {
            listen: SocketAddr::new(port.host, port.published.unwrap_or(0)),
            service: service.name.clone(),
            port: port.target,
            protocol: port.protocol.or_else(|| service.protocols.get(&port.target).copied()),
            accept_proxy: service.accept_proxy.get(&port.target).cloned().unwrap_or_default(),
        });
        ports.collect()
    };
    application.services.values().flat_map(of_service).collect()
}

fn drain(wanted_ms: Option<u64>, limits: &mut ProxyLimits) {
    if let Some(ms) = wanted_ms {
        limits.handover_drain_ms = ms;
    }
}

fn instance_config(shared: &ProxyConfig, name: &InstanceName, instance: &Instance) -> ProxyConfig {
    let mut config = ProxyConfig { instance: name.clone(), ..shared.clone() };
    if let Some(inbound) = &mut config.inbound {
        inbound.draining |= instance.routing == Routing::Draining;
    }
    config
}

#[cfg(test)]
mod tests;
