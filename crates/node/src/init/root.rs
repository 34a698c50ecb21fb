//! The root file system of a seal. It is put together from nothing: only what is named here is there, the host's own
//! folders read-only, everything writable private and in memory (but for the volumes of the service).
//!
//! Sources are opened before anything is covered, and attached by descriptor: no path is walked twice, and what is
//! covered on the way (the new root is built over `/tmp`) can still be a source.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sinew_spec::proxy::RESOLVER_ADDRESS;
use sinew_spec::seal::{SealFile, SealSpec};

use self::search::{DEPTH_MAX, SEARCHED_MAX, sockets};
use self::sources::{Mounted, Source, Sources, open_path};
use super::layer::{Kind, Names, Tree};
use super::network::Failure;
use super::sys::{self, NO_DEVICES, NO_EXECUTE, NO_SET_UID, READ_ONLY};

mod layer;
mod masks;
mod search;
mod sources;

/// Folders that programs expect, empty.
const EMPTY: &[&str] = &["home", "root", "mnt", "srv", "media"];
/// Private folders of `/var`.
const VAR: &[&str] = &["cache", "lib", "log", "mail", "opt", "spool", "local"];
/// In `/etc`, besides what its mode hides from others.
const ETC_MASKED: &[&str] = &[
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "sudoers",
    "sudoers.d",
    "ssh",
    "ssl/private",
    "security/opasswd",
    "docker",
    "containers",
    "rancher",
    "kubernetes",
    "wireguard",
    "NetworkManager/system-connections",
    "krb5.keytab",
];
const PROC_READ_ONLY: &[&str] =
    &["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "asound", "tty"];
const PROC_MASKED: &[&str] = &[
    // The machine's: how it was started, and where its memory lies.
    "cmdline",
    "iomem",
    "ioports",
    "kcore",
    "keys",
    "key-users",
    "timer_list",
    "kmsg",
    "kallsyms",
    "sched_debug",
    "latency_stats",
    "config.gz",
    "vmallocinfo",
    "pagetypeinfo",
    "slabinfo",
];
const SYS_MASKED: &[&str] =
    &["firmware", "kernel/security", "kernel/debug", "kernel/tracing", "fs/bpf", "fs/pstore", "power"];
/// All that a service writes outside of its volumes, part of the host's memory. Without a bound it is half of it for
/// every seal, which killing processes does not free. An entry takes about a kilobyte that `size` does not count.
const SCRATCH: &str = "mode=755,size=10%,nr_inodes=131072";
/// Where the new root is put together. Anything may be there: it is covered only in this mount namespace.
const WORKPLACE: &str = "/tmp";
const LINKS_MAX: usize = 40;

/// A root that the builder has moved into.
pub struct Built {
    /// `/etc/hosts`, open for writing: inside it is read-only.
    pub hosts: File,
    /// What must be kept as the host has it.
    pub trees: Vec<Tree>,
    /// For who reads the service's log.
    pub notes: Vec<String>,
}

pub fn build(spec: &SealSpec) -> Result<Built, Failure> {
    let mut sources = Sources::open(spec)?;
    let root = Root::make()?;
    let hosts = root.fill(spec, &mut sources)?;
    root.clear_workshops()?;
    std::env::set_current_dir(&root.path).map_err(|e| format!("enter the new root: {e}"))?;
    sys::pivot_here().map_err(|e| format!("leave the host's root: {e}"))?;
    std::env::set_current_dir("/").map_err(|e| format!("enter the new root: {e}"))?;
    let own = open_path(Path::new("/")).map_err(|e| format!("open the new root: {e}"))?;
    sys::restrict(own.as_fd(), READ_ONLY | NO_SET_UID | NO_DEVICES, false)
        .map_err(|e| format!("make the new root read-only: {e}"))?;
    Ok(Built { hosts, trees: root.into_trees(), notes: sources.notes })
}

/// The new root while it is put together.
struct Root {
    path: PathBuf,
    /// A file system in memory for what is made here and only read inside: hosts, secrets, covers.
    made: PathBuf,
    /// One for everything that the service may write: one bound for all of it.
    scratch: PathBuf,
    /// A folder of the new root that is covered by `/proc` before anything runs in it: what is mounted in it is reached
    /// by no path.
    held: OwnedFd,
    /// Private folders that stand for folders of the host, and where they are; writable until all is built.
    trees: RefCell<Vec<(PathBuf, Tree)>>,
}

impl Root {
    fn make() -> Result<Self, Failure> {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(|e| format!("keep mounts from the host: {e}"))?;
        let path = PathBuf::from(WORKPLACE);
        memory(&path, "mode=755,size=4m")?;
        let proc = path.join("proc");
        make_folder(&proc, 0o555)?;
        let root = Self {
            made: path.join(".made"),
            scratch: path.join(".scratch"),
            held: open_path(&proc).map_err(|e| format!("open /proc of the new root: {e}"))?,
            path,
            trees: RefCell::default(),
        };
        for (folder, options) in [(&root.made, "mode=755"), (&root.scratch, SCRATCH)] {
            make_folder(folder, 0o755)?;
            memory(folder, options)?;
        }
        Ok(root)
    }

    /// What was made and shown stays where it was attached; the folders it came from go.
    fn clear_workshops(&self) -> Result<(), Failure> {
        for folder in [&self.made, &self.scratch] {
            umount2(folder, MntFlags::MNT_DETACH)
                .map_err(io::Error::from)
                .and_then(|()| fs::remove_dir(folder))
                .map_err(|e| format!("clear {}: {e}", folder.display()))?;
        }
        Ok(())
    }

    fn fill(&self, spec: &SealSpec, sources: &mut Sources) -> Result<File, Failure> {
        let host = READ_ONLY | NO_SET_UID | NO_DEVICES;
        for (name, source) in &sources.system {
            let place = Path::new("/").join(name);
            self.show_masked(&place, source, host, sources.masks.below(&place), true)?;
        }
        for name in EMPTY {
            make_folder(&self.path.join(name), 0o755)?;
        }
        self.proc(spec)?;
        self.sys();
        self.dev(spec, sources)?;
        self.scratch_at("/tmp", 0o1777)?;
        self.scratch_at("/run", 0o755)?;
        make_folder(&self.scratch.join("run/lock"), 0o1777)?;
        self.scratch_at("/var", 0o755)?;
        for name in VAR {
            make_folder(&self.scratch.join("var").join(name), 0o755)?;
        }
        make_folder(&self.scratch.join("var/tmp"), 0o1777)?;
        for (name, target) in [("run", "/run"), ("lock", "/run/lock")] {
            symlink(target, self.scratch.join("var").join(name))
                .map_err(|e| format!("link /var/{name}: {e}"))?;
        }
        for (written, real, source) in &sources.shown {
            if sources.masks.hide(real) {
                continue;
            }
            self.show_masked(real, source, host, sources.masks.below(real), false)?;
            if written != real && self.resolve(written).is_none() {
                let at = self.prepare_parent(written)?;
                symlink(real, &at).map_err(|e| format!("link {}: {e}", written.display()))?;
                self.keep(&at, None)?;
            }
        }
        for (index, target) in spec.tmpfs.iter().enumerate() {
            let made = self.scratch.join(format!("tmpfs{index}"));
            make_folder(&made, 0o1777)?;
            self.show(target, &Source::open(&made)?, NO_SET_UID | NO_DEVICES)?;
        }
        for Mounted { wanted, source, hidden, covered } in &sources.mounts {
            let attributes = NO_SET_UID | NO_DEVICES | if wanted.read_only { READ_ONLY } else { 0 };
            self.show_masked(&wanted.target, source, attributes, hidden.clone(), true)?;
            covered.iter().try_for_each(|below| self.cover_in(&wanted.target, below))?;
        }
        self.hide_sockets(sources)?;
        for (index, file) in spec.files.iter().enumerate() {
            self.file(index, file)?;
        }
        let hosts = self.names(spec)?;
        self.close_trees()?;
        Ok(hosts)
    }

    /// Attaches a source at a path of the new root; what is missing on the way is made.
    fn show(&self, target: &Path, source: &Source, attributes: u64) -> Result<(), Failure> {
        self.show_masked(target, source, attributes, Names::default(), true)
    }

    /// The same without what has one of `names` in the source. `sockets`: whether those of the source that lie beside
    /// hidden names are shown.
    fn show_masked(
        &self,
        target: &Path,
        source: &Source,
        attributes: u64,
        names: Names,
        sockets: bool,
    ) -> Result<(), Failure> {
        let failed = |e: io::Error| format!("show {} inside the seal: {e}", target.display());
        let (opened, folder) = match source {
            Source::Link(to) => {
                let at = self.prepare_parent(target)?;
                symlink(to, &at).map_err(failed)?;
                self.keep(&at, None)?;
                return Ok(());
            }
            Source::Folder(opened) => (opened, true),
            Source::File(opened) => (opened, false),
        };
        let at = match self.resolve(target) {
            Some(at) => at,
            None => {
                let at = self.prepare_parent(target)?;
                self.place(&at, if folder { Kind::Folder } else { Kind::File })?;
                at
            }
        };
        let copy = sys::copy_tree(opened.as_fd()).map_err(failed)?;
        sys::restrict(copy.as_fd(), attributes, true).map_err(failed)?;
        self.keep(&at, Some(if folder { Kind::Folder } else { Kind::File }))?;
        if folder && !names.is_empty() {
            return self.layer(&at, target, copy, names, sockets);
        }
        let at = open_path(&at).map_err(failed)?;
        sys::attach(copy.as_fd(), at.as_fd()).map_err(failed)
    }

    /// Where a path of the new root really is, every link followed inside of it. `None`: it is not there.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut rest: Vec<PathBuf> = components(path);
        let mut at = self.path.clone();
        let mut links = 0;
        while let Some(next) = rest.pop() {
            if next == Path::new("..") {
                if at != self.path {
                    at.pop();
                }
                continue;
            }
            let candidate = at.join(&next);
            let found = fs::symlink_metadata(&candidate).ok()?;
            if !found.is_symlink() {
                at = candidate;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            let target = fs::read_link(&candidate).ok()?;
            if target.is_absolute() {
                at = self.path.clone();
            }
            rest.extend(components(&target));
        }
        Some(at)
    }

    /// The place of `path` in the new root, its parent folders there.
    fn prepare_parent(&self, path: &Path) -> Result<PathBuf, Failure> {
        let name = path.file_name().ok_or_else(|| format!("{} is no place in a seal", path.display()))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        if let Some(at) = self.resolve(parent) {
            return Ok(at.join(name));
        }
        let at = self.prepare_parent(parent)?;
        // A link whose target is not there: what it names is made.
        if let Ok(target) = fs::read_link(&at) {
            let target = parent.parent().unwrap_or(Path::new("/")).join(target);
            let at = self.prepare_parent(&target)?;
            self.place(&at, Kind::Folder)?;
            return Ok(at.join(name));
        }
        self.place(&at, Kind::Folder)?;
        Ok(at.join(name))
    }

    fn scratch_at(&self, target: &str, mode: u32) -> Result<(), Failure> {
        let made = self.scratch.join(target.trim_start_matches('/').replace('/', "-"));
        make_folder(&made, mode)?;
        self.show(Path::new(target), &Source::open(&made)?, NO_SET_UID | NO_DEVICES)
    }

    /// A fresh one: it shows the processes of the seal. A root that is the host's root (its user is mapped to itself)
    /// could write settings of the whole machine there, hence the read-only covers; and it could read and write some files
    /// of the init, hence `hidepid`: processes that may not be traced are not looked into.
    fn proc(&self, spec: &SealSpec) -> Result<(), Failure> {
        let at = self.path.join("proc");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // The group that may look at all is by default that of root; nobody is in the last one of the map.
        let options = if spec.map_all_users { "hidepid=1,gid=65535" } else { "hidepid=1" };
        mount(Some("proc"), &at, Some("proc"), flags, Some(options)).map_err(|e| {
            format!("mount /proc: {e} (in a container whose /proc is partly covered a seal is impossible)")
        })?;
        for name in PROC_READ_ONLY {
            let path = at.join(name);
            if path.exists() {
                self.cover(&path, &Source::open(&path)?, READ_ONLY | NO_SET_UID | NO_DEVICES | NO_EXECUTE)?;
            }
        }
        for name in PROC_MASKED {
            self.hide(&at.join(name))?;
        }
        Ok(())
    }

    /// Read-only, and where it cannot be mounted simply not there.
    fn sys(&self) {
        let at = self.path.join("sys");
        if make_folder(&at, 0o555).is_err() {
            return;
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        if mount(Some("sysfs"), &at, Some("sysfs"), flags, None::<&str>).is_ok() {
            for name in SYS_MASKED {
                let _ = self.hide(&at.join(name));
            }
        }
    }

    fn dev(&self, spec: &SealSpec, sources: &Sources) -> Result<(), Failure> {
        let at = self.path.join("dev");
        make_folder(&at, 0o755)?;
        memory(&at, "mode=755,size=64k")?;
        for (name, source) in &sources.devices {
            self.show(&Path::new("/dev").join(name), source, NO_SET_UID | NO_EXECUTE)?;
        }
        make_folder(&at.join("pts"), 0o755)?;
        let group = if spec.map_all_users { ",gid=5" } else { "" };
        let options = format!("newinstance,ptmxmode=0666,mode=0620{group}");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("devpts"), &at.join("pts"), Some("devpts"), flags, Some(options.as_str()))
            .map_err(|e| format!("mount /dev/pts: {e}"))?;
        let links = [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ];
        for (name, target) in links {
            symlink(target, at.join(name)).map_err(|e| format!("link /dev/{name}: {e}"))?;
        }
        self.scratch_at("/dev/shm", 0o1777)?;
        for (device, source) in &sources.granted_devices {
            if device.read_only {
                return Err(format!(
                    "device {}: a device cannot be given for reading alone; declare it `rw`, or take write permission \
                     away from the service's user on the host",
                    device.source.display()
                ));
            }
            self.show(&device.target, source, NO_SET_UID | NO_EXECUTE)?;
        }
        let own = open_path(&at).map_err(|e| format!("open /dev: {e}"))?;
        sys::restrict(own.as_fd(), READ_ONLY | NO_SET_UID | NO_EXECUTE, false)
            .map_err(|e| format!("make /dev read-only: {e}"))
    }

    fn hide_sockets(&self, sources: &mut Sources) -> Result<(), Failure> {
        let (mut left, mut found, mut is_whole) = (SEARCHED_MAX, Vec::new(), true);
        for (_, real, source) in &sources.shown {
            if let (Source::Folder(_), Some(at)) = (source, self.resolve(real)) {
                is_whole &= sockets(&at, &mut left, DEPTH_MAX, &mut found);
            }
        }
        if !is_whole {
            sources.notes.push(format!(
                "the shown folders have more than {SEARCHED_MAX} entries: Unix sockets in them are hidden only as far as \
                 they were searched"
            ));
        }
        found.iter().try_for_each(|socket| self.hide(socket))
    }

    /// Covers an existing path of the new root by an empty, unreadable one of its kind.
    fn hide(&self, at: &Path) -> Result<(), Failure> {
        let Ok(found) = fs::symlink_metadata(at) else { return Ok(()) };
        if found.is_symlink() {
            return Ok(());
        }
        let cover = self.nothing(found.is_dir())?;
        self.cover(at, &cover, READ_ONLY | NO_SET_UID | NO_DEVICES | NO_EXECUTE)
    }

    /// The same in a folder that a service may write: no link in it is followed.
    fn cover_in(&self, target: &Path, below: &Path) -> Result<(), Failure> {
        let failed = |e: io::Error| format!("cover {} in {}: {e}", below.display(), target.display());
        let Some(folder) = self.resolve(target) else { return Ok(()) };
        let folder = open_path(&folder).map_err(failed)?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let opened = match openat2(&folder, below, how) {
            Ok(opened) => opened,
            // There is nothing, or a link: what that leads to is covered where it lies.
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => return Ok(()),
            Err(error) => return Err(failed(error.into())),
        };
        let is_folder = File::from(opened.try_clone().map_err(failed)?).metadata().map_err(failed)?.is_dir();
        let cover = self.nothing(is_folder)?;
        let attributes = READ_ONLY | NO_SET_UID | NO_DEVICES | NO_EXECUTE;
        self.cover_opened(&opened, &cover, attributes).map_err(failed)
    }

    fn nothing(&self, is_folder: bool) -> Result<Source, Failure> {
        let cover = self.made.join(if is_folder { "nothing.d" } else { "nothing" });
        if !cover.exists() {
            if is_folder {
                make_folder(&cover, 0)?
            } else {
                make_file(&cover)?
            }
            fs::set_permissions(&cover, fs::Permissions::from_mode(0o000))
                .map_err(|e| format!("make a cover: {e}"))?;
        }
        Source::open(&cover)
    }

    fn cover(&self, at: &Path, source: &Source, attributes: u64) -> Result<(), Failure> {
        let failed = |e: io::Error| format!("cover {}: {e}", at.display());
        self.cover_opened(&open_path(at).map_err(failed)?, source, attributes).map_err(failed)
    }

    fn cover_opened(&self, at: &OwnedFd, source: &Source, attributes: u64) -> io::Result<()> {
        let (Source::Folder(opened) | Source::File(opened)) = source else { return Ok(()) };
        let copy = sys::copy_tree(opened.as_fd())?;
        sys::restrict(copy.as_fd(), attributes, true)?;
        sys::attach(copy.as_fd(), at.as_fd())
    }

    fn file(&self, index: usize, file: &SealFile) -> Result<(), Failure> {
        let failed = |e: io::Error| format!("file {}: {e}", file.target.display());
        let made = self.made.join(format!("file{index}"));
        fs::write(&made, &file.content).map_err(failed)?;
        std::os::unix::fs::chown(&made, file.uid, file.gid).map_err(failed)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(file.mode & 0o777)).map_err(failed)?;
        let attributes = READ_ONLY | NO_SET_UID | NO_DEVICES;
        self.show(&file.target, &Source::open(&made)?, attributes)
    }

    /// `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.
    fn names(&self, spec: &SealSpec) -> Result<File, Failure> {
        let resolver = format!("nameserver {RESOLVER_ADDRESS}\noptions timeout:2 attempts:2\n");
        let hostname = format!("{}\n", spec.hostname);
        let mut hosts = None;
        for (name, content) in [("hosts", &spec.hosts), ("resolv.conf", &resolver), ("hostname", &hostname)] {
            let failed = |e: io::Error| format!("make /etc/{name}: {e}");
            let made = self.made.join(name);
            fs::write(&made, content).map_err(failed)?;
            fs::set_permissions(&made, fs::Permissions::from_mode(0o644)).map_err(failed)?;
            let target = Path::new("/etc").join(name);
            // The host's own may be a link to a place that is not shown: then that place is made.
            let target = match (self.resolve(&target), fs::read_link(self.path.join("etc").join(name))) {
                (None, Ok(link)) => Path::new("/etc").join(link),
                (None, Err(_)) if name == "hostname" => continue,
                (None, Err(_)) => {
                    return Err(format!(
                        "the host has no /etc/{name} to put the seal's own on: create an empty one"
                    ));
                }
                (Some(_), _) => target,
            };
            self.show(&target, &Source::open(&made)?, READ_ONLY | NO_SET_UID | NO_DEVICES | NO_EXECUTE)?;
            if name == "hosts" {
                hosts = Some(OpenOptions::new().write(true).open(&made).map_err(failed)?);
            }
        }
        hosts.ok_or_else(|| "make /etc/hosts: not made".to_owned())
    }
}

/// The parts of a path, the last one first.
fn components(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.reverse();
    parts
}

fn memory(at: &Path, options: &str) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(|e| format!("mount a file system in memory: {e}"))
}

fn make_folder(at: &Path, mode: u32) -> Result<(), Failure> {
    let made = match fs::create_dir(at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => Err(error),
        // The umask is not asked.
        Ok(()) => fs::set_permissions(at, fs::Permissions::from_mode(mode)),
    };
    made.map_err(|e| place_missing(at, &e))
}

fn make_file(at: &Path) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(at)
        .map(drop)
        .map_err(|e| place_missing(at, &e))
}

fn place_missing(at: &Path, error: &io::Error) -> Failure {
    let inside = Path::new("/").join(at.strip_prefix(WORKPLACE).unwrap_or(at));
    let hint = match error.raw_os_error() {
        Some(libc::EROFS | libc::EACCES) => {
            "; its folder cannot be changed inside: create it on the host, or choose another target"
        }
        _ => "",
    };
    format!("make {} inside the seal: {error}{hint}", inside.display())
}
