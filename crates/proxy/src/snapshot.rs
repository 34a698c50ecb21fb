//! What requests meet: a configuration compiled into lookups. A request takes one and sees it from start to end.
//! Endpoints, their connections and their load live on from one snapshot to the next.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::application::{Protocol, ProxyHeader};
use sinew_spec::name::{InstanceName, ServiceName, SpiffeId};
use sinew_spec::proxy::{
    EgressMatch, Endpoint as EndpointConfig, HopAddress, ProxyConfig, ProxyLimits, RESOLVER_ADDRESS,
};
use sinew_telemetry::{Direction, Registry, RouteMetrics};
use sinew_wire::h1::{HEAD_FIELDS_CEILING, Limits};
use sinew_wire::proxy_protocol::Version;
use tokio::time::Instant;

use crate::balance::Candidate;
use crate::http2::Links;
use crate::memory;
use crate::outlier::{self, Outlier};
use crate::pool::{Bounds, Pool};
use crate::shared::{Kind, Shared, SharedEndpoint};
use crate::workers;

pub struct Snapshot {
    pub config: Arc<ProxyConfig>,
    pub limits: CompiledLimits,
    destinations: HashMap<ServiceName, Rc<Destination>>,
    by_address: HashMap<Ipv4Addr, ServiceName>,
    /// Lower case, without a final dot.
    names: HashMap<String, Ipv4Addr>,
    egress_tcp: Vec<Rc<Egress>>,
    egress_udp: HashMap<usize, Rc<Egress>>,
    callers: HashSet<ServiceName>,
}

/// [`ProxyLimits`] in the types that are asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompiledLimits {
    pub wire: Limits,
    /// Of requests that come over the hop, with room for what another sidecar adds to a head that was just small enough.
    pub hop_wire: Limits,
    pub connect_timeout: Duration,
    pub header_timeout: Duration,
    pub request_timeout: Duration,
    pub idle_timeout: Duration,
    pub tcp_idle_timeout: Duration,
    /// How long connections live on in a process whose successor serves already.
    pub handover_drain: Duration,
    pub detect_timeout: Duration,
    pub downstream_connections_max: usize,
    /// 0: as the host allows.
    pub memory_bytes_max: u64,
    /// Of connections over the hop.
    pub hop_pool: Bounds,
    /// Of connections to the application.
    pub application_pool: Bounds,
}

/// A service that may be called.
pub struct Destination {
    pub service: ServiceName,
    /// `.<service>.<namespace>`: a port in front makes it the server name of the hop.
    pub server_name_suffix: String,
    protocols: BTreeMap<u16, Protocol>,
    send_proxy: BTreeMap<u16, ProxyHeader>,
    pub endpoints: Vec<Rc<Endpoint>>,
    pub metrics: Arc<RouteMetrics>,
}

/// An instance of a service, as this proxy sees it.
pub struct Endpoint {
    pub instance: InstanceName,
    pub hop: HopAddress,
    outstanding: Cell<u32>,
    failing_until: Cell<Option<Instant>>,
    outlier: Outlier,
    shared: Arc<SharedEndpoint>,
    /// By the application's port.
    pools: RefCell<BTreeMap<u16, Rc<Pool>>>,
    links: RefCell<BTreeMap<u16, Rc<Links>>>,
}

/// A declared destination outside the mesh.
pub struct Egress {
    /// Resolved when dialed; `None`: the address that the application meant is dialed.
    pub host: Option<String>,
    pub port: u16,
    pub target: EgressMatch,
    pub metrics: Arc<RouteMetrics>,
}

/// What an original destination stands for.
pub enum Found {
    Service(Rc<Destination>),
    Egress(Rc<Egress>),
    Resolver,
    /// Not declared: refused.
    Nothing,
}

