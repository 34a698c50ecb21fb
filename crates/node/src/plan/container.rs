//! From a service with an image to its container: what the engine is asked for, and the network that it gets.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use sinew_engine::{Bind, Create, Device, Filter, Flavor, Flavored, Network, Ulimit};
use sinew_spec::application::Container;
use sinew_spec::proxy::RESOLVER_ADDRESS;
use sinew_spec::seal::{SealContainer, SealContainerMount, SealContainerVolume};

use super::*;
use crate::container::{
    Containers, LABEL_APPLICATION, LABEL_EPOCH, LABEL_INSTANCE, LABEL_RUN_FOLDER, LABEL_SERVICE,
};
use crate::folders::InstanceFolder;

/// What images of all kinds need to set up their files and become another user. None reaches beyond the container.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What tells of the machine, as in a process's seal.
const HIDDEN: &[&str] = &["/proc/cmdline", "/proc/iomem", "/proc/ioports"];

/// Empty, and the user of the container may write there.
const fn tmpfs_options(flavor: Flavor) -> &'static str {
    match flavor {
        // It would copy what the image has there.
        Flavor::Podman => "mode=1777,notmpcopyup",
        Flavor::Docker => "mode=1777",
    }
}

/// With these a container would hold the host, whatever its seal.
const NEVER_SHOWN: &[&str] =
    &["/proc", "/sys", "/dev", "/boot", "/run", "/var/run", "/var/lib/containers", "/var/lib/docker"];

/// A container and the network that is made for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerPlan {
    pub seal: SealSpec,
    pub command: Command,
    /// Without its network, which has a path when the seal is built.
    pub create: Create,
    /// Volumes that were made for it, and files for its user only: they belong to the user that its image says.
    pub owned: Vec<PathBuf>,
}

/// Whatever can be refused before anything is started.
pub fn check_container(
    application: &Application,
    service: &Service,
    environment: &BTreeMap<String, String>,
    folders: Option<&Folders>,
) -> Result<(), PlanError> {
    let writable = Writable::new(&beneath::writable(application, None));
    files(service, environment, &writable)?;
    for device in &service.devices {
        check_device(&device.source)?;
    }
    for mount in &service.mounts {
        if let MountSource::Bind { path, create } = &mount.source {
            check_source(path, folders)?;
            if !create && !exists(path, &writable)? {
                return Err(PlanError::NoSource { path: path.clone() });
            }
        }
    }
    Ok(())
}

