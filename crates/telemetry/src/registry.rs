//! Who counts what, under which labels, within which bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sinew_spec::status::{ProxyStats, RouteStats};

use crate::counter::{Counter, Gauge, SharedGauge};
use crate::histogram::{Histogram, cumulative};

/// Where everything is counted that a bound leaves no label of its own.
pub const OTHER: &str = "_other";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the proxy's own service; the route is the port.
    Inbound,
    /// To other services; the route is the service.
    Outbound,
    /// Out of the mesh; the route is the destination as declared.
    Egress,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Egress => "egress",
        }
    }
}

/// Why a request had no answer of the upstream's, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client sent what is not HTTP, or is ambiguous.
    ClientMalformed,
    /// The client went away before it had its answer.
    ClientGone,
    /// The client did not finish its head or body in time.
    ClientTimeout,
    /// No endpoint in routing.
    NoEndpoint,
    /// Connections or waiting requests are at their limit.
    Overload,
    Connect,
    ConnectTimeout,
    /// The peer's certificate was not what was expected, or the handshake failed.
    Identity,
    /// The upstream closed or reset before its answer was complete.
    UpstreamGone,
    UpstreamMalformed,
    UpstreamTimeout,
    /// The caller is not allowed to call.
    Denied,
    /// The application listens on loopback alone, on a port that is not declared.
    LoopbackOnly,
}

impl Failure {
    pub const ALL: [Self; 13] = [
        Self::ClientMalformed,
        Self::ClientGone,
        Self::ClientTimeout,
        Self::NoEndpoint,
        Self::Overload,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Identity,
        Self::UpstreamGone,
        Self::UpstreamMalformed,
        Self::UpstreamTimeout,
        Self::Denied,
        Self::LoopbackOnly,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientMalformed => "client_malformed",
            Self::ClientGone => "client_gone",
            Self::ClientTimeout => "client_timeout",
            Self::NoEndpoint => "no_endpoint",
            Self::Overload => "overload",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Identity => "identity",
            Self::UpstreamGone => "upstream_gone",
            Self::UpstreamMalformed => "upstream_malformed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Denied => "denied",
            Self::LoopbackOnly => "loopback_only",
        }
    }

    /// The client's own doing: no error of the route.
    pub const fn is_clients(self) -> bool {
        matches!(
            self,
            Self::ClientMalformed
                | Self::ClientGone
                | Self::ClientTimeout
                | Self::Denied
                | Self::LoopbackOnly
        )
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered, and its answer was passed on as a whole.
    Answered { status: u16 },
    /// The proxy answered itself, or broke off. `status`: what the client was told, if it could be.
    Failed { failure: Failure, status: Option<u16> },
}

/// Values of the label `status`: classes, and what ended without any.
pub(crate) const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// Values of the label `grpc_status`: those that are defined, and whatever else a server says.
pub(crate) const GRPC_STATUSES: [&str; 18] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", OTHER];

/// Values of the label `code`: the error codes of HTTP/2 in their order (RFC 9113, 7).
pub const HTTP2_CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Everything about one route in one direction. Reached without a search: whoever compiles configuration keeps the
/// `Arc`.
#[derive(Debug, Default)]
pub struct RouteMetrics {
    requests: [Counter; STATUS_CLASSES.len()],
    failures: [Counter; Failure::ALL.len()],
    grpc: [Counter; GRPC_STATUSES.len()],
    errors: Counter,
    latency: Histogram,
    in_flight: Gauge,
    /// Another endpoint was tried.
    pub retries: Counter,
    /// An endpoint was left out for a while, as it did not answer; how many are out now that this worker has left out,
    /// whoever finds that they answer again.
    pub endpoints_ejected: Counter,
    pub endpoints_out: SharedGauge,
    /// Connections of clients that were served by this route, TCP included.
    pub connections: Counter,
    pub connections_open: Gauge,
    /// Payload from the client to the upstream, and back: bodies, or everything of a TCP connection.
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
}

