//! `sinew __daemon`: the same as `sinew up` in the foreground, but nobody looks at it. It is handed the application on
//! standard input, tells on standard output whether it could start, and writes what it has to say to `daemon.log`.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinew_node::folders::{Folders, Lock};
use sinew_node::launcher;
use sinew_node::process::{ProcessId, Watched, program};
use sinew_spec::admin::{AdminError, ApplyRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::engine::{Engine, Options};
use crate::failure::Failure;
use crate::target;

const COMMAND: &str = "__daemon";
/// For a launcher that is replaced.
const END_MAX: Duration = Duration::from_secs(10);
/// Of the application on standard input.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The one line on standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Started {
    /// `admin.sock` answers.
    Ready,
    Failed(AdminError),
}

/// Starts a process that survives this one. Returns when its admin API answers.
pub async fn spawn(folders: &Folders, request: ApplyRequest) -> Result<(), Failure> {
    let failed = |attempted: &str, error: &dyn std::fmt::Display| {
        Failure::failed("daemon", format!("starting in the background: {attempted}: {error}"))
    };
    folders.make().map_err(|error| failed("making the run folder", &error))?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(folders.daemon_log())
        .map_err(|error| failed("opening daemon.log", &error))?;
    let binary = std::env::current_exe().map_err(|error| failed("finding this program", &error))?;
    let mut command = std::process::Command::new(binary);
    command.arg(COMMAND).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut child = Command::from(command).spawn().map_err(|error| failed("starting the process", &error))?;

    let text =
        serde_json::to_vec(&request).map_err(|error| failed("writing the application down", &error))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("talking to the process", &"no pipe"));
    };
    // An early end is told by the other pipe.
    let _ = input.write_all(&text).await;
    drop(input);
    let mut answer = Vec::new();
    output
        .take(INPUT_BYTES_MAX)
        .read_to_end(&mut answer)
        .await
        .map_err(|error| failed("hearing of it", &error))?;
    match serde_json::from_slice(&answer) {
        Ok(Started::Ready) => Ok(()),
        Ok(Started::Failed(error)) => Err(error.into()),
        Err(_) => {
            let ended = child.wait().await.map(|status| status.to_string()).unwrap_or_default();
            Err(failed("the process ended at once", &ended)
                .log(last_of(folders))
                .hint("its last words are above"))
        }
    }
}

/// Ends a launcher in the background that another program runs than this one, and nothing else: the next one takes over
/// what it started. True: there was one.
pub async fn end_outdated(folders: &Folders) -> bool {
    let Some(launcher) = Lock::holder(folders).and_then(ProcessId::of) else { return false };
    let line = std::fs::read(format!("/proc/{}/cmdline", launcher.pid)).unwrap_or_default();
    // One in the foreground belongs to its terminal or its supervisor.
    let is_ours = line.split(|byte| *byte == 0).nth(1) == Some(COMMAND.as_bytes());
    let ours = std::env::current_exe();
    let same = ours.and_then(|ours| program::is_run_by(launcher.pid, &ours));
    if !is_ours || !matches!(same, Ok(false)) {
        return false;
    }
    let Ok(Some(process)) = Watched::open(launcher) else { return false };
    let _ = process.signal(libc::SIGTERM);
    if timeout(END_MAX, process.ended()).await.is_err() {
        // What it started does not need it.
        let _ = process.signal(libc::SIGKILL);
        process.ended().await;
    }
    true
}

/// The process itself.
pub async fn run() -> Result<(), Failure> {
    // Ctrl-C in the terminal it was started from is not meant for it.
    nix::unistd::setsid().ok();
    let mut text = Vec::new();
    let read = io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut text);
    let parsed = read
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_slice::<ApplyRequest>(&text).map_err(|error| error.to_string()));
    drop(text);
    let ApplyRequest { mut application, environment, partial, posture } = parsed.map_err(|error| {
        Failure::bad_input("arguments", format!("no application on standard input: {error}"))
            .hint("`sinew up -d` starts this process; it is not for people")
    })?;
    let bases = target::bases()?;
    let folders = Folders::new(&bases, &application.name);
    if partial && let Some(earlier) = launcher::earlier_application(&folders) {
        // They are alive and go on.
        launcher::add_others(&mut application, &earlier);
    }
    let options = Options { folders, foreground: false, posture };
    let engine = match Engine::start(application, environment, options).await {
        Ok(engine) => engine,
        Err(error) => {
            tell(&Started::Failed(error.clone()));
            return Err(error.into());
        }
    };
    let handle = engine.handle();
    tell(&Started::Ready);
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Failure::failed("signals", format!("could not listen to signals: {error}")))?;
    let running = engine.run();
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => Ok(ended?),
        // A supervisor ends the launcher alone: what it started goes on, for the next one to take over.
        _ = terminate.recv() => {
            drop(handle);
            Ok(())
        }
    }
}

/// Standard output is closed after this: the one who asked waits for its end.
fn tell(started: &Started) {
    if let Ok(text) = serde_json::to_string(started) {
        println!("{text}");
    }
    if let Ok(nothing) = OpenOptions::new().write(true).open("/dev/null") {
        nix::unistd::dup2_stdout(nothing).ok();
    }
}

fn last_of(folders: &Folders) -> Vec<String> {
    const LINES: usize = 10;
    let text = std::fs::read_to_string(folders.daemon_log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
