//! `sinew up`: from a file to a running application; or, where it runs already, from a changed file to a changed one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use sinew_client::admin::Client;
use sinew_node::folders::Folders;
use sinew_spec::admin::{ApplyRequest, Changes, DownRequest};
use sinew_spec::application::{Application, ServicePosture};
use sinew_spec::name::ServiceName;
use sinew_spec::status::{ApplicationStatus, PublishedStatus};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::logs::{LOOK_EVERY, Writer};
use super::scale::parse_target;
use crate::arguments::Files;
use crate::engine::{Engine, Options};
use crate::failure::Failure;
use crate::load::Loaded;
use crate::log::{Past, Reader, in_order};
use crate::operation::{Handle, Operation};
use crate::progress::{self, Feed, Patience};
use crate::terminal::{Paint, Terminal, harmless};
use crate::units::parse_span;
use crate::view::EXPLICIT_WORDS;
use crate::view::overview::unserved;
use crate::{build, daemon, images, owner, project, suggest, supervised, target};

/// Run the application of a compose file as a sealed mesh
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew up                              this folder; Ctrl-C ends everything\n  \
    sinew up -d                           in the background; returns when all is healthy\n  \
    sinew up -d web api                   these services and what they depend on; others go on as they are\n  \
    sinew up examples/cold-store          another folder\n  \
    sinew up -f compose.yaml -f dev.yaml  two files, merged\n  \
    sinew up -d --wait-timeout 30s        fails when it takes longer\n\n\
    Where it runs already, the file is applied: only what changed is replaced. \
    A service is up when its check is healthy; without one, when its first published or exposed port accepts \
    connections; without a port, when it has run for half a second.")]
