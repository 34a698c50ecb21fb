//! The launcher of one application: keeps what runs as it is wanted, and answers who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sinew_spec::admin::{AdminError, Event};
use sinew_spec::application::{Application, Service, ServicePosture};
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::Published;
use sinew_spec::status::{ApplicationStatus, InstanceState};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::beneath::{self, Writable};
use crate::board::{Board, View, unix_ms};
use crate::cgroup::Cgroups;
use crate::contents::{Contents, Key};
use crate::explicit::Ports;
use crate::folders::Folders;
use crate::instance::{Adopted, Instance, Order, Situation};
use crate::logs;
use crate::operation::{Operation, Reply};
use crate::plan::Host;
use crate::reconcile::{self, Present, Step, Wanted};
use crate::record::{self, ApplicationRecord, Stopped, Version};
use crate::registry::Registry;
use crate::restart::Restarts;
use crate::shared::Shared;
use crate::sidecar::{Sidecar, succession};
use crate::traffic::Traffic;

mod adopt;
mod answer;
mod gateway;
mod prepare;
mod report;
#[cfg(test)]
mod tests;
mod update;

pub use adopt::{clean, earlier_application, earlier_posture, earlier_published};
pub use answer::{add_others, impossible};
pub use prepare::{Refusal, Scope, prepare};

/// For the answer to `down`, which is given when everything else has ended.
pub const LAST_WORDS: Duration = Duration::from_millis(50);
/// Counters of the proxies are asked for this often, and more often while somebody looks.
const SAMPLE_IDLE: Duration = Duration::from_secs(5);
/// Inits keep the bound by themselves; this is for what they could not know.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

const NEVER_POISONED: &str = "nothing panics while it holds this lock";

/// What a launcher is started with.
pub struct Options {
    pub application: Application,
    /// The application's folders, made and locked by the caller.
    pub folders: Folders,
    pub registry: Arc<dyn Registry>,
    /// Services and sidecars survive the launcher.
    pub detached: bool,
    pub posture: ServicePosture,
    /// The binary.
    pub program: PathBuf,
    pub host: Host,
    /// Values for `FileContent::Environment`.
    pub environment: BTreeMap<String, String>,
    /// Of [`prepare`].
    pub published: Vec<Published>,
}

/// A service and what is wanted of it.
struct Managed {
    service: Arc<Service>,
    contents: Contents,
    /// Of both.
    hash: u64,
    generation: u64,
    replicas: u32,
    stopped: Stopped,
    /// It is no longer in the file: its instances go, then it is forgotten.
    leaving: bool,
}

impl Managed {
    fn new(service: Service, contents: Contents) -> Self {
        Self {
            contents,
            hash: hash(&service, contents),
            generation: 0,
            replicas: service.replicas,
            stopped: Stopped::default(),
            leaving: false,
            service: Arc::new(service),
        }
    }

    fn define(&mut self, service: Service, contents: Contents) {
        self.hash = hash(&service, contents);
        (self.service, self.contents) = (Arc::new(service), contents);
    }

    fn version(&self) -> Version {
        Version { hash: self.hash, generation: self.generation }
    }

    /// How many shall run, those stopped by hand left out.
    fn wanted(&self) -> Wanted {
        let held = u32::try_from(self.stopped.numbers.len()).unwrap_or(u32::MAX);
        let none = self.leaving || self.stopped.all;
        Wanted {
            replicas: if none { 0 } else { self.replicas.saturating_sub(held) },
            version: self.version().number(),
            beside: may_run_beside(&self.service),
        }
    }
}

fn hash(service: &Service, contents: Contents) -> u64 {
    record::hash(service) ^ contents.number()
}

/// Two instances of different versions would write to the same files or hold the same device, or the file says so.
fn may_run_beside(service: &Service) -> bool {
    !service.replacing.stop_first
        && service.devices.is_empty()
        && service.mounts.iter().all(|mount| mount.read_only)
}

struct Running {
    service: ServiceName,
    orders: watch::Sender<Order>,
}

/// What came of a wait.
type Outcome = Result<(), AdminError>;
/// `None`: wait on.
type Until = Box<dyn Fn(&Launcher) -> Option<Outcome> + Send>;

/// Somebody waits until something has come true, or cannot any more.
struct Pending {
    until: Until,
    answer: Box<dyn FnOnce(Outcome) + Send>,
}

