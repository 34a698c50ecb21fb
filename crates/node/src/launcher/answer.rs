//! Operations: what is asked of a running application, and when it is answered.

use super::*;

use sinew_spec::admin::{Changes, DownRequest, ErrorCode, InstanceAccess, ServiceChange};
use sinew_spec::application::FileGrant;
use sinew_spec::seal::InitRequest;
use sinew_transport::seal::InitClient;

use crate::plan;

impl Launcher {
    pub(super) async fn operate(&mut self, operation: Operation) {
        if self.leaving.is_some() {
            return self.operate_while_leaving(operation);
        }
        if let Some(error) = self.updating()
            && operation.changes()
        {
            return operation.refuse(error);
        }
        match operation {
            Operation::Status { memory, reply } => {
                self.askers.push((memory, reply));
                self.sample();
            }
            Operation::Scale { service, replicas, reply } => {
                let scaled = self.managed(&service).map(|managed| {
                    managed.replicas = replicas;
                    managed.stopped = Stopped::default();
                    true
                });
                self.changed(scaled, Request { service, instance: None, kind: Kind::Scale }, reply);
            }
            Operation::Restart { service, instance, reply } => {
                let restarted = self.restart(&service, instance.as_ref()).map(|()| true);
                self.changed(restarted, Request { service, instance, kind: Kind::Restart }, reply);
            }
            Operation::Stop { service, instance, reply } => {
                let stopped = self.hold(&service, instance.as_ref(), true);
                self.changed(stopped, Request { service, instance, kind: Kind::Stop }, reply);
            }
            Operation::Start { service, instance, reply } => {
                let held = self.hold(&service, instance.as_ref(), false);
                let started = held.map(|held| self.run_again(&service, instance.as_ref()) || held);
                self.changed(started, Request { service, instance, kind: Kind::Start }, reply);
            }
            Operation::Apply { application, environment, partial, reply } => {
                let applied = self.apply(*application, environment, partial).await;
                self.write_record();
                send(reply, applied);
            }
            Operation::Update { asked, reply } => self.begin_update(*asked, reply),
            Operation::Access { instance, reply } => send(reply, self.access(instance)),
            Operation::Down { request, reply } => self.down(request, reply),
        }
    }

    fn operate_while_leaving(&mut self, operation: Operation) {
        let conflict = || AdminError::new(ErrorCode::Conflict, "the application is going down");
        match operation {
            Operation::Status { memory, reply } => send(reply, Ok(self.status(memory))),
            Operation::Access { instance, reply } => send(reply, self.access(instance)),
            Operation::Down { request, reply } => self.down(request, reply),
            changing => changing.refuse(conflict()),
        }
    }

    fn managed(&mut self, service: &ServiceName) -> Result<&mut Managed, AdminError> {
        self.services.get_mut(service).filter(|managed| !managed.leaving).ok_or_else(|| {
            AdminError::new(ErrorCode::UnknownService, format!("there is no service `{service}`"))
        })
    }

    /// Answers when whoever shall go has gone, and whoever shall come serves. `done`: whether anything is to be done.
    fn changed(&mut self, done: Result<bool, AdminError>, request: Request, reply: Reply<Changes>) {
        let service = request.service.clone();
        match done {
            Ok(true) => {}
            Ok(false) => return send(reply, Ok(Changes { unchanged: vec![service], ..Changes::default() })),
            Err(error) => return send(reply, Err(error)),
        }
        self.announced_ready = false;
        self.write_record();
        let change = ServiceChange {
            service,
            keys: vec![request.kind.key().to_owned()],
            replaced: request.kind == Kind::Restart,
        };
        let changes = Changes { changed: vec![change], ..Changes::default() };
        self.pending.push(Pending {
            until: Box::new(move |launcher| launcher.outcome(&request)),
            answer: Box::new(move |outcome| send(reply, outcome.map(|()| changes))),
        });
        self.reconcile();
    }