/// Makes what the container is shown: volumes, wanted folders, and files in the instance's folder.
pub fn plan_container(
    request: &Request<'_>,
    container: &Container,
    containers: &Containers,
    folder: &InstanceFolder,
    epoch: &str,
) -> Result<ContainerPlan, PlanError> {
    let Request { application, service, instance, folders, .. } = request;
    let name = format!("sinew-{}-{instance}-{epoch}", application.name);
    let hosts = hosts_file(service, instance, request.names);
    let resolver = format!("nameserver {RESOLVER_ADDRESS}\noptions timeout:2 attempts:2\n");
    let shown = Shown { folder };
    let mut own = vec![
        shown.file("hosts", hosts.as_bytes(), 0o644, "/etc/hosts")?,
        shown.file("resolv.conf", resolver.as_bytes(), 0o644, "/etc/resolv.conf")?,
    ];
    let mut owned = Vec::new();
    let writable_folders = beneath::writable(application, Some(folders));
    let writable = Writable::new(&writable_folders);
    let (mut binds, mut mounts, mut new_volumes) = (Vec::new(), Vec::new(), Vec::new());
    for mount in &service.mounts {
        let bind = |source| Bind { source, target: mount.target.clone(), read_only: mount.read_only };
        match &mount.source {
            MountSource::Volume(name) => {
                let on_disk =
                    application.volumes.get(name).ok_or_else(|| PlanError::UnknownVolume(name.clone()))?;
                let path = folders.volume(on_disk);
                if !path.exists() {
                    make_volume(&path, (0, 0))?;
                    owned.push(path.clone());
                }
                // Docker makes a container's root only when it starts.
                if mount.copy && containers.flavor == Flavor::Podman && is_empty(&path) {
                    new_volumes
                        .push(SealContainerVolume { source: path.clone(), target: mount.target.clone() });
                }
                own.push(bind(path));
            }
            MountSource::Bind { path, .. } => {
                check_source(path, Some(folders))?;
                make_source(&mount.source, &writable)?;
                if is_in_reach(path, &writable_folders, &writable) {
                    if containers.flavor == Flavor::Docker {
                        let reason = "it lies in a folder that a service may write, which could put a link there, and \
                                      with Docker nobody can mount it but Docker: show that folder, or use Podman";
                        return Err(PlanError::SourceRefused { path: path.clone(), reason });
                    }
                    let late = late_mount(mount, path, mounts.len(), &writable, &shown)?;
                    binds.push(Bind {
                        source: late.place.clone(),
                        target: mount.target.clone(),
                        read_only: false,
                    });
                    mounts.push(late);
                } else {
                    binds.push(bind(path.clone()));
                }
                binds.extend(covers(request, mount, path, &shown)?);
            }
        }
    }
    for (index, grant) in files(service, request.environment, &writable)?.into_iter().enumerate() {
        let target = grant.target.display().to_string();
        let bind = shown.file(&format!("file-{index}"), &grant.content, grant.mode, &target)?;
        match (grant.uid, grant.gid) {
            (None, None) => owned.push(bind.source.clone()),
            (uid, gid) => chown(&bind.source, uid, gid).map_err(|source| PlanError::Io {
                what: "giving away".to_owned(),
                path: bind.source.clone(),
                source,
            })?,
        }
        own.push(bind);
    }
    let mut labels = service.labels.clone();
    for (label, value) in [
        (LABEL_RUN_FOLDER, folders.run.display().to_string()),
        (LABEL_APPLICATION, application.name.to_string()),
        (LABEL_SERVICE, service.name.to_string()),
        (LABEL_INSTANCE, instance.to_string()),
        (LABEL_EPOCH, epoch.to_owned()),
    ] {
        labels.insert(label.to_owned(), value);
    }
    let text = seccomp::profile().to_string();
    let file = shown.file("seccomp.json", text.as_bytes(), 0o644, "/")?.source;
    let tmpfs = tmpfs_options(containers.flavor);
    let create = Create {
        filter: Filter { text, file },
        flavored: Flavored { engine: containers.flavor, hidden: HIDDEN.to_vec() },
        name: name.clone(),
        image: container.image_id.clone(),
        command: service.command.clone(),
        environment: service.environment.clone(),
        working_dir: Some(service.working_dir.clone()).filter(|folder| !folder.as_os_str().is_empty()),
        user: service.user.clone(),
        groups: container.groups.clone(),
        hostname: hostname(service, instance),
        labels,
        network: Network::None,
        own,
        binds,
        tmpfs: service.tmpfs.iter().map(|path| (path.clone(), tmpfs.to_owned())).collect(),
        devices: service.devices.iter().map(engine_device).collect(),
        read_only: service.read_only,
        capabilities: capabilities(container),
        new_privileges: container.new_privileges,
        init: container.init,
        ulimits: container.ulimits.iter().map(engine_ulimit).collect(),
        shm_bytes: container.shm_bytes,
        memory_bytes: service.limits.memory_bytes,
        cpu_milli: service.limits.cpu_milli,
        pids: service.limits.pids_max(),
    };
    let seal = SealSpec {
        egress: egress::plan(service, &request.names.hosts).0,
        hosts,
        lifeline: request.lifeline,
        log_bytes_max: logs::file_bytes_max(application, service),
        container: Some(SealContainer {
            engine: containers.engine.socket().to_path_buf(),
            name,
            hosts_file: folder.shown().join("hosts"),
            user_namespace: containers.user_namespace.clone(),
            nothing: vec![shown.nothing(true)?, shown.nothing(false)?],
            mounts,
            new_volumes,
            writable: writable_folders,
            network: None,
        }),
        ..bare_seal()
    };
    // Of further commands: everything as the container has it.
    let command = Command {
        argv: service.command.clone(),
        environment: BTreeMap::new(),
        working_dir: PathBuf::new(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        ports: None,
        processes_max: service.limits.pids_max(),
    };
    Ok(ContainerPlan { seal, command, create, owned })
}

fn bare_seal() -> SealSpec {
    SealSpec {
        hostname: String::new(),
        mounts: Vec::new(),
        writable: Vec::new(),
        masked: Vec::new(),
        shown: Vec::new(),
        tmpfs: Vec::new(),
        files: Vec::new(),
        devices: Vec::new(),
        egress: Vec::new(),
        hosts: String::new(),
        map_all_users: false,
        lifeline: false,
        log_bytes_max: 0,
        cgroups: Vec::new(),
        explicit: false,
        container: None,
    }
}

/// Files of ours that the container sees.
struct Shown<'a> {
    folder: &'a InstanceFolder,
}

