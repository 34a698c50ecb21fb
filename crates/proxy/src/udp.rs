//! Datagrams to declared destinations outside the mesh. Each destination has a standing socket inside the seal; each
//! client address on it is a flow with a socket of its own outside, which moves to a process that succeeds this one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use sinew_spec::handover::UdpFlow;
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

/// Those that live, by the number of their standing socket and their client.
#[derive(Default)]
pub struct Flows(RefCell<HashMap<UdpFlow, Flow>>);

struct Flow {
    from_client: mpsc::Sender<Vec<u8>>,
    /// Connected. `None`: its name is being resolved.
    outside: Option<Rc<UdpSocket>>,
    /// A duplicate was made for another process.
    is_given: bool,
}

impl Flows {
    /// Of those that are connected, for the next process. One that cannot be duplicated stays.
    pub fn duplicate(&self) -> Vec<(UdpFlow, OwnedFd)> {
        let mut flows = self.0.borrow_mut();
        let duplicate = |(flow, known): (&UdpFlow, &mut Flow)| {
            let duplicate =
                known.outside.as_ref().and_then(|socket| socket.as_fd().try_clone_to_owned().ok());
            known.is_given = duplicate.is_some();
            Some((*flow, duplicate?))
        };
        flows.iter_mut().filter_map(duplicate).collect()
    }

    /// The next process has those of which duplicates were made: they end here. The others go on until nothing moves any
    /// more.
    pub fn let_go(&self) {
        self.0.borrow_mut().retain(|_, flow| !flow.is_given);
    }

    fn of(&self, socket: usize) -> usize {
        self.0.borrow().keys().filter(|flow| flow.socket == socket).count()
    }
}

/// Flows of an earlier process go on. Those for whose destination there is no declaration any more end.
pub fn adopt(worker: &Rc<Worker>, standing: &[Rc<UdpSocket>], flows: Vec<(UdpFlow, OwnedFd)>) {
    for (flow, outside) in flows.into_iter().take(FLOWS_OF_WORKER_MAX) {
        let snapshot = worker.snapshot();
        let (Some(egress), Some(inside)) = (snapshot.egress_udp(flow.socket), standing.get(flow.socket))
        else {
            continue;
        };
        let outside = std::net::UdpSocket::from(outside);
        let outside = outside.set_nonblocking(true).and_then(|()| UdpSocket::from_std(outside));
        if let Ok(outside) = outside {
            begin(worker, egress.clone(), inside.clone(), flow, Some(Rc::new(outside)));
        }
    }
}

/// Serves the standing socket number `number` until dropped.
pub async fn serve(worker: Rc<Worker>, number: usize, socket: Rc<UdpSocket>) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut datagram).await else {
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        let snapshot = worker.snapshot();
        let Some(egress) = snapshot.egress_udp(number) else { continue };
        let flow = UdpFlow { socket: number, client };
        let sender = worker.udp.0.borrow().get(&flow).map(|known| known.from_client.clone());
        let sender = match sender {
            Some(sender) => sender,
            None if worker.flows.get() >= FLOWS_OF_WORKER_MAX || worker.udp.of(number) >= FLOWS_MAX => {
                failed(&egress.metrics, Failure::Overload);
                continue;
            }
            None if worker.afford().is_err() => {
                failed(&egress.metrics, Failure::Shed);
                continue;
            }
            None => begin(&worker, egress.clone(), socket.clone(), flow, None),
        };
        // A full queue drops, as the network would.
        let _ = sender.try_send(datagram[..length].to_vec());
    }
}

/// `outside`: of an earlier process, connected. Returns where its client's datagrams go.
fn begin(
    worker: &Rc<Worker>,
    egress: Rc<Egress>,
    inside: Rc<UdpSocket>,
    flow: UdpFlow,
    outside: Option<Rc<UdpSocket>>,
) -> mpsc::Sender<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(QUEUED_MAX);
    let known = Flow { from_client: sender.clone(), outside: outside.clone(), is_given: false };
    worker.udp.0.borrow_mut().insert(flow, known);
    let worker = worker.clone();
    let counted = worker.begin_flow();
    tokio::task::spawn_local(async move {
        let _counted = counted;
        run(&worker, &egress, &inside, flow, receiver, outside).await;
        worker.udp.0.borrow_mut().remove(&flow);
    });
    sender
}

/// One client's datagrams and the answers to it, until nothing moves any more.
async fn run(
    worker: &Worker,
    egress: &Egress,
    inside: &UdpSocket,
    flow: UdpFlow,
    mut from_client: mpsc::Receiver<Vec<u8>>,
    outside: Option<Rc<UdpSocket>>,
) {
    let _on_route = OnRoute::new(&egress.metrics);
    let began = Instant::now();
    let connect_timeout = worker.snapshot().limits.connect_timeout;
    let outside = match outside {
        Some(outside) => outside,
        None => match timeout(connect_timeout, connect(egress)).await {
            Ok(Ok(outside)) => Rc::new(outside),
            Ok(Err(_)) => return failed(&egress.metrics, Failure::ConnectFailed),
            Err(_) => return failed(&egress.metrics, Failure::ConnectTimeout),
        },
    };
    if let Some(known) = worker.udp.0.borrow_mut().get_mut(&flow) {
        known.outside = Some(outside.clone());
    }
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
                    let _ = inside.try_send_to(&datagram, flow.client);
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
