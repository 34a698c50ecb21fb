//! Datagrams to declared destinations outside the mesh. Each destination has a standing socket inside the seal; each
//! client address on it is a flow with a socket of its own outside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use sinew_spec::proxy::EgressMatch;
use sinew_telemetry::{Outcome, RouteMetrics};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;
use crate::snapshot::Egress;
use crate::worker::{OnRoute, Worker};

const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Of one destination; what comes from further clients is dropped and counted.
const FLOWS_MAX: usize = 256;
/// Of all destinations of a worker.
const FLOWS_OF_WORKER_MAX: usize = 1024;
/// Waiting in one flow while its name is resolved.
const QUEUED_MAX: usize = 16;
/// A flow in which nothing moves is over.
const FLOW_IDLE: Duration = Duration::from_secs(60);

type Flows = Rc<RefCell<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>;

/// Serves the standing socket number `number` until dropped.
pub async fn serve(worker: Rc<Worker>, number: usize, socket: Rc<UdpSocket>) {
    let flows = Flows::default();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut datagram).await else {
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let snapshot = worker.snapshot();
        let Some(egress) = snapshot.egress_udp(number) else { continue };
        let sender = flows.borrow().get(&client).cloned();
        let sender = match sender {
            Some(sender) => sender,
            None if flows.borrow().len() >= FLOWS_MAX || worker.flows.get() >= FLOWS_OF_WORKER_MAX => {
                failed(&egress.metrics, Failure::Overload);
                continue;
            }
            None if worker.afford().is_err() => {
                failed(&egress.metrics, Failure::Shed);
                continue;
            }
            None => {
                let (sender, receiver) = mpsc::channel(QUEUED_MAX);
                flows.borrow_mut().insert(client, sender.clone());
                let (egress, inside, flows) = (egress.clone(), socket.clone(), flows.clone());
                let connect_timeout = snapshot.limits.connect_timeout;
                let counted = worker.begin_flow();
                tokio::task::spawn_local(async move {
                    let _counted = counted;
                    flow(&egress, &inside, client, receiver, connect_timeout).await;
                    flows.borrow_mut().remove(&client);
                });
                sender
            }
        };
        // A full queue drops, as the network would.
        let _ = sender.try_send(datagram[..length].to_vec());
    }
}

/// One client's datagrams and the answers to it, until nothing moves any more.
async fn flow(
    egress: &Egress,
    inside: &UdpSocket,
    client: SocketAddr,
    mut from_client: mpsc::Receiver<Vec<u8>>,
    connect_timeout: Duration,
) {
    let _on_route = OnRoute::new(&egress.metrics);
    let began = Instant::now();
    let outside = match timeout(connect_timeout, connect(egress)).await {
        Ok(Ok(outside)) => outside,
        Ok(Err(_)) => return failed(&egress.metrics, Failure::ConnectFailed),
        Err(_) => return failed(&egress.metrics, Failure::ConnectTimeout),
    };
    let _in_flight = egress.metrics.begin();
    loop {
        tokio::select! {
            datagram = from_client.recv() => {
                let Some(datagram) = datagram else { break };
                // An error is the report of an earlier datagram (unreachable): the next may get through.
                if let Ok(length) = outside.send(&datagram).await {
                    egress.metrics.sent_bytes.add(length as u64);
                }
            }
            ready = outside.readable() => {
                if ready.is_err() {
                    break;
                }
                if let Some(datagram) = receive(&outside) {
                    egress.metrics.received_bytes.add(datagram.len() as u64);
                    let _ = inside.try_send_to(&datagram, client);
                }
            }
            () = sleep(FLOW_IDLE) => break,
        }
    }
    egress.metrics.record(Outcome::Answered { status: 200 }, began.elapsed());
}

async fn connect(egress: &Egress) -> io::Result<UdpSocket> {
    let remote = match (&egress.host, &egress.target) {
        (Some(host), _) => tokio::net::lookup_host((host.as_str(), egress.port)).await?.next(),
        (None, EgressMatch::Udp { address, .. }) => Some(SocketAddr::new(*address, egress.port)),
        (None, EgressMatch::Tcp { .. }) => None,
    };
    let remote = remote.ok_or(io::ErrorKind::NotFound)?;
    let local = match remote.ip() {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(remote).await?;
    Ok(socket)
}

thread_local! {
    /// Large enough for every datagram; a flow holds none.
    static RECEIVED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn receive(outside: &UdpSocket) -> Option<Vec<u8>> {
    RECEIVED.with_borrow_mut(|buffer| {
        buffer.resize(DATAGRAM_BYTES_MAX, 0);
        let length = outside.try_recv(buffer).ok()?;
        Some(buffer[..length].to_vec())
    })
}

fn failed(metrics: &RouteMetrics, failure: Failure) {
    metrics.record(Outcome::Failed { failure: failure.label(), status: None }, Duration::ZERO);
}
