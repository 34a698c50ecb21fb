//! What happens until an application is up: what each service waits for, as a picture that moves on a terminal, else as
//! lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sinew_client::admin::{Client, Events};
use sinew_node::folders::Folders;
use sinew_spec::admin::Event;
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::{ApplicationStatus, Health, InstanceState, InstanceStatus, ServiceStatus};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::failure::Failure;
use crate::log;
use crate::operation::Handle;
use crate::terminal::{Paint, Terminal, harmless};
use crate::units::{count, now_unix_ms, span};
use crate::view::{is_good, is_settled};

mod picture;

/// Lines of the log that explain a failure.
const LOG_LINES: usize = 10;
/// A service that has ended this often while everybody waits will not come up by itself.
const RESTARTS_MAX: u32 = 5;
/// Should an event have been missed, the state is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Of a service without a health check all that can be told is that it does not end at once.
const UNCHECKED_FOR: Duration = Duration::from_millis(500);
/// An instance in trouble may be about to be replaced.
const HOPELESS_FOR: Duration = Duration::from_millis(400);
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Where the news come from.
pub enum Feed {
    /// The engine runs in this process.
    Here { engine: Handle, events: broadcast::Receiver<Event> },
    /// It runs in another one.
    There { client: Client, events: Box<Events> },
}

impl Feed {
    pub fn here(engine: Handle) -> Self {
        let events = engine.events();
        Self::Here { engine, events }
    }

    pub async fn there(client: Client) -> Result<Self, Failure> {
        let events = Box::new(client.events().await?);
        Ok(Self::There { client, events })
    }

    pub async fn status(&self) -> Result<ApplicationStatus, Failure> {
        Ok(match self {
            Self::Here { engine, .. } => engine.status(false).await?,
            Self::There { client, .. } => client.status(false).await?,
        })
    }

    /// `None`: the engine ended. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        match self {
            Self::Here { events, .. } => match events.recv().await {
                Ok(event) => Ok(Some(event)),
                Err(RecvError::Lagged(missed)) => Ok(Some(Event::Lagged { missed })),
                Err(RecvError::Closed) => Ok(None),
            },
            Self::There { events, .. } => Ok(events.next().await?),
        }
    }
}

/// How long to wait and what counts as a failure.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `None`: as long as there is hope.
    pub timeout: Option<Duration>,
    /// False: a service that fails is told and the rest waited for (the foreground).
    pub fail_early: bool,
}

/// Returns when every service is as wanted.
pub async fn wait(
    feed: &mut Feed,
    folders: &Folders,
    terminal: &Terminal,
    patience: Patience,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut model = Model::new(feed.status().await?);
    let mut screen = Screen::new(terminal);
    screen.lines(&model.first_lines())?;
    let mut asks = tokio::time::interval(ASK_EVERY);
    let mut draws = tokio::time::interval(DRAW_EVERY);
    let deadline = async {
        match patience.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    loop {
        if model.is_ready() {
            screen.lines(&model.resync(feed.status().await?))?;
            match model.settles_in(now_unix_ms()) {
                Some(Duration::ZERO) => {
                    screen.finish();
                    return screen.lines(&[model.summary(started.elapsed())]);
                }
                Some(rest) => tokio::time::sleep(rest).await,
                None => {}
            }
            continue;
        }
        if patience.fail_early
            && let Some(failed) = model.failed(Instant::now())
        {
            screen.finish();
            return Err(explain(&failed, folders));
        }
        tokio::select! {
            event = feed.next() => match event? {
                Some(Event::Down { .. }) | None => {
                    screen.finish();
                    return Err(Failure::failed("down", "the application went down before it was up"));
                }
                Some(event) => {
                    screen.lines(&model.apply(event))?;
                    if model.stale {
                        screen.lines(&model.resync(feed.status().await?))?;
                    }
                }
            },
            _ = asks.tick() => screen.lines(&model.resync(feed.status().await?))?,
            _ = draws.tick() => screen.draw(&model),
            () = &mut deadline => {
                screen.finish();
                return Err(late(&model, patience.timeout.unwrap_or_default(), folders));
            }
        }
    }
}

/// Why it will not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    service: ServiceName,
    instance: Option<InstanceName>,
    reason: String,
}

