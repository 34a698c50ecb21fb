//! A proxy of another program than ours is succeeded by one of ours: the new process takes over the sockets while the
//! old one serves (`spec::handover`), and the old one drains. A new one that fails is forgotten; the old one goes on.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::proxy::Bootstrap;
use sinew_transport::descriptors::Channel;
use sinew_transport::handover::who;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{sleep, timeout};

use super::{PROXY, last_words, start};
use crate::folders::InstanceFolder;
use crate::process::{self, ProcessId, Watched, program};
use crate::shared::Shared;

/// From the start of a process until it serves. It is given up earlier when it ends.
const SUCCESSION_MAX: Duration = Duration::from_secs(20);
/// What keeps a new process from serving may pass (the old one has just been born, say).
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// For an answer to the question who serves; between two processes there is nobody for a moment.
const ASK_MAX: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Successions of one application at the same time: each costs the start of a process.
pub const AT_ONCE: usize = 2;

pub struct Situation {
    pub shared: Arc<Shared>,
    pub bootstrap: Bootstrap,
    pub folder: InstanceFolder,
}

/// What became of the process that serves.
pub enum Outcome {
    Succeeded(Watched),
    /// It lives on without serving anybody new, and the one that took its place is gone.
    HasNoSuccessor,
    Died,
}

/// Until something becomes of `serving`. `is_adopted`: an earlier launcher has started it.
pub async fn run(situation: Situation, serving: Arc<Watched>, is_adopted: bool) -> Outcome {
    let is_outdated = is_adopted && situation.is_outdated(serving.id).await;
    let told = is_outdated.then(|| Told::new(&situation));
    if let Some(told) = &told {
        let Situation { shared, bootstrap, .. } = &situation;
        let tries = if situation.knows_successors(told) { TRIES } else { 0 };
        for _ in 0..tries {
            let turn = tokio::select! {
                turn = shared.successions.acquire() => turn,
                _ = serving.ended() => return Outcome::Died,
            };
            let reason = match situation.succeed().await {
                Ok((successor, paused)) => {
                    let (instance, old, new) = (&bootstrap.instance, serving.id.pid, successor.id.pid);
                    shared.log(&format!(
                        "{instance}: proxy {new} took the place of {old}; connections waited {} ms",
                        paused.as_millis()
                    ));
                    return Outcome::Succeeded(successor);
                }
                Err(reason) => reason,
            };
            drop(turn);
            told.why(&reason);
            shared.log(&format!("{}: proxy {} goes on: {reason}", bootstrap.instance, serving.id.pid));
            if !serving.id.is_alive() {
                return Outcome::Died;
            }
            if situation.nobody_serves().await {
                return Outcome::HasNoSuccessor;
            }
            tokio::select! {
                () = sleep(TRY_AGAIN) => {}
                _ = serving.ended() => return Outcome::Died,
            }
        }
    }
    serving.ended().await;
    drop(told);
    Outcome::Died
}

impl Situation {
    async fn is_outdated(&self, serving: ProcessId) -> bool {
        let program = self.shared.program.clone();
        let same = tokio::task::spawn_blocking(move || program::is_run_by(serving.pid, &program)).await;
        matches!(same, Ok(Ok(false)))
    }

    fn knows_successors(&self, told: &Told<'_>) -> bool {
        let knows = self.folder.handover_socket().exists();
        if !knows {
            const WHY: &str = "it was started by a sinew that knows no successors";
            told.why(WHY);
            self.shared
                .log(&format!("{}: its proxy stays until it is replaced: {WHY}", self.bootstrap.instance));
        }
        knows
    }

