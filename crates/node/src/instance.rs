//! One instance from birth to end. What happens next is decided by pure parts (`depend`, `health`, `restart`); here
//! their decisions are carried out, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sinew_spec::application::{Probe, Service, ServicePosture};
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::Posture;
use sinew_spec::seal::{InitEvent, InitRequest, ServiceState};
use sinew_spec::status::{Health, InstanceState};
use sinew_transport::seal::{InitClient, InitError, InitEvents};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::depend::{self, Verdict};
use crate::folders::InstanceFolder;
use crate::health::{self, Tracker, probe};
use crate::listening;
use crate::process::ProcessId;
use crate::record::{InstanceRecord, Stranger, Version};
use crate::registry::Routing;
use crate::restart::{Decision, Restarts};
use crate::seal::Seal;
use crate::shared::Shared;
use crate::sidecar::Sidecar;

mod birth;
mod retire;

pub use birth::{Situation, registration};

/// Callers have this long to acknowledge.
const ACKNOWLEDGE: Duration = Duration::from_secs(1);
/// An init that was told to end has this long.
const INIT_END: Duration = Duration::from_secs(2);

/// Most instances serve within this; of those that do not it is told why.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// A reason that changes with every probe is not told with every probe.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Whoever does not listen on its declared port by then may need long, or never will.
const UNHEARD_AFTER: Duration = Duration::from_secs(60);
/// Of a service without check and port nothing can be told but that it runs on for a while.
const UNCHECKED_FOR: Duration = Duration::from_millis(500);

/// What a shell says of a program that it cannot start.
const NOT_STARTED: i32 = 127;
const SEAL_ENDED: &str = "its seal was ended from outside";

/// What the launcher wants of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    Run,
    /// Out of routing, drained, stopped, gone.
    Retire,
    /// The same without waiting for requests in flight: everybody goes.
    Leave,
    /// At once.
    Kill,
}

pub struct Instance {
    pub shared: Arc<Shared>,
    pub situation: watch::Receiver<Arc<Situation>>,
    pub service: Arc<Service>,
    pub name: InstanceName,
    pub number: u32,
    pub version: Version,
    pub orders: watch::Receiver<Order>,
    /// In [`health::check_of`]'s words; decided once.
    pub restarts: Restarts,
}

/// The processes of an instance, and the lines to them.
pub struct Sealed {
    seal: Seal,
    init: InitClient,
    events: InitEvents,
    sidecar: Sidecar,
    command: sinew_spec::seal::Command,
}

/// How a life of the service ended.
enum Life {
    Ordered,
    Exited {
        code: i32,
        lived: Duration,
    },
    /// Why, in words.
    SealLost(String),
}

/// What there is of an instance that an earlier launcher left.
pub enum Adopted {
    Sealed(Box<Sealed>),
    /// Its service ended for good, with this code.
    Ended(i32),
    /// Its launcher spoke another protocol: it serves until another one serves in its place.
    Stranger(Box<Stranger>),
}

/// Whether the service could be started.
enum Start {
    Runs,
    /// While nobody looked: it was adopted.
    Ended {
        lived: Duration,
    },
    /// The init says why not: no such program, say.
    Refused {
        why: String,
        code: i32,
    },
    /// The init cannot be asked any more.
    Gone(String),
}

impl Instance {
    /// The whole life, or what is left of it.
    pub async fn run(mut self, adopted: Option<Adopted>, was_ready: bool) {
        let sealed = match adopted {
            Some(Adopted::Ended(code)) => {
                self.show_end(code, self.end_reason(code), Decision::Stay);
                self.stay_ended().await;
                None
            }
            Some(Adopted::Stranger(stranger)) => {
                self.outlive(&stranger).await;
                None
            }
            Some(Adopted::Sealed(sealed)) => self.live(Some(*sealed), was_ready).await,
            None => self.live(None, false).await,
        };
        if let Some(sealed) = sealed {
            self.retire(sealed).await;
        }
        self.shared.board.remove(&self.name);
    }