fn explain(failed: &Failed, folders: &Folders) -> Failure {
    let name = failed.instance.as_ref().map_or(failed.service.as_str(), InstanceName::as_str);
    let lines = failed.instance.as_ref().map(|instance| {
        log::last_lines(&folders.instance(instance), instance, LOG_LINES)
            .into_iter()
            .map(|entry| harmless(&entry.text, false))
            .collect()
    });
    Failure::failed("not_healthy", format!("`{name}` does not come up: {}", failed.reason))
        .log(lines.unwrap_or_default())
        .hint(format!(
            "`sinew logs {}` shows more, `sinew status` the rest; `sinew down` ends it",
            failed.service
        ))
}

fn late(model: &Model, timeout: Duration, folders: &Folders) -> Failure {
    let missing: Vec<String> =
        model.services().filter(|service| !is_settled(service)).map(describe).collect();
    let first = model.services().find(|service| !is_settled(service) && service.waits_for.is_empty());
    let instance = first.and_then(|service| service.instances.iter().find(|instance| !is_good(instance)));
    let lines = instance
        .map(|instance| log::last_lines(&folders.instance(&instance.name), &instance.name, LOG_LINES));
    let message = format!("not up after {}: {}", span(timeout), missing.join("; "));
    Failure::failed("timeout", message)
        .log(lines.into_iter().flatten().map(|entry| harmless(&entry.text, false)).collect())
        .hint("it goes on trying in the background: `sinew status`; a longer --wait-timeout may be all that is needed")
}

/// `orders: 1 of 2 healthy`, `billing: waits for orders`.
fn describe(service: &ServiceStatus) -> String {
    format!("{}: {}", service.name, phase(service))
}

/// It will not come up by itself.
fn is_hopeless(instance: &InstanceStatus) -> bool {
    match instance.state {
        InstanceState::Exited => !is_good(instance),
        InstanceState::Backoff => instance.restarts >= RESTARTS_MAX,
        InstanceState::Running => instance.health == Health::Unhealthy,
        _ => false,
    }
}

