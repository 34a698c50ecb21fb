//! The workers of a process. Each is a thread with a runtime, connections, pools and counters of its own; requests of
//! different workers never meet. The first is the one that [`crate::run`] is polled on: it alone accepts, and gives each
//! connection to the worker that has the fewest, and it alone does what exists once (configuration, names, datagrams,
//! admin). What workers must know of each other is in [`crate::shared`].

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sinew_spec::proxy::{ProxyConfig, WORKERS_MAX, Workers as Wanted};
use sinew_telemetry::{Figures, Registry};
use sinew_transport::tls::Tls;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::arrival::Arrival;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::worker::{Admitted, Worker};
use crate::{Inside, Memory, Threads};

pub struct Workers {
    pub first: Rc<Worker>,
    others: RefCell<Vec<Rc<Other>>>,
    registries: Rc<Registries>,
    memory: Memory,
    threads: Threads,
    /// Told by a thread that ended without having been asked to.
    lost: mpsc::UnboundedSender<()>,
}

/// The counters of all workers, also of those that are no more.
#[derive(Default)]
pub struct Registries {
    present: RefCell<Vec<Arc<Registry>>>,
    past: RefCell<Figures>,
}

/// A worker on another thread.
pub struct Other {
    /// Bounded by the limit of connections, but for some that the first worker waits for.
    /// `None`: it was ended.
    orders: RefCell<Option<mpsc::UnboundedSender<Order>>>,
    /// Connections, since it began.
    given: Cell<u64>,
    registry: Arc<Registry>,
    /// What it has said that it serves.
    config: RefCell<Arc<ProxyConfig>>,
    /// It gets no connections any more.
    is_leaving: Cell<bool>,
    thread: RefCell<Option<JoinHandle<()>>>,
}

/// Where an accepted connection is served.
pub enum Place {
    Here(Admitted),
    There(Rc<Other>),
}

enum Order {
    Serve(Arrival),
    Config(Arc<ProxyConfig>, oneshot::Sender<()>),
    Identity(Tls),
    /// Answered when nothing is left, or the time is over.
    End(End, oneshot::Sender<()>),
}

/// See [`Worker::hand_over`] and [`Worker::drain`].
#[derive(Clone, Copy)]
enum End {
    HandOver(Duration),
    Drain(Duration),
}

impl Registries {
    pub fn add(&self, registry: Arc<Registry>) {
        self.present.borrow_mut().push(registry);
    }

    /// Its worker has ended: what it counted stays.
    fn fold(&self, registry: &Arc<Registry>) {
        self.present.borrow_mut().retain(|other| !Arc::ptr_eq(other, registry));
        let mut past = self.past.borrow_mut();
        past.merge(&registry.figures());
        // What is of this moment is not of the past.
        *past = Figures {
            connections_of_workers: Vec::new(),
            revision: 0,
            memory_bytes: 0,
            ..std::mem::take(&mut past)
        };
    }

    pub fn figures(&self) -> Figures {
        let mut figures = self.past.borrow().clone();
        self.present.borrow().iter().for_each(|registry| figures.merge(&registry.figures()));
        figures
    }
}

impl Workers {
    pub fn new(
        first: Rc<Worker>,
        registries: Rc<Registries>,
        memory: Memory,
        threads: Threads,
        lost: mpsc::UnboundedSender<()>,
    ) -> Rc<Self> {
        Rc::new(Self { first, others: RefCell::default(), registries, memory, threads, lost })
    }

    /// Where a connection that has come is served: by the worker that has the fewest. `None`: there are as many as may be,
    /// or there is no memory for one more.
    pub fn place(&self) -> Option<Place> {
        let others = self.others.borrow();
        let mut total = self.first.connections();
        let mut least: Option<(&Rc<Other>, usize)> = None;
        for other in &*others {
            let open = other.connections();
            total += open;
            if !other.is_leaving.get() && open < least.map_or(self.first.connections(), |(_, least)| least) {
                least = Some((other, open));
            }
        }
        self.first.has_room(total).then(|| match least {
            None => Place::Here(self.first.admit()),
            Some((other, _)) => Place::There(other.clone()),
        })
    }

