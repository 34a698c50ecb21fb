//! From the service in the seal to others: the original destination decides.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use sinew_spec::application::Protocol;
use sinew_spec::name::ServiceName;
use sinew_transport::{Stream, dial, original};
use sinew_wire::proxy_protocol::{self, Origin};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};

use crate::arrival::Arrival;
use crate::connection::Connection;
use crate::detection::Http;
use crate::failure::Failure;
use crate::flow::{Address, Flow, Side};
use crate::http;
use crate::snapshot::{Egress, Found, Snapshot};
use crate::upstream::{Target, TcpUpstream};
use crate::worker::{Admitted, OnRoute, Worker};
use crate::workers::{Place, Workers};
use crate::{OriginalDestination, OutboundListener, detection, dns, tcp};

/// After an accept that failed: descriptors have run out, most likely, and come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts until dropped.
pub async fn accept(workers: Rc<Workers>, outbound: &OutboundListener) {
    loop {
        let (stream, place) = next_client(&workers, &outbound.listener).await;
        let meant = match outbound.destination {
            OriginalDestination::Fixed(destination) => Ok(destination),
            OriginalDestination::Redirected => original::destination(&stream),
        };
        match meant {
            Ok(meant) => match place {
                Place::Here(admitted) => begin(&workers.first, admitted, stream, meant),
                Place::There(other) => other.give(Arrival::outbound(stream, meant)),
            },
            // Somebody dialed the reserved port itself.
            Err(_) => refuse(&workers.first, &stream.into(), outbound.listener.local_addr().ok()),
        }
    }
}

/// The next client that may be served; those above the limit are reset.
pub async fn next_client(workers: &Workers, listener: &TcpListener) -> (TcpStream, Place) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match workers.place() {
                Some(place) => return (stream, place),
                None => Stream::from(stream).abort(),
            },
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// `meant`: its original destination.
pub fn begin(worker: &Rc<Worker>, admitted: Admitted, stream: TcpStream, meant: SocketAddr) {
    tokio::task::spawn_local(serve(worker.clone(), admitted, stream, meant));
}

async fn serve(worker: Rc<Worker>, admitted: Admitted, stream: TcpStream, meant: SocketAddr) {
    let snapshot = worker.snapshot();
    let client = Connection::new(stream.into(), snapshot.limits.wire.head_bytes_max);
    match snapshot.find(meant) {
        Found::Service(destination) => {
            let protocol = destination.protocol(meant.port());
            let service = destination.service.clone();
            let caller = Caller { client, from: Origin::Itself, admitted };
            serve_service(worker, snapshot, caller, service, meant.port(), protocol).await;
        }
        // Boxed, as they are larger than what an HTTP client needs.
        Found::Egress(egress) => {
            Box::pin(serve_egress(&worker, &snapshot, client, &egress, meant.ip())).await
        }
        Found::Resolver => Box::pin(dns::serve_stream(&worker, client)).await,
        Found::Nothing => refuse(&worker, &client.stream, Some(meant)),
    }
}

/// Our own application, or whoever called a published port.
pub struct Caller {
    pub client: Connection,
    /// Its address, as far as somebody who is believed said it.
    pub from: Origin,
    pub admitted: Admitted,
}

/// A client of `service`. No `async fn`, which would hold its arguments twice for as long as the connection lives; for the
/// same reason whoever wants this as a task spawns it as it is, not within another future.
pub fn serve_service(
    worker: Rc<Worker>,
    snapshot: Rc<Snapshot>,
    caller: Caller,
    service: ServiceName,
    port: u16,
    mut protocol: Option<Protocol>,
) -> impl Future<Output = ()> {
    let Caller { mut client, from, admitted } = caller;
    let destination = snapshot.destination(&service).cloned();
    if let Some(version) = destination.as_ref().and_then(|destination| destination.proxy_header(port)) {
        // Of a connection that serves many callers it would be a lie: these are passed on one to one.
        client.precede(&proxy_protocol::encode(version, &from));
        protocol = Some(Protocol::Tcp);
    }
    let from = match from {
        Origin::Itself => None,
        Origin::Client { source, .. } => Some(Address::new(source.ip().to_canonical())),
    };
    let flow = Flow { worker, side: Side::Outbound { service, port, from } };
    async move {
        let _admitted = admitted;
        let Some(destination) = destination else {
            return client.stream.abort();
        };
        let (client, on_route) = match protocol {
            // What is not HTTP is refused there.
            Some(protocol) if protocol.is_http() => (client, None),
            // What only others need is boxed, so that it is no part of every HTTP client's memory.
            Some(_) => {
                let target = Target::Service { destination, port };
                return Box::pin(serve_tcp(&flow.worker, &snapshot, &target, client)).await;
            }
            None => {
                let target = Target::Service { destination, port };
                let detected = Box::pin(detection::serve(&flow.worker, &snapshot, &target, client)).await;
                let Some(Http { client, on_route }) = detected else { return };
                (client, on_route)
            }
        };
        drop(snapshot);
        http::serve(&flow, client, on_route).await;
    }
}

async fn serve_tcp(worker: &Worker, snapshot: &Snapshot, target: &Target, client: Connection) {
    let _on_route = OnRoute::new(target.metrics());
    tcp::serve(worker, snapshot, target, client).await;
}

/// A declared destination outside the mesh, dialed from the host's network.
async fn serve_egress(
    worker: &Worker,
    snapshot: &Snapshot,
    client: Connection,
    egress: &Egress,
    meant: IpAddr,
) {
    let _on_route = OnRoute::new(&egress.metrics);
    if let Err(failure) = worker.afford() {
        return tcp::refuse(&egress.metrics, &client, failure);
    }
    let deadline = Instant::now() + snapshot.limits.connect_timeout;
    let dialed = match &egress.host {
        Some(host) => timeout_at(deadline, Box::pin(dial::connect(host, egress.port))).await,
        None => timeout_at(deadline, TcpStream::connect((meant, egress.port))).await,
    };
    match dialed {
        Ok(Ok(stream)) => {
            let upstream = TcpUpstream { stream: stream.into(), _load: None };
            tcp::relay(snapshot, &egress.metrics, client, upstream, Vec::new()).await;
        }
        Ok(Err(_)) => tcp::refuse(&egress.metrics, &client, Failure::ConnectFailed),
        Err(_) => tcp::refuse(&egress.metrics, &client, Failure::ConnectTimeout),
    }
}

fn refuse(worker: &Worker, stream: &Stream, meant: Option<SocketAddr>) {
    if let Some(meant) = meant {
        worker.registry.refused(&format!("{meant}/tcp"));
    }
    stream.abort();
}