/// What a service is at, in words.
fn phase(service: &ServiceStatus) -> String {
    let good = service.instances.iter().filter(|instance| is_good(instance)).count();
    let with = |words: String, message: &Option<String>| match message {
        Some(message) => format!("{words}: {}", harmless(message, false)),
        None => words,
    };
    if is_settled(service) {
        let completed = service.instances.iter().any(|instance| instance.state == InstanceState::Exited);
        let checked = service.instances.iter().any(|instance| instance.health == Health::Healthy);
        let word = if completed {
            "completed"
        } else if checked {
            "healthy"
        } else {
            "running"
        };
        return match service.instances.len() {
            0 => "nothing wanted".to_owned(),
            1 => word.to_owned(),
            more => format!("{more} {word}"),
        };
    }
    let how = |instance: &InstanceStatus| match (&instance.message, instance.exit_code) {
        (Some(message), _) => harmless(message, false),
        (None, Some(code)) => format!("ended with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    if let Some(crashing) = service.instances.iter().find(|i| i.state == InstanceState::Backoff) {
        return format!("{}; is tried again", how(crashing));
    }
    if let Some(exited) = service.instances.iter().find(|i| i.state == InstanceState::Exited && !is_good(i)) {
        return how(exited);
    }
    if !service.waits_for.is_empty() {
        return format!("waits for {}", service.waits_for.join(", "));
    }
    if let Some(unhealthy) = service.instances.iter().find(|i| i.health == Health::Unhealthy) {
        return with("unhealthy".to_owned(), &unhealthy.message);
    }
    let words = match (service.wanted, good) {
        (1, _) => "starting".to_owned(),
        (wanted, good) => format!("starting, {good} of {wanted} up"),
    };
    let message =
        service.instances.iter().find(|instance| !is_good(instance)).and_then(|i| i.message.clone());
    with(words, &message)
}

/// The state as far as it is known, kept up to date by events.
struct Model {
    services: BTreeMap<ServiceName, ServiceStatus>,
    failed: Option<Failed>,
    /// The engine said so: it alone knows what is about to be replaced.
    ready: bool,
    /// Something ended: how it ended is told by the next status.
    stale: bool,
    /// Instances that will not come up by themselves, and since when this is known.
    hopeless: BTreeMap<InstanceName, Instant>,
    /// A published port at which nobody is served.
    unserved: Option<Failed>,
}

impl Model {
    fn new(status: ApplicationStatus) -> Self {
        let ready = status.ready;
        let unserved = status.published.iter().find_map(|port| {
            let reason = harmless(port.message.as_ref()?, false);
            Some(Failed { service: port.service.clone(), instance: None, reason })
        });
        let services = status.services.into_iter().map(|service| (service.name.clone(), service)).collect();
        Self { services, ready, failed: None, stale: false, hopeless: BTreeMap::new(), unserved }
    }

    fn services(&self) -> impl Iterator<Item = &ServiceStatus> {
        self.services.values()
    }

    fn is_ready(&self) -> bool {
        self.ready && !self.stale
    }

    /// How long until what has no health check has run for [`UNCHECKED_FOR`]; `None`: it is not ready after all.
    fn settles_in(&self, now_unix_ms: u64) -> Option<Duration> {
        if !self.is_ready() {
            return None;
        }
        let unchecked = self
            .services()
            .flat_map(|service| &service.instances)
            .filter(|instance| instance.state == InstanceState::Running && instance.health == Health::None);
        let youngest = unchecked.filter_map(|instance| instance.started_unix_ms).max();
        let ran = youngest
            .map_or(UNCHECKED_FOR, |youngest| Duration::from_millis(now_unix_ms.saturating_sub(youngest)));
        Some(UNCHECKED_FOR.saturating_sub(ran))
    }

    /// The first thing that makes waiting pointless. An instance that is about to be replaced is none: it has to stay
    /// so for [`HOPELESS_FOR`].
    fn failed(&mut self, now: Instant) -> Option<Failed> {
        if self.failed.is_some() || self.stale {
            return self.failed.clone();
        }
        if self.unserved.is_some() {
            return self.unserved.clone();
        }
        let hopeless: Vec<(&ServiceStatus, &InstanceStatus)> = self
            .services
            .values()
            .filter(|service| service.instances.len() <= service.wanted as usize)
            .flat_map(|service| service.instances.iter().map(move |instance| (service, instance)))
            .filter(|(_, instance)| is_hopeless(instance))
            .collect();
        self.hopeless.retain(|name, _| hopeless.iter().any(|(_, instance)| instance.name == *name));
        for (service, instance) in hopeless {
            let since = *self.hopeless.entry(instance.name.clone()).or_insert(now);
            if now.duration_since(since) >= HOPELESS_FOR {
                let reason = instance.message.clone().unwrap_or_else(|| phase(service));
                let (service, instance) = (service.name.clone(), Some(instance.name.clone()));
                return Some(Failed { service, instance, reason });
            }
        }
        None
    }

    /// Lines about what changed, for a plain output.
    fn apply(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Status { status, .. } => return self.resync(status),
            Event::Instance { service, instance, state, health, message, .. } => {
                let Some(known) = self.services.get_mut(&service) else { return Vec::new() };
                let before = phase(known);
                match known.instances.iter_mut().find(|known| known.name == instance) {
                    Some(known) if !matches!(state, InstanceState::Exited | InstanceState::Backoff) => {
                        (known.state, known.health, known.message) = (state, health, message);
                    }
                    // It is new, or has an exit code now.
                    _ => self.stale = true,
                }
                return changed(before, known);
            }
            Event::Waits { service, waits_for, .. } => {
                let Some(known) = self.services.get_mut(&service) else { return Vec::new() };
                let before = phase(known);
                known.waits_for = waits_for;
                return changed(before, known);
            }
            Event::Ready { .. } => self.stale = true,
            Event::Failed { service, instance, reason, .. } => {
                let line = format!("{service}: failed: {reason}");
                self.failed = Some(Failed { service, instance, reason });
                return vec![line];
            }
            Event::Lagged { .. } | Event::Down { .. } => {}
        }
        Vec::new()
    }

    fn resync(&mut self, status: ApplicationStatus) -> Vec<String> {
        let Self { services: now, ready, unserved, .. } = Self::new(status);
        let mut lines = Vec::new();
        for service in now.values() {
            let before = self.services.get(&service.name).map(phase).unwrap_or_default();
            lines.extend(changed(before, service));
        }
        if let Some(unserved) = unserved.as_ref().filter(|_| unserved != self.unserved) {
            lines.push(format!("{}: {}", unserved.service, unserved.reason));
        }
        (self.services, self.ready, self.unserved) = (now, ready, unserved);
        self.stale = false;
        lines
    }

    fn first_lines(&self) -> Vec<String> {
        self.services().map(describe).collect()
    }

    fn summary(&self, elapsed: Duration) -> String {
        // Instances that are about to go are not counted, nor what is no longer in the file.
        let stays = |instance: &&InstanceStatus| {
            !matches!(instance.state, InstanceState::Draining | InstanceState::Stopping)
        };
        let of = |service: &ServiceStatus| service.instances.iter().filter(stays).count();
        let instances: usize = self.services().map(of).sum();
        let gone = self.services().filter(|service| service.wanted == 0 && of(service) == 0).count();
        let services = count(self.services.len() - gone, "service");
        format!("{services} ({}) up in {}", count(instances, "instance"), span(elapsed))
    }
}

