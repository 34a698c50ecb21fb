//! What is taken from the host: opened before anything is covered.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use sinew_spec::seal::{SealMount, SealSpec};

use super::masks::Masks;
use crate::beneath::Writable;
use crate::init::layer::Names;
use crate::init::network::Failure;

/// What of the host's root every service sees, when it is there.
const SYSTEM: &[&str] =
    &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt", "nix", "gnu"];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// What is taken from the host, open.
pub struct Sources {
    pub system: Vec<(&'static str, Source)>,
    pub devices: Vec<(&'static str, Source)>,
    /// With the path as given and the path behind its links.
    pub shown: Vec<(PathBuf, PathBuf, Source)>,
    pub mounts: Vec<Mounted>,
    pub granted_devices: Vec<(SealMount, Source)>,
    pub masks: Masks,
    /// For who reads the service's log.
    pub notes: Vec<String>,
}

/// What the file mounts.
pub struct Mounted {
    pub wanted: SealMount,
    pub source: Source,
    /// As seen from its folder.
    pub hidden: Names,
    /// Below its folder.
    pub covered: Vec<PathBuf>,
}

pub enum Source {
    Folder(OwnedFd),
    File(OwnedFd),
    Link(PathBuf),
}

impl Sources {
    pub fn open(spec: &SealSpec) -> Result<Self, Failure> {
        let mut system = Vec::new();
        for name in SYSTEM {
            if let Some(source) = Source::open_unfollowed(&Path::new("/").join(name))? {
                system.push((*name, source));
            }
        }
        let mut devices = Vec::new();
        for name in DEVICES {
            devices.push((*name, Source::open(&Path::new("/dev").join(name))?));
        }
        let writable = Writable::new(&spec.writable);
        let open = |path: &Path| -> Result<(PathBuf, Source), Failure> {
            let failed = |e| format!("open {}: {e}", path.display());
            let opened = writable.open(path, OFlag::O_PATH).map_err(failed)?;
            // What was opened, not what the path means by now.
            let number = opened.as_raw_fd();
            let real = fs::read_link(format!("/proc/self/fd/{number}")).map_err(failed)?;
            Ok((real, Source::of(opened, path)?))
        };
        let mut shown = Vec::new();
        for path in &spec.shown {
            let (real, source) = open(path)?;
            if real == Path::new("/") {
                return Err("show /: the whole host cannot be shown to a service; name the folders it needs"
                    .to_owned());
            }
            shown.push((path.clone(), real, source));
        }
        // The outer folder first, or it would cover the inner one.
        shown.sort_by(|a, b| a.1.cmp(&b.1));
        let mut notes = Vec::new();
        let always = Masks::of_the_host(spec, &writable, &mut notes);
        let masks = always.and(&spec.masked, &writable);
        let mut mounts = Vec::new();
        for mount in &spec.mounts {
            let (real, source) = open(&mount.source)?;
            let hidden = match &mount.masked {
                Some(masked) => always.and(masked, &writable).below(&real),
                None => masks.below(&real),
            };
            let covered = Masks::default().and(&mount.covered, &writable).paths_below(&real);
            mounts.push(Mounted { wanted: mount.clone(), source, hidden, covered });
        }
        let mut granted_devices = Vec::new();
        for device in &spec.devices {
            granted_devices.push((device.clone(), open(&device.source)?.1));
        }
        Ok(Self { system, devices, shown, mounts, granted_devices, masks, notes })
    }
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::of(open_path(path).map_err(|e| format!("open {}: {e}", path.display()))?, path)
    }

    /// `path`: for messages.
    fn of(opened: OwnedFd, path: &Path) -> Result<Self, Failure> {
        let folder = File::from(opened.try_clone().map_err(|e| e.to_string())?)
            .metadata()
            .map_err(|e| format!("look at {}: {e}", path.display()))?
            .is_dir();
        Ok(if folder { Self::Folder(opened) } else { Self::File(opened) })
    }

    fn open_unfollowed(path: &Path) -> Result<Option<Self>, Failure> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(path).map_err(|e| format!("read link {}: {e}", path.display()))?;
                Ok(Some(Self::Link(target)))
            }
            Ok(_) => Self::open(path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("look at {}: {error}", path.display())),
        }
    }
}

pub fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}
