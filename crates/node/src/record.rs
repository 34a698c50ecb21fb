//! What a launcher writes down so that the next one can take over: one record per instance, one of the application.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sinew_spec::application::{Application, Service, ServicePosture};
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::Published;
use sinew_spec::seal::Command;

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

    pub fn write(&self, folder: &InstanceFolder) -> io::Result<()> {
        write(&folder.record(), self)
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
        assert_eq!(hash(&service), hash(&changed));
        changed.command.push("x".into());
        assert_ne!(hash(&service), hash(&changed));
    }

    #[test]
    fn a_restart_is_another_version() {
        let version = Version { hash: 7, generation: 0 };
        assert_ne!(version.number(), Version { generation: 1, ..version }.number());
    }
}
