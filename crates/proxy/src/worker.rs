//! What everything on one worker, which is one thread, shares.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_telemetry::{Direction, Registry, RouteMetrics};
use sinew_transport::bulk;
use sinew_transport::tls::Tls;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::balance::Random;
use crate::failure::Failure;
use crate::http2::{Exchanges, Links};
use crate::memory::{Budget, Pressure};
use crate::pool::Pool;
use crate::shared::{Kind, Shared};
use crate::snapshot::Snapshot;
use crate::udp::Flows;
use crate::{Inside, Memory, sys};

/// Idle upstream connections are looked at this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// So many sweeps without a new client are a quiet time.
const QUIET_SWEEPS: u32 = 3;

pub struct Worker {
    snapshot: RefCell<Rc<Snapshot>>,
    tls: RefCell<Tls>,
    pub registry: Arc<Registry>,
    pub shared: Arc<Shared>,
    inside: Option<Box<dyn Inside>>,
    /// Requests over HTTP/2 that are not over.
    pub exchanges: Exchanges,
    pub memory: Budget,
    applications: RefCell<HashMap<u16, Rc<Application>>>,
    random: RefCell<Random>,
    connections: Cell<usize>,
    /// Since the last sweep.
    admitted: Cell<bool>,
    all_closed: Notify,
    phase: Cell<Phase>,
    phase_changed: Notify,
    /// Clients that have waited since then for their next request are closed.
    idle_before: Cell<Option<Instant>>,
    /// How long they may wait, since memory is short.
    patience: Cell<Option<Duration>>,
    pub udp: Flows,
    /// Of datagrams, of all destinations.
    pub flows: Cell<usize>,
}

/// What makes connections close that wait for a next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phase {
    /// The instance is leaving: connections of other sidecars end.
    pub inbound_draining: bool,
    /// The process is leaving: all connections end.
    pub stopping: bool,
    /// Another process serves since then: connections end when that disturbs nobody.
    pub handed_over: Option<Instant>,
}

/// A port of the application inside the seal.
pub struct Application {
    pub port: u16,
    pub pool: Rc<Pool>,
    pub links: Rc<Links>,
    /// The address that answered last; dialed first next time.
    pub answered: Cell<Option<IpAddr>>,
    /// When it was last asked why nobody answers, and whether it is that the application listens on loopback alone.
    pub on_loopback_only: Cell<Option<(Instant, bool)>>,
    pub metrics: Arc<RouteMetrics>,
}

impl Worker {
    pub fn new(
        snapshot: Rc<Snapshot>,
        tls: Tls,
        registry: Arc<Registry>,
        shared: Arc<Shared>,
        inside: Option<Box<dyn Inside>>,
        memory: Memory,
    ) -> Rc<Self> {
        let memory = Budget::new(memory, snapshot.limits.memory_bytes_max);
        let phase = Phase { inbound_draining: snapshot.is_draining(), ..Phase::default() };
        Rc::new(Self {
            snapshot: RefCell::new(snapshot),
            tls: RefCell::new(tls),
            registry,
            shared,
            inside,
            exchanges: Exchanges::default(),
            memory,
            applications: RefCell::default(),
            random: RefCell::new(Random::new(RandomState::new().hash_one(std::process::id()))),
            connections: Cell::new(0),
            admitted: Cell::new(false),
            all_closed: Notify::new(),
            phase: Cell::new(phase),
            phase_changed: Notify::new(),
            idle_before: Cell::new(None),
            patience: Cell::new(None),
            udp: Flows::default(),
            flows: Cell::new(0),
        })
    }

    pub fn snapshot(&self) -> Rc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Requests that come from now on meet `next`.
    pub fn set_snapshot(&self, next: Rc<Snapshot>) {
        let previous = self.snapshot.replace(next.clone());
        previous.retire_missing(&next);
        self.memory.configure(next.limits.memory_bytes_max);
        self.set_phase(Phase { inbound_draining: next.is_draining(), ..self.current_phase() });
    }