    /// Makes all workers serve what the first one serves, and as many of them as it says. When this returns, requests meet
    /// it everywhere. Error: there are fewer workers than wanted.
    pub async fn follow_first(self: &Rc<Self>) -> Result<(), String> {
        let snapshot = self.first.snapshot();
        let began = self.resize(count(snapshot.config.limits.workers)).await;
        let others = self.others.borrow().clone();
        let mut told = Vec::new();
        for other in others.iter().filter(|other| !Arc::ptr_eq(&other.config.borrow(), &snapshot.config)) {
            let (done, is_done) = oneshot::channel();
            other.order(Order::Config(snapshot.config.clone(), done));
            told.push((other, is_done));
        }
        for (other, is_done) in told {
            // One that is gone ends the process.
            if is_done.await.is_ok() {
                other.config.replace(snapshot.config.clone());
            }
        }
        began
    }

    pub fn set_tls(&self, tls: &Tls) {
        self.first.set_tls(tls.clone());
        self.others.borrow().iter().for_each(|other| other.order(Order::Identity(tls.clone())));
    }

    /// Another process serves. Returns when everything has ended that began here, or `drain_max` is over.
    pub async fn hand_over(&self, drain_max: Duration) {
        let others = self.end_others(End::HandOver(drain_max));
        self.first.hand_over(drain_max).await;
        others.await;
    }

    /// Tells idle connections to close, and waits until all are closed or `drain_max` is over.
    pub async fn drain(&self, drain_max: Duration) {
        let others = self.end_others(End::Drain(drain_max));
        self.first.drain(drain_max).await;
        others.await;
    }

    /// Nothing runs on when this returns. What the other workers still have is cut.
    pub fn end(&self) {
        Other::join(self.others.take());
    }

    /// Told at once; the future waits for all of them.
    fn end_others(&self, end: End) -> impl Future<Output = ()> + use<> {
        let ends: Vec<_> = self.others.borrow().iter().map(|other| other.end(end)).collect();
        async move {
            for has_ended in ends {
                let _ = has_ended.await;
            }
        }
    }

    async fn resize(self: &Rc<Self>, wanted: usize) -> Result<(), String> {
        let staying = || {
            let others = self.others.borrow();
            others.iter().filter(|other| !other.is_leaving.get()).cloned().collect::<Vec<_>>()
        };
        let present = 1 + staying().len();
        if wanted > present {
            (self.threads.prepare)(wanted);
        }
        for number in present..wanted {
            let other = self.begin(number + 1).await?;
            self.registries.add(other.registry.clone());
            self.others.borrow_mut().push(other);
        }
        let limit = self.first.snapshot().limits.handover_drain;
        for other in staying().into_iter().skip(wanted - 1) {
            other.is_leaving.set(true);
            let has_ended = other.end(End::HandOver(limit));
            let workers = self.clone();
            spawn_local(async move {
                let _ = has_ended.await;
                workers.others.borrow_mut().retain(|known| !Rc::ptr_eq(known, &other));
                let registry = other.registry.clone();
                // What it cut is counted as closed when its thread is over, which it is at once.
                Other::join(vec![other]);
                workers.registries.fold(&registry);
            });
        }
        Ok(())
    }

    async fn begin(&self, number: usize) -> Result<Rc<Other>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("worker {number} cannot be started: {error}");
        let (orders, orders_out) = mpsc::unbounded_channel();
        let (began, has_begun) = oneshot::channel();
        let config = self.first.snapshot().config.clone();
        let beginning = Beginning {
            config: config.clone(),
            tls: self.first.tls(),
            shared: self.first.shared.clone(),
            inside: self.first.inside().map(Inside::for_another),
            memory: self.memory.clone(),
            orders: orders_out,
            began,
        };
        let (threads, lost) = (self.threads, self.lost.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let mut watch = Watch { lost, was_asked: false };
            (threads.begin)();
            watch.was_asked = beginning.run();
            (threads.end)();
        });
        let thread = thread.map_err(|error| failed(&error))?;
        let registry = match has_begun.await {
            Ok(Ok(registry)) => registry,
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => return Err(failed(&"it has ended")),
        };
        Ok(Rc::new(Other {
            orders: RefCell::new(Some(orders)),
            given: Cell::new(0),
            registry,
            config: RefCell::new(config),
            is_leaving: Cell::new(false),
            thread: RefCell::new(Some(thread)),
        }))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}