    /// `None`: somebody is on their way out or outdated, or does not serve yet and shall.
    fn outcome(&self, request: &Request) -> Option<Outcome> {
        let Request { service, instance, kind } = request;
        let Some(managed) = self.services.get(service) else { return Some(Ok(())) };
        let wanted = managed.wanted();
        let views = self.shared.board.views();
        let shall_serve = matches!(kind, Kind::Restart | Kind::Start);
        let mut staying = 0;
        let mut open = false;
        for (name, view) in views.iter().filter(|(_, view)| view.service == *service) {
            let is_outdated = view.version != wanted.version;
            let concerned = instance.as_ref().is_none_or(|instance| instance == name);
            if shall_serve
                && !is_outdated
                && !view.retiring
                && let Some(error) = does_not_come_up(name, view)
            {
                return Some(Err(error));
            }
            open |= view.retiring || (shall_serve && concerned && is_outdated);
            open |=
                shall_serve && !is_outdated && !(self.serves(view) || *kind == Kind::Start && waits(view));
            staying += 1;
        }
        let enough = staying <= wanted.replicas && (!shall_serve || staying >= wanted.replicas);
        (enough && !open).then_some(Ok(()))
    }

    fn serves(&self, view: &View) -> bool {
        view.ready || self.is_done(view)
    }

    /// What has ended for good shall run once more. True: there is such an instance.
    fn run_again(&mut self, service: &ServiceName, instance: Option<&InstanceName>) -> bool {
        let ended: Vec<InstanceName> = self
            .shared
            .board
            .views()
            .iter()
            .filter(|(name, view)| {
                view.service == *service
                    && instance.is_none_or(|instance| instance == *name)
                    && view.state == InstanceState::Exited
                    && !view.retiring
            })
            .map(|(name, _)| name.clone())
            .collect();
        for instance in &ended {
            // Of no version that is wanted: it is replaced like an outdated one.
            self.shared.board.update(instance, |view| view.version = 0);
        }
        !ended.is_empty()
    }