    /// Returns when it was ordered to end, with what is still there.
    async fn live(&mut self, mut adopted: Option<Sealed>, mut was_ready: bool) -> Option<Sealed> {
        if adopted.is_none() && !self.wait_for_dependencies().await {
            return None;
        }
        loop {
            let born = Instant::now();
            let taken_over = adopted.is_some();
            let sealed = match adopted.take() {
                Some(sealed) => Ok(sealed),
                None => self.birth().await,
            };
            let mut sealed = match sealed {
                Ok(sealed) => sealed,
                Err(error) => {
                    self.clear().await;
                    let reason = error.to_string();
                    self.trouble(&reason, born.elapsed());
                    // It is tried again, but nobody should wait for that in silence.
                    self.board(|view| view.failed = Some(reason));
                    if !self.pause(born.elapsed()).await {
                        return None;
                    }
                    continue;
                }
            };
            match self.serve(&mut sealed, taken_over, std::mem::take(&mut was_ready)).await {
                Life::Ordered => return Some(sealed),
                Life::SealLost(reason) => {
                    self.abandon(sealed).await;
                    self.trouble(&reason, born.elapsed());
                    if !self.pause(born.elapsed()).await {
                        return None;
                    }
                }
                // Ended for good: nothing of it stays but its logs and its place.
                Life::Exited { code, .. } => {
                    // Twice: a launcher that dies meanwhile must not have it run again, and clearing up takes the
                    // record along.
                    let command = sealed.command.clone();
                    self.remember_end(code, &command);
                    self.teardown(sealed).await;
                    self.remember_end(code, &command);
                    self.stay_ended().await;
                    return None;
                }
            }
        }
    }

    /// Nothing runs, and nothing is to be done until it shall go.
    async fn stay_ended(&mut self) {
        self.ordered().await;
        // The logs stay.
        let _ = self.folder().clear();
    }

    /// One life of the service after the other, in one seal, until something else is to be done. `taken_over`: the
    /// first one may have ended already.
    async fn serve(&mut self, sealed: &mut Sealed, mut taken_over: bool, mut was_ready: bool) -> Life {
        loop {
            let began = Instant::now();
            let mut reason = None;
            let life = match self.start_service(sealed, std::mem::take(&mut taken_over)).await {
                // The line for events tells it too, and must have told it before another life begins.
                Start::Ended { lived } => match exit(&mut sealed.events).await {
                    Some(code) => Life::Exited { code, lived },
                    None => Life::SealLost(SEAL_ENDED.to_owned()),
                },
                Start::Runs => self.watch_life(sealed, began, std::mem::take(&mut was_ready)).await,
                Start::Refused { why, code } => {
                    reason = Some(why);
                    Life::Exited { code, lived: Duration::ZERO }
                }
                Start::Gone(why) => return Life::SealLost(why),
            };
            let Life::Exited { code, lived } = life else { return life };
            self.out_of_routing();
            let decision = self.restarts.exited(code, lived);
            self.show_end(code, reason.or_else(|| self.end_reason(code)), decision);
            let Decision::Again(pause) = decision else { return Life::Exited { code, lived } };
            // What the service left running would be in the way of its next life.
            if let Err(error) = sealed.init.tell(&InitRequest::KillAll).await {
                return Life::SealLost(error.to_string());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ordered(&mut self.orders) => return Life::Ordered,
                _ = sealed.seal.wait() => return Life::SealLost(SEAL_ENDED.to_owned()),
            }
        }
    }

    fn end_reason(&self, code: i32) -> Option<String> {
        (code != 0).then(|| format!("ended with {}", exit_words(code)))
    }

    fn show_end(&self, code: i32, reason: Option<String>, decision: Decision) {
        let restarts = self.restarts.total();
        self.board(|view| {
            view.exit_code = Some(code);
            view.health = Health::None;
            view.service_pid_inside = None;
            view.message = reason.clone();
            view.restarts = restarts;
            view.state = match decision {
                Decision::Again(_) => InstanceState::Backoff,
                Decision::Stay => InstanceState::Exited,
            };
            // What was not made to stay and has done its work counts as fine.
            view.ready = decision == Decision::Stay && code == 0;
            view.failed = reason.filter(|_| decision == Decision::Stay);
        });
    }

    /// One that runs already (it was adopted) goes on, and one that ended meanwhile has ended.
    async fn start_service(&self, sealed: &Sealed, taken_over: bool) -> Start {
        let (pid, started_unix_ms) = match sealed.init.status().await {
            Ok(ServiceState::Running { pid, started_unix_ms }) => (pid, started_unix_ms),
            Ok(ServiceState::Exited { started_unix_ms, ended_unix_ms, .. }) if taken_over => {
                return Start::Ended {
                    lived: Duration::from_millis(ended_unix_ms.saturating_sub(started_unix_ms)),
                };
            }
            Ok(ServiceState::Empty | ServiceState::Exited { .. }) => {
                match sealed.init.start(sealed.command.clone()).await {
                    Ok(pid) => (pid, crate::board::unix_ms()),
                    Err(InitError::NotStarted { reason: why, code }) => return Start::Refused { why, code },
                    Err(InitError::Refused(why)) => return Start::Refused { why, code: NOT_STARTED },
                    Err(error) => return Start::Gone(error.to_string()),
                }
            }
            Err(error) => return Start::Gone(error.to_string()),
        };
        let declared = self.service.health.is_some();
        self.board(|view| {
            // Without a declared check there is no health to show, and it runs when it can be called.
            view.state = if declared { InstanceState::Running } else { InstanceState::Starting };
            view.service_pid_inside = Some(pid);
            view.started_unix_ms = Some(started_unix_ms);
            view.exit_code = None;
            view.failed = None;
            view.health = if declared { Health::Starting } else { Health::None };
        });
        Start::Runs
    }