impl Shown<'_> {
    fn file(&self, name: &str, content: &[u8], mode: u32, target: &str) -> Result<Bind, PlanError> {
        let source = self.place(name)?;
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&source)
            .and_then(|mut file| file.write_all(content))
            // The mask of the launcher took bits away.
            .and_then(|()| fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(mode)));
        written.map_err(|error| PlanError::Io {
            what: "writing".to_owned(),
            path: source.clone(),
            source: error,
        })?;
        Ok(Bind { source, target: target.into(), read_only: true })
    }

    /// Something to put over what is not to be seen.
    fn nothing(&self, is_folder: bool) -> Result<PathBuf, PlanError> {
        self.empty(if is_folder { "nothing-folder" } else { "nothing-file" }, is_folder, 0o000)
    }

    /// `mode`: of a file.
    fn empty(&self, name: &str, is_folder: bool, mode: u32) -> Result<PathBuf, PlanError> {
        let path = self.place(name)?;
        if path.exists() {
            return Ok(path);
        }
        if is_folder {
            let made = fs::create_dir(&path);
            made.map_err(|source| PlanError::Io { what: "making".to_owned(), path: path.clone(), source })?;
            return Ok(path);
        }
        self.file(name, b"", mode, "/").map(|bind| bind.source)
    }

    fn place(&self, name: &str) -> Result<PathBuf, PlanError> {
        let folder = self.folder.shown();
        fs::create_dir_all(&folder).map_err(|source| PlanError::Io {
            what: "making".to_owned(),
            path: folder.clone(),
            source,
        })?;
        Ok(folder.join(name))
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn make_source(source: &MountSource, writable: &Writable) -> Result<(), PlanError> {
    let MountSource::Bind { path, create } = source else { return Ok(()) };
    if exists(path, writable)? {
        return Ok(());
    }
    if !create {
        return Err(PlanError::NoSource { path: path.clone() });
    }
    writable.make_folders(path).map_err(|source| PlanError::Io {
        what: "making the folder".to_owned(),
        path: path.clone(),
        source,
    })
}

/// What lies below a shown folder and is not this service's business is covered.
fn covers(
    request: &Request<'_>,
    mount: &Mount,
    source: &Path,
    shown: &Shown<'_>,
) -> Result<Vec<Bind>, PlanError> {
    let Request { application, service, folders, .. } = request;
    let mut hidden = hidden::in_mount(application, service, mount, source);
    hidden.extend(covered_in(application, service, mount));
    let own = BTreeSet::from([folders.state.clone(), folders.run.clone()]);
    hidden.extend(hidden::without_what_it_stands_on(own, application, service));
    let mut covers = Vec::new();
    for path in hidden {
        let Ok(below) = path.strip_prefix(source) else { continue };
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let nothing = shown.nothing(found.is_dir())?;
        covers.push(Bind { source: nothing, target: mount.target.join(below), read_only: true });
    }
    Ok(covers)
}

/// Whether a service could put a link on the way to `path`, which the engine would follow.
fn is_in_reach(path: &Path, folders: &[PathBuf], writable: &Writable) -> bool {
    // By name too: a folder that is made for a service only now is not known otherwise.
    !writable.follows(path) || folders.iter().any(|folder| path.starts_with(folder) && path != folder)
}

/// What the init mounts in the place of the engine.
fn late_mount(
    mount: &Mount,
    path: &Path,
    index: usize,
    writable: &Writable,
    shown: &Shown<'_>,
) -> Result<SealContainerMount, PlanError> {
    let failed = |source: std::io::Error| PlanError::Io {
        what: "looking at".to_owned(),
        path: path.to_path_buf(),
        source,
    };
    let opened = writable.open(path, OFlag::O_PATH).map_err(failed)?;
    let found = fs::File::from(opened).metadata().map_err(failed)?;
    let mount = SealMount {
        source: path.to_path_buf(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        masked: None,
        covered: Vec::new(),
    };
    Ok(SealContainerMount { mount, place: shown.empty(&format!("place-{index}"), found.is_dir(), 0o644)? })
}

fn check_source(path: &Path, folders: Option<&Folders>) -> Result<(), PlanError> {
    let refused = |reason: &'static str| Err(PlanError::SourceRefused { path: path.to_path_buf(), reason });
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    for path in [path, &real] {
        let is_host = path.parent().is_none()
            || NEVER_SHOWN.iter().any(|never| path == Path::new(never))
            || ["/proc", "/sys", "/dev"].iter().any(|never| path.starts_with(never));
        if is_host {
            return refused("it is the host itself: show the folder that is needed");
        }
        let bases = folders.into_iter().flat_map(|folders| [folders.run.parent(), folders.state.parent()]);
        // A project may lie in a home folder that holds the state of Sinew, which is covered then.
        if bases.flatten().any(|base| path.starts_with(base)) {
            return refused("it is where Sinew keeps keys, sockets and state");
        }
    }
    if fs::metadata(&real).is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type())) {
        return refused("it is a socket of the host, and a container has no way out but its sidecar");
    }
    Ok(())
}

