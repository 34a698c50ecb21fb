//! From a service of the file to the seal that one of its instances gets, and the command that is started in it.
//! Reads the host (programs, users, secrets), changes nothing but that volumes and wanted folders are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use sinew_spec::application::{Application, FileContent, FileGrant, Mount, MountSource, Service};
use sinew_spec::egress;
use sinew_spec::hidden;
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::OWN_ADDRESS;
use sinew_spec::seal::{Command, SealFile, SealMount, SealSpec};

use crate::beneath::{self, Writable};
use crate::folders::Folders;
use crate::logs;
use crate::processes;
use crate::programs::{self, Homes};
use crate::registry::Names;
use crate::user::{self, Credentials, UserError};

mod container;
mod seccomp;
#[cfg(test)]
mod tests;

pub use container::{ContainerPlan, check_container, plan_container};

/// All configs and secrets of a service together; they travel in one message.
pub const FILES_BYTES_MAX: u64 = 1024 * 1024;
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Private to the seal, in memory.
const HOME: &str = "/tmp";
/// What a service gets from the launcher's environment unless the file says otherwise.
const INHERITED: &[&str] = &["LANG", "LC_ALL", "TZ"];

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    User(#[from] UserError),
    #[error("{what} {path}: {source}")]
    Io { what: String, path: PathBuf, source: std::io::Error },
    #[error("{name}: the variable {variable} is not set in the environment of `sinew up`; set it")]
    NoVariable { name: String, variable: String },
    #[error(
        "configs and secrets hold more than {FILES_BYTES_MAX} bytes together; mount large files with `volumes:`"
    )]
    FilesTooLarge,
    #[error("volume {0} is not declared")]
    UnknownVolume(String),
    #[error("{path} does not exist; make it, or use the short syntax of `volumes:`, which makes it")]
    NoSource { path: PathBuf },
    #[error("the device {path} does not exist on this host")]
    NoDevice { path: PathBuf },
    #[error("{path} cannot be shown to a container: {reason}")]
    SourceRefused { path: PathBuf, reason: &'static str },
}

/// What is the same for all services.
#[derive(Debug)]
pub struct Host {
    pub uid: Uid,
    pub gid: Gid,
    /// The launcher's own environment, as far as it matters here.
    pub path: String,
    pub home: Option<PathBuf>,
    pub inherited: BTreeMap<String, String>,
}

impl Host {
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let inherited =
            INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), variable(name)?))).collect();
        Self {
            uid: Uid::effective(),
            gid: Gid::effective(),
            path: variable("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| PATH_DEFAULT.to_owned()),
            home: variable("HOME").map(PathBuf::from),
            inherited,
        }
    }

    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }
}

/// Everything about one instance that does not change while it lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub seal: SealSpec,
    pub command: Command,
}

pub struct Request<'a> {
    pub application: &'a Application,
    pub service: &'a Service,
    pub instance: &'a InstanceName,
    pub folders: &'a Folders,
    pub host: &'a Host,
    /// Values for [`FileContent::Environment`].
    pub environment: &'a BTreeMap<String, String>,
    pub names: &'a Names,
    pub lifeline: bool,
    pub cgroups: Vec<PathBuf>,
}

/// Whether the service can be who it shall be.
pub fn check_user(service: &Service, host: &Host) -> Result<(), PlanError> {
    if service.container.is_some() {
        // Its image says who there is.
        return Ok(());
    }
    user::resolve(service.user.as_deref(), (host.uid, host.gid)).map(drop).map_err(PlanError::from)
}

/// Who the service will be. `None`: it cannot be, as [`check_user`] says.
pub fn user_of(service: &Service, host: &Host) -> Option<u32> {
    Some(user::resolve(service.user.as_deref(), (host.uid, host.gid)).ok()?.uid)
}

/// Whatever can be refused before anything is started: who the service shall be, and whether its files are there.
pub fn check(
    application: &Application,
    service: &Service,
    host: &Host,
    environment: &BTreeMap<String, String>,
) -> Result<(), PlanError> {
    if service.container.is_some() {
        return check_container(application, service, environment, None);
    }
    check_user(service, host)?;
    let writable = Writable::new(&beneath::writable(application, None));
    files(service, environment, &writable)?;
    devices(service)?;
    for mount in &service.mounts {
        if let MountSource::Bind { path, create: false } = &mount.source
            && !exists(path, &writable)?
        {
            return Err(PlanError::NoSource { path: path.clone() });
        }
    }
    Ok(())
}