    async fn watch_life(&mut self, sealed: &mut Sealed, began: Instant, was_ready: bool) -> Life {
        let Sealed { seal, init, events, command, .. } = sealed;
        let folder = self.folder();
        let init_socket = folder.init_socket();
        let target = probe::Target { init, init_socket: &init_socket, command };
        let judge = Judge { shared: &self.shared, service: &self.service, name: &self.name };
        tokio::select! {
            () = ordered(&mut self.orders) => Life::Ordered,
            exited = exit(events) => match exited {
                Some(code) => Life::Exited { code, lived: began.elapsed() },
                None => Life::SealLost(SEAL_ENDED.to_owned()),
            },
            _ = seal.wait() => Life::SealLost(SEAL_ENDED.to_owned()),
            never = judge.keep(&target, was_ready) => match never {},
        }
    }

    /// False: ordered to end.
    async fn wait_for_dependencies(&mut self) -> bool {
        let mut changes = self.shared.board.subscribe();
        loop {
            let verdict = depend::judge(&self.service.depends_on, &self.shared.board.views());
            match verdict {
                Verdict::Go => break,
                Verdict::Wait(waits) => self.board(|view| {
                    view.waits_for = waits;
                    view.failed = None;
                    view.message = None;
                }),
                Verdict::Never(reason) => self.board(|view| {
                    view.waits_for = Vec::new();
                    view.message = Some(format!("is not started: {reason}"));
                    view.failed = Some(format!("is not started: {reason}"));
                }),
            }
            tokio::select! {
                () = ordered(&mut self.orders) => return false,
                _ = changes.changed() => {}
            }
        }
        self.board(|view| {
            view.waits_for = Vec::new();
            view.failed = None;
            view.message = None;
            view.state = InstanceState::Starting;
        });
        true
    }

    /// False: ordered to end.
    async fn pause(&mut self, lived: Duration) -> bool {
        let pause = self.restarts.lost(lived);
        let restarts = self.restarts.total();
        self.board(|view| view.restarts = restarts);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = ordered(&mut self.orders) => false,
        }
    }

    fn trouble(&self, reason: &str, lived: Duration) {
        self.shared.log(&format!("{}: {reason} (after {} ms)", self.name, lived.as_millis()));
        self.board(|view| {
            view.state = InstanceState::Backoff;
            view.health = Health::None;
            view.ready = false;
            view.unheard_port = None;
            view.init = None;
            view.service_pid_inside = None;
            // The first reason is the useful one.
            view.message = Some(reason.to_owned());
        });
    }

    async fn ordered(&mut self) {
        ordered(&mut self.orders).await;
    }

    fn out_of_routing(&self) {
        self.board(|view| view.routed = false);
        if let Err(error) = self.shared.registry.route(&self.name, Routing::Out) {
            self.shared.log(&error.to_string());
        }
    }

    fn board(&self, change: impl FnOnce(&mut crate::board::View)) {
        self.shared.board.update(&self.name, change);
    }

    fn folder(&self) -> InstanceFolder {
        self.shared.folders.instance(&self.name)
    }
}

/// Returns when something else than running is wanted; also when the launcher is gone.
async fn ordered(orders: &mut watch::Receiver<Order>) {
    let _ = orders.wait_for(|order| *order != Order::Run).await;
}