fn check_device(path: &Path) -> Result<(), PlanError> {
    let found = fs::metadata(path).map_err(|_| PlanError::NoDevice { path: path.to_path_buf() })?;
    let kind = std::os::unix::fs::FileTypeExt::is_char_device(&found.file_type());
    let memory = ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/net/tun", "/dev/fuse"];
    if !kind || memory.iter().any(|never| path == Path::new(never)) {
        let reason = "whoever has this device has the host; only character devices of machines can be given";
        return Err(PlanError::SourceRefused { path: path.to_path_buf(), reason });
    }
    Ok(())
}

fn engine_device(device: &sinew_spec::application::Device) -> Device {
    let mut permissions = String::new();
    if device.read {
        permissions.push('r');
    }
    if device.write {
        permissions.push('w');
    }
    Device { source: device.source.clone(), target: device.target.clone(), permissions }
}

fn engine_ulimit((name, range): (&String, &sinew_spec::application::UlimitRange)) -> Ulimit {
    Ulimit { name: name.clone(), soft: range.soft, hard: range.hard }
}

fn capabilities(container: &Container) -> Vec<String> {
    let dropped = &container.capabilities_dropped;
    let mut all: BTreeSet<String> = BTreeSet::new();
    if !dropped.contains("ALL") {
        all.extend(CAPABILITIES.iter().map(|name| (*name).to_owned()));
        all.retain(|name| !dropped.contains(name));
    }
    all.extend(container.capabilities_added.iter().cloned());
    all.into_iter().collect()
}