pub struct Arguments {
    /// A compose file, a folder with one, or services of this folder's [default: this folder or one above it, all
    /// services]
    #[arg(value_name = "FILE|DIR|SERVICE", value_hint = clap::ValueHint::AnyPath)]
    what: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Run in the background and return when all is healthy
    #[arg(short, long)]
    detach: bool,
    /// Give up when it is not up by then: `30s`, `2m` [default: as long as there is hope, a minute where nobody listens]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    wait_timeout: Option<Duration>,
    /// Do not run the commands of `x-sinew.build`, nor build images
    #[arg(long)]
    no_build: bool,
    /// Fail rather than add to sinew.lock
    #[arg(long)]
    locked: bool,
    // What people of Compose type: -d waits anyway, and builds are always run.
    #[arg(long, hide = true)]
    wait: bool,
    // These too: services that are no longer in the file go anyway, and nothing is pulled.
    #[arg(long, hide = true)]
    remove_orphans: bool,
    #[arg(long, hide = true)]
    quiet_pull: bool,
    #[arg(long, hide = true, conflicts_with = "no_build")]
    build: bool,
    /// Stay in the foreground for a supervisor; services outlive this process, and the next one adopts them
    #[arg(long, conflicts_with_all = ["detach", "wait", "wait_timeout"])]
    supervised: bool,
    /// Replace instances also where nothing changed
    #[arg(long)]
    force_recreate: bool,
    /// Run this many instances, whatever the file says; may be repeated
    #[arg(long, value_name = "SERVICE=N", value_parser = parse_target)]
    scale: Vec<(String, u32)>,
    /// How services stand to the host [default: sealed]
    #[arg(long, value_enum, value_name = "POSTURE")]
    posture: Option<Posture>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Posture {
    /// Each instance in namespaces of its own; the sidecar is its only door
    Sealed,
    /// Plain processes that find the mesh by PORT and <NAME>_URL: for hosts without namespaces; nothing holds them back
    Explicit,
}

impl From<Posture> for ServicePosture {
    fn from(posture: Posture) -> Self {
        match posture {
            Posture::Sealed => Self::Sealed,
            Posture::Explicit => Self::Explicit,
        }
    }
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let (place, services) = meant(&arguments.what);
    let mut loaded = context.load_services(place.as_deref(), &arguments.files, services)?;
    context.warn(&loaded.warnings);
    scale(&mut loaded.application, &arguments.scale)?;
    let folders = Folders::new(&target::bases()?, &loaded.application.name);
    owner::check(&folders, &loaded.application)?;
    let client = Client::new(loaded.application.name.as_str(), folders.admin_socket());
    if !arguments.no_build {
        if !client.is_running().await {
            Engine::check(
                &loaded.application,
                arguments.posture.map(Into::into),
                &loaded.granted_environment(),
                &folders,
            )?;
        }
        build::run(&loaded.application, &context.terminal)?;
    }
    let options = images::Options { build: !arguments.no_build, locked: arguments.locked };
    images::prepare(&mut loaded.application, options, &context.terminal)?;
    if arguments.supervised {
        let posture = arguments.posture.map(Into::into);
        let check = || {
            let loaded = context.load_services(place.as_deref(), &arguments.files, services)?;
            let environment = loaded.granted_environment();
            Ok(Engine::check(&loaded.application, posture, &environment, &folders)?)
        };
        let options = Options { folders: folders.clone(), foreground: false, posture };
        return supervised::run(loaded, options, check).await;
    }
    let only = match services {
        [] => BTreeSet::new(),
        _ => loaded.application.services.keys().cloned().collect(),
    };
    if (arguments.detach || arguments.wait) && daemon::end_outdated(&folders).await {
        let note = "the launcher was another build of sinew: this one takes over what it runs\n";
        eprint!("{}", context.terminal.paint_error(Paint::Dim, note));
    }
    let up = Up { arguments, terminal: &context.terminal, folders, only, since: Instant::now() };
    if client.is_running().await {
        up.apply(client, loaded).await
    } else if arguments.detach || arguments.wait {
        up.background(client, loaded).await
    } else {
        up.foreground(loaded).await
    }
}

/// A file or folder, and services. Compose names services only; with a slash, or as `compose.yaml`, a path is meant.
fn meant(typed: &[String]) -> (Option<PathBuf>, &[String]) {
    match typed.split_first() {
        Some((first, services)) if is_place(first) => (Some(PathBuf::from(first)), services),
        _ => (None, typed),
    }
}

fn is_place(text: &str) -> bool {
    let path = Path::new(text);
    let looks_so = text == "-" || text.starts_with('.') || text.contains('/');
    let is_file =
        path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") || path.is_file();
    // A folder `web` beside the compose file is where the sources of the service `web` lie.
    looks_so || is_file || project::in_folder(path).is_some()
}

/// `--scale`
fn scale(application: &mut Application, scale: &[(String, u32)]) -> Result<(), Failure> {
    for (typed, replicas) in scale {
        match application.services.values_mut().find(|service| service.name.as_str() == typed) {
            Some(service) => service.replicas = *replicas,
            None => {
                let names: Vec<&str> = application.services.keys().map(ServiceName::as_str).collect();
                let message =
                    format!("--scale: there is no service `{typed}` in application `{}`", application.name);
                return Err(Failure::bad_input("unknown_service", message).hint(suggest::hint(
                    typed,
                    "service",
                    names.iter().copied(),
                )));
            }
        }
    }
    Ok(())
}

struct Up<'a> {
    arguments: &'a Arguments,
    terminal: &'a Terminal,
    folders: Folders,
    /// Services that were named, and what they depend on: others go on as they are. Empty: all.
    only: BTreeSet<ServiceName>,
    /// When everything was there that it needs: what was built and pulled.
    since: Instant,
}

