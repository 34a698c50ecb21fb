//! What can be refused before anything is started, all of it together.

use super::*;

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::container::Containers;
use crate::{explicit, plan, processes};

/// Something that this host cannot do for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub service: ServiceName,
    pub reason: String,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What no build can change: users, limits, ports. Files may still have to be made.
    BeforeBuild,
    Everything,
}

/// Chooses free ports where the file leaves the choice, and looks whether everything can be had. `earlier`: what an
/// earlier launcher published and its gateway may be listening on.
pub fn prepare(
    application: &Application,
    posture: ServicePosture,
    host: &Host,
    environment: &BTreeMap<String, String>,
    earlier: &[Published],
    scope: Scope,
) -> Result<Vec<Published>, Vec<Refusal>> {
    let cgroups = Cgroups::detect();
    let mut refusals = Vec::new();
    let mut published = Vec::new();
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    if posture == ServicePosture::Explicit {
        refusals.extend(explicit::check(application));
    }
    let has_containers = application.services.values().any(|service| service.container.is_some());
    // Once: all of them would be refused for the same reason.
    let engine = if has_containers { Containers::find().err() } else { None };
    for (name, service) in &application.services {
        let mut refuse = |reason: String| refusals.push(Refusal { service: name.clone(), reason });
        let checked = match scope {
            Scope::BeforeBuild => plan::check_user(service, host),
            Scope::Everything => plan::check(application, service, host, environment),
        };
        if let Err(error) = checked {
            refuse(error.to_string());
        }
        if service.container.is_some()
            && let Some(error) = &engine
        {
            refuse(error.to_string());
        }
        let uid = plan::user_of(service, host).unwrap_or(host.uid.as_raw());
        if service.container.is_none()
            && let Err(error) = processes::check(&service.limits, &cgroups, posture, uid)
        {
            refuse(error.to_string());
        }
        for port in &service.published {
            let known = earlier.iter().find(|known| {
                known.service == *name
                    && known.port == port.target
                    && known.listen.ip() == port.host
                    && port.published.is_none_or(|wanted| wanted == known.listen.port())
                    && !published.contains(*known)
            });
            let protocol = port.protocol.or_else(|| service.protocols.get(&port.target).copied());
            let listen = match known {
                Some(known) => known.listen,
                None => match choose(SocketAddr::new(port.host, port.published.unwrap_or(0))) {
                    Ok((listener, address)) => {
                        held.push(listener);
                        address
                    }
                    Err(error) => {
                        refuse(port_words(port.host, port.published, &error));
                        continue;
                    }
                },
            };
            let accept_proxy = service.accept_proxy.get(&port.target).cloned().unwrap_or_default();
            published.push(Published {
                listen,
                service: name.clone(),
                port: port.target,
                protocol,
                accept_proxy,
            });
        }
    }
    if refusals.is_empty() { Ok(published) } else { Err(refusals) }
}

fn choose(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn port_words(host: std::net::IpAddr, port: Option<u16>, error: &io::Error) -> String {
    let Some(port) = port else { return format!("choosing a free port on {host}: {error}") };
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; see who holds it with `ss -ltnp 'sport = :{port}'`, or publish another one")
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or `sysctl net.ipv4.ip_unprivileged_port_start`".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => format!("; {host} is no address of this host"),
        _ => String::new(),
    };
    format!("publishing port {port} on {host}: {error}{hint}")
}