/// How long an endpoint whose dialing failed is avoided, if there are others.
const FAILING: Duration = Duration::from_secs(1);
/// What a sidecar adds to a request: its id, its trace, a host, its framing.
const HOP_FIELDS_MORE: usize = 8;
const HOP_BYTES_MORE: usize = 1024;
/// Connections that a worker makes to a port of an endpoint at once. Each costs both sides a handshake, and answers come sooner
/// over few that are made one after the other than over many that are ready at the same time.
const HOP_DIALS_MAX: usize = 4;
/// Applications close what is idle as well, many after 5 s; whoever writes at that moment loses the request.
const APPLICATION_IDLE_MAX: Duration = Duration::from_secs(4);

/// Why a configuration could not be served by any proxy; where a sentence begins with the path of a key, that one is to blame.
pub fn check(config: &ProxyConfig) -> Result<(), String> {
    let (registry, shared) = (Registry::default(), Shared::default());
    Snapshot::compile(Arc::new(config.clone()), None, &registry, &shared).map(drop)
}

impl Snapshot {
    /// `previous`: its endpoints are kept where they stay, and retired where they do not.
    pub fn compile(
        config: Arc<ProxyConfig>,
        previous: Option<&Snapshot>,
        registry: &Registry,
        shared: &Shared,
    ) -> Result<Self, String> {
        let limits = CompiledLimits::new(&config.limits)?;
        let mut snapshot = Self {
            limits,
            destinations: HashMap::new(),
            by_address: HashMap::new(),
            names: HashMap::new(),
            egress_tcp: Vec::new(),
            egress_udp: HashMap::new(),
            callers: config.inbound.iter().flat_map(|inbound| inbound.callers.iter().cloned()).collect(),
            config: config.clone(),
        };
        for written in &config.destinations {
            let service = &written.service;
            let known = previous.and_then(|previous| previous.destinations.get(service));
            let metrics = registry.route(Direction::Outbound, service.as_str());
            let destination = Destination {
                service: service.clone(),
                server_name_suffix: format!(".{service}.{}", config.namespace),
                protocols: written.protocols.clone(),
                send_proxy: written.send_proxy.clone(),
                endpoints: written
                    .endpoints
                    .iter()
                    .map(|endpoint| Endpoint::take_over(known, service, endpoint, &metrics, shared))
                    .collect(),
                metrics,
            };
            if snapshot.by_address.insert(written.address, service.clone()).is_some() {
                return Err(format!("two destinations have the address {}", written.address));
            }
            if snapshot.destinations.insert(service.clone(), Rc::new(destination)).is_some() {
                return Err(format!("destination {service} occurs twice"));
            }
            let name = service.as_str().to_ascii_lowercase();
            let namespace = config.namespace.as_str().to_ascii_lowercase();
            snapshot.names.insert(format!("{name}.{namespace}"), written.address);
            snapshot.names.insert(name, written.address);
        }
        for written in &config.egress {
            let egress = Rc::new(Egress {
                host: written.host.clone(),
                port: written.port,
                target: written.matches.clone(),
                metrics: registry.route(Direction::Egress, &written.label),
            });
            let address = match written.matches {
                EgressMatch::Tcp { network, .. } => {
                    snapshot.egress_tcp.push(egress);
                    network
                }
                EgressMatch::Udp { socket, address } => {
                    snapshot.egress_udp.insert(socket, egress);
                    address
                }
            };
            if let (Some(host), IpAddr::V4(address)) = (&written.host, address) {
                snapshot.names.entry(host.trim_end_matches('.').to_ascii_lowercase()).or_insert(address);
            }
        }
        Ok(snapshot)
    }

