//! What is shown: the answers of the admin API, and `-o json` of the commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::application::ServicePosture;
use crate::name::{ApplicationName, InstanceName, ServiceName};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicationStatus {
    pub name: ApplicationName,
    pub folder: String,
    #[serde(default)]
    pub posture: ServicePosture,
    pub revision: u64,
    /// Proxies that serve `revision`, of those subscribed.
    pub applied: usize,
    pub subscribed: usize,
    pub absent: Vec<InstanceName>,
    /// Instances whose sidecar runs and says nothing to the control plane; callers leave them out after ten seconds.
    #[serde(default)]
    pub silent: Vec<InstanceName>,
    /// Instances (or the gateway) whose proxy still runs another build than the launcher, and why, in words; empty: a new
    /// one is about to take its place.
    #[serde(default)]
    pub outdated: BTreeMap<InstanceName, String>,
    /// Instances (or the gateway) whose proxy ended without being asked to, since the launcher was started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proxies_lost: BTreeMap<InstanceName, ProxyLost>,
    pub services: Vec<ServiceStatus>,
    pub published: Vec<PublishedStatus>,
    /// PSS of control plane and launcher, bytes.
    pub memory_bytes: Option<u64>,
    /// Every service is as wanted by the present definition: nothing is about to start, to be replaced or to go.
    #[serde(default)]
    pub ready: bool,
}

/// Ends of the proxies of one instance that nobody asked for; another one was started each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyLost {
    pub times: u32,
    /// Of the last one.
    pub unix_ms: u64,
    /// Of the last one, in words: "was killed by signal 9, perhaps by the kernel for memory".
    pub how: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: ServiceName,
    pub wanted: u32,
    pub instances: Vec<InstanceStatus>,
    /// What it waits for, in words; empty when nothing.
    pub waits_for: Vec<String>,
    pub traffic: TrafficStatus,
    pub refused: Vec<RefusedStatus>,
    /// Instances that a caller leaves out now, as they do not answer it: of the caller with the most.
    #[serde(default)]
    pub left_out: u64,
    /// Ports on which it listens on loopback alone, and how many calls to them were refused.
    #[serde(default)]
    pub loopback_only: BTreeMap<u16, u64>,
    /// As wanted by the present definition.
    #[serde(default)]
    pub ready: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub name: InstanceName,
    pub state: InstanceState,
    pub health: Health,
    pub restarts: u32,
    /// Host pid of the seal's init, of the sidecar and of the service (as seen from the host).
    pub init_pid: Option<i32>,
    pub sidecar_pid: Option<i32>,
    pub service_pid: Option<i32>,
    pub started_unix_ms: Option<u64>,
    pub exit_code: Option<i32>,
    /// Processes and threads of the service with its children, and how many it may have.
    #[serde(default)]
    pub processes: Option<u64>,
    #[serde(default)]
    pub processes_max: Option<u64>,
    /// PSS, bytes: the service with its children, its sidecar, its init.
    pub memory_bytes: Option<u64>,
    pub sidecar_memory_bytes: Option<u64>,
    pub init_memory_bytes: Option<u64>,
    /// The last thing that went wrong, in words.
    pub message: Option<String>,
    /// A port that the file declares, on which nobody has listened for a minute: only then would the instance be ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    Waiting,
    Starting,
    Running,
    Draining,
    Stopping,
    Stopped,
    /// Ended and will not be restarted.
    Exited,
    /// Waits before the next try after a failure.
    Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No check declared.
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// Requests as the callers' sidecars saw them, over the last window of about ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficStatus {
    pub requests: u64,
    pub requests_per_second: f64,
    pub errors: u64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub connections: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedStatus {
    /// `10.0.0.7:502/tcp`
    pub destination: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedStatus {
    pub service: ServiceName,
    pub listen: String,
    pub target: u16,
    /// Why nobody is served there (another process has taken the port, say).
    #[serde(default)]
    pub message: Option<String>,
    /// The port is open, but no instance of the service listens on its target: which ones it listens on, in words.
    #[serde(default)]
    pub waits_for: Option<String>,
}

/// `GET /stats.json` of a proxy: counters since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProxyStats {
    pub revision: u64,
    /// Outbound, by destination service.
    pub outbound: BTreeMap<String, RouteStats>,
    /// Inbound, by port.
    pub inbound: BTreeMap<String, RouteStats>,
    pub egress: BTreeMap<String, RouteStats>,
    /// Destination -> times refused.
    pub refused: BTreeMap<String, u64>,
    pub connections_open: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteStats {
    pub requests: u64,
    /// 5xx and failures without an answer.
    pub errors: u64,
    pub connections: u64,
    pub in_flight: u64,
    /// Endpoints that the proxy leaves out now, as they do not answer it.
    #[serde(default)]
    pub endpoints_out: u64,
    /// Refused, as the application listens on loopback alone.
    #[serde(default)]
    pub loopback_only: u64,
    /// Latency histogram: upper bounds in microseconds and cumulative counts.
    pub latency_us: Vec<(u64, u64)>,
}
