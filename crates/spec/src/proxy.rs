//! What a proxy is told: the whole configuration of one proxy process, replaced as a whole at each revision.
//! `sinew proxy --config FILE` reads the same type from a file, so a proxy can run with no control plane at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::application::{Protocol, ProxyHeader};
use crate::name::{ApplicationName, InstanceName, ServiceName, TrustDomain};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxyConfig {
    /// Grows; the proxy acknowledges it when requests meet it.
    pub revision: u64,
    pub trust_domain: TrustDomain,
    pub namespace: ApplicationName,
    /// Whom the proxy speaks for. `None` for a gateway's `instance` does not exist: it has a service name of its own.
    pub service: ServiceName,
    pub instance: InstanceName,
    /// Present in the sidecar posture.
    pub inbound: Option<Inbound>,
    /// Every service that may be called.
    pub destinations: Vec<Destination>,
    /// Declared destinations outside the mesh (sidecar posture).
    pub egress: Vec<EgressDestination>,
    /// Published ports (gateway posture).
    pub published: Vec<Published>,
    #[serde(default)]
    pub limits: ProxyLimits,
}

impl ProxyConfig {
    /// Says whether two configurations mean the same, whatever their revisions. Compared only between processes of one
    /// host and version: another version may answer otherwise, and then a configuration is sent once more.
    pub fn digest(&self) -> String {
        let content = Self { revision: 0, ..self.clone() };
        let bytes =
            serde_json::to_vec(&content).expect("maps have string or number keys, paths were JSON before");
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    /// Declared protocols of the application's ports; other ports are detected.
    pub protocols: BTreeMap<u16, Protocol>,
    /// Ports that the file names for callers. Others are reached only where the application does not listen on
    /// loopback alone.
    #[serde(default)]
    pub declared: BTreeSet<u16>,
    /// Services whose identity may call; the gateway is one of them where a port is published.
    pub callers: Vec<ServiceName>,
    /// True: answer with `Connection: close` and close what is idle.
    pub draining: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    pub service: ServiceName,
    /// Virtual address, in [`VIRTUAL_NETWORK`]; the same after every restart.
    pub address: Ipv4Addr,
    pub protocols: BTreeMap<u16, Protocol>,
    /// At these ports each connection begins with a header of the PROXY protocol, and is passed on as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub send_proxy: BTreeMap<u16, ProxyHeader>,
    /// Those in routing: healthy and not draining.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub instance: InstanceName,
    pub hop: HopAddress,
}

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HopAddress {
    /// Where the mutual TLS of its sidecar is accepted.
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// A server without a sidecar, in plaintext. Only a configuration file says this: no control plane of an application
    /// does.
    Plain(SocketAddr),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressDestination {
    /// As declared, the metric label: `plc.example:502`.
    pub label: String,
    /// A name is resolved by the sidecar; `None`: the original destination address is dialed as it is.
    pub host: Option<String>,
    pub port: u16,
    pub matches: EgressMatch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressMatch {
    /// TCP: by the original destination. A named host has a virtual address (prefix 32).
    Tcp { network: IpAddr, prefix: u8 },
    /// UDP: arrives on standing socket number `socket` (see `seal::StandingSockets::udp_egress`). For a host that is a
    /// single address or a name.
    Udp { socket: usize, address: IpAddr },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub listen: SocketAddr,
    pub service: ServiceName,
    pub port: u16,
    pub protocol: Option<Protocol>,
    /// Who says in a header of the PROXY protocol from whom a connection is. Everybody else is who he seems to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_proxy: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Network {
    /// An IPv4 address that was mapped into IPv6 counts as what it is.
    pub fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u128::from(u32::from(network) ^ u32::from(address)) << 96
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => u128::from(network) ^ u128::from(address),
            _ => return false,
        };
        differing.leading_zeros() >= u32::from(self.prefix)
    }
}

/// Every limit is on by default; `None` does not exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyLimits {
    pub connect_timeout_ms: u64,
    pub header_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub tcp_idle_timeout_ms: u64,
    pub downstream_connections_max: usize,
    pub upstream_connections_per_endpoint_max: usize,
    pub upstream_idle_per_endpoint_max: usize,
    pub upstream_pending_max: usize,
    pub head_bytes_max: usize,
    pub head_fields_max: usize,
    /// Of a request or an answer, declared or received.
    pub body_bytes_max: u64,
    /// Above it requests, and then connections, are refused. 0: an eighth of what the host or the cgroup has, at least 64 MiB
    /// and at most 1 GiB.
    pub memory_bytes_max: u64,
    /// How long a client may stay silent before its connection is opened upstream as TCP.
    pub detect_ms: u64,
    /// How long connections live on in a process whose successor serves already.
    pub handover_drain_ms: u64,
    /// `None`: one. Not written then, so that what an earlier version has signed stays what it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 2_000,
            header_timeout_ms: 10_000,
            request_timeout_ms: 300_000,
            idle_timeout_ms: 60_000,
            tcp_idle_timeout_ms: 3_600_000,
            downstream_connections_max: 10_000,
            upstream_connections_per_endpoint_max: 256,
            upstream_idle_per_endpoint_max: 64,
            upstream_pending_max: 1_024,
            head_bytes_max: 64 * 1024,
            head_fields_max: 100,
            body_bytes_max: i64::MAX as u64,
            memory_bytes_max: 0,
            detect_ms: 50,
            handover_drain_ms: 600_000,
            workers: None,
        }
    }
}

