//! What a launcher writes down so that the next one can take over: one record per instance, one of the application.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sinew_spec::application::{Application, Replacing, Service, ServicePosture};
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::Published;
use sinew_spec::seal::{Command, PROTOCOL, PROTOCOL_OLDEST};

use crate::container::ContainerRecord;
use crate::contents::Key;
use crate::folders::{InstanceFolder, write_whole};
use crate::process::ProcessId;

/// `instance.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub instance: InstanceName,
    pub service: ServiceName,
    pub number: u32,
    pub version: Version,
    /// Absent for the gateway.
    pub init: Option<ProcessId>,
    pub sidecar: Option<ProcessId>,
    /// As it was started, so that it is ended by the same rules when the file says otherwise by then.
    pub definition: Option<Service>,
    pub command: Option<Command>,
    pub restarts: u32,
    /// It was in routing.
    pub ready: bool,
    /// Ends with its launcher: nothing to adopt.
    pub lifeline: bool,
    /// Its service ended for good: nothing of it runs, and nothing of it is to be run again.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// [`PROTOCOL`] of who started it.
    #[serde(default)]
    pub protocol: u32,
    /// Written before it is made.
    #[serde(default)]
    pub container: Option<ContainerRecord>,
}

/// What is known of an instance whose launcher spoke another protocol: enough to replace it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Stranger {
    pub instance: InstanceName,
    pub service: ServiceName,
    pub number: u32,
    pub init: Option<ProcessId>,
    pub sidecar: Option<ProcessId>,
}

impl Stranger {
    pub fn is_alive(&self) -> bool {
        self.init.is_some_and(ProcessId::is_alive)
    }
}

/// What there is in the folder of an instance.
pub enum Found {
    Known(Box<InstanceRecord>),
    Stranger(Stranger),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub code: i32,
    /// The boot in which it ended: what prepares a host is done again after the next one, also where the run folder
    /// outlives it.
    pub boot: String,
}

impl Ended {
    pub fn now(code: i32) -> Self {
        Self { code, boot: boot() }
    }

    pub fn is_of_this_boot(&self) -> bool {
        self.boot == boot()
    }
}

/// Another one after every boot of the host.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// What an instance was started from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Of the definition, and of the contents that it names.
    pub hash: u64,
    /// Counts the restarts that were asked for.
    pub generation: u64,
}

impl Version {
    /// One number for comparing: another one means another start.
    pub fn number(self) -> u64 {
        // Odd and large, so that a few restarts never undo a change of the definition.
        self.hash ^ self.generation.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Says whether an instance must be replaced when the file changed: how many there are, where they are published and
/// what they wait for concerns no running one.
pub fn hash(service: &Service) -> u64 {
    let mut essence = service.clone();
    essence.replicas = 0;
    essence.build.clear();
    essence.depends_on.clear();
    essence.log_bytes_max = None;
    essence.accept_proxy.clear();
    essence.send_proxy.clear();
    essence.replacing = Replacing::default();
    for published in &mut essence.published {
        published.published = None;
        published.host = std::net::Ipv4Addr::LOCALHOST.into();
    }
    let bytes = serde_json::to_vec(&essence).unwrap_or_default();
    // FNV-1a: stays the same in later versions of this program.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// `application.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicationRecord {
    pub application: Application,
    #[serde(default)]
    pub posture: ServicePosture,
    pub published: Vec<Published>,
    /// Stopped by hand.
    pub stopped: BTreeMap<ServiceName, Stopped>,
    /// For the digests of configs and secrets.
    #[serde(default = "Key::random")]
    pub key: Key,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub all: bool,
    pub numbers: std::collections::BTreeSet<u32>,
}

impl InstanceRecord {
    pub fn read(folder: &InstanceFolder) -> Option<Self> {
        read(&folder.record())
    }

    /// Also of a launcher before or after this version. `None`: nothing that can be told.
    pub fn find(folder: &InstanceFolder) -> Option<Found> {
        let bytes = std::fs::read(folder.record()).ok()?;
        find(&bytes)
    }

    pub fn write(&self, folder: &InstanceFolder) -> io::Result<()> {
        write(&folder.record(), self)
    }
}

fn find(bytes: &[u8]) -> Option<Found> {
    match serde_json::from_slice::<Box<InstanceRecord>>(bytes) {
        Ok(record) if (PROTOCOL_OLDEST..=PROTOCOL).contains(&record.protocol) => Some(Found::Known(record)),
        _ => serde_json::from_slice(bytes).ok().map(Found::Stranger),
    }
}

/// `None`: it is not there, or of a version that wrote otherwise.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_no_running_instance_does_not_change_the_hash() {
        let service = Service::new("orders", vec!["true".into()]);
        let mut changed = service.clone();
        changed.replicas = 7;
        changed.replacing.stop_first = true;
        changed.replacing.update_watch_ms = Some(5_000);
        assert_eq!(hash(&service), hash(&changed));
        changed.command.push("x".into());
        assert_ne!(hash(&service), hash(&changed));
    }

    #[test]
    fn records_of_other_versions_are_told_apart() {
        let rest = r#""instance":"web-1","service":"web","number":1,"version":{"hash":7,"generation":0},
            "init":{"pid":9,"start_ticks":8},"sidecar":null"#;
        let whole = r#""definition":null,"command":null,"restarts":0,"ready":true,"lifeline":false"#;
        let kind = |text: String| match find(text.as_bytes()) {
            Some(Found::Known(_)) => "known",
            Some(Found::Stranger(stranger)) if stranger.init.is_some_and(|init| init.pid == 9) => "stranger",
            _ => "nothing",
        };
        assert_eq!(kind(format!("{{{rest},{whole}}}")), "known", "before it was written down");
        assert_eq!(kind(format!("{{{rest},{whole},\"protocol\":{PROTOCOL}}}")), "known");
        assert_eq!(kind(format!("{{{rest},{whole},\"protocol\":{}}}", PROTOCOL + 1)), "stranger");
        assert_eq!(kind(format!("{{{rest},\"protocol\":7}}")), "stranger", "and what it lacks is no matter");
        assert_eq!(kind("{}".to_owned()), "nothing");
        assert_eq!(kind(String::new()), "nothing");
    }

    #[test]
    fn a_restart_is_another_version() {
        let version = Version { hash: 7, generation: 0 };
        assert_ne!(version.number(), Version { generation: 1, ..version }.number());
    }
}