/// The code with which the service ends; `None`: the init is gone.
async fn exit(events: &mut InitEvents) -> Option<i32> {
    loop {
        match events.next().await {
            Ok(Some(InitEvent::Service { state: ServiceState::Exited { code, .. } })) => return Some(code),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn exit_words(code: i32) -> String {
    match code {
        129..=192 => {
            let number = code - 128;
            let name = nix::sys::signal::Signal::try_from(number)
                .map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned());
            format!("code {code} ({name})")
        }
        _ => format!("code {code}"),
    }
}

/// Probes an instance and puts it in and out of routing.
struct Judge<'a> {
    shared: &'a Arc<Shared>,
    service: &'a Service,
    name: &'a InstanceName,
}

impl Judge<'_> {
    async fn keep(&self, target: &probe::Target<'_>, was_ready: bool) -> std::convert::Infallible {
        let Some(check) = health::check_of(self.service) else {
            self.route(true).await;
            if !was_ready {
                tokio::time::sleep(UNCHECKED_FOR).await;
            }
            self.judged(true, Health::None, None);
            return std::future::pending().await;
        };
        let declared = self.service.health.is_some();
        let born = Instant::now();
        let mut tracker = Tracker::new(check, declared, born);
        let mut told = born;
        if was_ready {
            tracker.resume_healthy();
            self.route(true).await;
            self.judged(true, shown(declared, Health::Healthy), None);
        }
        loop {
            let Some(next) = tracker.next() else { return std::future::pending().await };
            tokio::time::sleep_until(next.into()).await;
            let before = tracker.health();
            let began = Instant::now();
            let tell_at = (told == born && before == Health::Starting).then_some(born + TELL_AFTER);
            let answer = self.ask(&tracker, target, tell_at).await;
            tracker.record(answer.is_ok(), began, Instant::now());
            let health = tracker.health();
            let able = health == Health::Healthy;
            // The implicit check is nobody's judgement of bad health: it only says when the first call can come.
            if health != before && (able || declared) {
                self.route(able).await;
                self.judged(
                    able,
                    shown(declared, health),
                    answer.err().map(|why| self.explain(&tracker, why)),
                );
            } else if let Err(why) = answer
                && !able
                && born.elapsed() >= TELL_AFTER
                && told.elapsed() >= TELL_EVERY
            {
                told = Instant::now();
                self.tell(self.explain(&tracker, why));
                if let Probe::Tcp { port } = tracker.probe()
                    && !declared
                    && born.elapsed() >= UNHEARD_AFTER
                {
                    self.shared.board.update(self.name, |view| view.unheard_port = Some(*port));
                }
            }
        }
    }

    /// One probe. It may be long until it gives up: at `tell_at` it is told what has not answered.
    async fn ask(
        &self,
        tracker: &Tracker,
        target: &probe::Target<'_>,
        tell_at: Option<Instant>,
    ) -> Result<(), String> {
        let probing = probe::run(tracker.probe(), target, tracker.timeout());
        tokio::pin!(probing);
        if let Some(tell_at) = tell_at {
            tokio::select! {
                answer = &mut probing => return answer,
                () = tokio::time::sleep_until(tell_at.into()) => {
                    self.tell(format!("{} has not answered yet", probe::in_words(tracker.probe())));
                }
            }
        }
        probing.await
    }

    fn tell(&self, why: String) {
        self.shared.board.update(self.name, |view| view.message = Some(why));
    }

    /// Why a probe failed; where nobody listens, with the ports on which somebody does.
    fn explain(&self, tracker: &Tracker, why: String) -> String {
        let (Probe::Tcp { port } | Probe::Http { port, .. }) = tracker.probe() else { return why };
        let shared = self.shared.posture == ServicePosture::Explicit;
        let views = self.shared.board.views();
        let lack = views.get(self.name).and_then(|view| {
            let given = view.command.as_ref().and_then(|command| command.port(*port));
            listening::lack(view.init?.pid, given.unwrap_or(*port), shared)
        });
        lack.unwrap_or(why)
    }

    async fn route(&self, able: bool) {
        self.shared.board.update(self.name, |view| view.routed = able);
        let routing = if able { Routing::In } else { Routing::Out };
        let revision = match self.shared.registry.route(self.name, routing) {
            Ok(revision) => revision,
            Err(error) => return self.shared.log(&error.to_string()),
        };
        if able {
            // Whoever waits for this instance can call it when it goes ahead. Twice: an instance gets its place in
            // routing when its own proxy serves, and that is a revision of its own.
            self.shared.registry.applied(revision, ACKNOWLEDGE).await;
            let revision = self.shared.registry.progress().revision;
            self.shared.registry.applied(revision, ACKNOWLEDGE).await;
        }
    }

    fn judged(&self, able: bool, health: Health, reason: Option<String>) {
        self.shared.board.update(self.name, |view| {
            view.health = health;
            view.message = reason;
            view.unheard_port = None;
            view.ready = able;
            if able {
                view.state = InstanceState::Running;
            }
        });
        let folder = self.shared.folders.instance(self.name);
        if let Some(record) = InstanceRecord::read(&folder) {
            let _ = InstanceRecord { ready: able, ..record }.write(&folder);
        }
    }
}

/// An implicit check is nobody's declared health.
fn shown(declared: bool, health: Health) -> Health {
    if declared { health } else { Health::None }
}