pub struct Launcher {
    shared: Arc<Shared>,
    application: Application,
    situation: watch::Sender<Arc<Situation>>,
    key: Key,
    services: BTreeMap<ServiceName, Managed>,
    running: BTreeMap<InstanceName, Running>,
    tasks: JoinSet<InstanceName>,
    published: Vec<Published>,
    gateway: Option<Sidecar>,
    gateway_process: Arc<Mutex<Option<i32>>>,
    operations: mpsc::Receiver<Operation>,
    events: broadcast::Sender<Event>,
    pending: Vec<Pending>,
    traffic: Traffic,
    /// At most one round of questions to the proxies.
    samples: JoinSet<report::Answers>,
    /// Who waits for a status with fresh counters.
    askers: Vec<(bool, Reply<ApplicationStatus>)>,
    /// At most one at a time.
    update: Option<update::Running>,
    /// Everything goes.
    leaving: Option<Order>,
    remove_volumes: bool,
    announced_ready: bool,
    /// The write end: when this goes, everything of a foreground launcher ends.
    _lifeline: Option<OwnedFd>,
}

impl Launcher {
    /// Takes over what an earlier detached launcher left, or cleans up after one that was killed. Must be called
    /// within a runtime; nothing is started before [`Launcher::run`].
    pub async fn start(
        options: Options,
        operations: mpsc::Receiver<Operation>,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, AdminError> {
        let (lifeline, write_end) = if options.detached { (None, None) } else { lifeline()? };
        let shared = Arc::new(Shared {
            registry: options.registry,
            board: Board::new(events.clone()),
            folders: options.folders,
            host: options.host,
            posture: options.posture,
            ports: Ports::default(),
            cgroups: Cgroups::detect(),
            program: options.program,
            successions: Semaphore::new(succession::AT_ONCE),
            outdated: Mutex::default(),
            proxies_lost: Mutex::default(),
            lifeline,
            environment: Mutex::new(options.environment),
        });
        let application = options.application;
        let situation = watch::Sender::new(Arc::new(Situation { application: application.clone() }));
        let earlier: Option<ApplicationRecord> = record::read(&shared.folders.application_record());
        let key = earlier.map_or_else(Key::random, |earlier| earlier.key);
        let environment = shared.environment.lock().expect(NEVER_POISONED).clone();
        let writable = Writable::new(&beneath::writable(&application, None));
        let services = application.services.iter().map(|(name, service)| {
            let contents = Contents::of(service, &environment, &writable, &key);
            (name.clone(), Managed::new(service.clone(), contents))
        });
        let services = services.collect();
        let mut launcher = Self {
            shared,
            application,
            situation,
            key,
            services,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            published: options.published,
            gateway: None,
            gateway_process: Arc::default(),
            operations,
            events,
            pending: Vec::new(),
            traffic: Traffic::default(),
            samples: JoinSet::new(),
            askers: Vec::new(),
            update: None,
            leaving: None,
            remove_volumes: false,
            announced_ready: false,
            _lifeline: write_end,
        };
        update::settle_interrupted(&launcher.shared, &launcher.application);
        launcher.declare()?;
        launcher.adopt(options.detached).await?;
        launcher.keep_gateway().await?;
        launcher.write_record();
        Ok(launcher)
    }

    /// Returns when everything has ended because somebody asked for it.
    pub async fn run(mut self) {
        let mut changes = self.shared.board.subscribe();
        let mut sample = tokio::time::interval(SAMPLE_IDLE);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(PRUNE_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.drive_update();
            self.reconcile();
            self.announce();
            self.answer_pending();
            if self.leaving.is_some() && self.running.is_empty() {
                break;
            }
            let update_due = self.update_deadline();
            tokio::select! {
                operation = self.operations.recv() => match operation {
                    Some(operation) => self.operate(operation).await,
                    // Nobody can ask any more: the application would run without anybody who could end it.
                    None => self.leave(Order::Leave),
                },
                _ = changes.changed() => {}
                ended = self.tasks.join_next(), if !self.tasks.is_empty() => self.ended(ended),
                answers = self.samples.join_next(), if !self.samples.is_empty() => self.sampled(answers),
                _ = sample.tick() => self.sample(),
                _ = tidy.tick() => self.prune_logs(),
                () = due(update_due) => {}
            }
        }
        self.finish().await;
    }

    fn prune_logs(&self) {
        if let Err(error) = logs::prune(&self.shared.folders, &self.application) {
            self.shared.log(&format!("removing old output: {error}"));
        }
    }

    fn ended(&mut self, ended: Option<Result<InstanceName, tokio::task::JoinError>>) {
        match ended {
            Some(Ok(instance)) => {
                self.running.remove(&instance);
                self.traffic.forget(&instance);
                self.forget_left_services();
            }
            // Never silently: an instance without its task is an instance that nobody restarts.
            Some(Err(error)) => {
                self.shared.log(&format!("the task of an instance failed: {error}"));
                let lost: Vec<InstanceName> = self
                    .running
                    .iter()
                    .filter(|(_, running)| running.orders.is_closed())
                    .map(|(name, _)| name.clone())
                    .collect();
                for instance in lost {
                    self.running.remove(&instance);
                    self.shared.board.remove(&instance);
                }
            }
            None => {}
        }
    }

    fn forget_left_services(&mut self) {
        let gone: Vec<ServiceName> = self
            .services
            .iter()
            .filter(|(name, managed)| managed.leaving && !self.running.values().any(|r| r.service == **name))
            .map(|(name, _)| name.clone())
            .collect();
        if gone.is_empty() {
            return;
        }
        self.services.retain(|name, _| !gone.contains(name));
        if let Err(error) = self.declare() {
            self.shared.log(&error.message);
        }
    }

    /// Tells the control plane what the application is: with the services that are on their way out, as their callers
    /// may call them until they have gone.
    fn declare(&mut self) -> Result<(), AdminError> {
        let mut application = self.application.clone();
        for (name, managed) in &self.services {
            if managed.leaving {
                application.services.entry(name.clone()).or_insert_with(|| (*managed.service).clone());
            }
        }
        let declared = self.shared.registry.declare(&application, &self.published);
        declared.map_err(|error| answer::failed(&error))?;
        self.situation.send_replace(Arc::new(Situation { application: self.application.clone() }));
        Ok(())
    }

    fn reconcile(&mut self) {
        let mut present: BTreeMap<ServiceName, Vec<Present>> = BTreeMap::new();
        let views = self.shared.board.views();
        for view in views.values() {
            present.entry(view.service.clone()).or_default().push(view.present());
        }
        // Gone from the board, and its task not yet joined: what is started under its number now would be taken for it.
        for (name, running) in self.running.iter().filter(|(name, _)| !views.contains_key(*name)) {
            if let Some(number) = reconcile::instance_number(&running.service, name) {
                let state = reconcile::State::Retiring;
                present.entry(running.service.clone()).or_default().push(Present {
                    number,
                    version: 0,
                    state,
                });
            }
        }
        drop(views);
        if let Some(order) = self.leaving {
            self.retire_in_order(order);
            return;
        }
        let mut steps: Vec<(ServiceName, Step)> = Vec::new();
        for (name, managed) in &self.services {
            let mut present = present.remove(name).unwrap_or_default();
            // Stopped by hand: on their way out, and their numbers stay taken.
            for number in &managed.stopped.numbers {
                match present.iter_mut().find(|instance| instance.number == *number) {
                    Some(instance) if instance.state != reconcile::State::Retiring => {
                        steps.push((name.clone(), Step::Retire(*number)));
                        instance.state = reconcile::State::Retiring;
                    }
                    Some(_) => {}
                    None => present.push(Present {
                        number: *number,
                        version: 0,
                        state: reconcile::State::Retiring,
                    }),
                }
            }
            let next = reconcile::steps(&managed.wanted(), &present);
            steps.extend(next.into_iter().map(|step| (name.clone(), step)));
        }
        for (service, step) in steps {
            match step {
                Step::Start(number) => self.start_instance(&service, number),
                Step::Retire(number) => {
                    self.order(&reconcile::instance_name(&service, number), Order::Retire);
                }
            }
        }
    }

    /// Those that others depend on go after them.
    fn retire_in_order(&mut self, order: Order) {
        let alive: BTreeSet<&ServiceName> = self.running.values().map(|running| &running.service).collect();
        let needed: BTreeSet<&ServiceName> = alive
            .iter()
            .filter_map(|name| self.services.get(*name))
            .flat_map(|managed| managed.service.depends_on.iter().map(|dependency| &dependency.service))
            .collect();
        let free = |name: &ServiceName| order == Order::Kill || !needed.contains(name);
        let mut go: Vec<InstanceName> = Vec::new();
        for (name, running) in &self.running {
            if free(&running.service) {
                go.push(name.clone());
            }
        }
        // A circle of dependencies must not keep anybody alive.
        if go.is_empty() {
            go.extend(self.running.keys().cloned());
        }
        for instance in go {
            self.order(&instance, order);
        }
    }

    fn order(&self, instance: &InstanceName, order: Order) {
        let Some(running) = self.running.get(instance) else { return };
        let raised = running.orders.send_if_modified(|now| {
            let raise = order > *now;
            if raise {
                *now = order;
            }
            raise
        });
        if raised {
            self.shared.board.update(instance, |view| view.retiring = true);
        }
    }

    fn start_instance(&mut self, service: &ServiceName, number: u32) {
        let Some(managed) = self.services.get(service) else { return };
        let (definition, version) = (managed.service.clone(), managed.version());
        let instance = self.instance(definition, number, version, 0);
        self.host(instance.0, instance.1, None, false);
    }

    /// An instance that is known to everybody but does not run yet.
    fn instance(
        &self,
        service: Arc<Service>,
        number: u32,
        version: Version,
        restarts: u32,
    ) -> (Instance, watch::Sender<Order>) {
        let name = reconcile::instance_name(&service.name, number);
        let mut view = View::new(service.name.clone(), number, version.number());
        view.restarts = restarts;
        self.shared.board.insert(&name, view);
        let (orders, receiver) = watch::channel(Order::Run);
        let instance = Instance {
            shared: self.shared.clone(),
            situation: self.situation.subscribe(),
            restarts: Restarts::new(service.restart, restarts),
            service,
            name,
            number,
            version,
            orders: receiver,
        };
        (instance, orders)
    }

    fn host(
        &mut self,
        instance: Instance,
        orders: watch::Sender<Order>,
        adopted: Option<Adopted>,
        was_ready: bool,
    ) {
        let name = instance.name.clone();
        self.running.insert(name.clone(), Running { service: instance.service.name.clone(), orders });
        self.announced_ready = false;
        if was_ready {
            // Not left to its task: what serves must never look, for a moment, as if it did not, or it would be replaced
            // at once and without a word to its callers.
            self.shared.board.update(&name, |view| {
                view.state = InstanceState::Running;
                view.ready = true;
                view.routed = true;
            });
        }
        self.tasks.spawn(async move {
            instance.run(adopted, was_ready).await;
            name
        });
    }

    /// Says once when everything is as wanted.
    fn announce(&mut self) {
        if self.announced_ready || self.leaving.is_some() || !self.services.values().all(|m| self.is_ready(m))
        {
            return;
        }
        self.announced_ready = true;
        let _ = self.events.send(Event::Ready { unix_ms: unix_ms() });
    }

    fn is_ready(&self, managed: &Managed) -> bool {
        let wanted = managed.wanted();
        let views = self.shared.board.views();
        let ready = views
            .values()
            .filter(|view| view.service == managed.service.name && view.version == wanted.version)
            .filter(|view| !view.retiring && (view.ready || self.is_done(view)));
        ready.count() >= wanted.replicas as usize
    }

    fn is_done(&self, view: &View) -> bool {
        view.state == InstanceState::Exited && view.exit_code == Some(0)
    }

    fn answer_pending(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match (pending.until)(self) {
                Some(outcome) => (pending.answer)(outcome),
                None => self.pending.push(pending),
            }
        }
    }

