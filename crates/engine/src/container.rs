//! Containers: made, started, watched, removed.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{ANSWER, Request, Upgraded, quoted};
use crate::{Engine, EngineError, Flavor};

/// A container as it is wanted. What is not here is left as the engine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    pub name: String,
    pub image: String,
    /// The whole command; the image's own entrypoint and command are not looked at.
    pub command: Vec<String>,
    /// Over the image's.
    pub environment: BTreeMap<String, String>,
    /// `None`: the image's.
    pub working_dir: Option<PathBuf>,
    /// `None`: the image's.
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub network: Network,
    /// Files and folders of Sinew's own: made readable for containers where the host labels files (SELinux).
    pub own: Vec<Bind>,
    pub binds: Vec<Bind>,
    pub tmpfs: BTreeMap<PathBuf, String>,
    pub devices: Vec<Device>,
    pub read_only: bool,
    /// All capabilities that it has, without `CAP_`.
    pub capabilities: Vec<String>,
    /// Programs in it may gain privileges by set-user-ID bits.
    pub new_privileges: bool,
    pub filter: Filter,
    /// The engine's own init runs as process 1.
    pub init: bool,
    pub ulimits: Vec<Ulimit>,
    pub shm_bytes: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_milli: Option<u64>,
    /// `None`: no bound.
    pub pids: Option<u64>,
    pub flavored: Flavored,
}

/// What each engine has its own words for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flavored {
    pub engine: Flavor,
    /// Paths in `/proc` and `/sys` that it does not see, besides what the engine hides.
    pub hidden: Vec<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// A loopback interface, and nothing else.
    #[default]
    None,
    /// A network namespace, by its path. Podman's.
    Path(PathBuf),
    /// That of a container that runs. The host name is that one's, too.
    Of(String),
}

/// Of system calls, in the form of the OCI's runtime specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub text: String,
    /// Where the text is written: Podman reads it there.
    pub file: PathBuf,
}

/// What Docker hides itself; whoever hides more has to say all of it.
const HIDDEN_BY_DOCKER: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub source: PathBuf,
    pub target: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    pub name: String,
    /// -1: none.
    pub soft: i64,
    pub hard: i64,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub id: String,
    /// `created`, `running`, `exited`, …
    pub status: String,
    pub is_running: bool,
    /// Its first process, as seen from the host. 0: none.
    pub pid: i32,
    pub exit_code: i32,
    pub image_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    image: String,
    state: InspectedState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct InspectedState {
    status: String,
    running: bool,
    pid: i32,
    exit_code: i32,
}

/// A container in a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    pub id: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// The id of the new container, which does not run yet.
    pub fn create(&self, wanted: &Create) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let path = format!("/containers/create?name={}", quoted(&wanted.name));
        let attempted = format!("making a container of {}", wanted.image);
        let created: Created =
            self.send(Request::new("POST", path, attempted).json(&wanted.to_json()))?.json()?;
        Ok(created.id)
    }

    pub fn start(&self, container: &str) -> Result<(), EngineError> {
        let path = format!("/containers/{}/start", quoted(container));
        self.send(Request::new("POST", path, "starting the container"))?.finish()
    }

    /// Its output from now on. With a container that does not run yet: all of its next life.
    pub fn attach(&self, container: &str) -> Result<Upgraded, EngineError> {
        let path = format!("/containers/{}/attach?stream=1&stdout=1&stderr=1", quoted(container));
        self.upgrade(Request::new("POST", path, "listening to the container's output").timeout(Some(ANSWER)))
    }

    /// `None`: there is no such container.
    pub fn state(&self, container: &str) -> Result<Option<State>, EngineError> {
        let path = format!("/containers/{}/json", quoted(container));
        let inspected: Inspected = match self.send(Request::new("GET", path, "looking at the container")) {
            Err(error) if error.is_not_found() => return Ok(None),
            answered => answered?.json()?,
        };
        let Inspected { id, image, state } = inspected;
        Ok(Some(State {
            id,
            status: state.status,
            is_running: state.running,
            pid: state.pid,
            exit_code: state.exit_code,
            image_id: image,
        }))
    }

    /// Returns with the exit code when it does not run (any more).
    pub fn wait(&self, container: &str) -> Result<i32, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Waited {
            status_code: i32,
        }
        let path = format!("/containers/{}/wait?condition=not-running", quoted(container));
        let request = Request::new("POST", path, "waiting for the container's end").timeout(None);
        let waited: Waited = self.send(request)?.json()?;
        Ok(waited.status_code)
    }

    /// Kills it when it runs, and removes it with what it wrote into itself. One that is not there is no error.
    pub fn remove(&self, container: &str) -> Result<(), EngineError> {
        let path = format!("/containers/{}?force=true&v=true", quoted(container));
        match self.send(Request::new("DELETE", path, "removing the container")) {
            Err(error) if error.is_not_found() => Ok(()),
            answered => answered?.finish(),
        }
    }

    /// Running or not, those with this label and value.
    pub fn containers(&self, label: &str, value: &str) -> Result<Vec<Listed>, EngineError> {
        let filters = json!({ "label": [format!("{label}={value}")] }).to_string();
        let path = format!("/containers/json?all=true&filters={}", quoted(&filters));
        self.send(Request::new("GET", path, "listing containers"))?.json()
    }

    /// A file or folder of a container as a tar archive. `None`: there is nothing at that path.
    pub fn archive(&self, container: &str, path: &str) -> Result<Option<impl Read + use<>>, EngineError> {
        let url = format!("/containers/{}/archive?path={}", quoted(container), quoted(path));
        match self.send(Request::new("GET", url, format!("reading {path} of the container"))) {
            Err(error) if error.is_not_found() => Ok(None),
            answered => Ok(Some(answered?.body())),
        }
    }
}

