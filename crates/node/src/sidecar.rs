//! The proxy process beside an instance, or the gateway: started, and started again at once when it dies. The sockets
//! it serves belong to the seal's init, so whoever connects meanwhile waits and is not refused.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{Bootstrap, Posture, Trust};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::folders::{InstanceFolder, write_whole};
use crate::process::{self, ProcessId, Watched};
use crate::shared::Shared;

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
    task: JoinHandle<()>,
}

impl Sidecar {
    /// `ports`: of the explicit posture. `alive`: the process that an earlier launcher started. `tell`: called with every new process.
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
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keep(shared, bootstrap, folder, alive, stopped, tell));
        Ok(Self { stop, task })
    }

    /// Returns when the process has ended.
    pub async fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn keep(
    shared: Arc<Shared>,
    bootstrap: Bootstrap,
    folder: InstanceFolder,
    mut alive: Option<ProcessId>,
    mut stop: watch::Receiver<bool>,
    tell: impl Fn(Option<ProcessId>) + Send + 'static,
) {
    let instance = bootstrap.instance.clone();
    let mut pause = Duration::ZERO;
    loop {
        let began = Instant::now();
        let started = match alive.take() {
            Some(id) => Ok(id),
            None => start(&shared, &folder, &bootstrap),
        };
        match started.and_then(Watched::open) {
            Ok(Some(process)) => {
                tell(Some(process.id));
                tokio::select! {
                    () = process.ended() => shared.registry.proxy_ended(&instance),
                    () = stopped(&mut stop) => {
                        end(&process).await;
                        tell(None);
                        return;
                    }
                }
                tell(None);
            }
            Ok(None) => shared.registry.proxy_ended(&instance),
            Err(error) => shared.log(&format!("starting the proxy of {instance}: {error}")),
        }
        pause =
            if began.elapsed() >= STABLE { Duration::ZERO } else { (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX) };
        // The first new one starts at once.
        let wait = if pause <= PAUSE_MIN { Duration::ZERO } else { pause };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopped(&mut stop) => return,
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
fn start(shared: &Shared, folder: &InstanceFolder, bootstrap: &Bootstrap) -> io::Result<ProcessId> {
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
        .stdout(Stdio::null())
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
