//! The explicit posture: what an instance without a seal is told by its environment, and what cannot be had without one.
//!
//! All instances share the host's network, so each is given ports of its own, and reaches others through listeners of its
//! own sidecar. Nothing here keeps a service from anything: only the hop between sidecars is authenticated.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use sinew_spec::application::{Application, Egress, EgressHost, MountSource, Probe, Service, Transport};
use sinew_spec::name::InstanceName;
use sinew_spec::seal::LISTENERS_MAX;

use crate::launcher::Refusal;
use crate::registry::Names;

#[cfg(test)]
mod tests;

/// Below the range from which Linux gives ports to whoever asks for any, so that none is taken between being chosen and
/// being listened on.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Ports that instances were given, whether they listen on them yet or not.
#[derive(Debug, Default)]
pub struct Ports(Mutex<BTreeMap<InstanceName, Vec<Claim>>>);

/// A socket with a name of its own in the host's network: two launchers that choose at the same time see each other.
type Claim = UnixListener;

const NEVER_POISONED: &str = "nothing panics while it holds this lock";

impl Ports {
    /// A free port for each that the service declares. What the instance had before is given back.
    pub fn choose(&self, instance: &InstanceName, service: &Service) -> io::Result<BTreeMap<u16, u16>> {
        let mut given = self.0.lock().expect(NEVER_POISONED);
        given.remove(instance);
        // Anywhere, as whoever looks for a port begins somewhere.
        let begin = RandomState::new().hash_one(instance.as_str());
        let count = u64::from(LAST - FIRST);
        let mut candidates = (0..count).map(|step| FIRST + (begin.wrapping_add(step) % count) as u16);
        let (mut ports, mut claims) = (BTreeMap::new(), Vec::new());
        for declared in declared_ports(service) {
            let found = candidates.find_map(|port| Some((port, claim(port).filter(|_| is_free(port))?)));
            let (port, claim) =
                found.ok_or_else(|| io::Error::other(format!("none is free in {FIRST}-{LAST}")))?;
            ports.insert(declared, port);
            claims.push(claim);
        }
        given.insert(instance.clone(), claims);
        Ok(ports)
    }

    /// Those of an instance that is adopted.
    pub fn keep(&self, instance: &InstanceName, ports: &[(u16, u16)]) {
        let claims = ports.iter().filter_map(|(_, port)| claim(*port)).collect();
        self.0.lock().expect(NEVER_POISONED).insert(instance.clone(), claims);
    }

    /// Those of an instance that has ended.
    pub fn give_back(&self, instance: &InstanceName) {
        self.0.lock().expect(NEVER_POISONED).remove(instance);
    }
}

