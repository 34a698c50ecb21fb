//! Updates of images: what [`crate::update`] decides is carried out here, and what happens is told to it.

use super::*;

use std::collections::VecDeque;
use std::time::Instant;

use nix::unistd::{AccessFlags, access};
use sinew_spec::admin::{ErrorCode, UpdateServices};
use sinew_spec::status::Health;
use sinew_spec::update::{Journal, ServiceUpdate, Step, UpdateOutcome, UpdateRequest};

use crate::lockfile;
use crate::update::{self, Action, Seen, Side, Update, history, journal};

/// Beyond what its own health check says, an instance has this long to serve.
const START_MAX: Duration = Duration::from_secs(60);

/// An update that is neither kept nor taken back.
pub(super) struct Running {
    machine: Update,
    begun_unix_ms: u64,
    old: BTreeMap<ServiceName, Arc<Service>>,
    new: BTreeMap<ServiceName, Arc<Service>>,
    reply: Option<Reply<UpdateOutcome>>,
}

impl Launcher {
    /// Answered when it has ended.
    pub(super) fn begin_update(&mut self, asked: UpdateServices, reply: Reply<UpdateOutcome>) {
        match self.check_update(asked) {
            Ok((machine, old, new)) => {
                self.announced_ready = false;
                let begun_unix_ms = unix_ms();
                self.update = Some(Running { machine, begun_unix_ms, old, new, reply: Some(reply) });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Everything that can be refused is, before the first step.
    fn check_update(&self, asked: UpdateServices) -> Result<Checked, AdminError> {
        let UpdateServices { request, definitions } = asked;
        if let Some(error) = self.updating() {
            return Err(error);
        }
        let invalid = |text: String| AdminError::new(ErrorCode::Invalid, text);
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        let mut application = self.application.clone();
        let mut patience = Vec::new();
        for update in &request.services {
            let service = &update.service;
            let unknown =
                || AdminError::new(ErrorCode::UnknownService, format!("there is no service `{service}`"));
            let managed = self.services.get(service).filter(|managed| !managed.leaving);
            let managed = managed.ok_or_else(unknown)?;
            let definition = definitions.iter().find(|definition| definition.name == *service);
            let definition = definition.ok_or_else(|| invalid(format!("`{service}` has no definition")))?;
            let definition = with_image(&managed.service, definition, update)?;
            patience.push(patience_of(&definition));
            application.services.insert(service.clone(), definition.clone());
            let before = old.insert(service.clone(), managed.service.clone());
            if before.is_some() {
                return Err(invalid(format!("`{service}` is there twice")));
            }
            new.insert(service.clone(), Arc::new(definition));
        }
        if old.is_empty() {
            return Err(invalid("the update names no service".to_owned()));
        }
        let environment = self.shared.environment.lock().expect(NEVER_POISONED).clone();
        let (posture, host) = (self.shared.posture, &self.shared.host);
        prepare(&application, posture, host, &environment, &self.published, Scope::Everything)
            .map_err(|refusals| impossible(&refusals))?;
        // What could not be recorded afterwards is not begun.
        let folder = &self.application.folder;
        access(folder, AccessFlags::W_OK).map_err(|error| {
            let text = format!("sinew.lock cannot be written in {}: {error}", folder.display());
            AdminError::new(ErrorCode::Impossible, text)
        })?;
        lockfile::updated(folder, &request).map_err(|error| invalid(error.to_string()))?;
        Ok((Update::new(request, patience), old, new))
    }

    /// Why nothing else may change the application now.
    pub(super) fn updating(&self) -> Option<AdminError> {
        let running = self.update.as_ref()?;
        let names: Vec<&str> =
            running.machine.request.services.iter().map(|update| update.service.as_str()).collect();
        let text = format!("an update of {} is under way", names.join(", "));
        Some(AdminError::new(ErrorCode::Conflict, text).hint(
            "it ends by itself: `sinew history` says how; `sinew down` ends it at once, with the old version kept",
        ))
    }

    /// When the update wants to be asked again though nothing happens.
    pub(super) fn update_deadline(&self) -> Option<Instant> {
        self.update.as_ref()?.machine.deadline()
    }

    /// Goes as far as it can go now.
    pub(super) fn drive_update(&mut self) {
        while let Some(mut running) = self.update.take() {
            let now = Instant::now();
            let actions = match self.leaving {
                Some(_) => running.machine.interrupted("the application was taken down"),
                None => running.machine.step(now, |service| self.seen(service)),
            };
            let acted = !actions.is_empty();
            self.carry_out(&mut running, actions);
            if running.machine.outcome().is_none() {
                self.update = Some(running);
                if !acted {
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, running: &mut Running, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let done = match action {
                Action::Journal(step) => self.journal(running, step),
                Action::Define(service, side) => {
                    let of = if side == Side::New { &running.new } else { &running.old };
                    if let (Some(managed), Some(definition)) =
                        (self.services.get_mut(&service), of.get(&service))
                    {
                        managed.define((**definition).clone(), managed.contents);
                    }
                    Ok(())
                }
                Action::Keep => self.keep(running),
                Action::Conclude(outcome) => {
                    self.conclude(running, outcome);
                    Ok(())
                }
            };
            if let Err(reason) = done {
                self.shared.log(&reason);
                let instead = running.machine.failed(reason, Instant::now());
                if !instead.is_empty() {
                    actions = instead.into();
                }
            }
        }
    }

    fn journal(&self, running: &Running, step: Step) -> Result<(), String> {
        let _ = self.events.send(Event::Update { unix_ms: unix_ms(), step: step.clone() });
        let request = running.machine.request.clone();
        let journal = Journal { begun_unix_ms: running.begun_unix_ms, request, step };
        journal::write(&self.shared.folders, &journal)
            .map_err(|error| format!("the journal of the update could not be written: {error}"))
    }

    fn keep(&mut self, running: &mut Running) -> Result<(), String> {
        let folder = &self.application.folder;
        lockfile::updated(folder, &running.machine.request)
            .and_then(|lock| lockfile::write(folder, &lock))
            .map_err(|error| error.to_string())?;
        running.machine.kept();
        for (name, definition) in &running.new {
            self.application.services.insert(name.clone(), (**definition).clone());
        }
        if let Err(error) = self.declare() {
            self.shared.log(&error.message);
        }
        self.write_record();
        self.conclude(running, UpdateOutcome::Kept);
        Ok(())
    }

    fn conclude(&self, running: &mut Running, outcome: UpdateOutcome) {
        remember(&self.shared, &running.machine.request, &outcome);
        if let Some(reply) = running.reply.take() {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(outcome));
        }
    }

    fn seen(&self, service: &ServiceName) -> Seen {
        let Some(managed) = self.services.get(service) else { return Seen::default() };
        let wanted = managed.wanted();
        let views = self.shared.board.views();
        let mut seen = Seen { settled: true, trouble: None };
        let mut serving = 0;
        for (instance, view) in views.iter().filter(|(_, view)| view.service == *service) {
            if view.retiring || view.version != wanted.version {
                seen.settled = false;
                continue;
            }
            serving += usize::from(view.ready || self.is_done(view));
            seen.trouble = seen.trouble.or_else(|| self.trouble(instance, view));
        }
        seen.settled &= serving >= wanted.replicas as usize;
        seen
    }

    fn trouble(&self, instance: &InstanceName, view: &View) -> Option<String> {
        let words = |what: &str| match &view.message {
            Some(message) => format!("{instance} {what}: {message}"),
            None => format!("{instance} {what}"),
        };
        if let Some(reason) = &view.failed {
            return Some(format!("{instance} {reason}"));
        }
        let ended = matches!(view.state, InstanceState::Backoff | InstanceState::Exited);
        if ended && !self.is_done(view) {
            return Some(words("crashed"));
        }
        if view.restarts > 0 {
            return Some(words("crashed and was started again"));
        }
        (view.health == Health::Unhealthy).then(|| words("is not healthy"))
    }
}

type Checked = (Update, BTreeMap<ServiceName, Arc<Service>>, BTreeMap<ServiceName, Arc<Service>>);

/// The history first: what is in both is told twice at worst, and never lost.
fn remember(shared: &Shared, request: &UpdateRequest, outcome: &UpdateOutcome) {
    let folders = &shared.folders;
    if let Err(error) = history::append(folders, update::entries(request, outcome, unix_ms())) {
        shared.log(&format!("writing the history: {error}"));
    }
    if let Err(error) = journal::remove(folders) {
        shared.log(&format!("removing the journal of the update: {error}"));
    }
}

/// What became of an update whose launcher died: `application` is what runs now, by its `sinew.lock`.
pub(super) fn settle_interrupted(shared: &Shared, application: &Application) {
    let Some(journal) = journal::read(&shared.folders) else { return };
    let outcome = update::judge(&journal, |service| image_of(application.services.get(service)?));
    remember(shared, &journal.request, &outcome);
}

/// What runs, with nothing changed but its image and what that says of itself: a file that was edited meanwhile is
/// applied by `up`, not here.
fn with_image(runs: &Service, asked: &Service, update: &ServiceUpdate) -> Result<Service, AdminError> {
    let name = &runs.name;
    let runs_id = image_of(runs);
    if runs_id.as_ref() != Some(&update.from.id) {
        let shown = runs_id.as_ref().map_or("no image", |id| id.short());
        let text = format!("{name} runs {shown}, not the {} of sinew.lock", update.from.id.short());
        return Err(
            AdminError::new(ErrorCode::Conflict, text).hint("`sinew up -d` starts what the lock says")
        );
    }
    if image_of(asked).as_ref() != Some(&update.to.id) {
        let text = format!("the definition of {name} is not of the image {}", update.to.id.short());
        return Err(AdminError::new(ErrorCode::Invalid, text));
    }
    let mut new = runs.clone();
    new.command.clone_from(&asked.command);
    new.health.clone_from(&asked.health);
    new.stop_signal = asked.stop_signal;
    if let Some(container) = &mut new.container {
        container.image_id = update.to.id.to_string();
    }
    Ok(new)
}

fn image_of(service: &Service) -> Option<sinew_spec::digest::Digest> {
    sinew_spec::digest::Digest::parse(&service.container.as_ref()?.image_id).ok()
}

fn patience_of(service: &Service) -> Duration {
    let check = service.health.as_ref();
    let check_ms = check.map_or(0, |check| {
        let tries = u64::from(check.retries.max(1));
        let each = check.interval_ms.saturating_add(check.timeout_ms);
        check.start_period_ms.saturating_add(each.saturating_mul(tries))
    });
    START_MAX.saturating_add(Duration::from_millis(check_ms))
}
