use std::net::{SocketAddr, TcpListener};

use anyhow::Result;

use super::{Processes, Shape};
use crate::Bench;
use crate::link::Secured;
use crate::peers::{Peer, Role, Side, loopback};
use crate::process::Running;

/// How proxies stand between load and origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// One, plaintext on both sides.
    Plain,
    /// Plaintext → mutual TLS → plaintext: two sidecars.
    Pair,
    /// One, mutual TLS from clients.
    Secured,
}

impl Chain {
    /// Starts what it takes. The address to send to, the processes, and how a client speaks TLS to it.
    pub fn start(
        self,
        bench: &Bench,
        peer: &Peer,
        load: &Shape,
    ) -> Result<(SocketAddr, Processes, Option<Secured>)> {
        let cores = load.cores.of_proxy();
        let origins = bench.origin.ports.clone();
        let role = |upstreams: Vec<u16>, tls: Side| -> Result<Role> {
            Ok(Role {
                listen: loopback(free_port()?),
                application: Some(origins[0]),
                upstreams,
                tls,
                speaks: load.speaks,
                workers: load.workers,
            })
        };
        Ok(match self {
            Self::Plain => {
                let role = role(origins.clone(), Side::None)?;
                (role.listen, vec![start(bench, peer, &role, cores)?], None)
            }
            Self::Secured => {
                let role = role(origins.clone(), Side::Clients)?;
                let secured = bench.certificates.client(&peer.server_name(&role))?;
                (role.listen, vec![start(bench, peer, &role, cores)?], Some(secured))
            }
            Self::Pair => {
                let callee = role(origins.clone(), Side::Clients)?;
                let caller = role(vec![callee.listen.port(); origins.len()], Side::Upstreams)?;
                (
                    caller.listen,
                    vec![start(bench, peer, &callee, cores)?, start(bench, peer, &caller, cores)?],
                    None,
                )
            }
        })
    }
}

fn start(bench: &Bench, peer: &Peer, role: &Role, cores: &[usize]) -> Result<Running> {
    let command = peer.command(role, &bench.certificates, &bench.folder)?;
    let log = bench.folder.join(format!("{}-{}.log", peer.name, role.listen.port()));
    Running::start(command, cores, &[role.listen], &log)
}

/// Free a moment ago; whoever starts on it next says so if it is not any more.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?.port())
}