/// `None`: somebody else has it.
fn claim(port: u16) -> Option<Claim> {
    let name = unix::net::SocketAddr::from_abstract_name(format!("sinew-port-{port}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

/// On every address and both families, as the service may choose any.
fn is_free(port: u16) -> bool {
    let four = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map(drop);
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).map(drop);
    // A host without IPv6 has no such address.
    four.is_ok() && six.err().is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse)
}

/// The first one is what `PORT` stands for.
pub fn declared_ports(service: &Service) -> Vec<u16> {
    let checked = service.health.as_ref().and_then(|check| match check.probe {
        Probe::Http { port, .. } | Probe::Tcp { port } => Some(port),
        Probe::Command(_) => None,
    });
    let all = service
        .expose
        .iter()
        .copied()
        .chain(service.published.iter().map(|published| published.target))
        .chain(service.protocols.keys().copied())
        .chain(checked);
    let mut ports = Vec::new();
    for port in all {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// Something that a service may call, and the variables that say how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// A virtual address, or that of a host outside the mesh.
    pub destination: SocketAddr,
    variables: Variables,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Variables {
    /// `ORDERS_URL`, `ORDERS_HOST`, `ORDERS_PORT`; `ORDERS_PORT_8000`.
    Service { prefix: String, port: u16, is_first: bool },
    /// `EGRESS_PLC_EXAMPLE_502`.
    Egress { name: String },
}

/// Everything that the service may call, the names known.
pub fn reachable(application: &Application, service: &Service, names: &Names) -> Vec<Reachable> {
    let mut reachable = Vec::new();
    for other in application.services.values().filter(|other| service.may_call(other)) {
        let Some(address) = names.services.get(&other.name) else { continue };
        for (index, port) in declared_ports(other).into_iter().enumerate() {
            let prefix = variable(other.name.as_str());
            let variables = Variables::Service { prefix, port, is_first: index == 0 };
            reachable.push(Reachable { destination: (*address, port).into(), variables });
        }
    }
    for egress in &service.egress {
        let address: IpAddr = match &egress.host {
            EgressHost::Name(name) => match names.hosts.get(&name.to_ascii_lowercase()) {
                Some(address) => (*address).into(),
                None => continue,
            },
            EgressHost::Network { address, .. } => *address,
        };
        let variables = Variables::Egress { name: egress_variable(egress) };
        reachable.push(Reachable { destination: (address, egress.port).into(), variables });
    }
    reachable
}

/// What is added to the service's environment. It replaces what the file says of the same variables: those name places
/// that are there in a seal only. `listen`: where the sidecar listens for a destination.
pub fn environment(
    service: &Service,
    ports: &BTreeMap<u16, u16>,
    reachable: &[Reachable],
    listen: &BTreeMap<SocketAddr, SocketAddr>,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let mut set = |name: String, value: String| drop(environment.insert(name, value));
    for Reachable { destination, variables } in reachable {
        let Some(listen) = listen.get(destination) else { continue };
        match variables {
            Variables::Service { prefix, port, is_first } => {
                set(format!("{prefix}_PORT_{port}"), listen.port().to_string());
                if *is_first {
                    set(format!("{prefix}_URL"), format!("http://{listen}"));
                    set(format!("{prefix}_HOST"), listen.ip().to_string());
                    set(format!("{prefix}_PORT"), listen.port().to_string());
                }
            }
            Variables::Egress { name } => set(name.clone(), listen.to_string()),
        }
    }
    let declared = declared_ports(service);
    if let Some(port) = declared.first().and_then(|first| ports.get(first)) {
        set("HOST".to_owned(), Ipv4Addr::LOCALHOST.to_string());
        set("PORT".to_owned(), port.to_string());
    }
    for port in declared {
        if let Some(given) = ports.get(&port) {
            set(format!("PORT_{port}"), given.to_string());
        }
    }
    environment
}

/// Everything that a file asks for and that cannot be kept without a seal.
pub fn check(application: &Application) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for service in application.services.values() {
        let mut reasons = beyond(service);
        reasons.extend(crowded(application, service));
        let refusal = |reason| Refusal { service: service.name.clone(), reason };
        refusals.extend(reasons.into_iter().map(refusal));
    }
    let mut prefixes: BTreeMap<String, &Service> = BTreeMap::new();
    for service in application.services.values() {
        let prefix = variable(service.name.as_str());
        if let Some(other) = prefixes.insert(prefix.clone(), service) {
            let reason = format!(
                "its address would be in `{prefix}_URL`, as that of `{}` without a seal; rename one of them",
                other.name
            );
            refusals.push(Refusal { service: service.name.clone(), reason });
        }
    }
    refusals
}

/// What needs namespaces.
fn beyond(service: &Service) -> Vec<String> {
    let mut reasons = Vec::new();
    for mount in &service.mounts {
        let target = mount.target.display();
        match &mount.source {
            MountSource::Volume(name) => reasons.push(format!(
                "volume `{name}` at {target} needs a seal; without one, use a folder of the host by its own path"
            )),
            // What is there is there: nothing is to be done, unless it shall be protected.
            MountSource::Bind { path, .. } if *path == mount.target && !mount.read_only => {}
            MountSource::Bind { path, .. } if *path == mount.target => reasons.push(format!(
                "{target} cannot be read-only without a seal; leave the mount away, the service sees the host's files"
            )),
            MountSource::Bind { path, .. } => reasons.push(format!(
                "showing {} at {target} needs a seal; without one, the service finds it at its own path",
                path.display()
            )),
        }
    }
    if service.container.is_some() {
        reasons
            .push("a container needs a seal; run it sealed, or start the program by `command:`".to_owned());
    }
    for grant in &service.files {
        let kind = if grant.secret { "secret" } else { "config" };
        reasons.push(format!(
            "{kind} `{}` at {} needs a seal, as no other process could be kept from it; without one, hand it over by \
             `environment:` or a file of your own",
            grant.name,
            grant.target.display()
        ));
    }
    for device in &service.devices {
        if device.source != device.target {
            reasons.push(format!(
                "showing the device {} at {} needs a seal; without one, the service opens the host's own",
                device.source.display(),
                device.target.display()
            ));
        }
    }
    if !service.tmpfs.is_empty() {
        reasons.push("`tmpfs` needs a seal; without one, use a folder of the host".to_owned());
    }
    if service.read_only {
        reasons.push(
            "`read_only` needs a seal; without one, the service may write what its user may".to_owned(),
        );
    }
    if service.hostname.is_some() {
        reasons.push("`hostname` needs a seal; without one, the service sees the host's name".to_owned());
    }
    reasons.extend(service.egress.iter().filter_map(egress_reason));
    reasons
}

fn egress_reason(egress: &Egress) -> Option<String> {
    let single = match &egress.host {
        EgressHost::Name(_) => true,
        EgressHost::Network { address, prefix } => *prefix == if address.is_ipv4() { 32 } else { 128 },
    };
    let port = egress.port;
    match egress.transport {
        Transport::Udp => Some(format!(
            "egress over UDP (port {port}) needs a seal; without one, the service reaches it by itself and unmeasured: \
             leave it away"
        )),
        Transport::Tcp if !single => Some(format!(
            "egress to a network (port {port}) needs a seal; without one, name single hosts, or leave it away: the \
             service reaches them by itself and unmeasured"
        )),
        Transport::Tcp => None,
    }
}

fn crowded(application: &Application, service: &Service) -> Option<String> {
    let called = application.services.values().filter(|other| service.may_call(other));
    let count = called.map(|other| declared_ports(other).len()).sum::<usize>() + service.egress.len();
    (count > LISTENERS_MAX).then(|| {
        format!(
            "it may call {count} ports, and without a seal {LISTENERS_MAX} are possible; put those who talk to each \
             other on networks of their own"
        )
    })
}

/// `cold-store.api` -> `COLD_STORE_API`
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn egress_variable(egress: &Egress) -> String {
    let host = match &egress.host {
        EgressHost::Name(name) => name.clone(),
        EgressHost::Network { address, .. } => address.to_string(),
    };
    format!("EGRESS_{}_{}", variable(&host), egress.port)
}
