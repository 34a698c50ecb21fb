//! What all tasks of one launcher share.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use sinew_spec::application::ServicePosture;
use sinew_spec::name::InstanceName;
use sinew_spec::status::ProxyLost;
use sinew_spec::time::rfc3339;
use tokio::sync::Semaphore;

use crate::board::Board;
use crate::cgroup::Cgroups;
use crate::explicit::Ports;
use crate::folders::Folders;
use crate::plan::Host;
use crate::registry::Registry;

/// The beginning of a trouble says more than its thousandth repetition.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub struct Shared {
    pub registry: Arc<dyn Registry>,
    pub board: Board,
    pub folders: Folders,
    pub host: Host,
    pub posture: ServicePosture,
    /// Explicit posture: ports of the host that instances were given.
    pub ports: Ports,
    pub cgroups: Cgroups,
    /// The binary.
    pub program: PathBuf,
    /// Turns for proxies to be succeeded.
    pub successions: Semaphore,
    /// See `ApplicationStatus::outdated`.
    pub outdated: Mutex<BTreeMap<InstanceName, String>>,
    /// See `ApplicationStatus::proxies_lost`.
    pub proxies_lost: Mutex<BTreeMap<InstanceName, ProxyLost>>,
    /// The read end of the pipe whose end ends everything; `None`: detached.
    pub lifeline: Option<OwnedFd>,
    /// Values for `FileContent::Environment`. Never stored.
    pub environment: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    pub fn outdated(&self) -> MutexGuard<'_, BTreeMap<InstanceName, String>> {
        self.outdated.lock().expect("nothing panics while it holds this lock")
    }

    pub fn proxies_lost(&self) -> MutexGuard<'_, BTreeMap<InstanceName, ProxyLost>> {
        self.proxies_lost.lock().expect("nothing panics while it holds this lock")
    }

    /// For whoever looks why something went wrong: the daemon's log, or the terminal's error stream is not touched in
    /// the foreground.
    pub fn log(&self, text: &str) {
        use std::io::Write;
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(self.folders.daemon_log());
        if let Ok(mut file) = opened
            && file.metadata().is_ok_and(|file| file.len() < LOG_BYTES_MAX)
        {
            let _ = writeln!(file, "{} {text}", rfc3339(crate::board::unix_ms()));
        }
    }
}