    pub fn tls(&self) -> Tls {
        self.tls.borrow().clone()
    }

    pub fn set_tls(&self, tls: Tls) {
        *self.tls.borrow_mut() = tls;
    }

    pub fn inside(&self) -> Option<&dyn Inside> {
        self.inside.as_deref()
    }

    pub fn application(&self, port: u16) -> Rc<Application> {
        let bounds = self.snapshot.borrow().limits.application_pool;
        let mut applications = self.applications.borrow_mut();
        let quotas = &self.shared.application;
        let make = || {
            Rc::new(Application {
                port,
                pool: Pool::new(bounds, quotas.quota(port, Kind::Pooled, &bounds)),
                links: Links::new(bounds, quotas.quota(port, Kind::Link, &bounds)),
                answered: Cell::new(None),
                on_loopback_only: Cell::new(None),
                metrics: self.registry.route(Direction::Inbound, &port.to_string()),
            })
        };
        applications.entry(port).or_insert_with(make).clone()
    }

    pub fn with_random<T>(&self, use_it: impl FnOnce(&mut Random) -> T) -> T {
        use_it(&mut self.random.borrow_mut())
    }

    pub fn current_phase(&self) -> Phase {
        self.phase.get()
    }

    /// The next change, counted from when that is first polled or enabled.
    pub fn phase_changed(&self) -> Notified<'_> {
        self.phase_changed.notified()
    }

    fn set_phase(&self, phase: Phase) {
        if self.phase.replace(phase) != phase {
            self.phase_changed.notify_waiters();
        }
    }

    /// Something new wants to be served: a request, or a connection to be opened upstream.
    pub fn afford(&self) -> Result<(), Failure> {
        if self.memory.look() == Pressure::None {
            return Ok(());
        }
        self.registry.process.requests_shed.increment();
        Err(Failure::Shed)
    }

    /// Whether one more client may come where the process has `connections` already. If not, that is counted.
    pub fn has_room(&self, connections: usize) -> bool {
        let is_full = connections >= self.snapshot.borrow().limits.downstream_connections_max;
        if is_full || self.memory.look() == Pressure::Out {
            self.registry.process.connections_shed.increment();
            return false;
        }
        true
    }

    /// A client's connection begins, for which there was room.
    pub fn admit(self: &Rc<Self>) -> Admitted {
        self.connections.set(self.connections.get() + 1);
        self.admitted.set(true);
        self.registry.process.connections_open.increment();
        Admitted(self.clone())
    }

    /// Of clients, open now.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// One more flow of datagrams. An end of the process waits for it only when another one serves already.
    pub fn begin_flow(self: &Rc<Self>) -> InFlow {
        self.flows.set(self.flows.get() + 1);
        InFlow(self.clone())
    }

    /// Another process serves. Returns when everything has ended that began here, or `drain_max` is over.
    pub async fn hand_over(&self, drain_max: Duration) {
        self.set_phase(Phase { handed_over: Some(Instant::now()), ..self.current_phase() });
        let all_ended = async {
            while self.connections.get() + self.flows.get() > 0 {
                self.all_closed.notified().await;
            }
        };
        let _ = tokio::time::timeout(drain_max, all_ended).await;
    }

    /// Tells idle connections to close, and waits until all are closed or `drain_max` is over.
    pub async fn drain(&self, drain_max: Duration) {
        self.set_phase(Phase { stopping: true, ..self.current_phase() });
        let all_closed = async {
            while self.connections.get() > 0 {
                self.all_closed.notified().await;
            }
        };
        // What is still open then is cut: the bound was the caller's choice.
        let _ = tokio::time::timeout(drain_max, all_closed).await;
    }

    /// Closes idle upstream connections that ended or got too old, and gives their memory back when nobody comes.
    /// Runs until dropped.
    pub async fn sweep(&self) {
        let mut interval = tokio::time::interval(SWEEP_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut quiet = QuietSpell::default();
        loop {
            interval.tick().await;
            let now = Instant::now();
            let idle_max = self.snapshot().limits.hop_pool.idle_time_max;
            self.relieve(now);
            self.snapshot().endpoints().for_each(|endpoint| endpoint.sweep(now));
            // One that is in use somewhere else than in its pool stays as well: whoever holds it counts on it.
            self.applications.borrow_mut().retain(|_, application| {
                !application.pool.sweep(now)
                    || !application.links.is_empty()
                    || application.links.spoken.is_fresh(now)
                    || Rc::strong_count(application) > 1
            });
            bulk::sweep();
            if quiet.tick(self.admitted.take(), idle_max) {
                self.exchanges.release();
                sys::give_memory_back();
            }
        }
    }
}