/// How many threads serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as the process may use cores: of those it may run on, and of its cgroup's share of their time.
    Auto,
    /// From 1 to [`WORKERS_MAX`].
    Count(usize),
}

pub const WORKERS_MAX: usize = 64;

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(count @ 1..=WORKERS_MAX) => Ok(Self::Count(count)),
            _ => Err(format!("`{text}` is neither a number from 1 to {WORKERS_MAX} nor `auto`")),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// A number, or `auto`.
impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number from 1 to 64, or `auto`")]
        enum Written {
            Number(i64),
            Word(String),
        }
        let written = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Word(word) => word,
        };
        written.parse().map_err(|problem| de::Error::custom(format_args!("workers: {problem}")))
    }
}

/// Virtual addresses of services and of named egress hosts: 198.18.0.0/15 (RFC 2544, benchmarking; never routed).
pub const VIRTUAL_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
/// The resolver inside every seal; queries to port 53 of it are redirected to the reserved port.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// A seal's own address: what its host name means inside, and where its application is dialed. Only who listens on it, or
/// on all addresses, answers there; who listens on loopback does not.
pub const OWN_ADDRESS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 19, 255, 253), Ipv6Addr::new(0xfd8b, 0x5e1d, 0x77c2, 0, 0, 0, 0, 2));
/// Where callers seem to come from inside a seal: never loopback, which applications trust.
pub const MESH_ADDRESS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 19, 255, 254), Ipv6Addr::new(0xfd8b, 0x5e1d, 0x77c2, 0, 0, 0, 0, 1));
/// The one loopback port inside a seal that is Sinew's (TCP: redirected outbound and DNS over TCP; UDP: DNS).
/// UDP egress sockets follow it downwards: `RESERVED_PORT - 1 - i`. Outside Linux's default ephemeral range.
pub const RESERVED_PORT: u16 = 64_999;

/// The control plane's side of the stream that feeds a proxy: JSON frames, each a big-endian u32 length and that many
/// bytes (at most [`FRAME_BYTES_MAX`]), over the proxy's own Unix socket, which is also what identifies the proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
// Tagged from outside: what is tagged from inside is buffered by serde, and then the numbers that are keys of maps
// (ports) cannot be read back.
#[serde(rename_all = "snake_case")]
pub enum ControlMessage {
    Config {
        config: Box<ProxyConfig>,
        /// Of [`signed_configuration`]; absent: a control plane of protocol 0.
        #[serde(default)]
        signature: Option<Signature>,
    },
    /// Answer to `Certify`: PEM chain, leaf first, and the trust bundle.
    Certificate {
        chain_pem: String,
        bundle_pem: String,
        not_after_unix_ms: u64,
        /// Of [`signed_certificate`]; absent: a control plane of protocol 0.
        #[serde(default)]
        signature: Option<Signature>,
    },
    Refused {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyMessage {
    /// First message: which revision is being served (0: none), so that a control plane that restarted can compare.
    Hello {
        revision: u64,
        pid: u32,
        /// [`ProxyConfig::digest`] of what is being served; absent: nothing is. When it is what would be sent anyway,
        /// the revision stays and nothing is sent.
        #[serde(default)]
        digest: Option<String>,
        /// It says something at least this often as long as it runs. 0: it makes no such promise.
        #[serde(default)]
        alive_every_ms: u64,
    },
    /// Nothing new, but the proxy runs: a process that is frozen keeps its stream, and says nothing.
    Alive,
    /// Ask for a certificate. Only the public key of the request is used: the identity is the socket's.
    Certify { csr_pem: String },
    /// Requests meet this revision now.
    Applied { revision: u64 },
    /// A configuration that could not be used; the last one goes on being served.
    Rejected { revision: u64, reason: String },
}

/// ECDSA P-256 with SHA-256, ASN.1, of the root of the trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(pub Vec<u8>);

/// What everything that is signed for a proxy begins with. No certificate does, so that the root's key never signs one by
/// accident.
pub const SIGNED_PREFIX: &[u8] = b"sinew signed 1\0";

/// What is signed of a configuration: the proxy keeps both on disk, and believes them after a restart if they fit.
/// A program that does not know all fields comes to another text, and waits for the control plane.
pub fn signed_configuration(config: &ProxyConfig) -> Vec<u8> {
    let text = serde_json::to_vec(config).expect("maps have string or number keys, paths were JSON before");
    statement(&[b"configuration", &text])
}

/// What is signed of a certificate and the bundle that came with it.
pub fn signed_certificate(
    instance: &InstanceName,
    chain_pem: &str,
    bundle_pem: &str,
    not_after_unix_ms: u64,
) -> Vec<u8> {
    let until = not_after_unix_ms.to_be_bytes();
    let instance = instance.as_str().as_bytes();
    statement(&[b"certificate", instance, chain_pem.as_bytes(), bundle_pem.as_bytes(), &until])
}

fn statement(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = SIGNED_PREFIX.to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(*part);
    }
    bytes
}

/// By what a proxy judges what it finds on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The root's public key: a point of P-256, uncompressed. Empty: nothing on disk is believed.
    pub root_key: Vec<u8>,
    pub bundle_pem: String,
    /// The proxy has served this revision already: an older one on disk has been put there.
    pub revision_min: u64,
}

