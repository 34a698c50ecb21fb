//! The proxies that are compared, each configured for the same work: 100 routes (10 hosts with 10 prefixes each) where it
//! has routes, three upstreams, power of two choices over least load, keep-alive upstream, `x-request-id` and
//! `traceparent` added, no access log, one worker where nothing else is said, TLS 1.3 over X25519 with both sides verified, bounds that do not bind.

mod envoy;
mod haproxy;
mod nginx;
mod sinew;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::certificates::Certificates;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Envoy,
    Nginx,
    Haproxy,
    Sinew,
}

/// A program that is measured.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub kind: Kind,
    pub program: PathBuf,
    /// A program in front, with its words: a profiler.
    pub wrapper: Vec<String>,
}

/// What a proxy is to do.
#[derive(Clone, Debug)]
pub struct Role {
    pub listen: SocketAddr,
    /// Ports of loopback.
    pub upstreams: Vec<u16>,
    /// The port of the application that is meant, where the upstreams are another proxy.
    pub application: Option<u16>,
    pub tls: Side,
    pub speaks: Protocol,
    /// Threads that share the work.
    pub workers: usize,
}

/// On both sides of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// With prior knowledge in plaintext, by ALPN in TLS.
    Http2,
    /// Bytes as they are.
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Plaintext on both.
    None,
    /// Mutual TLS from clients.
    Clients,
    /// Mutual TLS to upstreams.
    Upstreams,
}

impl Role {
    fn name(&self) -> String {
        self.listen.port().to_string()
    }

    fn is_tcp(&self) -> bool {
        self.speaks == Protocol::Tcp
    }

    fn is_http2(&self) -> bool {
        self.speaks == Protocol::Http2
    }
}

impl Peer {
    /// Writes the configuration into `folder`.
    pub fn command(&self, role: &Role, certificates: &Certificates, folder: &Path) -> Result<Command> {
        let words = match self.kind {
            Kind::Envoy => envoy::configure(role, certificates, folder)?,
            Kind::Nginx => nginx::configure(role, certificates, folder)?,
            Kind::Haproxy => haproxy::configure(role, certificates, folder)?,
            Kind::Sinew => sinew::configure(role, certificates, folder)?,
        };
        let mut line = self.wrapper.clone();
        line.push(self.program.display().to_string());
        line.extend(words);
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        Ok(command)
    }

    /// The name by which a TLS client asks for the service behind it.
    pub fn server_name(&self, role: &Role) -> String {
        match self.kind {
            Kind::Sinew => sinew::server_name(role.upstreams[0]),
            _ => crate::certificates::SERVER_NAME.to_owned(),
        }
    }

    /// What the program says of itself.
    pub fn version(&self) -> String {
        let words: &[&str] = match self.kind {
            Kind::Envoy => &["--version"],
            Kind::Nginx | Kind::Haproxy => &["-v"],
            Kind::Sinew => &["--version"],
        };
        let output = Command::new(&self.program).args(words).output();
        let Ok(output) = output else { return "not found".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        // Some say where they lie first, where there are numbers too.
        let text = String::from_utf8_lossy(&text).replace(&*self.program.to_string_lossy(), "");
        let digits = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        text.split([' ', '\n', '/']).find(digits).unwrap_or("unknown").to_owned()
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
