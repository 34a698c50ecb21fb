//! An application after everything has been read, merged, interpolated and checked: what the launcher and the control
//! plane work from. It is also what is kept on disk, so that a later `sinew up` can tell what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::name::{ApplicationName, ServiceName};
use crate::proxy::{Network, Workers};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Application {
    pub name: ApplicationName,
    /// The folder that relative paths start from; absolute.
    pub folder: PathBuf,
    /// The compose files, `.env` and `env_file`s it was read from; absolute. They are hidden from every service.
    pub files: Vec<PathBuf>,
    pub services: BTreeMap<ServiceName, Service>,
    /// Named volumes: the name in the file -> the name on disk.
    pub volumes: BTreeMap<String, String>,
    /// `x-sinew.gateway` at the top.
    #[serde(default, skip_serializing_if = "Gateway::is_usual")]
    pub gateway: Gateway,
}

/// What serves published ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// `None`: as many as there are cores for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// See `ProxyLimits::handover_drain_ms`. `None`: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_drain_ms: Option<u64>,
}

impl Gateway {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How the services of an application stand to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServicePosture {
    /// Each instance in namespaces of its own; the sidecar is its only door.
    #[default]
    Sealed,
    /// Plain processes of the host, which find the mesh by ports and environment variables.
    Explicit,
}

impl fmt::Display for ServicePosture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sealed => "sealed",
            Self::Explicit => "explicit",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: ServiceName,
    /// Commands run in order, outside any seal, before anything starts (`x-sinew.build`), in `working_dir` of the build.
    pub build: Vec<BuildCommand>,
    /// entrypoint + command, never empty for a process. Of a container: empty until its image is known.
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Absolute. Of a container a path in its image; empty: the image's.
    pub working_dir: PathBuf,
    /// `user:` as written, `None`: the user who runs Sinew; of a container, the image's.
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub published: Vec<PublishedPort>,
    pub expose: BTreeSet<u16>,
    pub depends_on: Vec<Dependency>,
    pub health: Option<HealthCheck>,
    pub replicas: u32,
    pub limits: Limits,
    pub restart: RestartPolicy,
    /// A signal's number.
    pub stop_signal: i32,
    pub stop_grace_ms: u64,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// `configs:` and `secrets:` as files that appear inside the seal.
    pub files: Vec<FileGrant>,
    /// Services that share a network may talk to each other. Never empty (Compose's `default`).
    pub networks: BTreeSet<String>,
    /// `x-sinew.protocol` / port names: what a port speaks when declared; absent means detection.
    pub protocols: BTreeMap<u16, Protocol>,
    pub egress: Vec<Egress>,
    /// `x-sinew.accept_proxy`: on published ports of ours, who says in a header of the PROXY protocol for whom he speaks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accept_proxy: BTreeMap<u16, Vec<Network>>,
    /// `x-sinew.send_proxy`: ports at which each connection begins with a header of the PROXY protocol. They speak TCP.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub send_proxy: BTreeMap<u16, ProxyHeader>,
    /// `x-sinew.read`: further host paths that are visible, read-only.
    pub read: Vec<PathBuf>,
    pub labels: BTreeMap<String, String>,
    pub init_tty: bool,
    pub read_only: bool,
    /// `tmpfs:` paths inside the seal.
    pub tmpfs: Vec<PathBuf>,
    /// `logging.options`: of the output of one instance that is kept. `None`: its share of what is kept of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes_max: Option<u64>,
    /// `None`: it runs as a process of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// `deploy.update_config` and `rollback_config`.
    #[serde(default, skip_serializing_if = "Replacing::is_usual")]
    pub replacing: Replacing,
    /// `x-sinew.workers`, of each instance's sidecar. `None`: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// `x-sinew.handover_drain`, of each instance's sidecar. `None`: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_drain_ms: Option<u64>,
}

/// How instances of one version are replaced by those of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacing {
    /// An old one is stopped before the new one is started.
    pub stop_first: bool,
    /// How long `sinew update` watches this service's new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_watch_ms: Option<u64>,
    /// How long `sinew rollback` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_watch_ms: Option<u64>,
}

impl Replacing {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What a container has beyond what every service has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// As written; without `image:`, the name that is given to what is built.
    pub image: String,
    /// The id (`sha256:…`) of the image that instances are started from. Empty until the image is here.
    pub image_id: String,
    pub build: Option<ImageBuild>,
    pub pull: PullPolicy,
    /// `linux/arm64`
    pub platform: Option<String>,
    /// As written, `None`: the image's. `Some` of nothing takes the image's away.
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    /// As written, `None`: the image's.
    pub stop_signal: Option<i32>,
    /// The file says how health is asked, or that it is not: the image's own check does not count.
    pub has_own_health: bool,
    /// Without `CAP_`, in capitals; `ALL` only in what is dropped.
    pub capabilities_added: BTreeSet<String>,
    pub capabilities_dropped: BTreeSet<String>,
    /// `security_opt: [no-new-privileges:false]`
    pub new_privileges: bool,
    pub groups: Vec<String>,
    /// A small init of the engine's is process 1.
    pub init: bool,
    pub ulimits: BTreeMap<String, UlimitRange>,
    pub shm_bytes: Option<u64>,
}

/// -1: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UlimitRange {
    pub soft: i64,
    pub hard: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When it is not here.
    #[default]
    Missing,
    Always,
    Never,
    /// It is built each time.
    Build,
}

/// `build:`, done by the container engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageBuild {
    /// An absolute folder.
    pub context: PathBuf,
    /// Below the context.
    pub dockerfile: PathBuf,
    pub arguments: BTreeMap<String, String>,
    pub target: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub no_cache: bool,
    /// Newer base images are looked for.
    pub pull: bool,
}

