//! What happens until an application is up: what each service waits for, as a picture that moves on a terminal, else as
//! lines; and now and then what is still missing, and where to look.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sinew_client::admin::Client;
use sinew_node::folders::Folders;
use sinew_spec::admin::Event;
use sinew_spec::name::{InstanceName, ServiceName};

use crate::failure::Failure;
use crate::log;
use crate::terminal::{Terminal, harmless};
use crate::units::span;
use crate::view::{is_good, is_settled};

mod feed;
mod model;
mod picture;
mod reminder;
mod screen;
mod words;

pub use feed::Feed;
use model::{Failed, Model};
use reminder::Reminder;
use screen::Screen;
use words::describe;

/// Lines of the log that explain a failure.
const LOG_LINES: usize = 10;
/// Should an event have been missed, the state is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How long to wait and what counts as a failure.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// What takes so long began then.
    pub since: Instant,
    /// `None`: as long as there is hope.
    pub timeout: Option<Duration>,
    /// False: a service that fails is told and the rest waited for (the foreground).
    pub fail_early: bool,
}

/// Returns when every service is as wanted. `only`: these alone are waited for; empty: all.
pub async fn wait(
    feed: &mut Feed,
    only: &BTreeSet<ServiceName>,
    folders: &Folders,
    terminal: &Terminal,
    patience: Patience,
) -> Result<(), Failure> {
    let started = patience.since;
    let mut model = Model::new(feed.status().await?, only.clone());
    model.waits_for_listeners = patience.timeout.is_some();
    let mut screen = Screen::new(terminal);
    let mut reminder = Reminder::default();
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
            // The first event tells how it was when the feed began, which may be before a change.
            screen.lines(&model.resync(feed.status().await?))?;
            if model.is_ready() {
                screen.finish();
                return screen.lines(&[model.summary(started.elapsed())]);
            }
            continue;
        }
        if patience.fail_early
            && let Some(failed) = model.failed(Instant::now())
        {
            screen.finish();
            // How things stand now: several may have failed.
            let lines = model.resync(feed.status().await?);
            screen.lines(&lines)?;
            return Err(explain(&failed, &model, folders));
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
            _ = asks.tick() => {
                screen.lines(&model.resync(feed.status().await?))?;
                if screen.moves() && started.elapsed() >= reminder::FIRST {
                    screen.remind(reminder::below(model.services(), folders));
                } else if reminder.is_due(started.elapsed()) {
                    screen.lines(&reminder::lines(model.services(), folders, started.elapsed()))?;
                }
            }
            _ = draws.tick() => screen.draw(&model),
            () = &mut deadline => {
                screen.finish();
                return Err(late(&model, patience.timeout.unwrap_or_default(), folders));
            }
        }
    }
}

/// Waits for an answer of the launcher about one service, and says now and then, on standard error, what takes so long.
pub async fn beside<T>(
    client: &Client,
    folders: &Folders,
    terminal: &Terminal,
    service: &ServiceName,
    answer: impl Future<Output = T>,
) -> T {
    let started = Instant::now();
    let mut reminder = Reminder::default();
    let mut asks = tokio::time::interval(ASK_EVERY);
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = asks.tick() => {
                if terminal.is_json() || !reminder.is_due(started.elapsed()) {
                    continue;
                }
                let Ok(status) = client.status(false).await else { continue };
                let concerned = status.services.iter().filter(|known| known.name == *service);
                for line in reminder::lines(concerned, folders, started.elapsed()) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

fn explain(failed: &Failed, model: &Model, folders: &Folders) -> Failure {
    let name = failed.instance.as_ref().map_or(failed.service.as_str(), InstanceName::as_str);
    let lines = failed.instance.as_ref().map(|instance| {
        log::last_lines(&folders.instance(instance), instance, LOG_LINES)
            .into_iter()
            .map(|entry| harmless(&entry.text, false))
            .collect()
    });
    let mut message = format!("`{name}` does not come up: {}", failed.reason);
    let others: Vec<String> = model.fail_beside(failed).iter().map(|name| format!("`{name}`")).collect();
    if !others.is_empty() {
        let verb = if others.len() == 1 { "does" } else { "do" };
        message.push_str(&format!("; neither {verb} {}", others.join(", ")));
    }
    let end = match model.serves_on(failed) {
        Some(words) => format!("{words} (`sinew down` would end that, too)"),
        None => "`sinew down` ends it".to_owned(),
    };
    Failure::failed("not_healthy", message)
        .log(lines.unwrap_or_default())
        .hint(format!("`sinew logs {}` shows more, `sinew status` the rest; {end}", failed.service))
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

#[cfg(test)]
mod tests;