impl Create {
    fn to_json(&self) -> Value {
        let environment: Vec<String> =
            self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let own: Vec<String> = self
            .own
            .iter()
            .map(|Bind { source, target, read_only }| {
                let mode = if *read_only { "ro" } else { "rw" };
                format!("{}:{}:{mode},z,rprivate", source.display(), target.display())
            })
            .collect();
        let mounts: Vec<Value> = self
            .binds
            .iter()
            .map(|bind| {
                json!({
                    "Type": "bind",
                    "Source": bind.source,
                    "Target": bind.target,
                    "ReadOnly": bind.read_only,
                    "BindOptions": { "Propagation": "rprivate" },
                })
            })
            .collect();
        let devices: Vec<Value> = self
            .devices
            .iter()
            .map(|device| {
                json!({
                    "PathOnHost": device.source,
                    "PathInContainer": device.target,
                    "CgroupPermissions": device.permissions,
                })
            })
            .collect();
        let ulimits: Vec<Value> = self
            .ulimits
            .iter()
            .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
            .collect();
        let Flavored { engine, hidden } = &self.flavored;
        let mut security = vec![match engine {
            Flavor::Podman => format!("seccomp={}", self.filter.file.display()),
            Flavor::Docker => format!("seccomp={}", self.filter.text),
        }];
        if *engine == Flavor::Podman && !hidden.is_empty() {
            security.push(format!("mask={}", hidden.join(":")));
        }
        if !self.new_privileges {
            security.push("no-new-privileges".to_owned());
        }
        let network = match &self.network {
            Network::None => "none".to_owned(),
            Network::Path(path) => format!("ns:{}", path.display()),
            Network::Of(container) => format!("container:{container}"),
        };
        let mut wanted = json!({
            "Image": self.image,
            "Entrypoint": self.command,
            "Cmd": [],
            "Env": environment,
            "WorkingDir": self.working_dir.clone().unwrap_or_default(),
            "User": self.user.clone().unwrap_or_default(),
            "Labels": self.labels,
            // Health is asked by the launcher.
            "Healthcheck": { "Test": ["NONE"], "Interval": 0 },
            "HostConfig": {
                "NetworkMode": network,
                "IpcMode": "private",
                "CgroupnsMode": "private",
                "Binds": own,
                "Mounts": mounts,
                "Tmpfs": self.tmpfs,
                "Devices": devices,
                "ReadonlyRootfs": self.read_only,
                "CapDrop": ["ALL"],
                "CapAdd": self.capabilities,
                "GroupAdd": self.groups,
                "SecurityOpt": security,
                "Init": self.init,
                "Ulimits": ulimits,
                "ShmSize": self.shm_bytes.unwrap_or(0),
                "Memory": self.memory_bytes.unwrap_or(0),
                "MemorySwap": self.memory_bytes.unwrap_or(0),
                "NanoCpus": self.cpu_milli.unwrap_or(0) * 1_000_000,
                "PidsLimit": self.pids.map_or(-1, |pids| i64::try_from(pids).unwrap_or(i64::MAX)),
                // Output is kept by Sinew, within bounds.
                "LogConfig": { "Type": "none", "Config": {} },
                "RestartPolicy": { "Name": "no" },
            },
        });
        // Who joins another has its host name, and must not say one.
        if !matches!(self.network, Network::Of(_)) {
            wanted["Hostname"] = self.hostname.as_str().into();
        }
        if *engine == Flavor::Docker && !hidden.is_empty() {
            let all: Vec<&str> = HIDDEN_BY_DOCKER.iter().chain(hidden).copied().collect();
            wanted["HostConfig"]["MaskedPaths"] = all.into();
        }
        wanted
    }
}