    fn restart(&mut self, service: &ServiceName, instance: Option<&InstanceName>) -> Result<(), AdminError> {
        self.managed(service)?;
        match instance {
            Some(instance) => {
                self.known(service, instance)?;
                // Of no version that is wanted: it is replaced like an outdated one.
                self.shared.board.update(instance, |view| view.version = 0);
            }
            None => {
                let mut affected = vec![service.clone()];
                // `depends_on.restart`: Compose restarts those too.
                for (name, managed) in &self.services {
                    if managed.service.depends_on.iter().any(|d| d.restart && d.service == *service) {
                        affected.push(name.clone());
                    }
                }
                for name in affected {
                    if let Some(managed) = self.services.get_mut(&name) {
                        managed.generation += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn known(&self, service: &ServiceName, instance: &InstanceName) -> Result<u32, AdminError> {
        let known = self.shared.board.views().contains_key(instance);
        let held =
            |number: &u32| self.services.get(service).is_some_and(|m| m.stopped.numbers.contains(number));
        reconcile::instance_number(service, instance).filter(|number| known || held(number)).ok_or_else(
            || AdminError::new(ErrorCode::UnknownInstance, format!("{service} has no instance `{instance}`")),
        )
    }

    fn hold(
        &mut self,
        service: &ServiceName,
        instance: Option<&InstanceName>,
        stop: bool,
    ) -> Result<bool, AdminError> {
        let number = instance.map(|instance| self.known(service, instance)).transpose()?;
        let stopped = &mut self.managed(service)?.stopped;
        let before = stopped.clone();
        match (number, stop) {
            (None, true) => stopped.all = true,
            (None, false) => *stopped = Stopped::default(),
            (Some(number), true) => drop(stopped.numbers.insert(number)),
            (Some(number), false) => drop(stopped.numbers.remove(&number)),
        }
        Ok(*stopped != before)
    }

    async fn apply(
        &mut self,
        mut application: Application,
        mut environment: BTreeMap<String, String>,
        partial: bool,
    ) -> Result<Changes, AdminError> {
        let named: BTreeSet<ServiceName> = application.services.keys().cloned().collect();
        if partial {
            add_others(&mut application, &self.application);
            let known = self.shared.environment.lock().expect(NEVER_POISONED);
            known.iter().for_each(|(name, value)| {
                environment.entry(name.clone()).or_insert_with(|| value.clone());
            });
        }
        if application.name != self.application.name {
            let text = format!("this is {}, not {}", self.application.name, application.name);
            return Err(AdminError::new(ErrorCode::Invalid, text));
        }
        let prepared = prepare(
            &application,
            self.shared.posture,
            &self.shared.host,
            &environment,
            &self.published,
            Scope::Everything,
        );
        let published = prepared.map_err(|refusals| impossible(&refusals))?;
        let writable = Writable::new(&beneath::writable(&application, None));
        let contents: BTreeMap<ServiceName, Contents> = application
            .services
            .iter()
            .map(|(name, service)| (name.clone(), Contents::of(service, &environment, &writable, &self.key)))
            .collect();
        let contents = |name: &ServiceName| contents.get(name).copied().unwrap_or_default();
        *self.shared.environment.lock().expect(NEVER_POISONED) = environment;
        let differs = |name: &ServiceName| {
            let (before, now) = (self.services.get(name)?.contents, contents(name));
            let (configs, secrets) = (before.configs != now.configs, before.secrets != now.secrets);
            Some(Differs { configs, secrets })
        };
        let changes = changes(&self.application, &application, |name| differs(name).unwrap_or_default());
        for (name, managed) in &mut self.services {
            match application.services.get(name) {
                Some(_) if !named.contains(name) => {}
                None => managed.leaving = true,
                Some(service) => {
                    managed.define(service.clone(), contents(name));
                    managed.replicas = service.replicas;
                    managed.stopped = Stopped::default();
                    managed.leaving = false;
                }
            }
        }
        for (name, service) in &application.services {
            let new = || Managed::new(service.clone(), contents(name));
            self.services.entry(name.clone()).or_insert_with(new);
        }
        self.application = application;
        self.published = published;
        self.declare()?;
        self.keep_gateway().await?;
        self.tell_names().await;
        self.forget_left_services();
        self.announced_ready = false;
        Ok(changes)
    }

    /// Running instances learn the names of services that came.
    async fn tell_names(&self) {
        if self.shared.posture == ServicePosture::Explicit {
            // Names are variables there, and a process keeps those that it was born with.
            return;
        }
        let views = self.shared.board.views().clone();
        for (instance, view) in views.iter().filter(|(_, view)| view.init.is_some()) {
            let Some(managed) = self.services.get(&view.service) else { continue };
            let Ok(names) = self.shared.registry.names(&view.service) else { continue };
            let content = plan::hosts_file(&managed.service, instance, &names);
            let socket = self.shared.folders.instance(instance).init_socket();
            let told =
                async { InitClient::connect(&socket).await?.tell(&InitRequest::Hosts { content }).await };
            if let Err(error) = told.await {
                self.shared.log(&format!("telling {instance} the names: {error}"));
            }
        }
    }

    fn access(&self, instance: InstanceName) -> Result<InstanceAccess, AdminError> {
        let views = self.shared.board.views();
        let view = views.get(&instance).ok_or_else(|| {
            AdminError::new(ErrorCode::UnknownInstance, format!("there is no instance `{instance}`"))
        })?;
        let command = view.command.clone().ok_or_else(|| {
            AdminError::new(ErrorCode::Conflict, format!("{instance} does not run"))
                .hint("`sinew status` says why")
        })?;
        let init_socket = self.shared.folders.instance(&instance).init_socket();
        Ok(InstanceAccess { instance, init_socket, command })
    }

    fn down(&mut self, request: DownRequest, reply: Reply<()>) {
        self.leave(if request.kill { Order::Kill } else { Order::Leave });
        self.remove_volumes |= request.volumes;
        // Answered at the very end, when nothing is left.
        self.pending.push(Pending {
            until: Box::new(|_| None),
            answer: Box::new(move |outcome| send(reply, outcome)),
        });
    }
}

/// Services of `others` that `application` does not have, and what belongs to them.
pub fn add_others(application: &mut Application, others: &Application) {
    for (name, service) in &others.services {
        application.services.entry(name.clone()).or_insert_with(|| service.clone());
    }
    for (name, volume) in &others.volumes {
        application.volumes.entry(name.clone()).or_insert_with(|| volume.clone());
    }
    for file in &others.files {
        if !application.files.contains(file) {
            application.files.push(file.clone());
        }
    }
}

/// What was asked of a service or of one of its instances.
struct Request {
    service: ServiceName,
    instance: Option<InstanceName>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scale,
    Restart,
    Stop,
    Start,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Scale => "replicas",
            Self::Restart => "restart",
            Self::Stop | Self::Start => "stopped",
        }
    }
}

/// Restarts of a new instance after which nobody should wait for it any more.
const RESTARTS_MAX: u32 = 3;

fn does_not_come_up(name: &InstanceName, view: &View) -> Option<AdminError> {
    let keeps_ending = view.state == InstanceState::Backoff && view.restarts >= RESTARTS_MAX;
    let last = view.message.clone().filter(|_| keeps_ending);
    let reason = view.failed.clone().or(last)?;
    let error = AdminError::new(ErrorCode::Failed, format!("`{name}` does not come up: {reason}"));
    Some(error.hint(format!("`sinew logs {}` shows what it wrote", view.service)))
}

/// For other services, which may be stopped: nobody can say for how long.
fn waits(view: &View) -> bool {
    view.state == InstanceState::Waiting && !view.waits_for.is_empty()
}

/// Whoever asked may have gone.
fn send<T>(reply: Reply<T>, answer: Result<T, AdminError>) {
    let _ = reply.send(answer);
}

pub(super) fn failed(error: &impl ToString) -> AdminError {
    AdminError::new(ErrorCode::Failed, error.to_string())
}

/// All reasons together, one per line; services with the same reason share one.
pub fn impossible(refusals: &[Refusal]) -> AdminError {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for refusal in refusals {
        match reasons.iter_mut().find(|(reason, _)| *reason == refusal.reason) {
            Some((_, services)) => services.push(refusal.service.as_str()),
            None => reasons.push((&refusal.reason, vec![refusal.service.as_str()])),
        }
    }
    let lines: Vec<String> =
        reasons.iter().map(|(reason, services)| format!("{}: {reason}", services.join(", "))).collect();
    AdminError::new(ErrorCode::Impossible, lines.join("\n"))
}

/// Whose content differs though the file says the same.
#[derive(Clone, Copy, Debug, Default)]
struct Differs {
    configs: bool,
    secrets: bool,
}

/// By key of the file, as far as keys and fields are called the same.
fn changes(before: &Application, now: &Application, differs: impl Fn(&ServiceName) -> Differs) -> Changes {
    let mut changes = Changes::default();
    for (name, service) in &now.services {
        let Some(earlier) = before.services.get(name) else {
            changes.added.push(name.clone());
            continue;
        };
        let differs = differs(name);
        let keys = changed_keys(earlier, service, differs);
        if keys.is_empty() {
            changes.unchanged.push(name.clone());
        } else {
            let replaced =
                differs.configs || differs.secrets || record::hash(earlier) != record::hash(service);
            changes.changed.push(ServiceChange { service: name.clone(), keys, replaced });
        }
    }
    changes.removed =
        before.services.keys().filter(|name| !now.services.contains_key(*name)).cloned().collect();
    changes
}

fn changed_keys(before: &Service, now: &Service, differs: Differs) -> Vec<String> {
    let fields = |service: &Service| match serde_json::to_value(service) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let grants = |service: &Service, secret: bool| -> Vec<FileGrant> {
        service.files.iter().filter(|grant| grant.secret == secret).cloned().collect()
    };
    let granted = |secret| grants(before, secret) != grants(now, secret);
    let (was, is) = (fields(before), fields(now));
    let mut keys: Vec<String> =
        is.into_iter().filter(|(key, value)| was.get(key) != Some(value)).map(|(key, _)| key).collect();
    // The file has two keys for them.
    keys.retain(|key| key != "files");
    keys.extend((differs.configs || granted(false)).then(|| "configs".to_owned()));
    keys.extend((differs.secrets || granted(true)).then(|| "secrets".to_owned()));
    keys
}
