//! The edge: published ports, bound here, served like a call of our own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use sinew_spec::proxy::Published;
use sinew_wire::proxy_protocol::{self, Origin, Parsed};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::PublishedSockets;
use crate::arrival::Arrival;
use crate::connection::Connection;
use crate::outbound::{Caller, next_client, serve_service};
use crate::worker::{Admitted, Worker};
use crate::workers::{Place, Workers};

/// The published ports that are served.
pub struct Gateway {
    /// Stay bound when this does not serve any more.
    sockets: PublishedSockets,
    ports: RefCell<HashMap<SocketAddr, Port>>,
}

struct Port {
    task: AbortHandle,
    /// Replaced in place when only the service behind a port changes.
    published: Rc<RefCell<Published>>,
}

impl PublishedSockets {
    async fn bind(&self, address: SocketAddr) -> io::Result<Rc<TcpListener>> {
        if let Some(listener) = self.0.borrow().get(&address) {
            return Ok(listener.clone());
        }
        let listener = Rc::new(TcpListener::bind(address).await?);
        self.0.borrow_mut().insert(address, listener.clone());
        Ok(listener)
    }

    fn keep(&self, is_wanted: impl Fn(&SocketAddr) -> bool) {
        self.0.borrow_mut().retain(|address, _| is_wanted(address));
    }

    pub(crate) fn close(&self) {
        self.keep(|_| false);
    }
}

impl Gateway {
    pub fn new(sockets: PublishedSockets) -> Self {
        Self { sockets, ports: RefCell::default() }
    }

    /// Binds what is new and closes what is gone. Everything that cannot be bound is named in the error; the rest is
    /// served.
    pub async fn apply(&self, workers: &Rc<Workers>, wanted: &[Published]) -> Result<(), String> {
        let is_wanted = |listen: &SocketAddr| wanted.iter().any(|published| published.listen == *listen);
        self.ports.borrow_mut().retain(|listen, port| {
            if !is_wanted(listen) {
                port.task.abort();
            }
            is_wanted(listen)
        });
        self.sockets.keep(is_wanted);
        let mut problems = Vec::new();
        for published in wanted {
            if let Some(port) = self.ports.borrow().get(&published.listen) {
                port.published.replace(published.clone());
                continue;
            }
            match self.sockets.bind(published.listen).await {
                Ok(listener) => {
                    let shared = Rc::new(RefCell::new(published.clone()));
                    let task = tokio::task::spawn_local(accept(workers.clone(), listener, shared.clone()));
                    let port = Port { task: task.abort_handle(), published: shared };
                    self.ports.borrow_mut().insert(published.listen, port);
                }
                Err(error) => problems.push(format!(
                    "port {} of service {} cannot be published: {error}",
                    published.listen, published.service
                )),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Stops accepting; connections go on, and whoever connects meanwhile waits.
    pub fn close(&self) {
        self.ports.borrow_mut().drain().for_each(|(_, port)| port.task.abort());
    }
}

async fn accept(workers: Rc<Workers>, listener: Rc<TcpListener>, published: Rc<RefCell<Published>>) {
    loop {
        let (stream, place) = next_client(&workers, &listener).await;
        match place {
            Place::Here(admitted) => begin(&workers.first, admitted, stream, &published.borrow()),
            Place::There(other) => other.give(Arrival::published(stream, published.borrow().clone())),
        }
    }
}

pub fn begin(worker: &Rc<Worker>, admitted: Admitted, stream: TcpStream, published: &Published) {
    // Otherwise it has gone again.
    let Ok(peer) = stream.peer_addr() else { return };
    let from = Origin::Client { source: peer, destination: stream.local_addr().unwrap_or(published.listen) };
    let client = Connection::new(stream.into(), worker.snapshot().limits.wire.head_bytes_max);
    let caller = Caller { client, from, admitted };
    if published.accept_proxy.iter().any(|network| network.contains(peer.ip())) {
        tokio::task::spawn_local(announced(worker.clone(), caller, published.clone()));
    } else {
        tokio::task::spawn_local(serve(worker.clone(), caller, published));
    }
}

fn serve(worker: Rc<Worker>, caller: Caller, published: &Published) -> impl Future<Output = ()> + use<> {
    let snapshot = worker.snapshot();
    let declared = snapshot.destination(&published.service).and_then(|known| known.protocol(published.port));
    let protocol = published.protocol.or(declared);
    serve_service(worker, snapshot, caller, published.service.clone(), published.port, protocol)
}

/// A load balancer that says for whom it speaks.
async fn announced(worker: Rc<Worker>, mut caller: Caller, published: Published) {
    let header_timeout = worker.snapshot().limits.header_timeout;
    match timeout(header_timeout, read_header(&mut caller.client)).await {
        Ok(Ok(client @ Origin::Client { .. })) => caller.from = client,
        Ok(Ok(Origin::Itself)) => {}
        // A health check that only connects.
        Ok(Err(NoHeader::Nothing)) => return,
        Ok(Err(NoHeader::Malformed)) | Err(_) => {
            worker.registry.process.proxy_headers_rejected.increment();
            return caller.client.stream.abort();
        }
    }
    serve(worker, caller, &published).await;
}

enum NoHeader {
    /// The connection ended without a byte.
    Nothing,
    Malformed,
}

/// What a load balancer says before the client's first byte.
async fn read_header(client: &mut Connection) -> Result<Origin, NoHeader> {
    loop {
        match proxy_protocol::parse(client.input.data()) {
            Ok(Parsed::Complete { origin, bytes }) => {
                client.input.consume(bytes);
                return Ok(origin);
            }
            Ok(Parsed::Incomplete) => {}
            Err(_) => return Err(NoHeader::Malformed),
        }
        match client.fill().await {
            Ok(1..) => {}
            Ok(0) | Err(_) if client.input.is_empty() => return Err(NoHeader::Nothing),
            Ok(0) | Err(_) => return Err(NoHeader::Malformed),
        }
    }
}