impl Up<'_> {
    /// It runs already: what changed is told, and it is waited for.
    async fn apply(&self, client: Client, loaded: Loaded) -> Result<(), Failure> {
        let environment = loaded.granted_environment();
        let mut feed = Feed::there(client.clone()).await?;
        let request = self.request(loaded.application, environment);
        let changes = client.apply(&request).await?;
        if !self.terminal.is_json() {
            self.terminal.print(&changes_in_words(client.application(), &changes))?;
        }
        let again = self.recreate(&client, &request.application, &changes).await?;
        if again || !changes.is_empty() || !self.is_up(&feed.status().await?) {
            self.wait(&mut feed, client.application()).await?;
        }
        if self.terminal.is_json() {
            let status = client.status(false).await?;
            return self.terminal.print_json(&serde_json::json!({ "changes": changes, "status": status }));
        }
        if !self.arguments.detach && !self.arguments.wait {
            let name = client.application();
            let hint = format!("{name} goes on: `sinew logs -f` follows it, `sinew down` ends it\n");
            self.terminal.print(&self.terminal.paint(Paint::Dim, &hint))?;
        }
        Ok(())
    }

    async fn background(&self, client: Client, loaded: Loaded) -> Result<(), Failure> {
        let environment = loaded.granted_environment();
        daemon::spawn(&self.folders, self.request(loaded.application, environment)).await?;
        let mut feed = Feed::there(client.clone()).await?;
        self.wait(&mut feed, client.application()).await?;
        let status = client.status(false).await?;
        if self.terminal.is_json() {
            return self.terminal.print_json(&serde_json::json!({ "status": status }));
        }
        self.print_published(&status)
    }

    fn request(&self, application: Application, environment: BTreeMap<String, String>) -> ApplyRequest {
        ApplyRequest { application, environment, partial: !self.only.is_empty(), posture: self.posture() }
    }

    fn is_up(&self, status: &ApplicationStatus) -> bool {
        let named = |name: &ServiceName| self.only.contains(name);
        match self.only.is_empty() {
            true => status.ready,
            false => status.services.iter().all(|service| service.ready || !named(&service.name)),
        }
    }

    /// `--force-recreate`: what the new file did not replace anyway. True: something is replaced.
    async fn recreate(
        &self,
        client: &Client,
        application: &Application,
        changes: &Changes,
    ) -> Result<bool, Failure> {
        if !self.arguments.force_recreate {
            return Ok(false);
        }
        let fresh = |name: &ServiceName| {
            changes.added.contains(name)
                || changes.changed.iter().any(|change| change.replaced && change.service == *name)
        };
        for name in application.services.keys().filter(|name| !fresh(name)) {
            let answer = client.restart(name, None);
            progress::beside(client, &self.folders, self.terminal, name, answer).await?;
            if !self.terminal.is_json() {
                self.terminal.print(&format!("  ~ {name}: its instances were replaced\n"))?;
            }
        }
        Ok(true)
    }

    /// Until it is up, or until nobody wants to look any more: it goes on without us.
    async fn wait(&self, feed: &mut Feed, name: &str) -> Result<(), Failure> {
        let mut interrupts = Interrupts::new()?;
        tokio::select! {
            up = progress::wait(feed, &self.only, &self.folders, self.terminal, self.patience(true)) => up,
            () = interrupts.next() => {
                let message = format!("not up yet; {name} goes on in the background");
                Err(Failure::failed("interrupted", message)
                    .hint("`sinew status` shows how far it is, `sinew down` ends it"))
            }
        }
    }

    /// Everything lives and ends with this process.
    async fn foreground(&self, loaded: Loaded) -> Result<(), Failure> {
        let mut interrupts = Interrupts::new()?;
        let environment = loaded.granted_environment();
        let options = Options { folders: self.folders.clone(), foreground: true, posture: self.posture() };
        let engine = Engine::start(loaded.application, environment, options).await?;
        let handle = engine.handle();
        let running = engine.run();
        tokio::pin!(running);

        let mut logs = Logs::new(self.terminal, self.folders.clone());
        let ended = tokio::select! {
            ended = &mut running => return Ok(ended?),
            ended = self.accompany(&handle, &mut logs) => ended,
            () = interrupts.next() => Ok(()),
        };
        if !self.terminal.is_json() {
            let words = "stopping; Ctrl-C once more kills everything";
            eprintln!("{}", self.terminal.paint_error(Paint::Dim, words));
        }
        let stop = |kill| {
            let request = DownRequest { volumes: false, kill };
            let handle = handle.clone();
            async move { handle.ask(|reply| Operation::Down { request, reply }).await }
        };
        let kill = async {
            interrupts.next().await;
            // It is answered by the end of everything, which is awaited beside.
            drop(stop(true).await);
            std::future::pending::<()>().await;
        };
        let unseen = async {
            // Nobody reads any more: everything is ended all the same.
            drop(logs.follow(None).await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            (_, stopped) = async { tokio::join!(stop(false), &mut running) } => stopped?,
            () = kill => {}
            () = unseen => {}
        }
        drop(logs.look());
        ended
    }

    /// Progress until it is up, then the logs. Ends only with an error.
    async fn accompany(&self, handle: &Handle, logs: &mut Logs<'_>) -> Result<(), Failure> {
        let mut feed = Feed::here(handle.clone());
        progress::wait(&mut feed, &self.only, &self.folders, self.terminal, self.patience(false)).await?;
        if !self.terminal.is_json() {
            self.print_published(&handle.status(false).await?)?;
        }
        logs.follow(Some(handle)).await
    }

    fn posture(&self) -> Option<ServicePosture> {
        self.arguments.posture.map(Into::into)
    }

    fn print_published(&self, status: &ApplicationStatus) -> Result<(), Failure> {
        if status.posture == ServicePosture::Explicit {
            eprintln!("{}", self.terminal.paint_error(Paint::Warn, EXPLICIT_WORDS));
        }
        let mut out = String::new();
        for port in &status.published {
            let PublishedStatus { listen, service, target, .. } = port;
            out.push_str(&format!("{} -> {service}:{target}", self.terminal.paint(Paint::Bold, listen)));
            if let Some(reason) = unserved(port) {
                let words = format!("  {}", harmless(reason, false));
                out.push_str(&self.terminal.paint(Paint::Warn, &words));
            }
            out.push('\n');
        }
        self.terminal.print(&out)
    }

    fn patience(&self, fail_early: bool) -> Patience {
        Patience { since: self.since, timeout: self.arguments.wait_timeout, fail_early }
    }
}