    /// Closes idle connections to endpoints that are gone in `next`.
    pub fn retire_missing(&self, next: &Snapshot) {
        let kept = |endpoint: &Rc<Endpoint>| next.endpoints().any(|other| Rc::ptr_eq(other, endpoint));
        self.endpoints().filter(|endpoint| !kept(endpoint)).for_each(|endpoint| endpoint.retire());
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Rc<Endpoint>> {
        self.destinations.values().flat_map(|destination| &destination.endpoints)
    }

    pub fn destination(&self, service: &ServiceName) -> Option<&Rc<Destination>> {
        self.destinations.get(service)
    }

    pub fn find(&self, original: SocketAddr) -> Found {
        if let IpAddr::V4(address) = original.ip() {
            if address == RESOLVER_ADDRESS && original.port() == 53 {
                return Found::Resolver;
            }
            if let Some(destination) =
                self.by_address.get(&address).and_then(|name| self.destinations.get(name))
            {
                return Found::Service(destination.clone());
            }
        }
        // The service's loopback is not the host's, which is what would be dialed: however wide the declared network.
        let address = original.ip().to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return Found::Nothing;
        }
        let declared = self.egress_tcp.iter().find(|egress| match egress.target {
            EgressMatch::Tcp { network, prefix } => {
                egress.port == original.port() && is_within(original.ip(), network, prefix)
            }
            EgressMatch::Udp { .. } => false,
        });
        declared.map_or(Found::Nothing, |egress| Found::Egress(egress.clone()))
    }

    /// By the number of its standing socket.
    pub fn egress_udp(&self, socket: usize) -> Option<&Rc<Egress>> {
        self.egress_udp.get(&socket)
    }

    /// `name` in any case, with or without a final dot.
    pub fn resolve(&self, name: &str) -> Option<Ipv4Addr> {
        self.names.get(&name.trim_end_matches('.').to_ascii_lowercase()).copied()
    }

    /// The service that a peer on the hop belongs to, if that may call.
    pub fn allowed_caller(&self, peer: &SpiffeId) -> Option<ServiceName> {
        let service = peer.service_within(&self.config.trust_domain, &self.config.namespace)?;
        self.callers.get(service).cloned()
    }

    /// Whether a peer on the hop is an instance of the service that was dialed.
    pub fn is_instance_of(&self, peer: &SpiffeId, service: &ServiceName) -> bool {
        peer.service_within(&self.config.trust_domain, &self.config.namespace) == Some(service.as_str())
    }

    /// The port in a server name of the hop, when the rest of it is us. Names may come in lower case.
    pub fn port_of_server_name(&self, server_name: &str) -> Option<u16> {
        let (port, rest) = server_name.split_once('.')?;
        let namespace = self.config.namespace.as_str();
        let (service, got) = rest.split_at_checked(rest.len().checked_sub(namespace.len())?)?;
        let is_ours = got.eq_ignore_ascii_case(namespace)
            && service
                .strip_suffix('.')
                .is_some_and(|name| name.eq_ignore_ascii_case(self.config.service.as_str()));
        is_ours.then(|| port.parse().ok()).flatten().filter(|port| *port != 0)
    }

    pub fn inbound_protocol(&self, port: u16) -> Option<Protocol> {
        self.config.inbound.as_ref()?.protocols.get(&port).copied()
    }

    /// Whether callers may have the port also where the application listens on loopback alone.
    pub fn is_declared(&self, port: u16) -> bool {
        self.config.inbound.as_ref().is_some_and(|inbound| inbound.declared.contains(&port))
    }

    pub fn is_draining(&self) -> bool {
        self.config.inbound.as_ref().is_some_and(|inbound| inbound.draining)
    }
}

impl Destination {
    /// `None`: to be detected.
    pub fn protocol(&self, port: u16) -> Option<Protocol> {
        self.protocols.get(&port).copied()
    }

    /// With which header of the PROXY protocol each connection begins.
    pub fn proxy_header(&self, port: u16) -> Option<Version> {
        self.send_proxy.get(&port).map(|version| match version {
            ProxyHeader::V1 => Version::V1,
            ProxyHeader::V2 => Version::V2,
        })
    }

    /// The way to an endpoint failed, or broke: nobody answered who could have.
    pub fn blame(&self, endpoint: &Endpoint, now: Instant) {
        let may_go_out = || {
            let out = self.endpoints.iter().filter(|endpoint| endpoint.outlier.is_out(now)).count();
            outlier::may_go_out(out, self.endpoints.len())
        };
        if endpoint.outlier.failed(now, may_go_out) {
            endpoint.leave_alone();
        }
    }
}