    fn leave(&mut self, order: Order) {
        self.leaving = Some(self.leaving.map_or(order, |now| now.max(order)));
    }

    async fn finish(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.end().await;
        }
        self.remove_cgroups().await;
        if self.remove_volumes
            && let Err(error) = self.shared.folders.remove_volumes()
        {
            self.shared.log(&format!("removing the volumes: {error}"));
        }
        if let Err(error) = self.shared.folders.remove_run() {
            self.shared.log(&format!("removing the run folder: {error}"));
        }
        let _ = self.events.send(Event::Down { unix_ms: unix_ms() });
        for pending in std::mem::take(&mut self.pending) {
            (pending.answer)(Ok(()));
        }
    }

    async fn remove_cgroups(&self) {
        let removed = self.shared.cgroups.remove_application(&self.shared.folders.cgroup()).await;
        if let Err(error) = removed {
            self.shared.log(&error.to_string());
        }
    }

    fn write_record(&self) {
        let stopped = self.services.iter().map(|(name, managed)| (name.clone(), managed.stopped.clone()));
        let record = ApplicationRecord {
            application: self.application.clone(),
            posture: self.shared.posture,
            published: self.published.clone(),
            stopped: stopped.filter(|(_, stopped)| *stopped != Stopped::default()).collect(),
            key: self.key.clone(),
        };
        if let Err(error) = record::write(&self.shared.folders.application_record(), &record) {
            self.shared.log(&format!("writing the record of the application: {error}"));
        }
    }
}

/// Returns at that moment. `None`: never.
async fn due(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

type Pipe = (Option<OwnedFd>, Option<OwnedFd>);

fn lifeline() -> Result<Pipe, AdminError> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|error| answer::failed(&format!("making the lifeline: {error}")))?;
    Ok((Some(read), Some(write)))
}