fn changed(before: String, service: &ServiceStatus) -> Vec<String> {
    let now = phase(service);
    if now == before { Vec::new() } else { vec![format!("{}: {now}", service.name)] }
}

/// Where it is shown.
struct Screen<'a> {
    terminal: &'a Terminal,
    /// The moving picture.
    bar: Option<ProgressBar>,
    frame: usize,
}

impl<'a> Screen<'a> {
    fn new(terminal: &'a Terminal) -> Self {
        let bar = (terminal.is_terminal && !terminal.is_json()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { terminal, bar, frame: 0 }
    }

    /// Without a moving picture everything is told by lines.
    fn lines(&self, lines: &[String]) -> Result<(), Failure> {
        if self.terminal.is_json() || self.bar.as_ref().is_some_and(|bar| !bar.is_finished()) {
            return Ok(());
        }
        self.terminal.print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
    }

    fn draw(&mut self, model: &Model) {
        self.frame += 1;
        if let Some(bar) = &self.bar {
            bar.set_message(picture::draw(model.services(), self.terminal, self.frame));
            bar.tick();
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A mark for a service that is up, on its way, or in trouble.
fn mark(service: &ServiceStatus, spinner: &'static str) -> (&'static str, Paint) {
    let trouble = service.instances.iter().any(|instance| {
        instance.state == InstanceState::Backoff
            || (instance.state == InstanceState::Exited && !is_good(instance))
            || instance.health == Health::Unhealthy
    });
    if is_settled(service) {
        ("+", Paint::Good)
    } else if trouble {
        ("x", Paint::Bad)
    } else if service.waits_for.is_empty() {
        (spinner, Paint::Warn)
    } else {
        ("·", Paint::Dim)
    }
}

#[cfg(test)]
mod tests;