impl Endpoint {
    fn take_over(
        known: Option<&Rc<Destination>>,
        service: &ServiceName,
        written: &EndpointConfig,
        metrics: &Arc<RouteMetrics>,
        shared: &Shared,
    ) -> Rc<Self> {
        let same =
            |endpoint: &&Rc<Self>| endpoint.instance == written.instance && endpoint.hop == written.hop;
        let kept = known.and_then(|known| known.endpoints.iter().find(same));
        kept.cloned().unwrap_or_else(|| {
            let shared = shared.endpoint(service, &written.instance, &written.hop);
            Rc::new(Self {
                instance: written.instance.clone(),
                hop: written.hop.clone(),
                outstanding: Cell::new(0),
                failing_until: Cell::new(None),
                outlier: Outlier::new(shared.health.clone(), metrics.clone()),
                shared,
                pools: RefCell::default(),
                links: RefCell::default(),
            })
        })
    }

    /// It has no sidecar.
    pub fn is_plain(&self) -> bool {
        matches!(self.hop, HopAddress::Plain(_))
    }

    pub fn candidate(&self, now: Instant, tried: bool) -> Candidate {
        let failing = self.failing_until.get().is_some_and(|until| now < until) || self.outlier.is_out(now);
        Candidate { outstanding: self.outstanding.get(), failing, tried }
    }

    pub fn failed(&self, now: Instant) {
        self.failing_until.set(Some(now + FAILING));
    }

    pub fn recovered(&self, now: Instant) {
        self.failing_until.set(None);
        self.outlier.reached(now);
    }

    pub fn answered(&self, now: Instant) {
        self.outlier.answered(now);
    }

    pub fn pool(&self, port: u16, bounds: Bounds) -> Rc<Pool> {
        let dials_max = if self.is_plain() { usize::MAX } else { bounds.dials_max };
        let bounds = Bounds { dials_max, ..bounds };
        let make = || Pool::new(bounds, self.shared.quotas.quota(port, Kind::Pooled, &bounds));
        self.pools.borrow_mut().entry(port).or_insert_with(make).clone()
    }

    pub fn links(&self, port: u16, bounds: Bounds) -> Rc<Links> {
        let make = || Links::new(bounds, self.shared.quotas.quota(port, Kind::Link, &bounds));
        self.links.borrow_mut().entry(port).or_insert_with(make).clone()
    }

    pub fn sweep(&self, now: Instant) {
        // Perhaps it was another worker that found it out.
        if self.outlier.is_out(now) {
            self.leave_alone();
        }
        self.pools.borrow_mut().retain(|_, pool| !pool.sweep(now));
        let pools = self.pools.borrow();
        // What is known of who is there stays as long as a connection does, and a while longer.
        self.links.borrow_mut().retain(|port, links| {
            !links.is_empty() || pools.contains_key(port) || links.spoken.is_fresh(now)
        });
    }

    /// An application without a sidecar that has been found not to speak HTTP/1.1 there.
    pub fn lacks_http1(&self, port: u16) -> bool {
        self.is_plain() && self.links.borrow().get(&port).is_some_and(|links| links.spoken.lacks_http1())
    }

    /// Connections that nobody uses now.
    pub fn close_idle(&self) {
        self.pools.borrow().values().for_each(|pool| pool.close_idle());
    }

    /// It does not answer. A request that took one of its idle connections would wait for an answer, not for a connection.
    fn leave_alone(&self) {
        self.close_idle();
        self.links.borrow().values().for_each(|links| links.use_no_more());
    }

    fn retire(&self) {
        self.pools.borrow().values().for_each(|pool| pool.retire());
        self.links.borrow().values().for_each(|links| links.retire());
    }
}

/// One request or connection on an endpoint, counted until this is dropped.
pub struct Load {
    endpoint: Rc<Endpoint>,
    /// It is the first to use the endpoint after that was out.
    pub is_trial: bool,
}

