//! A process from its first configuration to the end of its last connection: the first worker's part.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;

use sinew_spec::proxy::ProxyConfig;
use sinew_telemetry::Registry;
use sinew_transport::nflog;
use sinew_transport::tls::{Identity, Tls};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Duration, sleep};

use crate::admin::{self, Admin};
use crate::gateway::Gateway;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::worker::Worker;
use crate::workers::{Registries, Workers};
use crate::{
    Applied, Gate, Handover, HopListener, OutboundListener, ProxyError, ProxyInputs, Sockets, dns, inbound,
    outbound, udp,
};

/// A published port that could not be bound is tried again, as is a worker that could not be started: whoever held what
/// they need may be on the way out.
const AGAIN: Duration = Duration::from_secs(1);

pub async fn run(inputs: ProxyInputs) -> Result<(), ProxyError> {
    let (lost, mut is_lost) = mpsc::unbounded_channel();
    tokio::select! {
        result = serve(inputs, lost) => result,
        // Its connections are gone: nobody is to think that this process serves.
        Some(()) = is_lost.recv() => Err(ProxyError::WorkerLost),
    }
}

async fn serve(inputs: ProxyInputs, lost: mpsc::UnboundedSender<()>) -> Result<(), ProxyError> {
    let ProxyInputs { mut config, mut identity, sockets, published, flows, inside, threads, .. } = inputs;
    let ProxyInputs { admin, applied, mut shutdown, drain_max, mut handovers, gate, memory, .. } = inputs;
    let registry = Arc::new(Registry::default());
    let shared = Arc::new(Shared::default());
    let registries = Rc::new(Registries::default());
    registries.add(registry.clone());
    let (served, served_view) = watch::channel(None);
    let admin = admin.map(|listener| {
        let admin = Admin { registries: registries.clone(), served: served_view };
        spawn_local(admin::serve(Rc::new(admin), listener))
    });
    let first = async {
        let tls = first_tls(&mut identity, &registry).await;
        let snapshot = first_snapshot(&mut config, &registry, &shared, &applied).await;
        (tls, snapshot)
    };
    let (tls, snapshot) = tokio::select! {
        first = first => first,
        () = stopped(&mut shutdown) => return Ok(()),
    };

    let worker = Worker::new(snapshot, tls, registry, shared, inside, memory.clone());
    let workers = Workers::new(worker.clone(), registries, memory, threads, lost);
    // Here, so that nobody waits for them when the gate opens. What fails is told when the configuration is served.
    let _ = workers.follow_first().await;
    let sockets = Standing::new(sockets)?;
    if let Some(Gate { prepared, open }) = gate {
        let _ = prepared.send(());
        tokio::select! {
            open = open => if open.is_err() {
                return Ok(());
            },
            () = stopped(&mut shutdown) => return Ok(()),
        }
    }
    udp::adopt(&worker, &sockets.udp_egress, flows);
    let sweeping = spawn_local({
        let worker = worker.clone();
        async move { worker.sweep().await }
    });
    loop {
        let gateway = Rc::new(Gateway::new(published.clone()));
        let mut accepting = sockets.serve(&workers);
        let following = Following {
            workers: workers.clone(),
            gateway: gateway.clone(),
            config: config.clone(),
            identity: identity.clone(),
            applied: applied.clone(),
            served: served.clone(),
        };
        let following = spawn_local(following.follow());
        let handover = tokio::select! {
            () = stopped(&mut shutdown) => None,
            handover = next(&mut handovers) => Some(handover),
        };
        // Nothing is lost of what queues on sockets that a successor has, too.
        accepting.shutdown().await;
        following.abort();
        gateway.close();
        let has_successor = match handover {
            None => false,
            Some(Handover { paused, outcome }) => {
                let _ = paused.send(worker.udp.duplicate());
                tokio::select! {
                    () = stopped(&mut shutdown) => false,
                    outcome = outcome => match outcome {
                        Ok(true) => true,
                        // As if nothing had been.
                        Ok(false) | Err(_) => continue,
                    }
                }
            }
        };
        drop(sockets);
        published.close();
        if has_successor {
            worker.udp.let_go();
            let limit = worker.snapshot().limits.handover_drain;
            tokio::select! {
                () = workers.hand_over(limit) => {}
                () = stopped(&mut shutdown) => workers.drain(drain_max).await,
            }
        } else {
            workers.drain(drain_max).await;
        }
        break;
    }
    workers.end();
    sweeping.abort();
    if let Some(admin) = admin {
        admin.abort();
    }
    Ok(())
}

/// What is served for the service in the seal, again and again.
struct Standing {
    outbound: Vec<Rc<OutboundListener>>,
    dns: Option<Rc<UdpSocket>>,
    udp_egress: Vec<Rc<UdpSocket>>,
    hop: Option<Rc<HopListener>>,
    refused: Option<Rc<nflog::Reader>>,
}

impl Standing {
    fn new(sockets: Sockets) -> Result<Self, ProxyError> {
        let reader = |socket| {
            nflog::Reader::new(socket).map_err(|source| ProxyError::Socket { socket: "NFLOG", source })
        };
        Ok(Self {
            outbound: sockets.outbound.into_iter().map(Rc::new).collect(),
            dns: sockets.dns.map(Rc::new),
            udp_egress: sockets.udp_egress.into_iter().map(Rc::new).collect(),
            hop: sockets.hop.map(Rc::new),
            refused: sockets.nflog.map(reader).transpose()?.map(Rc::new),
        })
    }