pub fn plan(request: &Request<'_>) -> Result<Plan, PlanError> {
    let Request { application, service, host, folders, .. } = request;
    let credentials = user::resolve(service.user.as_deref(), (host.uid, host.gid))?;
    let mut command = command(service, request.instance, host, credentials);
    command.processes_max = processes::limit_of_user(&service.limits, host.is_root());
    let search = command.environment.get("PATH").map_or("", String::as_str);
    let folders_written = beneath::writable(application, Some(folders));
    let writable = Writable::new(&folders_written);
    let mounts = mounts(application, service, folders, &command, &writable)?;
    let seal = SealSpec {
        hostname: hostname(service, request.instance),
        masked: masked(application, service, folders).into_iter().collect(),
        shown: shown(application, service, search, host, &writable),
        mounts,
        writable: folders_written,
        tmpfs: service.tmpfs.clone(),
        files: files(service, request.environment, &writable)?,
        devices: devices(service)?,
        egress: egress::plan(service, &request.names.hosts).0,
        hosts: hosts_file(service, request.instance, request.names),
        map_all_users: host.is_root(),
        lifeline: request.lifeline,
        log_bytes_max: logs::file_bytes_max(application, service),
        cgroups: request.cgroups.clone(),
        explicit: false,
        container: None,
    };
    Ok(Plan { seal, command })
}

/// Without a seal: nothing is mounted, shown or hidden, and the home folder is the user's own.
pub fn plan_explicit(request: &Request<'_>) -> Result<Plan, PlanError> {
    let Request { application, service, host, .. } = request;
    let credentials = user::resolve(service.user.as_deref(), (host.uid, host.gid))?;
    let mut command = command(service, request.instance, host, credentials);
    if let Some(home) = host.home.as_ref().filter(|_| !service.environment.contains_key("HOME")) {
        command.environment.insert("HOME".to_owned(), home.display().to_string());
    }
    let seal = SealSpec {
        hostname: String::new(),
        mounts: Vec::new(),
        masked: Vec::new(),
        shown: Vec::new(),
        writable: Vec::new(),
        tmpfs: Vec::new(),
        files: Vec::new(),
        devices: Vec::new(),
        egress: Vec::new(),
        hosts: String::new(),
        map_all_users: host.is_root(),
        lifeline: request.lifeline,
        log_bytes_max: logs::file_bytes_max(application, service),
        cgroups: request.cgroups.clone(),
        explicit: true,
        container: None,
    };
    Ok(Plan { seal, command })
}

fn hostname(service: &Service, instance: &InstanceName) -> String {
    service.hostname.clone().unwrap_or_else(|| instance.to_string())
}

/// Only what the file says, and what programs cannot do without: nothing of the launcher's own environment leaks.
fn command(service: &Service, instance: &InstanceName, host: &Host, user: Credentials) -> Command {
    let mut environment = host.inherited.clone();
    environment.insert("PATH".to_owned(), host.path.clone());
    environment.insert("HOME".to_owned(), HOME.to_owned());
    environment.insert("HOSTNAME".to_owned(), hostname(service, instance));
    environment.extend(service.environment.clone());
    Command {
        argv: service.command.clone(),
        environment,
        working_dir: service.working_dir.clone(),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        ports: None,
        processes_max: None,
    }
}