impl Load {
    pub fn new(endpoint: &Rc<Endpoint>, now: Instant) -> Self {
        endpoint.outstanding.set(endpoint.outstanding.get() + 1);
        Self { is_trial: endpoint.outlier.begin_trial(now), endpoint: endpoint.clone() }
    }

    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.endpoint.outstanding.set(self.endpoint.outstanding.get() - 1);
        if self.is_trial {
            self.endpoint.outlier.end_trial();
        }
    }
}

impl CompiledLimits {
    pub fn new(written: &ProxyLimits) -> Result<Self, String> {
        let positive = [
            ("connect_timeout_ms", written.connect_timeout_ms),
            ("header_timeout_ms", written.header_timeout_ms),
            ("request_timeout_ms", written.request_timeout_ms),
            ("idle_timeout_ms", written.idle_timeout_ms),
            ("tcp_idle_timeout_ms", written.tcp_idle_timeout_ms),
            ("downstream_connections_max", written.downstream_connections_max as u64),
            ("upstream_connections_per_endpoint_max", written.upstream_connections_per_endpoint_max as u64),
            ("handover_drain_ms", written.handover_drain_ms),
            ("head_bytes_max", written.head_bytes_max as u64),
            ("head_fields_max", written.head_fields_max as u64),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("limits.{name} is 0, which would let nothing through"));
        }
        if written.head_fields_max > HEAD_FIELDS_CEILING {
            return Err(format!(
                "limits.head_fields_max is {}, more than {HEAD_FIELDS_CEILING}",
                written.head_fields_max
            ));
        }
        if (1..memory::BYTES_MAX_MIN).contains(&written.memory_bytes_max) {
            return Err(format!(
                "limits.memory_bytes_max is {}, less than {}",
                written.memory_bytes_max,
                memory::BYTES_MAX_MIN
            ));
        }
        let idle_timeout = Duration::from_millis(written.idle_timeout_ms);
        let hop_pool = Bounds {
            connections_max: written.upstream_connections_per_endpoint_max,
            idle_max: written.upstream_idle_per_endpoint_max.div_ceil(workers::count(written.workers)),
            pending_max: written.upstream_pending_max,
            dials_max: HOP_DIALS_MAX,
            idle_time_max: idle_timeout / 2,
        };
        let wire = Limits {
            head_bytes_max: written.head_bytes_max,
            head_fields_max: written.head_fields_max,
            // What a gRPC call ends with may be as large as what it begins with.
            trailer_bytes_max: written.head_bytes_max,
            trailer_fields_max: written.head_fields_max,
            body_bytes_max: written.body_bytes_max.min(Limits::DEFAULT.body_bytes_max),
            ..Limits::DEFAULT
        };
        Ok(Self {
            wire,
            hop_wire: Limits {
                head_bytes_max: wire.head_bytes_max.saturating_add(HOP_BYTES_MORE),
                head_fields_max: (wire.head_fields_max + HOP_FIELDS_MORE).min(HEAD_FIELDS_CEILING),
                ..wire
            },
            connect_timeout: Duration::from_millis(written.connect_timeout_ms),
            header_timeout: Duration::from_millis(written.header_timeout_ms),
            request_timeout: Duration::from_millis(written.request_timeout_ms),
            idle_timeout,
            tcp_idle_timeout: Duration::from_millis(written.tcp_idle_timeout_ms),
            detect_timeout: Duration::from_millis(written.detect_ms),
            handover_drain: Duration::from_millis(written.handover_drain_ms),
            downstream_connections_max: written.downstream_connections_max,
            memory_bytes_max: written.memory_bytes_max,
            hop_pool,
            application_pool: Bounds {
                idle_time_max: hop_pool.idle_time_max.min(APPLICATION_IDLE_MAX),
                dials_max: usize::MAX, // without a handshake
                ..hop_pool
            },
        })
    }
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let ignored = 32u32.saturating_sub(u32::from(prefix));
            let differing = u32::from(address) ^ u32::from(network);
            differing.checked_shr(ignored).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let ignored = 128u32.saturating_sub(u32::from(prefix));
            let differing = u128::from(address) ^ u128::from(network);
            differing.checked_shr(ignored).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
