//! The data plane: the life of one connection or request from accept to the last byte.
//!
//! This crate refuses to know control planes, stores, certificate authorities and the seal's init: it is handed a
//! configuration and an identity that change, sockets, and somebody who makes sockets inside the seal. [`run`] is the
//! first worker, on the caller's thread; it starts others where the configuration says so.
//!
//! Reading order: how a worker lives ([`run`]), how several share the work (`workers`, `arrival`), where connections come from (`outbound`, `inbound`, `gateway`), what
//! they speak (`detection`, `http` with the life of a request, `exchange`, `http2`, `tcp`, `udp`, `dns`), where they go
//! (`snapshot`, `upstream`, `balance`, `outlier`, `pool`), and what holds when memory is short (`memory`).

mod run;
mod snapshot;
mod worker;

mod arrival;
mod shared;
mod workers;

mod gateway;
mod inbound;
mod outbound;

mod detection;
mod dns;
mod exchange;
mod flow;
mod grpc;
mod http;
mod http2;
mod tcp;
mod udp;

mod balance;
mod connection;
mod failure;
mod memory;
mod outlier;
mod pool;
mod timer;
mod upstream;

mod admin;
mod sys;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::handover::UdpFlow;
use sinew_spec::proxy::ProxyConfig;
use sinew_transport::tls::Identity;
use tokio::net::{TcpListener, TcpSocket, UdpSocket, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

pub use snapshot::check;

/// Everything a proxy is driven by. Sidecar and gateway posture differ only in what is present.
pub struct ProxyInputs {
    /// `None` until the first one is known; requests meet the newest that could be compiled.
    pub config: watch::Receiver<Option<Arc<ProxyConfig>>>,
    /// `None` until the first certificate. Connections made later use the newest.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    pub sockets: Sockets,
    /// Listeners of published ports: those of an earlier process, and from then on all that are bound.
    pub published: PublishedSockets,
    /// Of an earlier process: sockets that are connected to where a client's datagrams go.
    pub flows: Vec<(UdpFlow, OwnedFd)>,
    /// Reaches the application inside the seal. `None` for a gateway.
    pub inside: Option<Box<dyn Inside>>,
    /// HTTP/1.1: `/metrics`, `/stats.json`, `/config`, `/ready`.
    pub admin: Option<UnixListener>,
    /// What became of the configurations; only the newest is kept.
    pub applied: watch::Sender<Applied>,
    /// True (or a dropped sender): stop accepting, let what is in flight end within `drain_max`, return.
    pub shutdown: watch::Receiver<bool>,
    pub memory: Memory,
    pub threads: Threads,
    pub drain_max: Duration,
    /// Other processes that want to serve in our place, one after the other.
    pub handovers: mpsc::Receiver<Handover>,
    /// `None`: begins as soon as it can.
    pub gate: Option<Gate>,
}

/// Nothing is accepted or read before somebody says so.
pub struct Gate {
    /// Told when there is nothing to wait for but this.
    pub prepared: oneshot::Sender<()>,
    /// When this is dropped, [`run`] returns.
    pub open: oneshot::Receiver<()>,
}

/// Another process begins to serve in the place of this one.
pub struct Handover {
    /// Told when nothing new is accepted or read any more; all sockets are still open. Duplicates of those of flows, which
    /// are served until the outcome is known.
    pub paused: oneshot::Sender<Vec<(UdpFlow, OwnedFd)>>,
    /// True: the other one serves. Sockets are closed, connections live on until they end or the time of
    /// `ProxyLimits::handover_drain_ms` is over, and [`run`] returns. False, or dropped: everything goes on as before.
    pub outcome: oneshot::Receiver<bool>,
}

/// The listeners of published ports, by the address that was asked for.
#[derive(Clone, Default)]
pub struct PublishedSockets(Rc<RefCell<HashMap<SocketAddr, Rc<TcpListener>>>>);

impl PublishedSockets {
    /// Of an earlier process, registered with this process's runtime.
    pub fn adopt(&self, address: SocketAddr, listener: TcpListener) {
        self.0.borrow_mut().insert(address, Rc::new(listener));
    }

    /// Duplicates, for the next process.
    pub fn duplicate(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let bound = self.0.borrow();
        bound
            .iter()
            .map(|(address, listener)| Ok((*address, listener.as_fd().try_clone_to_owned()?)))
            .collect()
    }
}

/// What this process may use, and what it does.
#[derive(Clone)]
pub struct Memory {
    /// Bytes that were asked of the allocator and not given back, by all threads. Asked for every request: it takes no lock.
    pub bytes_in_use: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Unless the configuration says another number.
    pub bytes_max: usize,
}

/// What a process does about the threads of further workers.
#[derive(Clone, Copy)]
pub struct Threads {
    /// Before there are so many workers; on the first one's thread.
    pub prepare: fn(usize),
    /// On each other one's, before and after everything else.
    pub begin: fn(),
    pub end: fn(),
}

impl Default for Threads {
    fn default() -> Self {
        Self { prepare: |_| (), begin: || (), end: || () }
    }
}

/// Sockets of a sidecar; empty for a gateway, which binds its published ports itself.
#[derive(Default)]
pub struct Sockets {
    pub outbound: Vec<OutboundListener>,
    /// DNS over UDP for the service.
    pub dns: Option<UdpSocket>,
    /// A bound NFLOG netlink socket, non-blocking.
    pub nflog: Option<OwnedFd>,
    /// Where other sidecars' mutual TLS arrives.
    pub hop: Option<HopListener>,
    /// By the number in `EgressMatch::Udp`.
    pub udp_egress: Vec<UdpSocket>,
}

pub struct OutboundListener {
    pub listener: TcpListener,
    pub destination: OriginalDestination,
}

/// Where connections of an outbound listener were meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalDestination {
    /// Asked from the kernel, per connection (sealed and transparent posture).
    Redirected,
    /// All connections of this listener go there (explicit posture).
    Fixed(SocketAddr),
}

