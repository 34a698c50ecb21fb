//! `sinew up`: from a file to a running application; or, where it runs already, from a changed file to a changed one.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use sinew_client::admin::Client;
use sinew_node::folders::Folders;
use sinew_spec::admin::{ApplyRequest, Changes, DownRequest};
use sinew_spec::application::ServicePosture;
use sinew_spec::status::{ApplicationStatus, PublishedStatus};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::logs::{LOOK_EVERY, Writer};
use crate::arguments::Files;
use crate::engine::{Engine, Options};
use crate::failure::Failure;
use crate::load::Loaded;
use crate::log::{Past, Reader, in_order};
use crate::operation::{Handle, Operation};
use crate::progress::{self, Feed, Patience};
use crate::terminal::{Paint, Terminal};
use crate::units::parse_span;
use crate::view::EXPLICIT_WORDS;
use crate::{build, daemon, supervised, target};

/// Run the application of a compose file as a sealed mesh
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew up                              this folder; Ctrl-C ends everything\n  \
    sinew up -d                           in the background; returns when all is healthy\n  \
    sinew up examples/cold-store          another folder\n  \
    sinew up -f compose.yaml -f dev.yaml  two files, merged\n  \
    sinew up -d --wait-timeout 30s        fails when it takes longer\n\n\
    Where it runs already, the file is applied: only what changed is replaced.\n\
    Every service is always started; `sinew scale`, `stop` and --profile choose.")]
pub struct Arguments {
    /// A compose file, or a folder with one [default: this folder or one above it]
    #[arg(value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    place: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Run in the background and return when all is healthy
    #[arg(short, long)]
    detach: bool,
    /// Give up when it is not up by then: `30s`, `2m` [default: wait as long as there is hope]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    wait_timeout: Option<Duration>,
    /// Do not run the commands of `x-sinew.build`
    #[arg(long)]
    no_build: bool,
    // What people of Compose type: -d waits anyway, and builds are always run.
    #[arg(long, hide = true)]
    wait: bool,
    #[arg(long, hide = true, conflicts_with = "no_build")]
    build: bool,
    /// Stay in the foreground for a supervisor; services outlive this process, and the next one adopts them
    #[arg(long, conflicts_with_all = ["detach", "wait", "wait_timeout"])]
    supervised: bool,
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
    let loaded = context.load(arguments.place.as_deref(), &arguments.files)?;
    context.warn(&loaded.warnings);
    let folders = Folders::new(&target::bases()?, &loaded.application.name);
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
    if arguments.supervised {
        let posture = arguments.posture.map(Into::into);
        let check = || {
            let loaded = context.load(arguments.place.as_deref(), &arguments.files)?;
            let environment = loaded.granted_environment();
            Ok(Engine::check(&loaded.application, posture, &environment, &folders)?)
        };
        let options = Options { folders: folders.clone(), foreground: false, posture };
        return supervised::run(loaded, options, check).await;
    }
    let up = Up { arguments, terminal: &context.terminal, folders };
    if client.is_running().await {
        up.apply(client, loaded).await
    } else if arguments.detach || arguments.wait {
        up.background(client, loaded).await
    } else {
        up.foreground(loaded).await
    }
}

struct Up<'a> {
    arguments: &'a Arguments,
    terminal: &'a Terminal,
    folders: Folders,
}

impl Up<'_> {
    /// It runs already: what changed is told, and it is waited for.
    async fn apply(&self, client: Client, loaded: Loaded) -> Result<(), Failure> {
        let environment = loaded.granted_environment();
        let mut feed = Feed::there(client.clone()).await?;
        let application = loaded.application;
        let changes =
            client.apply(&ApplyRequest { application, environment, posture: self.posture() }).await?;
        if !self.terminal.is_json() {
            self.terminal.print(&changes_in_words(client.application(), &changes))?;
        }
        if !changes.is_empty() || !feed.status().await?.ready {
            progress::wait(&mut feed, &self.folders, self.terminal, self.patience(true)).await?;
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
        let application = loaded.application;
        daemon::spawn(&self.folders, ApplyRequest { application, environment, posture: self.posture() })
            .await?;
        let mut feed = Feed::there(client.clone()).await?;
        progress::wait(&mut feed, &self.folders, self.terminal, self.patience(true)).await?;
        let status = client.status(false).await?;
        if self.terminal.is_json() {
            return self.terminal.print_json(&serde_json::json!({ "status": status }));
        }
        self.print_published(&status)
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
        progress::wait(&mut feed, &self.folders, self.terminal, self.patience(false)).await?;
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
        for PublishedStatus { listen, service, target, .. } in &status.published {
            out.push_str(&format!("{} -> {service}:{target}\n", self.terminal.paint(Paint::Bold, listen)));
        }
        self.terminal.print(&out)
    }

    fn patience(&self, fail_early: bool) -> Patience {
        Patience { timeout: self.arguments.wait_timeout, fail_early }
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