    /// The new process, when it serves, and for how long nobody did. Whoever drops this ends it.
    async fn succeed(&self) -> Result<(Watched, Duration), String> {
        let pipe = || -> io::Result<(pipe::Receiver, Stdio)> {
            let (reader, writer) = io::pipe()?;
            Ok((pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?, Stdio::from(OwnedFd::from(writer))))
        };
        let (mut told, teller) = pipe().map_err(|error| format!("making a pipe: {error}"))?;
        let bootstrap = Bootstrap { succeeds: true, ..self.bootstrap.clone() };
        let started = start(&self.shared, &self.folder, &bootstrap, teller).and_then(Watched::open);
        let successor = started.map_err(|error| format!("starting a new one: {error}"))?;
        let mut successor = Starting(Some(successor.ok_or("the new one ended at once")?));
        let mut word = String::new();
        match timeout(SUCCESSION_MAX, told.read_to_string(&mut word)).await {
            Ok(Ok(_)) if !word.is_empty() => {
                let paused = Duration::from_micros(word.trim().parse().unwrap_or_default());
                Ok((successor.0.take().expect("nobody has taken it"), paused))
            }
            Ok(_) => Err(format!("the new one ended{}", last_words(&self.folder))),
            Err(_) => Err(format!("the new one is not ready in time{}", last_words(&self.folder))),
        }
    }

    /// The one that was to serve is gone: if it had the place already, nobody has it now.
    async fn nobody_serves(&self) -> bool {
        let path = self.folder.handover_socket();
        let ask = async {
            loop {
                match who(&path).await {
                    Ok(_) => return false,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
                    // It was about to give its place away, or to end.
                    Err(_) => sleep(ASK_AGAIN).await,
                }
            }
        };
        timeout(ASK_MAX, ask).await.unwrap_or(false)
    }
}

/// That a proxy is outdated, as `status` shows it, until this is dropped.
struct Told<'a>(&'a Situation);

impl<'a> Told<'a> {
    fn new(situation: &'a Situation) -> Self {
        let told = Self(situation);
        told.why("");
        told
    }

    fn why(&self, reason: &str) {
        let Situation { shared, bootstrap, .. } = self.0;
        shared.outdated().insert(bootstrap.instance.clone(), reason.to_owned());
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let Situation { shared, bootstrap, .. } = self.0;
        shared.outdated().remove(&bootstrap.instance);
    }
}

/// A process that is killed unless it has become the one that serves.
struct Starting(Option<Watched>);

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(process) = self.0.take() else { return };
        let _ = process.signal(libc::SIGKILL);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { process.ended().await });
        }
    }
}

enum Serving {
    /// While the line is open, it is not succeeded.
    By(i32, Channel),
    Nobody,
    /// One that does not answer, or of a version that cannot.
    Unknown,
}

async fn serving(path: &Path) -> Serving {
    let ask = async {
        loop {
            match who(path).await {
                Ok((pid, line)) => return Serving::By(pid, line),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Serving::Unknown,
                // Between two processes.
                Err(_) => sleep(ASK_AGAIN).await,
            }
        }
    };
    match timeout(ASK_MAX, ask).await {
        Ok(serving) => serving,
        Err(_) => match Channel::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Serving::Nobody,
            // It listens, and says nothing.
            _ => Serving::Unknown,
        },
    }
}

/// Of the processes of a proxy that an earlier launcher left, the one that serves. One that was about to take its place
/// is ended: nobody is left who would wait for it. Those that it has succeeded go on draining.
pub async fn settle(folder: &InstanceFolder, recorded: Option<ProcessId>) -> Option<ProcessId> {
    let all = process::started_with(PROXY, folder.bootstrap().as_os_str());
    if all.is_empty() {
        return None;
    }
    let recorded = recorded.filter(|recorded| all.contains(recorded));
    match serving(&folder.handover_socket()).await {
        Serving::By(pid, line) => {
            let found = all.iter().find(|id| id.pid == pid).copied();
            for younger in
                all.iter().filter(|id| found.is_some_and(|found| id.start_ticks > found.start_ticks))
            {
                process::end(*younger).await;
            }
            drop(line);
            found
        }
        Serving::Nobody => None,
        Serving::Unknown => {
            // Written down before its successor was, or not at all: it would serve beside a new one.
            for other in all.iter().filter(|id| recorded.as_ref() != Some(*id)) {
                process::end(*other).await;
            }
            recorded
        }
    }
}