/// How long clients may go on waiting when memory begins to be short; half as long each second that it stays so.
const PATIENCE_MAX: Duration = Duration::from_secs(32);
const PATIENCE_MIN: Duration = Duration::from_secs(1);

impl Worker {
    /// Whether a client that has waited for its next request since then shall leave.
    pub fn closes_idle(&self, since: Instant) -> bool {
        self.idle_before.get().is_some_and(|before| since < before)
    }

    /// Once a second: what is idle goes while memory is short, what has waited longest first.
    fn relieve(&self, now: Instant) {
        let pressure = self.memory.look();
        let process = &self.registry.process;
        process.memory_bytes.set(self.memory.bytes_in_use() as u64);
        process.memory_max_bytes.set(self.memory.bytes_max() as u64);
        if pressure == Pressure::None {
            self.patience.set(None);
            return self.idle_before.set(None);
        }
        let patience = match self.patience.get() {
            None => PATIENCE_MAX,
            Some(patience) if patience > PATIENCE_MIN => patience / 2,
            Some(_) => Duration::ZERO,
        };
        self.patience.set(Some(patience));
        self.idle_before.set(now.checked_sub(patience));
        self.snapshot().endpoints().for_each(|endpoint| endpoint.close_idle());
        self.applications.borrow().values().for_each(|application| application.pool.close_idle());
        self.phase_changed.notify_waiters();
        sys::give_memory_back();
    }
}

/// When memory is given back: some sweeps after the last client came, and once more when what it left in the pools is
/// closed. Never in a busy time, which would need it again at once.
#[derive(Default)]
struct QuietSpell {
    /// `None`: memory was given back, and nobody has come since.
    sweeps: Option<u32>,
}

impl QuietSpell {
    /// One sweep is over. True: now is the time.
    fn tick(&mut self, has_admitted: bool, idle_max: Duration) -> bool {
        if has_admitted {
            self.sweeps = Some(0);
            return false;
        }
        let Some(sweeps) = &mut self.sweeps else { return false };
        *sweeps += 1;
        let pools_are_empty = SWEEP_EVERY * *sweeps > idle_max + QUIET_SWEEPS * SWEEP_EVERY;
        let is_first = *sweeps == QUIET_SWEEPS;
        if pools_are_empty {
            self.sweeps = None;
        }
        is_first || pools_are_empty
    }
}

/// A client's connection, counted until this is dropped.
pub struct Admitted(Rc<Worker>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.registry.process.connections_open.decrement();
        self.0.registry.process.connections_ended.increment();
        if self.0.connections.get() == 0 {
            self.0.all_closed.notify_waiters();
        }
    }
}

/// A flow of datagrams, counted until this is dropped.
pub struct InFlow(Rc<Worker>);

impl Drop for InFlow {
    fn drop(&mut self) {
        self.0.flows.set(self.0.flows.get() - 1);
        self.0.all_closed.notify_waiters();
    }
}

/// A client's connection on a route, counted until this is dropped.
pub struct OnRoute(Arc<RouteMetrics>);

impl OnRoute {
    pub fn new(metrics: &Arc<RouteMetrics>) -> Self {
        metrics.connections.increment();
        metrics.connections_open.increment();
        Self(metrics.clone())
    }
}

impl Drop for OnRoute {
    fn drop(&mut self) {
        self.0.connections_open.decrement();
    }
}

#[cfg(test)]
mod tests;