impl Service {
    /// A service with the defaults of the Compose Specification, to be filled in.
    pub fn new(name: impl Into<ServiceName>, command: Vec<String>) -> Self {
        Self {
            name: name.into(),
            build: Vec::new(),
            command,
            environment: BTreeMap::new(),
            working_dir: PathBuf::from("/"),
            user: None,
            hostname: None,
            published: Vec::new(),
            expose: BTreeSet::new(),
            depends_on: Vec::new(),
            health: None,
            replicas: 1,
            limits: Limits::default(),
            restart: RestartPolicy::No,
            stop_signal: 15,
            stop_grace_ms: 10_000,
            mounts: Vec::new(),
            devices: Vec::new(),
            files: Vec::new(),
            networks: BTreeSet::from(["default".to_owned()]),
            protocols: BTreeMap::new(),
            egress: Vec::new(),
            accept_proxy: BTreeMap::new(),
            send_proxy: BTreeMap::new(),
            read: Vec::new(),
            labels: BTreeMap::new(),
            init_tty: false,
            read_only: false,
            tmpfs: Vec::new(),
            log_bytes_max: None,
            container: None,
            replacing: Replacing::default(),
            workers: None,
            handover_drain_ms: None,
        }
    }

    /// Ports that are meant for others: `ports`, `expose` and `x-sinew.protocol`. Not that of a health check, which may be
    /// the launcher's business alone.
    pub fn declared_ports(&self) -> BTreeSet<u16> {
        let published = self.published.iter().map(|port| port.target);
        published.chain(self.expose.iter().copied()).chain(self.protocols.keys().copied()).collect()
    }

    /// Callers and callees share a network.
    pub fn may_call(&self, other: &Self) -> bool {
        !self.networks.is_disjoint(&other.networks)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildCommand {
    pub command: Vec<String>,
    pub working_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, HTTP/2, or both.
    Http,
    Http1,
    /// HTTP/2 alone, with prior knowledge.
    Http2,
    /// HTTP/2 alone; its calls are gRPC.
    Grpc,
    Tcp,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyHeader {
    V1,
    V2,
}

impl ProxyHeader {
    /// As it is written.
    pub const WORDS: [(&'static str, Self); 2] = [("v1", Self::V1), ("v2", Self::V2)];
}

impl Protocol {
    /// As it is written.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("http", Self::Http),
        ("http1", Self::Http1),
        ("http2", Self::Http2),
        ("grpc", Self::Grpc),
        ("tcp", Self::Tcp),
    ];

    /// In any version.
    pub const fn is_http(self) -> bool {
        !matches!(self, Self::Tcp)
    }

    pub const fn is_http2_only(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

/// `ports:`: served by the gateway. `host` defaults to 127.0.0.1, unlike Compose, so that nothing is open by accident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub host: IpAddr,
    /// `None`: a free port is chosen and shown by `sinew ps`.
    pub published: Option<u16>,
    pub target: u16,
    pub protocol: Option<Protocol>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub service: ServiceName,
    pub condition: DependencyCondition,
    pub required: bool,
    pub restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    ServiceStarted,
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub retries: u32,
    pub start_period_ms: u64,
    /// Until the first success; never above 100.
    pub start_interval_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Run inside the seal with the service's environment and user; exit code 0 is healthy.
    Command(Vec<String>),
    /// 200-399 is healthy.
    Http {
        port: u16,
        path: String,
    },
    Tcp {
        port: u16,
    },
}

/// Of each instance, where nothing is said. Far above what services of one machine have (a browser: 300, a large JVM:
/// 500), far below what exhausts one: the smallest kernels give out 32768 process ids.
pub const PIDS_DEFAULT: u64 = 2048;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpu_milli: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Processes and threads, as stated. `None`: nothing is said, [`PIDS_DEFAULT`] holds.
    pub pids: Option<u64>,
    /// It is stated that their number has no bound (`pids_limit: -1`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pids_unlimited: bool,
}

impl Limits {
    /// The most processes and threads of one instance. `None`: no bound.
    pub fn pids_max(&self) -> Option<u64> {
        if self.pids_unlimited { None } else { Some(self.pids.unwrap_or(PIDS_DEFAULT)) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    No,
    Always,
    UnlessStopped,
    /// `None`: without end.
    OnFailure {
        attempts_max: Option<u32>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path inside the seal.
    pub target: PathBuf,
    pub read_only: bool,
    /// Of a bind: compose files and what belongs to other services is hidden in it ([`crate::hidden`]).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub hide: bool,
    /// Of a volume of a container: when it is new, it gets what the image has at its target.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub copy: bool,
}

impl Mount {
    pub fn new(source: MountSource, target: impl Into<PathBuf>, read_only: bool) -> Self {
        Self { source, target: target.into(), read_only, hide: true, copy: true }
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A key of `Application::volumes`.
    Volume(String),
    /// Absolute host path; `create`: a missing folder is made (short syntax of Compose).
    Bind { path: PathBuf, create: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read: bool,
    pub write: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// What it is called in the file, for messages.
    pub name: String,
    pub content: FileContent,
    /// Absolute path inside the seal: `/run/secrets/NAME`, `/NAME` or as said.
    pub target: PathBuf,
    pub mode: u32,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub secret: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileContent {
    File(PathBuf),
    /// The name of a variable of the environment of `sinew up`; its value is read at start and never stored.
    Environment(String),
    Inline(String),
}

/// A destination outside the mesh that a service may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Egress {
    pub host: EgressHost,
    pub port: u16,
    pub transport: Transport,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressHost {
    Name(String),
    /// A single address is `/32` or `/128`.
    Network {
        address: IpAddr,
        prefix: u8,
    },
}