    /// Until what it returns is ended.
    fn serve(&self, workers: &Rc<Workers>) -> JoinSet<()> {
        let worker = &workers.first;
        let mut tasks = JoinSet::new();
        for outbound in &self.outbound {
            let (workers, outbound) = (workers.clone(), outbound.clone());
            tasks.spawn_local(async move { outbound::accept(workers, &outbound).await });
        }
        if let Some(socket) = self.dns.clone() {
            let worker = worker.clone();
            tasks.spawn_local(async move { dns::serve(worker, &socket).await });
        }
        for (number, socket) in self.udp_egress.iter().cloned().enumerate() {
            tasks.spawn_local(udp::serve(worker.clone(), number, socket));
        }
        if let Some(listener) = self.hop.clone() {
            let workers = workers.clone();
            tasks.spawn_local(async move { inbound::accept(workers, &listener).await });
        }
        if let Some(reader) = self.refused.clone() {
            let worker = worker.clone();
            tasks.spawn_local(async move {
                // An error ends the counting, not the serving.
                while let Ok(batch) = reader.next().await {
                    batch.iter().for_each(|refused| worker.registry.refused(&refused.to_string()));
                }
            });
        }
        tasks
    }
}

struct Following {
    workers: Rc<Workers>,
    gateway: Rc<Gateway>,
    config: watch::Receiver<Option<Arc<ProxyConfig>>>,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    applied: watch::Sender<Applied>,
    served: watch::Sender<Option<Arc<ProxyConfig>>>,
}

impl Following {
    /// Takes over what changes, one at a time.
    async fn follow(self) {
        let Self { workers, gateway, mut config, mut identity, applied, served } = self;
        let worker = &workers.first;
        serve_config(&workers, &gateway, &applied, &served).await;
        loop {
            let is_incomplete = applied
                .borrow()
                .rejected
                .as_ref()
                .is_some_and(|(revision, _)| *revision == worker.snapshot().config.revision);
            tokio::select! {
                // A dropped sender changes nothing any more.
                () = changed(&mut config) => {
                    let wanted = config.borrow_and_update().clone();
                    let Some(wanted) = wanted else { continue };
                    let previous = worker.snapshot();
                    match Snapshot::compile(wanted.clone(), Some(&previous), &worker.registry, &worker.shared) {
                        Ok(snapshot) => {
                            worker.set_snapshot(Rc::new(snapshot));
                            serve_config(&workers, &gateway, &applied, &served).await;
                        }
                        Err(reason) => reject(&applied, wanted.revision, reason),
                    }
                }
                () = changed(&mut identity) => {
                    let newest = identity.borrow_and_update().clone();
                    if let Some(newest) = newest && let Some(tls) = make_tls(&newest, &worker.registry) {
                        workers.set_tls(&tls);
                    }
                }
                () = sleep(AGAIN), if is_incomplete => {
                    serve_config(&workers, &gateway, &applied, &served).await;
                }
            }
        }
    }
}

/// Requests on the first worker meet its snapshot already; the other workers and published ports follow, and then it is
/// told.
async fn serve_config(
    workers: &Rc<Workers>,
    gateway: &Gateway,
    applied: &watch::Sender<Applied>,
    served: &watch::Sender<Option<Arc<ProxyConfig>>>,
) {
    let config = workers.first.snapshot().config.clone();
    workers.first.registry.process.revision.set(config.revision);
    let began = workers.follow_first().await;
    let bound = gateway.apply(workers, &config.published).await;
    served.send_replace(Some(config.clone()));
    let problems: Vec<_> = [began, bound].into_iter().filter_map(Result::err).collect();
    if problems.is_empty() {
        applied.send_replace(Applied { revision: config.revision, rejected: None });
    } else {
        reject(applied, config.revision, problems.join("; "));
    }
}

fn reject(applied: &watch::Sender<Applied>, revision: u64, reason: String) {
    applied.send_if_modified(|applied| {
        let rejected = Some((revision, reason));
        let is_news = applied.rejected != rejected;
        applied.rejected = rejected;
        is_news
    });
}

async fn first_tls(identity: &mut watch::Receiver<Option<Arc<Identity>>>, registry: &Registry) -> Tls {
    loop {
        let newest = identity.borrow_and_update().clone();
        if let Some(tls) = newest.and_then(|newest| make_tls(&newest, registry)) {
            return tls;
        }
        changed(identity).await;
    }
}

async fn first_snapshot(
    config: &mut watch::Receiver<Option<Arc<ProxyConfig>>>,
    registry: &Registry,
    shared: &Shared,
    applied: &watch::Sender<Applied>,
) -> Rc<Snapshot> {
    loop {
        let newest = config.borrow_and_update().clone();
        if let Some(newest) = newest {
            match Snapshot::compile(newest.clone(), None, registry, shared) {
                Ok(snapshot) => return Rc::new(snapshot),
                Err(reason) => reject(applied, newest.revision, reason),
            }
        }
        changed(config).await;
    }
}

/// One that cannot be used is left out: the last good one goes on.
fn make_tls(identity: &Identity, registry: &Registry) -> Option<Tls> {
    let tls = Tls::new(identity).ok()?;
    registry.process.certificate_end_unix_seconds.set(identity.not_after_unix_ms / 1000);
    Some(tls)
}

/// Never, when the sender is gone.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Never, when nobody can ask any more.
async fn next(handovers: &mut mpsc::Receiver<Handover>) -> Handover {
    match handovers.recv().await {
        Some(handover) => handover,
        None => pending().await,
    }
}

/// A dropped sender means the same as true.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