impl RouteMetrics {
    /// A request has come. The guard counts it as being in flight until it is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.increment();
        InFlight(self.clone())
    }

    /// A request is over; `latency` from its head to the last byte of its answer.
    pub fn record(&self, outcome: Outcome, latency: Duration) {
        self.count(outcome);
        self.latency.record(latency);
    }

    /// Like [`Self::record`], for what has no latency worth a place among those of requests: a request that was refused
    /// before it was one, a connection that could not be opened.
    pub fn count(&self, outcome: Outcome) {
        let (status, is_error) = match outcome {
            Outcome::Answered { status } => (Some(status), status >= 500),
            Outcome::Failed { failure, status } => {
                self.failures[failure as usize].increment();
                (status, !failure.is_clients())
            }
        };
        let class = match status {
            Some(status @ 100..600) => usize::from(status / 100 - 1),
            _ => STATUS_CLASSES.len() - 1,
        };
        self.requests[class].increment();
        if is_error {
            self.errors.increment();
        }
    }

    /// A gRPC call is over that ended with this status.
    pub fn count_grpc(&self, status: u16) {
        self.grpc[usize::from(status).min(GRPC_STATUSES.len() - 1)].increment();
    }

    fn figures(&self) -> RouteFigures {
        RouteFigures {
            requests: std::array::from_fn(|i| self.requests[i].get()),
            failures: std::array::from_fn(|i| self.failures[i].get()),
            grpc: std::array::from_fn(|i| self.grpc[i].get()),
            errors: self.errors.get(),
            latency_counts: self.latency.counts(),
            latency_sum_us: self.latency.sum_us(),
            in_flight: self.in_flight.get(),
            retries: self.retries.get(),
            endpoints_ejected: self.endpoints_ejected.get(),
            endpoints_out: self.endpoints_out.get(),
            connections: self.connections.get(),
            connections_open: self.connections_open.get(),
            sent_bytes: self.sent_bytes.get(),
            received_bytes: self.received_bytes.get(),
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight(Arc<RouteMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.decrement();
    }
}

/// What belongs to no route.
#[derive(Debug, Default)]
pub struct ProcessMetrics {
    /// Of clients.
    pub connections_open: Gauge,
    /// Of clients: whoever gives connections to a worker learns from it how many that still has.
    pub connections_ended: Counter,
    /// Closed at accept: the limit of connections was reached, or memory was out.
    pub connections_shed: Counter,
    /// Refused, or given up, as memory was short.
    pub requests_shed: Counter,
    /// Asked of the allocator and not given back; and how much that may be.
    pub memory_bytes: Gauge,
    pub memory_max_bytes: Gauge,
    pub handshakes_failed: Counter,
    pub proxy_headers_rejected: Counter,
    http2_ended: [Counter; HTTP2_CODES.len()],
    /// Revision that requests meet.
    pub revision: Gauge,
    /// Unix time at which the certificate ends, seconds.
    pub certificate_end_unix_seconds: Gauge,
}

impl ProcessMetrics {
    /// A connection of HTTP/2 was ended for what its client has done, with this code in its GOAWAY.
    pub fn count_http2_ended(&self, code: u32) {
        if let Some(counter) = self.http2_ended.get(code as usize).filter(|_| code != 0) {
            counter.increment();
        }
    }
}

/// How many labels a registry has room for; what comes later is counted under [`OTHER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cardinality {
    /// Per direction.
    pub routes_max: usize,
    pub refused_destinations_max: usize,
}

impl Default for Cardinality {
    fn default() -> Self {
        Self { routes_max: 512, refused_destinations_max: 256 }
    }
}

/// The figures of one worker. Shared with whoever shows them; the lock is met when labels are made, never by requests.
#[derive(Debug, Default)]
pub struct Registry {
    cardinality: Cardinality,
    pub process: ProcessMetrics,
    labels: Mutex<Labels>,
}

#[derive(Debug, Default)]
struct Labels {
    routes: BTreeMap<(Direction, String), Arc<RouteMetrics>>,
    /// Of each direction, those with a label of their own.
    own: [usize; 3],
    refused: BTreeMap<String, u64>,
    overflows: u64,
}

impl Registry {
    pub fn new(cardinality: Cardinality) -> Self {
        Self { cardinality, ..Self::default() }
    }

    /// The metrics of a route: the same ones each time, so counts survive a new configuration.
    pub fn route(&self, direction: Direction, route: &str) -> Arc<RouteMetrics> {
        let mut labels = self.labels();
        let key = (direction, route.to_owned());
        if let Some(metrics) = labels.routes.get(&key) {
            return metrics.clone();
        }
        let key = if labels.own[direction as usize] < self.cardinality.routes_max {
            labels.own[direction as usize] += 1;
            key
        } else {
            labels.overflows += 1;
            (direction, OTHER.to_owned())
        };
        labels.routes.entry(key).or_default().clone()
    }

    /// An attempt to reach `destination` (`10.0.0.7:502/tcp`) was refused.
    pub fn refused(&self, destination: &str) {
        let mut labels = self.labels();
        if let Some(count) = labels.refused.get_mut(destination) {
            *count += 1;
            return;
        }
        let known = labels.refused.len() - usize::from(labels.refused.contains_key(OTHER));
        let label = if known < self.cardinality.refused_destinations_max {
            destination
        } else {
            labels.overflows += 1;
            OTHER
        };
        *labels.refused.entry(label.to_owned()).or_default() += 1;
    }

