//! `sinew update`.

use std::time::Duration;

use serde_json::json;
use sinew_client::admin::{Client, Events};
use sinew_node::folders::Folders;
use sinew_node::update::history;
use sinew_spec::admin::{ErrorCode, Event, UpdateServices};
use sinew_spec::application::{Application, Service};
use sinew_spec::name::ServiceName;
use sinew_spec::update::{
    Cause, HistoryEntry, ImageVersion, ServiceUpdate, Step, UpdateOutcome, UpdateRequest, What,
};

use super::Context;
use crate::arguments::Files;
use crate::failure::Failure;
use crate::images;
use crate::target;
use crate::terminal::Paint;
use crate::time::rfc3339_seconds;
use crate::units::{now_unix_ms, parse_span, span};
use crate::versions::engine::EngineStore;
use crate::versions::pin::{self, wanted};
use crate::versions::resolve::newest;
use crate::versions::store::Store;

/// Take what the tags of images mean by now, one instance after the other; what does not prove itself is taken back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew update --dry-run        what would change\n  \
    sinew update web              one service\n  \
    sinew update                  every service with an image\n  \
    sinew update --watch 5m       keep the new versions after five good minutes\n\n\
    All of them are kept or none: a pull that fails, an instance that does not get healthy, or one that crashes while\n\
    it is watched, and the old versions serve. `sinew history` says why; `sinew rollback` goes back later.")]
pub struct Arguments {
    /// Services [default: all that have an image]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Pull the images and show what would change; nothing is replaced
    #[arg(long)]
    dry_run: bool,
    /// How long the new versions must go on well before they are kept [default: `monitor` of the file, else 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    watch: Option<Duration>,
}

/// An instance that crashes after a change mostly does so at once.
pub const WATCH: Duration = Duration::from_secs(30);

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let site = Site::of(context, &arguments.files)?;
    let selected = site.select(&arguments.services, arguments.services.is_empty())?;
    if !arguments.dry_run {
        site.must_run().await?;
    }
    let store = EngineStore::find(&context.terminal)?;
    let before = pin::pin(&site.only(&selected), &store, false, now_unix_ms())?;
    let mut updates = Vec::new();
    for service in &selected {
        let container = site.container(service);
        let wanted = wanted(container);
        let from = before.versions[service].clone();
        if wanted.names_digest() {
            // Its file says which one it is.
            continue;
        }
        let to = newest(&wanted, &store).map_err(|error| {
            let reason = error.to_string();
            site.not_pulled(service, &wanted.reference, &from, &reason);
            Failure::failed("image", format!("{service}: {reason}"))
                .hint("nothing was replaced; the old version goes on serving")
        })?;
        let (reference, platform) = (wanted.reference.clone(), wanted.key().platform);
        updates.push(ServiceUpdate { service: service.clone(), reference, platform, from, to });
    }
    site.show_plan(context, &updates)?;
    updates.retain(|update| update.from.id != update.to.id);
    if arguments.dry_run || updates.is_empty() {
        if context.terminal.is_json() {
            return context.terminal.print_json(&json!({ "changes": updates }));
        }
        return Ok(());
    }
    site.carry_out(context, &store, Cause::Update, updates, arguments.watch).await
}

/// The application that is updated.
pub struct Site {
    pub application: Application,
    pub folders: Folders,
    pub client: Client,
}

impl Site {
    pub fn of(context: &Context, files: &Files) -> Result<Self, Failure> {
        let loaded = context.load(None, files)?;
        context.warn(&loaded.warnings);
        let folders = Folders::new(&target::bases()?, &loaded.application.name);
        let client = Client::new(loaded.application.name.as_str(), folders.admin_socket());
        Ok(Self { application: loaded.application, folders, client })
    }

    pub async fn must_run(&self) -> Result<(), Failure> {
        if self.client.is_running().await {
            return Ok(());
        }
        let text = format!("{} does not run", self.application.name);
        Err(Failure::bad_input(ErrorCode::NotRunning.as_str(), text)
            .hint("`sinew up -d` starts it; an update is proven by what runs"))
    }

    /// In the order in which they are replaced: what others depend on first. `all`: those without an image are left
    /// out rather than refused.
    pub fn select(&self, typed: &[String], all: bool) -> Result<Vec<ServiceName>, Failure> {
        for name in typed {
            let Some(service) = self.application.services.get(name.as_str()) else {
                let failure = Failure::bad_input("unknown_service", format!("there is no service `{name}`"));
                let names = self.application.services.keys().map(ServiceName::as_str);
                return Err(match crate::suggest::nearest(name, names) {
                    Some(near) => failure.hint(format!("did you mean `{near}`?")),
                    None => failure,
                });
            };
            let failure = |text: String| Failure::bad_input("no_image", text);
            match &service.container {
                None => {
                    return Err(failure(format!("`{name}` has no image: it runs as a process"))
                        .hint("`sinew up -d` after a change of its files, or `sinew restart`"));
                }
                Some(container) if container.build.is_some() => {
                    return Err(failure(format!("the image of `{name}` is built here"))
                        .hint("`sinew up -d` builds it and replaces its instances"));
                }
                Some(_) => {}
            }
        }
        let chosen = |service: &Service| {
            service.container.as_ref().is_some_and(|container| container.build.is_none())
                && (all || typed.iter().any(|name| name == service.name.as_str()))
        };
        let mut ordered: Vec<ServiceName> = Vec::new();
        let mut left: Vec<&Service> =
            self.application.services.values().filter(|service| chosen(service)).collect();
        while !left.is_empty() {
            let names: Vec<ServiceName> = left.iter().map(|service| service.name.clone()).collect();
            let waits = |service: &Service| {
                service.depends_on.iter().any(|on| on.service != service.name && names.contains(&on.service))
            };
            let next = left.iter().position(|service| !waits(service)).unwrap_or(0);
            ordered.push(left.remove(next).name.clone());
        }
        if ordered.is_empty() {
            return Err(Failure::bad_input("no_image", "no service has an image that is pulled")
                .hint("`sinew up -d` after a change of files updates processes and what is built"));
        }
        Ok(ordered)
    }