/// The service that the gateway of every application is; no service of a file can be called so.
pub const GATEWAY_SERVICE: &str = "_gateway";

pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a proxy process is started with (`sinew proxy --bootstrap FILE`). Paths are in the application's private
/// run folder (mode 0700).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub posture: Posture,
    pub instance: InstanceName,
    /// Where the control plane listens for exactly this proxy.
    pub control: PathBuf,
    /// Where the seal's init listens; sidecar posture.
    pub init: Option<PathBuf>,
    /// Where the proxy serves its admin API (HTTP/1.1: `/metrics`, `/stats.json`, `/config`, `/ready`).
    pub admin: PathBuf,
    /// Last-good configuration, kept by the proxy, read when the control plane is away at start.
    pub last_good: PathBuf,
    #[serde(default)]
    pub trust: Trust,
    /// True: end when descriptor 3 (a pipe's read end) reports end of file. Foreground `up`.
    pub lifeline: bool,
    /// Explicit posture: where the application listens on the host's loopback, by declared port. `None`: it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<BTreeMap<u16, u16>>,
    /// Where a process that serves waits for its successor ([`crate::handover`]). Absent: a launcher before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<PathBuf>,
    /// True: another process serves, and is to be succeeded; without it, this one has nothing to do.
    #[serde(default)]
    pub succeeds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Posture {
    Sidecar,
    Gateway,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{ApplicationName, TrustDomain};

    #[test]
    fn a_configuration_with_declared_ports_comes_back_whole() {
        let protocols = BTreeMap::from([(8000, Protocol::Http), (1883, Protocol::Tcp)]);
        let config = ProxyConfig {
            revision: 7,
            trust_domain: TrustDomain::from("shop.sinew"),
            namespace: ApplicationName::from("shop"),
            service: ServiceName::from("orders"),
            instance: InstanceName::from("orders-1"),
            inbound: Some(Inbound {
                protocols,
                declared: BTreeSet::from([1883]),
                callers: Vec::new(),
                draining: false,
            }),
            destinations: Vec::new(),
            egress: Vec::new(),
            published: Vec::new(),
            limits: ProxyLimits::default(),
        };
        let message = ControlMessage::Config { config: Box::new(config), signature: None };
        let text = serde_json::to_string(&message).expect("serializes");
        assert!(!text.contains("workers"), "an earlier version signed it without");
        assert_eq!(serde_json::from_str::<ControlMessage>(&text).expect("reads back"), message);
    }

    #[test]
    fn workers_are_a_number_or_a_word() {
        let read = |text: &str| serde_json::from_str::<ProxyLimits>(&format!("{{\"workers\": {text}}}"));
        for (text, workers) in
            [("1", Workers::Count(1)), ("64", Workers::Count(64)), ("\"auto\"", Workers::Auto)]
        {
            let limits = read(text).expect(text);
            assert_eq!(limits.workers, Some(workers), "{text}");
            let written = serde_json::to_string(&limits).expect("serializes");
            assert!(written.ends_with(&format!("\"workers\":{text}}}")), "{written}");
        }
        for text in ["0", "65", "-1", "1.5", "true", "\"all\"", "[]"] {
            let problem = read(text).expect_err(text).to_string();
            assert!(
                problem.contains("number from 1 to 64") && problem.contains("`auto`"),
                "{text}: {problem}"
            );
        }
    }
}