    pub fn figures(&self) -> Figures {
        let labels = self.labels();
        Figures {
            routes: labels.routes.iter().map(|(key, metrics)| (key.clone(), metrics.figures())).collect(),
            refused: labels.refused.clone(),
            label_overflows: labels.overflows,
            connections_open: self.process.connections_open.get(),
            connections_of_workers: vec![self.process.connections_open.get()],
            connections_shed: self.process.connections_shed.get(),
            requests_shed: self.process.requests_shed.get(),
            memory_bytes: self.process.memory_bytes.get(),
            memory_max_bytes: self.process.memory_max_bytes.get(),
            handshakes_failed: self.process.handshakes_failed.get(),
            proxy_headers_rejected: self.process.proxy_headers_rejected.get(),
            http2_ended: std::array::from_fn(|i| self.process.http2_ended[i].get()),
            revision: self.process.revision.get(),
            certificate_end_unix_seconds: self.process.certificate_end_unix_seconds.get(),
        }
    }

    fn labels(&self) -> MutexGuard<'_, Labels> {
        // What is guarded is counters: usable whoever panicked.
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading of a registry, or of several merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub routes: BTreeMap<(Direction, String), RouteFigures>,
    pub refused: BTreeMap<String, u64>,
    pub label_overflows: u64,
    pub connections_open: u64,
    /// The same of each worker.
    pub connections_of_workers: Vec<u64>,
    pub connections_shed: u64,
    pub requests_shed: u64,
    pub memory_bytes: u64,
    pub memory_max_bytes: u64,
    pub handshakes_failed: u64,
    pub proxy_headers_rejected: u64,
    pub http2_ended: [u64; HTTP2_CODES.len()],
    pub revision: u64,
    pub certificate_end_unix_seconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFigures {
    pub requests: [u64; STATUS_CLASSES.len()],
    pub failures: [u64; Failure::ALL.len()],
    pub grpc: [u64; GRPC_STATUSES.len()],
    /// 5xx and failures that are not the client's.
    pub errors: u64,
    pub latency_counts: Vec<u64>,
    pub latency_sum_us: u64,
    pub in_flight: u64,
    pub retries: u64,
    pub endpoints_ejected: u64,
    pub endpoints_out: u64,
    pub connections: u64,
    pub connections_open: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

impl Figures {
    /// Adds those of another worker.
    pub fn merge(&mut self, other: &Self) {
        for (key, route) in &other.routes {
            self.routes.entry(key.clone()).or_default().merge(route);
        }
        for (destination, count) in &other.refused {
            *self.refused.entry(destination.clone()).or_default() += count;
        }
        self.label_overflows += other.label_overflows;
        self.connections_open += other.connections_open;
        self.connections_of_workers.extend(&other.connections_of_workers);
        self.connections_shed += other.connections_shed;
        self.requests_shed += other.requests_shed;
        // Of the process, whichever worker looked.
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.memory_max_bytes = self.memory_max_bytes.max(other.memory_max_bytes);
        self.handshakes_failed += other.handshakes_failed;
        self.proxy_headers_rejected += other.proxy_headers_rejected;
        self.http2_ended.iter_mut().zip(other.http2_ended).for_each(|(to, from)| *to += from);
        self.revision = match (self.revision, other.revision) {
            (0, known) | (known, 0) => known,
            // What all workers serve.
            (a, b) => a.min(b),
        };
        self.certificate_end_unix_seconds =
            self.certificate_end_unix_seconds.max(other.certificate_end_unix_seconds);
    }

    /// `GET /stats.json`.
    pub fn stats(&self) -> ProxyStats {
        let mut stats = ProxyStats {
            revision: self.revision,
            refused: self.refused.clone(),
            connections_open: self.connections_open,
            ..ProxyStats::default()
        };
        for ((direction, route), figures) in &self.routes {
            let routes = match direction {
                Direction::Inbound => &mut stats.inbound,
                Direction::Outbound => &mut stats.outbound,
                Direction::Egress => &mut stats.egress,
            };
            routes.insert(route.clone(), figures.stats());
        }
        stats
    }
}

impl RouteFigures {
    pub fn stats(&self) -> RouteStats {
        RouteStats {
            requests: self.requests.iter().sum(),
            errors: self.errors,
            connections: self.connections,
            in_flight: self.in_flight,
            endpoints_out: self.endpoints_out,
            loopback_only: self.failures[Failure::LoopbackOnly as usize],
            latency_us: cumulative(&self.latency_counts),
        }
    }

    fn merge(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.requests, &other.requests);
        add(&mut self.failures, &other.failures);
        add(&mut self.grpc, &other.grpc);
        self.latency_counts.resize(other.latency_counts.len().max(self.latency_counts.len()), 0);
        add(&mut self.latency_counts, &other.latency_counts);
        self.errors += other.errors;
        self.latency_sum_us += other.latency_sum_us;
        self.in_flight += other.in_flight;
        self.retries += other.retries;
        self.endpoints_ejected += other.endpoints_ejected;
        self.endpoints_out += other.endpoints_out;
        self.connections += other.connections;
        self.connections_open += other.connections_open;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
    }
}

#[cfg(test)]
mod tests;