/// What services write, as they write it.
struct Logs<'a> {
    folders: Folders,
    reader: Reader,
    writer: Writer<'a>,
}

impl<'a> Logs<'a> {
    fn new(terminal: &'a Terminal, folders: Folders) -> Self {
        Self { folders, reader: Reader::default(), writer: Writer::new(terminal, false, true) }
    }

    /// Ends only with an error. `engine`: whom to ask for instances; `None`: those known are followed.
    async fn follow(&mut self, engine: Option<&Handle>) -> Result<(), Failure> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut names = tokio::time::interval(LOOK_EVERY * 5);
        names.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look()?,
                _ = names.tick() => if let Some(engine) = engine {
                    self.add(&engine.status(false).await?)?;
                },
            }
        }
    }

    fn add(&mut self, status: &ApplicationStatus) -> Result<(), Failure> {
        let instances = || status.services.iter().flat_map(|service| &service.instances);
        self.writer.know(instances().map(|instance| &instance.name));
        let mut entries = Vec::new();
        for instance in instances() {
            let folder = self.folders.instance(&instance.name);
            entries.extend(self.reader.add(&instance.name, &folder, Past::default()));
        }
        in_order(&mut entries);
        self.writer.write(&entries)
    }

    fn look(&mut self) -> Result<(), Failure> {
        self.writer.write(&self.reader.read())
    }
}

/// Ctrl-C, and what a supervisor sends.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed("signals", format!("could not listen to signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn changes_in_words(application: &str, changes: &Changes) -> String {
    if changes.is_empty() {
        return format!("{application} runs already; nothing changed\n");
    }
    let mut out = format!("{application} runs already; the file is applied:\n");
    for service in &changes.added {
        out.push_str(&format!("  + {service}\n"));
    }
    for change in &changes.changed {
        let how = if change.replaced { "its instances are replaced" } else { "its instances go on" };
        out.push_str(&format!("  ~ {} ({}): {how}\n", change.service, change.keys.join(", ")));
    }
    for service in &changes.removed {
        out.push_str(&format!("  - {service}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use sinew_spec::admin::ServiceChange;

    use super::*;

    #[test]
    fn services_are_told_from_paths() {
        let check = |typed: &[&str], place: Option<&str>, services: &[&str]| {
            let typed: Vec<String> = typed.iter().map(|word| (*word).to_owned()).collect();
            let (found, rest) = meant(&typed);
            assert_eq!(
                (found.as_deref().and_then(Path::to_str), rest),
                (place, &typed[typed.len() - services.len()..])
            );
        };
        check(&[], None, &[]);
        check(&["web", "api"], None, &["web", "api"]);
        check(&["examples/shop"], Some("examples/shop"), &[]);
        check(&["./shop", "web"], Some("./shop"), &["web"]);
        check(&["."], Some("."), &[]);
        check(&["other.yaml"], Some("other.yaml"), &[]);
        check(&["-"], Some("-"), &[]);
    }

    #[test]
    fn says_what_changed() {
        let changes = Changes {
            added: vec!["cache".into()],
            removed: vec!["old".into()],
            changed: vec![
                ServiceChange {
                    service: "orders".into(),
                    keys: vec!["command".to_owned(), "environment".to_owned()],
                    replaced: true,
                },
                ServiceChange { service: "web".into(), keys: vec!["replicas".to_owned()], replaced: false },
            ],
            unchanged: vec!["db".into()],
        };
        assert_eq!(
            changes_in_words("shop", &changes),
            "shop runs already; the file is applied:\n  + cache\n  \
             ~ orders (command, environment): its instances are replaced\n  \
             ~ web (replicas): its instances go on\n  - old\n"
        );
        assert_eq!(changes_in_words("shop", &Changes::default()), "shop runs already; nothing changed\n");
    }
}
