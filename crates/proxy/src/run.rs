//! One worker from its first configuration to the end of its last connection.

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
use crate::snapshot::Snapshot;
use crate::worker::Worker;
use crate::{
    Applied, Gate, Handover, HopListener, OutboundListener, ProxyError, ProxyInputs, Sockets, dns, inbound,
    outbound, udp,
};

/// A published port that could not be bound is tried again: whoever held it may be on the way out.
const BIND_AGAIN: Duration = Duration::from_secs(1);

pub async fn run(inputs: ProxyInputs) -> Result<(), ProxyError> {
    let ProxyInputs { mut config, mut identity, sockets, published, inside, .. } = inputs;
    let ProxyInputs { admin, applied, mut shutdown, drain_max, mut handovers, gate, memory, .. } = inputs;
    let registry = Arc::new(Registry::default());
    let (served, served_view) = watch::channel(None);
    let admin = admin.map(|listener| {
        let admin = Admin { registry: registry.clone(), served: served_view };
        spawn_local(admin::serve(Rc::new(admin), listener))
    });
    let first = async {
        let tls = first_tls(&mut identity, &registry).await;
        let snapshot = first_snapshot(&mut config, &registry, &applied).await;
        (tls, snapshot)
    };
    let (tls, snapshot) = tokio::select! {
        first = first => first,
        () = stopped(&mut shutdown) => return Ok(()),
    };

    let worker = Worker::new(snapshot, tls, registry, inside, memory);
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
    let sweeping = spawn_local({
        let worker = worker.clone();
        async move { worker.sweep().await }
    });
    loop {
        let gateway = Rc::new(Gateway::new(published.clone()));
        let mut accepting = sockets.serve(&worker);
        let following = Following {
            worker: worker.clone(),
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
                let _ = paused.send(());
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
            let limit = worker.snapshot().limits.handover_drain;
            tokio::select! {
                () = worker.hand_over(limit) => {}
                () = stopped(&mut shutdown) => worker.drain(drain_max).await,
            }
        } else {
            worker.drain(drain_max).await;
        }
        break;
    }
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
    fn serve(&self, worker: &Rc<Worker>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for outbound in &self.outbound {
            let (worker, outbound) = (worker.clone(), outbound.clone());
            tasks.spawn_local(async move { outbound::accept(worker, &outbound).await });
        }
        if let Some(socket) = self.dns.clone() {
            let worker = worker.clone();
            tasks.spawn_local(async move { dns::serve(worker, &socket).await });
        }
        for (number, socket) in self.udp_egress.iter().cloned().enumerate() {
            tasks.spawn_local(udp::serve(worker.clone(), number, socket));
        }
        if let Some(listener) = self.hop.clone() {
            let worker = worker.clone();
            tasks.spawn_local(async move { inbound::accept(worker, &listener).await });
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
    worker: Rc<Worker>,
    gateway: Rc<Gateway>,
    config: watch::Receiver<Option<Arc<ProxyConfig>>>,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    applied: watch::Sender<Applied>,
    served: watch::Sender<Option<Arc<ProxyConfig>>>,
}

impl Following {
    /// Takes over what changes, one at a time.
    async fn follow(self) {
        let Self { worker, gateway, mut config, mut identity, applied, served } = self;
        serve_config(&worker, &gateway, &applied, &served).await;
        loop {
            let is_unbound = applied
                .borrow()
                .rejected
                .as_ref()
                .is_some_and(|(revision, _)| *revision == worker.snapshot().config.revision);
            tokio::select! {
                // A dropped sender changes nothing any more.
                () = changed(&mut config) => {
                    let wanted = config.borrow_and_update().clone();
                    let Some(wanted) = wanted else { continue };
                    match Snapshot::compile(wanted.clone(), Some(&worker.snapshot()), &worker.registry) {
                        Ok(snapshot) => {
                            worker.set_snapshot(Rc::new(snapshot));
                            serve_config(&worker, &gateway, &applied, &served).await;
                        }
                        Err(reason) => reject(&applied, wanted.revision, reason),
                    }
                }
                () = changed(&mut identity) => {
                    let newest = identity.borrow_and_update().clone();
                    if let Some(newest) = newest && let Some(tls) = make_tls(&newest, &worker.registry) {
                        worker.set_tls(tls);
                    }
                }
                () = sleep(BIND_AGAIN), if is_unbound => {
                    serve_config(&worker, &gateway, &applied, &served).await;
                }
            }
        }
    }
}
/// Requests meet the worker's snapshot already; its published ports follow, and then it is told.
async fn serve_config(
    worker: &Rc<Worker>,
    gateway: &Gateway,
    applied: &watch::Sender<Applied>,
    served: &watch::Sender<Option<Arc<ProxyConfig>>>,
) {
    let config = worker.snapshot().config.clone();
    worker.registry.process.revision.set(config.revision);
    let bound = gateway.apply(worker, &config.published).await;
    served.send_replace(Some(config.clone()));
    match bound {
        Ok(()) => {
            applied.send_replace(Applied { revision: config.revision, rejected: None });
        }
        Err(reason) => reject(applied, config.revision, reason),
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
    applied: &watch::Sender<Applied>,
) -> Rc<Snapshot> {
    loop {
        let newest = config.borrow_and_update().clone();
        if let Some(newest) = newest {
            match Snapshot::compile(newest.clone(), None, registry) {
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
