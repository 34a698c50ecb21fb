//! The proxy process beside an instance, or the gateway: started, and started again at once when it dies. The sockets
//! it serves belong to the seal's init, so whoever connects meanwhile waits and is not refused. One that an older program
//! runs is succeeded by a new one while it serves.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::handover::succeeded_admin;
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{Bootstrap, Posture, Trust};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

use self::succession::{Outcome, Situation};
use crate::folders::{InstanceFolder, write_whole};
use crate::process::{self, ProcessId, Watched};
use crate::shared::Shared;

mod casualty;
mod silence;
pub mod succession;

/// The role of a proxy among the processes of ours.
pub const PROXY: &str = "proxy";

/// A life shorter than this is a failure that is not repeated without a pause.
const STABLE: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(1);

/// A proxy that is kept alive until [`Sidecar::end`]. When this is dropped, nobody watches it any more.
#[derive(Debug)]
pub struct Sidecar {
    stop: watch::Sender<bool>,
    succeeded: watch::Receiver<Vec<i32>>,
    task: JoinHandle<()>,
}

impl Sidecar {
    /// `ports`: of the explicit posture. `alive`: the process that an earlier launcher started; where it is another program
    /// than ours, a new one takes its place. `tell`: called with every process that begins to serve.
    pub fn keep(
        shared: Arc<Shared>,
        instance: InstanceName,
        posture: Posture,
        ports: Option<BTreeMap<u16, u16>>,
        alive: Option<ProcessId>,
        tell: impl Fn(Option<ProcessId>) + Send + 'static,
    ) -> io::Result<Self> {
        let folder = shared.folders.instance(&instance);
        let bootstrap = Bootstrap {
            posture,
            instance: instance.clone(),
            control: folder.control_socket(),
            init: (posture == Posture::Sidecar).then(|| folder.init_socket()),
            admin: folder.admin_socket(),
            last_good: folder.last_good(),
            trust: Trust::default(),
            lifeline: shared.lifeline.is_some(),
            ports,
            handover: Some(folder.handover_socket()),
            succeeds: false,
        };
        let (stop, stopped) = watch::channel(false);
        let (pids, succeeded) = watch::channel(Vec::new());
        let keeper =
            Keeper { shared, bootstrap, folder, stop: stopped, succeeded: JoinSet::new(), pids, tell };
        let task = tokio::spawn(keeper.keep(alive));
        Ok(Self { stop, succeeded, task })
    }

    /// Returns when all processes have ended.
    pub async fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }

    /// Processes that others have succeeded and whose connections live on.
    pub fn succeeded(&self) -> Vec<i32> {
        self.succeeded.borrow().clone()
    }
}

struct Keeper<Tell> {
    shared: Arc<Shared>,
    bootstrap: Bootstrap,
    folder: InstanceFolder,
    stop: watch::Receiver<bool>,
    /// Processes that serve nobody new; each tells its pid when it has ended.
    succeeded: JoinSet<i32>,
    pids: watch::Sender<Vec<i32>>,
    tell: Tell,
}

enum Ended {
    /// Which one and how, in words; `None`: as one ends whose seal has gone.
    Died(Option<(i32, String)>),
    Ordered,
}