pub enum HopListener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Makes sockets that belong to the seal's network. `connect` works on them from anywhere.
pub trait Inside {
    /// Makes the same for the thread of another worker.
    fn for_another(&self) -> Box<dyn FnOnce() -> Box<dyn Inside> + Send>;

    /// An unconnected, non-blocking stream socket of that family.
    fn socket(&self, ipv6: bool) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + '_>>;

    /// The loopback port on which the application serves its port `declared`; `None`: it has no such port.
    fn port(&self, declared: u16) -> Option<u16> {
        Some(declared)
    }

    /// A network of the application's own: it is dialed at its own address, and callers have one that is not loopback.
    fn is_sealed(&self) -> bool {
        false
    }

    /// Asked when nobody accepted a connection: whether the application listens on that port, but on loopback alone.
    fn is_on_loopback_only(&self, _port: u16) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async { false })
    }
}

/// The host's own network: for the explicit posture, where the application listens on the host's loopback.
pub struct HostNetwork;

impl Inside for HostNetwork {
    fn for_another(&self) -> Box<dyn FnOnce() -> Box<dyn Inside> + Send> {
        Box::new(|| Box::new(Self))
    }

    fn socket(&self, ipv6: bool) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + '_>> {
        Box::pin(async move { if ipv6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() } })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Requests meet this revision; 0: none yet.
    pub revision: u64,
    /// The newest revision, when it could not be used (or a published port not be bound), and why.
    pub rejected: Option<(u64, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the {socket} socket cannot be used: {source}")]
    Socket { socket: &'static str, source: io::Error },
    #[error("a worker has ended by itself")]
    WorkerLost,
}

/// Serves until `shutdown`. Must be polled on a tokio current_thread runtime with I/O and time; the future is not `Send`.
///
/// Boxed here, so that all of it is compiled in this crate, for speed, and not in the one that awaits it, for size.
pub fn run(inputs: ProxyInputs) -> Pin<Box<dyn Future<Output = Result<(), ProxyError>>>> {
    Box::pin(async move {
        let tasks = LocalSet::new();
        // A task as well: what is waited for here is polled whenever any task is woken.
        let work = tasks.spawn_local(run::run(inputs));
        tasks.run_until(work).await.expect("nobody ends it from outside")
    })
}