impl Other {
    /// Ends their threads.
    fn join(others: Vec<Rc<Self>>) {
        let threads: Vec<_> = others.iter().filter_map(|other| other.thread.take()).collect();
        // Without anybody who could tell it more a thread ends.
        others.iter().for_each(|other| drop(other.orders.take()));
        // A panic has been told by the hook, and its end by the watch.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// Which is closed when it could not be taken from its runtime.
    pub fn give(&self, arrival: io::Result<Arrival>) {
        if let Ok(arrival) = arrival {
            self.given.set(self.given.get() + 1);
            self.order(Order::Serve(arrival));
        }
    }

    fn connections(&self) -> usize {
        (self.given.get() - self.registry.process.connections_ended.get()) as usize
    }

    fn end(&self, end: End) -> oneshot::Receiver<()> {
        let (ended, has_ended) = oneshot::channel();
        self.order(Order::End(end, ended));
        has_ended
    }

    fn order(&self, order: Order) {
        // Fails when its thread has ended, and then the process ends.
        if let Some(orders) = &*self.orders.borrow() {
            let _ = orders.send(order);
        }
    }
}

/// What a thread becomes a worker with.
struct Beginning {
    config: Arc<ProxyConfig>,
    tls: Tls,
    shared: Arc<Shared>,
    inside: Option<Box<dyn FnOnce() -> Box<dyn Inside> + Send>>,
    memory: Memory,
    orders: mpsc::UnboundedReceiver<Order>,
    began: oneshot::Sender<Result<Arc<Registry>, String>>,
}

impl Beginning {
    /// The life of the thread. True: it was asked to end.
    fn run(self) -> bool {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return self.began.send(Err(error.to_string())).is_ok(),
        };
        let tasks = LocalSet::new();
        // A task as well: what is waited for here is polled whenever any task is woken.
        let work = tasks.spawn_local(self.serve());
        tasks.block_on(&runtime, work).expect("nobody ends it from outside");
        // A name may still be looked up for a connection that is gone.
        runtime.shutdown_background();
        true
    }

    async fn serve(self) {
        let Self { config, tls, shared, inside, memory, mut orders, began } = self;
        // Made here, so that what this worker counts lies beside nothing that another one writes.
        let registry = Arc::new(Registry::default());
        let snapshot = match Snapshot::compile(config, None, &registry, &shared) {
            Ok(snapshot) => Rc::new(snapshot),
            Err(reason) => return drop(began.send(Err(reason))),
        };
        registry.process.revision.set(snapshot.config.revision);
        let inside = inside.map(|make| make());
        let worker = Worker::new(snapshot, tls, registry.clone(), shared, inside, memory);
        let sweeping = spawn_local({
            let worker = worker.clone();
            async move { worker.sweep().await }
        });
        if began.send(Ok(registry)).is_err() {
            return;
        }
        while let Some(order) = orders.recv().await {
            obey(&worker, order);
        }
        sweeping.abort();
    }
}

fn obey(worker: &Rc<Worker>, order: Order) {
    match order {
        Order::Serve(arrival) => arrival.begin(worker),
        Order::Config(config, done) => {
            let previous = worker.snapshot();
            let compiled = Snapshot::compile(config, Some(&previous), &worker.registry, &worker.shared);
            let snapshot = compiled.expect("the first worker has made the same of it");
            worker.registry.process.revision.set(snapshot.config.revision);
            worker.set_snapshot(Rc::new(snapshot));
            let _ = done.send(());
        }
        Order::Identity(tls) => worker.set_tls(tls),
        Order::End(end, ended) => {
            let worker = worker.clone();
            spawn_local(async move {
                match end {
                    End::HandOver(drain_max) => worker.hand_over(drain_max).await,
                    End::Drain(drain_max) => worker.drain(drain_max).await,
                }
                let _ = ended.send(());
            });
        }
    }
}

/// Tells when a thread ends that nobody has asked to.
struct Watch {
    lost: mpsc::UnboundedSender<()>,
    was_asked: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.was_asked {
            let _ = self.lost.send(());
        }
    }
}

/// From 1 to [`WORKERS_MAX`].
pub fn count(wanted: Option<Wanted>) -> usize {
    match wanted {
        None => 1,
        Some(Wanted::Count(count)) => count.clamp(1, WORKERS_MAX),
        Some(Wanted::Auto) => {
            std::thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX))
        }
    }
}