impl<Tell: Fn(Option<ProcessId>) + Send + 'static> Keeper<Tell> {
    async fn keep(mut self, mut alive: Option<ProcessId>) {
        let instance = self.bootstrap.instance.clone();
        for other in process::started_with(PROXY, self.folder.bootstrap().as_os_str()) {
            if Some(other) != alive
                && let Ok(Some(process)) = Watched::open(other)
            {
                self.see_out(Arc::new(process));
            }
        }
        let mut pause = Duration::ZERO;
        let mut is_lost = false;
        loop {
            let began = Instant::now();
            let is_adopted = alive.is_some();
            let started = match alive.take() {
                Some(id) => Ok(id),
                None => start(&self.shared, &self.folder, &self.bootstrap, Stdio::null()),
            };
            match started.and_then(Watched::open) {
                Ok(Some(process)) => {
                    (self.tell)(Some(process.id));
                    if std::mem::take(&mut is_lost) {
                        self.shared
                            .log(&format!("{instance}: proxy {} was started in its place", process.id.pid));
                    }
                    let ended = self.watch(process, is_adopted).await;
                    (self.tell)(None);
                    match ended {
                        Ended::Died(how) => {
                            self.shared.registry.proxy_ended(&instance);
                            if let Some((pid, how)) = how {
                                casualty::tell(&self.shared, &instance, pid, how);
                                is_lost = true;
                            }
                        }
                        Ended::Ordered => {
                            self.shared.proxies_lost().remove(&instance);
                            return self.see_all_out().await;
                        }
                    }
                }
                Ok(None) => self.shared.registry.proxy_ended(&instance),
                Err(error) => self.shared.log(&format!("starting the proxy of {instance}: {error}")),
            }
            pause = if began.elapsed() >= STABLE {
                Duration::ZERO
            } else {
                (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX)
            };
            // The first new one starts at once.
            let wait = if pause <= PAUSE_MIN { Duration::ZERO } else { pause };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&mut self.stop) => return self.see_all_out().await,
            }
        }
    }

    /// Until nobody serves any more: this process, or one that takes its place.
    async fn watch(&mut self, process: Watched, is_adopted: bool) -> Ended {
        let mut process = Arc::new(process);
        let mut fate = Box::pin(succession::run(self.situation(), process.clone(), is_adopted));
        let mut silence = Box::pin(silence::fallen(self.situation(), is_adopted));
        loop {
            tokio::select! {
                () = stopped(&mut self.stop) => {
                    drop(fate);
                    end(&process).await;
                    return Ended::Ordered;
                }
                outcome = &mut fate => match outcome {
                    Outcome::Succeeded(successor) => {
                        let earlier = std::mem::replace(&mut process, Arc::new(successor));
                        (self.tell)(Some(process.id));
                        self.see_out(earlier);
                        fate = Box::pin(succession::run(self.situation(), process.clone(), false));
                        silence = Box::pin(silence::fallen(self.situation(), false));
                    }
                    Outcome::HasNoSuccessor => {
                        let how = "gave its place to one that is gone".to_owned();
                        let pid = process.id.pid;
                        self.see_out(process);
                        return Ended::Died(Some((pid, how)));
                    }
                    Outcome::Died => {
                        let end = process.ended().await;
                        let how = casualty::how(end, &self.bootstrap, &self.folder);
                        return Ended::Died(how.map(|how| (process.id.pid, how)));
                    }
                },
                () = &mut silence => {
                    drop(fate);
                    let _ = process.signal(libc::SIGKILL);
                    process.ended().await;
                    let how = "said nothing and answered nobody (frozen?), and was ended".to_owned();
                    return Ended::Died(Some((process.id.pid, how)));
                }
                Some(ended) = self.succeeded.join_next(), if !self.succeeded.is_empty() => self.forget(ended),
            }
        }
    }

    fn situation(&self) -> Situation {
        Situation {
            shared: self.shared.clone(),
            bootstrap: self.bootstrap.clone(),
            folder: self.folder.clone(),
        }
    }

    fn see_out(&mut self, process: Arc<Watched>) {
        self.pids.send_modify(|pids| pids.push(process.id.pid));
        let mut stop = self.stop.clone();
        self.succeeded.spawn(async move {
            tokio::select! {
                _ = process.ended() => {}
                () = stopped(&mut stop) => end(&process).await,
            }
            process.id.pid
        });
    }

    fn forget(&mut self, ended: Result<i32, JoinError>) {
        if let Ok(ended) = ended {
            self.pids.send_modify(|pids| pids.retain(|pid| *pid != ended));
            let _ = std::fs::remove_file(succeeded_admin(&self.bootstrap.admin, ended.unsigned_abs()));
        }
    }

    async fn see_all_out(mut self) {
        while let Some(ended) = self.succeeded.join_next().await {
            self.forget(ended);
        }
    }
}

/// Also when the [`Sidecar`] was dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn end(process: &Watched) {
    let _ = process.signal(libc::SIGTERM);
    if tokio::time::timeout(GRACE, process.ended()).await.is_err() {
        let _ = process.signal(libc::SIGKILL);
        process.ended().await;
    }
}

/// What it is to believe of its last-good state is written down anew each time: what it has served is known by then, and
/// what somebody wrote into the file meanwhile is gone.
fn start(
    shared: &Shared,
    folder: &InstanceFolder,
    bootstrap: &Bootstrap,
    output: Stdio,
) -> io::Result<ProcessId> {
    let trust = shared.registry.trust(&bootstrap.instance);
    let text = serde_json::to_vec_pretty(&Bootstrap { trust, ..bootstrap.clone() })?;
    write_whole(&folder.bootstrap(), &text)?;
    let log = log(folder)?;
    let mut command = Command::new(&shared.program);
    command
        .arg("proxy")
        .arg("--bootstrap")
        .arg(folder.bootstrap())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(log);
    std::os::unix::process::CommandExt::arg0(&mut command, "sinew");
    process::spawn(&mut command, shared.lifeline.as_ref().map(AsFd::as_fd))
}

/// A proxy says little; what it says last before it dies is kept. Each life begins a new file, the last one is kept.
fn log(folder: &InstanceFolder) -> io::Result<File> {
    let path = folder.sidecar_log();
    match std::fs::rename(&path, path.with_extension("log.old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The last line of its log, after a colon; nothing when it said nothing.
fn last_words(folder: &InstanceFolder) -> String {
    const BYTES_MAX: u64 = 64 * 1024;
    let mut text = String::new();
    let read = File::open(folder.sidecar_log()).and_then(|log| log.take(BYTES_MAX).read_to_string(&mut text));
    match text.lines().last() {
        Some(line) if read.is_ok() => format!(": {line}"),
        _ => String::new(),
    }
}