    /// Without what is not concerned: its images are not to be resolved on the way.
    pub fn only(&self, services: &[ServiceName]) -> Application {
        let mut application = self.application.clone();
        application.services.retain(|name, _| services.contains(name));
        application
    }

    pub fn container(&self, service: &ServiceName) -> &sinew_spec::application::Container {
        let service = self.application.services.get(service);
        service
            .and_then(|service| service.container.as_ref())
            .expect("only services with an image are selected")
    }

    fn not_pulled(&self, service: &ServiceName, reference: &str, from: &ImageVersion, reason: &str) {
        let entry = HistoryEntry {
            unix_ms: now_unix_ms(),
            service: service.clone(),
            reference: reference.to_owned(),
            what: What::NotPulled,
            from: Some(from.clone()),
            to: None,
            reason: Some(reason.to_owned()),
        };
        // The failure itself is told in any case.
        let _ = history::append(&self.folders, vec![entry]);
    }

    pub fn show_plan(&self, context: &Context, updates: &[ServiceUpdate]) -> Result<(), Failure> {
        if context.terminal.is_json() {
            return Ok(());
        }
        let mut out = String::new();
        for update in updates {
            let (from, to) = (update.from.shown().short(), update.to.shown().short());
            let line = match update.from.id == update.to.id {
                true => format!("{}  {}  {from}  is the newest\n", update.service, update.reference),
                false => format!("{}  {}  {from} -> {to}\n", update.service, update.reference),
            };
            out.push_str(&line);
        }
        context.terminal.print(&out)
    }

    /// The longest that the file wants for one of the services.
    fn watch(&self, cause: Cause, updates: &[ServiceUpdate]) -> Duration {
        let stated = |update: &ServiceUpdate| {
            let replacing = &self.application.services.get(&update.service)?.replacing;
            match cause {
                Cause::Update => replacing.update_watch_ms,
                Cause::Rollback => replacing.rollback_watch_ms,
            }
        };
        let each = updates.iter().map(|update| stated(update).map_or(WATCH, Duration::from_millis));
        each.max().unwrap_or(WATCH)
    }

    /// Asks for it and tells what happens until it is kept or taken back.
    pub async fn carry_out(
        &self,
        context: &Context,
        store: &EngineStore<'_>,
        cause: Cause,
        updates: Vec<ServiceUpdate>,
        watch: Option<Duration>,
    ) -> Result<(), Failure> {
        for update in &updates {
            // An engine tidies images without a name away.
            let name = format!("localhost/{}-{}:previous", self.application.name, update.service);
            store.tag(&update.from.id, &name).map_err(|error| {
                Failure::failed("image", format!("keeping the old image of {}: {error}", update.service))
            })?;
        }
        // What images say of themselves may have changed with them.
        let versions = updates.iter().map(|update| (update.service.clone(), update.to.clone())).collect();
        let mut application = self.application.clone();
        images::complete_all(&mut application, &store.engine, &versions)?;
        let definition = |update: &ServiceUpdate| application.services.get(&update.service).cloned();
        let definitions = updates.iter().filter_map(definition).collect();
        let watch = watch.unwrap_or_else(|| self.watch(cause, &updates));
        let request = UpdateRequest {
            cause,
            services: updates,
            resolved: rfc3339_seconds(now_unix_ms()),
            watch_ms: u64::try_from(watch.as_millis()).unwrap_or(u64::MAX),
        };
        let asked = UpdateServices { request, definitions };
        let outcome = {
            let client = self.client.clone();
            let ended = async move { client.update(&asked).await };
            tokio::pin!(ended);
            // Before it is asked for, so that no step is missed.
            let events = self.client.events().await?;
            let telling = tell_steps(events, context, watch);
            tokio::pin!(telling);
            tokio::select! {
                outcome = &mut ended => outcome?,
                () = &mut telling => ended.await?,
            }
        };
        if context.terminal.is_json() {
            context.terminal.print_json(&outcome)?;
            return match outcome {
                UpdateOutcome::Kept => Ok(()),
                UpdateOutcome::TakenBack { .. } => Err(Failure::silent()),
            };
        }
        match outcome {
            UpdateOutcome::Kept => context.terminal.print("kept; sinew.lock says so\n"),
            UpdateOutcome::TakenBack { reason } => {
                Err(Failure::failed("taken_back", format!("taken back: {reason}"))
                    .hint("the old version serves; `sinew history` remembers why"))
            }
        }
    }
}

/// Ends when nothing more will be told.
async fn tell_steps(mut events: Events, context: &Context, watch: Duration) {
    while let Ok(Some(event)) = events.next().await {
        let Event::Update { step, .. } = event else { continue };
        if context.terminal.is_json() {
            continue;
        }
        let line = match step {
            Step::Replacing { service } => format!("replacing {service}"),
            Step::Watching => format!("watching for {}; Ctrl-C leaves it to itself", span(watch)),
            Step::Keeping => continue,
            Step::TakingBack { reason } => format!("taking back: {reason}"),
        };
        eprintln!("{}", context.terminal.paint_error(Paint::Dim, &line));
    }
}

#[cfg(test)]
mod tests;