/// `/etc/hosts` inside: the names that the service may call, and its own.
pub fn hosts_file(service: &Service, instance: &InstanceName, names: &Names) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let hostname = hostname(service, instance);
    if !names.services.contains_key(hostname.as_str()) {
        // Not loopback: who listens on its own name is meant to be called.
        text.push_str(&format!("{}\t{hostname}\n", OWN_ADDRESS.0));
    }
    for (name, address) in &names.services {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    for (name, address) in &names.hosts {
        // A service of the same name wins.
        if !names.services.contains_key(name.as_str()) {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    text
}

fn mounts(
    application: &Application,
    service: &Service,
    folders: &Folders,
    command: &Command,
    writable: &Writable,
) -> Result<Vec<SealMount>, PlanError> {
    let mut mounts = Vec::new();
    for mount in &service.mounts {
        let source = match &mount.source {
            MountSource::Volume(name) => {
                let on_disk =
                    application.volumes.get(name).ok_or_else(|| PlanError::UnknownVolume(name.clone()))?;
                let path = folders.volume(on_disk);
                make_volume(&path, (command.uid, command.gid))?;
                path
            }
            MountSource::Bind { path, create } => {
                if !exists(path, writable)? {
                    if !create {
                        return Err(PlanError::NoSource { path: path.clone() });
                    }
                    let failed = |source| PlanError::Io {
                        what: "making the folder".to_owned(),
                        path: path.clone(),
                        source,
                    };
                    writable.make_folders(path).map_err(failed)?;
                }
                path.clone()
            }
        };
        mounts.push(SealMount {
            masked: masked_in(application, service, folders, mount, &source),
            covered: covered_in(application, service, mount),
            source,
            target: mount.target.clone(),
            read_only: mount.read_only,
        });
    }
    Ok(mounts)
}

fn exists(path: &Path, writable: &Writable) -> Result<bool, PlanError> {
    writable.exists(path).map_err(|source| PlanError::Io {
        what: "looking at".to_owned(),
        path: path.to_path_buf(),
        source,
    })
}

fn make_volume(path: &Path, (uid, gid): (u32, u32)) -> Result<(), PlanError> {
    let failed =
        |source| PlanError::Io { what: "making the volume".to_owned(), path: path.to_path_buf(), source };
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    // It belongs to the user of the service that it is made for; an ordinary user gives nothing away.
    if Uid::effective().is_root() {
        chown(path, Some(uid), Some(gid)).map_err(failed)?;
    }
    Ok(())
}

/// The project, what was asked for, and the installations of the programs on PATH.
fn shown(
    application: &Application,
    service: &Service,
    search: &str,
    host: &Host,
    writable: &Writable,
) -> Vec<PathBuf> {
    let mut shown: BTreeSet<PathBuf> = BTreeSet::from([application.folder.clone()]);
    if programs::is_hidden(&service.working_dir) && service.working_dir.is_dir() {
        // Outside the project: somebody wrote it down, so it is meant.
        shown.insert(service.working_dir.clone());
    }
    shown.extend(service.read.iter().cloned());
    let homes = Homes::new(host.home.as_deref());
    let program = service.command.first().map_or("", String::as_str);
    shown.extend(programs::shown(search, program, &service.working_dir, &homes, writable));
    if let Some(found) = programs::locate(search, program, &service.working_dir)
        && programs::is_hidden(&found)
        && !shown.iter().any(|folder| found.starts_with(folder))
    {
        shown.insert(found);
    }
    shown.into_iter().filter(|path| path.exists() && path.parent().is_some()).collect()
}

/// What lies in shown places and is not this service's business, and where Sinew itself keeps state.
fn masked(application: &Application, service: &Service, folders: &Folders) -> BTreeSet<PathBuf> {
    let mut masked = hidden::in_shown(application, service);
    masked.extend(own_folders(application, service, folders));
    masked
}

/// What of that is hidden in a folder that the service mounts. `None`: the same.
fn masked_in(
    application: &Application,
    service: &Service,
    folders: &Folders,
    mount: &Mount,
    source: &Path,
) -> Option<Vec<PathBuf>> {
    let mut masked = hidden::in_mount(application, service, mount, source);
    masked.extend(own_folders(application, service, folders));
    (masked != self::masked(application, service, folders)).then(|| masked.into_iter().collect())
}

/// What is covered where nothing is hidden otherwise.
fn covered_in(application: &Application, service: &Service, mount: &Mount) -> Vec<PathBuf> {
    if mount.hide {
        return Vec::new();
    }
    let secrets = hidden::secrets_of_others(application, service);
    hidden::without_what_it_stands_on(secrets, application, service).into_iter().collect()
}

fn own_folders(application: &Application, service: &Service, folders: &Folders) -> BTreeSet<PathBuf> {
    let mut own = BTreeSet::new();
    for base in [folders.state.parent(), folders.run.parent()].into_iter().flatten() {
        // A base that holds the project would cover it; then the application's own folders are covered alone.
        if application.folder.starts_with(base) {
            own.extend([folders.state.clone(), folders.run.clone()]);
        } else {
            own.insert(base.to_path_buf());
        }
    }
    hidden::without_what_it_stands_on(own, application, service)
}

fn files(
    service: &Service,
    environment: &BTreeMap<String, String>,
    writable: &Writable,
) -> Result<Vec<SealFile>, PlanError> {
    let mut left = FILES_BYTES_MAX;
    let mut files = Vec::new();
    for grant in &service.files {
        let content = content(grant, environment, writable, left)?;
        left = left.checked_sub(content.len() as u64).ok_or(PlanError::FilesTooLarge)?;
        files.push(SealFile {
            target: grant.target.clone(),
            content,
            mode: grant.mode,
            uid: grant.uid,
            gid: grant.gid,
        });
    }
    Ok(files)
}

pub fn content(
    grant: &FileGrant,
    environment: &BTreeMap<String, String>,
    writable: &Writable,
    bytes_max: u64,
) -> Result<Vec<u8>, PlanError> {
    match &grant.content {
        FileContent::Inline(text) => Ok(text.clone().into_bytes()),
        FileContent::Environment(variable) => environment
            .get(variable)
            .map(|value| value.clone().into_bytes())
            .ok_or_else(|| PlanError::NoVariable { name: grant.name.clone(), variable: variable.clone() }),
        FileContent::File(path) => {
            let kind = if grant.secret { "secret" } else { "config" };
            let failed = |source| PlanError::Io {
                what: format!("reading the {kind} {}", grant.name),
                path: path.clone(),
                source,
            };
            let mut bytes = Vec::new();
            let file = writable.open_file(path).map_err(failed)?;
            // One more than fits, so that too much is noticed.
            file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
            Ok(bytes)
        }
    }
}

fn devices(service: &Service) -> Result<Vec<SealMount>, PlanError> {
    let device = |device: &sinew_spec::application::Device| {
        if !device.source.exists() {
            return Err(PlanError::NoDevice { path: device.source.clone() });
        }
        Ok(SealMount {
            source: device.source.clone(),
            target: device.target.clone(),
            read_only: !device.write,
            masked: None,
            covered: Vec::new(),
        })
    };
    service.devices.iter().map(device).collect()
}
