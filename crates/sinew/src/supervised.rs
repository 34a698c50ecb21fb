//! `sinew up --supervised`: the launcher as the main process of a unit. It stays in the foreground, but what it starts
//! outlives it, so that the next one adopts it. Asked to end (SIGTERM), it ends the application; asked to reload
//! (SIGHUP), it becomes the program that is on the disk by then, with the file as it is by then.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sinew_spec::admin::DownRequest;
use sinew_spec::status::{ApplicationStatus, Health, InstanceState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{Engine, Options};
use crate::failure::Failure;
use crate::load::Loaded;
use crate::notify::Notifier;
use crate::operation::{Handle, Operation};

/// A unit is up when all of its services are, or after this long: what comes after it should not wait for a service
/// that does not get healthy, and systemd should not kill those that are.
const READY_WAIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When it is up; more often when systemd wants signs of life more often.
const LOOK_EVERY_READY: Duration = Duration::from_secs(5);
/// For the launcher to answer; one that takes longer is not alive.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const NAMES_MAX: usize = 8;
/// For a new program to say its version.
const TRIAL_MAX: Duration = Duration::from_secs(10);

enum Asked {
    /// SIGTERM, Ctrl-C.
    End,
    Reload,
}

/// `check` reads the file again, before a reload. Returns when the application has ended because somebody asked for it.
pub async fn run(
    loaded: Loaded,
    options: Options,
    check: impl Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    reap_strays();
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed("supervised", format!("finding this program: {error}")))?;
    let notifier = Notifier::from_environment(|name| std::env::var(name).ok())
        .map_err(|error| Failure::failed("supervised", format!("NOTIFY_SOCKET: {error}")))?;
    let mut signals = Signals::new()?;
    let environment = loaded.granted_environment();
    let engine = Engine::start(loaded.application, environment, options).await?;
    let handle = engine.handle();
    let running = engine.run();
    tokio::pin!(running);
    loop {
        let asked = tokio::select! {
            ended = &mut running => return Ok(ended?),
            () = accompany(&handle, notifier.as_ref()) => continue,
            asked = signals.next() => asked,
        };
        match asked {
            Asked::End => break,
            Asked::Reload => {
                if let Some(notifier) = &notifier {
                    notifier.reloading();
                }
                match check().and(try_out(&program).await) {
                    Ok(()) => return Err(become_anew(&program)),
                    // Told again that it is ready, by the next round.
                    Err(failure) => {
                        eprintln!("not reloaded, everything goes on as it is: {}", failure.message)
                    }
                }
            }
        }
    }
    if let Some(notifier) = &notifier {
        notifier.stopping();
    }
    let stop = |kill| {
        let handle = handle.clone();
        let request = DownRequest { volumes: false, kill };
        async move { handle.ask(|reply| Operation::Down { request, reply }).await }
    };
    let kill = async {
        while let Asked::Reload = signals.next().await {}
        drop(stop(true).await);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (_, ended) = async { tokio::join!(stop(false), &mut running) } => Ok(ended?),
        () = kill => Ok(()),
    }
}

/// Tells how it is doing, and that the launcher lives. Never returns: what ends is the engine.
async fn accompany(handle: &Handle, notifier: Option<&Notifier>) {
    let began = Instant::now();
    let (mut told, mut is_ready) = (String::new(), false);
    let watchdog_every = notifier.and_then(|notifier| notifier.watchdog_every).unwrap_or(Duration::MAX);
    loop {
        match timeout(ANSWER_MAX, handle.status(false)).await {
            Ok(Ok(status)) => {
                let words = in_words(&status);
                let is_news = words != told;
                if is_news {
                    eprintln!("{words}");
                }
                let is_up = status.ready || began.elapsed() >= READY_WAIT;
                if let Some(notifier) = notifier {
                    notifier.alive();
                    if is_up && !is_ready {
                        notifier.ready(&words);
                    } else if is_news {
                        notifier.status(&words);
                    }
                }
                is_ready |= is_up;
                told = words;
            }
            // It is about to end.
            Ok(Err(_)) => return std::future::pending().await,
            // Without a sign of life systemd starts another launcher, which adopts everything.
            Err(_) => {}
        }
        let every = if is_ready { LOOK_EVERY_READY } else { LOOK_EVERY };
        sleep(every.min(watchdog_every)).await;
    }
}

/// `shop: 3 of 4 instances ready; not ready: web-2`
fn in_words(status: &ApplicationStatus) -> String {
    let instances = || status.services.iter().flat_map(|service| &service.instances);
    let is_fine = |state: InstanceState, health: Health, code: Option<i32>| match state {
        InstanceState::Running => matches!(health, Health::None | Health::Healthy),
        InstanceState::Exited => code == Some(0),
        _ => false,
    };
    let missing: Vec<&str> = instances()
        .filter(|i| !is_fine(i.state, i.health, i.exit_code))
        .map(|instance| instance.name.as_str())
        .collect();
    let all = instances().count();
    let mut out = format!("{}: {} of {all} instances ready", status.name, all - missing.len());
    if !missing.is_empty() {
        out.push_str("; not ready: ");
        out.push_str(&missing[..missing.len().min(NAMES_MAX)].join(", "));
        if missing.len() > NAMES_MAX {
            out.push_str(&format!(" and {} more", missing.len() - NAMES_MAX));
        }
    }
    out
}

/// The same process, as another program: what it started stays its own, everything else closes. Returns only when that
/// is impossible; then it ends, and whoever supervises it starts it again.
fn become_anew(program: &Path) -> Failure {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let error = std::process::Command::new(replaced(program)).args(arguments).exec();
    Failure::failed("supervised", format!("starting {} again: {error}", program.display()))
}

/// A program that does not even start would leave everything without a launcher.
async fn try_out(program: &Path) -> Result<(), Failure> {
    let program = replaced(program);
    let failed =
        |why: String| Failure::failed("supervised", format!("{} does not start: {why}", program.display()));
    let mut command = tokio::process::Command::new(&program);
    command
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match timeout(TRIAL_MAX, command.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(status.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it does not end".to_owned())),
    }
}

/// Where the binary was, when it has been replaced since it was started.
fn replaced(program: &Path) -> PathBuf {
    let text = program.to_string_lossy();
    text.strip_suffix(" (deleted)").map_or_else(|| program.to_owned(), PathBuf::from)
}

/// Children of this process before it became anew that ended meanwhile: nobody waits for them any more.
fn reap_strays() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    ) {}
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed("signals", format!("could not listen to signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
