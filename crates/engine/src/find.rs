//! Which engine of this host is used, and whether it can be.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::http::Request;
use crate::{Engine, EngineError};

/// The first version whose interface for Docker's clients takes a network namespace by its path.
pub const PODMAN_VERSION_MIN: (u32, u32) = (4, 0);

/// Of 2020: the first whose filters of system calls say which error a call gets.
pub const DOCKER_VERSION_MIN: (u32, u32) = (20, 10);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavor {
    #[default]
    Podman,
    /// Docker, or whatever else speaks its API.
    Docker,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub flavor: Flavor,
    pub version: String,
    /// Its containers are those of an ordinary user.
    pub is_rootless: bool,
    /// The user 0 of its containers is another one on the host (Docker's `userns-remap`).
    pub maps_users: bool,
}

/// The engine that the environment names (`CONTAINER_HOST`, `DOCKER_HOST`), else the one at the usual places.
pub fn find() -> Result<Engine, EngineError> {
    find_with(&|name| std::env::var(name).ok(), effective_uid())
}

/// [`find`] with the environment handed in.
pub fn find_with(variable: &dyn Fn(&str) -> Option<String>, uid: u32) -> Result<Engine, EngineError> {
    for name in ["CONTAINER_HOST", "DOCKER_HOST"] {
        if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
            return match value.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => Ok(Engine::at(path)),
                _ => Err(EngineError::NotLocal { variable: name, value }),
            };
        }
    }
    let places = places(variable, uid);
    if let Some(found) = places.iter().find(|place| is_socket(place)) {
        return Ok(Engine::at(found));
    }
    let path = variable("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).any(|folder| folder.join("podman").is_file());
    let start = start_hint(uid);
    Err(if installed {
        EngineError::NotServing { socket: places[0].clone(), hint: start.to_owned() }
    } else {
        let hint = format!(
            "install Podman (Debian: `apt install podman`; Fedora: `dnf install podman`), then {start}; or start Docker, when \
             it is installed"
        );
        EngineError::NotInstalled { hint }
    })
}

fn start_hint(uid: u32) -> &'static str {
    match uid {
        0 => "start it with `systemctl enable --now podman.socket`",
        _ => "start it with `systemctl --user enable --now podman.socket`",
    }
}

/// In the order of preference.
fn places(variable: &dyn Fn(&str) -> Option<String>, uid: u32) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if uid != 0 {
        let runtime = variable("XDG_RUNTIME_DIR").filter(|folder| folder.starts_with('/'));
        let runtime = runtime.unwrap_or_else(|| format!("/run/user/{uid}"));
        places.push(Path::new(&runtime).join("podman/podman.sock"));
    } else {
        places.push("/run/podman/podman.sock".into());
    }
    places.push("/var/run/docker.sock".into());
    places
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn effective_uid() -> u32 {
    // The folder of a process belongs to its effective user; the crate is kept free of system calls.
    std::fs::metadata("/proc/self").map_or(0, |found| std::os::unix::fs::MetadataExt::uid(&found))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    #[serde(default)]
    version: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    /// Podman's word; Docker has an option for it.
    #[serde(default)]
    rootless: bool,
    #[serde(default)]
    security_options: Option<Vec<String>>,
}

impl Engine {
    /// Who answers. An error says what to do.
    pub fn about(&self) -> Result<About, EngineError> {
        let silent = |source| EngineError::Silent {
            socket: self.socket().to_path_buf(),
            source,
            hint: match self.socket().file_name().is_some_and(|name| name == "docker.sock") {
                true => "start it with `systemctl enable --now docker`".to_owned(),
                false => start_hint(effective_uid()).to_owned(),
            },
        };
        let version =
            self.send(Request::new("GET", "/version", "asking the container engine for its version"));
        let version: Version = match version {
            Err(EngineError::Io { source, .. }) => return Err(silent(source)),
            answered => answered?.json()?,
        };
        let is_podman = version.components.iter().any(|component| component.name.contains("Podman"));
        let info: Info =
            self.send(Request::new("GET", "/info", "asking the container engine about itself"))?.json()?;
        let options = info.security_options.unwrap_or_default();
        let is_rootless = info.rootless || options.iter().any(|option| option.contains("rootless"));
        let flavor = if is_podman { Flavor::Podman } else { Flavor::Docker };
        let maps_users = options.iter().any(|option| option.contains("name=userns"));
        Ok(About { flavor, version: version.version, is_rootless, maps_users })
    }

    /// Whether containers can be sealed with it.
    pub fn check(&self) -> Result<About, EngineError> {
        let about = self.about()?;
        let version = &about.version;
        match about.flavor {
            Flavor::Docker => self.check_docker(about),
            Flavor::Podman if number(version) < PODMAN_VERSION_MIN => {
                let (major, minor) = PODMAN_VERSION_MIN;
                Err(EngineError::Unusable(format!(
                    "Podman {version} at {} is too old: {major}.{minor} or newer is needed; Debian 12 and Fedora 36 have \
                     it: `apt install podman`, `dnf install podman`",
                    self.socket().display()
                )))
            }
            Flavor::Podman => Ok(about),
        }
    }
}

impl Engine {
    /// The init of a container enters a network that Docker has made: it must be allowed to.
    fn check_docker(&self, about: About) -> Result<About, EngineError> {
        let version = &about.version;
        let reason = if number(version) < DOCKER_VERSION_MIN {
            let (major, minor) = DOCKER_VERSION_MIN;
            format!("is too old: {major}.{minor} or newer is needed; update it")
        } else if about.is_rootless {
            "is rootless, and a rootless engine has to be Podman; `apt install podman`, `dnf install podman`"
                .to_owned()
        } else if about.maps_users {
            "maps the users of its containers (`userns-remap`), whose networks nobody else may make ready; take that \
             setting back, or use Podman"
                .to_owned()
        } else if effective_uid() != 0 {
            "runs as root, and an ordinary user cannot make its networks ready; run sinew as root, or use rootless \
             Podman: `apt install podman`, `dnf install podman`"
                .to_owned()
        } else {
            return Ok(about);
        };
        let socket = self.socket().display();
        Err(EngineError::Unusable(format!("Docker {version} at {socket} {reason}")))
    }
}

/// Major and minor. What is no number counts as 0.
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests;
