//! Paths on the host that lead through a folder in which a service may write. What such a service puts there is not the
//! word of who wrote the file: a link would show it any place of the host at its next start. Below such a folder no
//! link is followed; above it, and in all other paths, links are what their owner meant.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use sinew_spec::application::{Application, MountSource};

use crate::folders::Folders;

#[cfg(test)]
mod tests;

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);
const FOLDER: OFlag = PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// Folders in which services may write, by what they are (device and inode), whatever they are called.
#[derive(Debug, Default)]
pub struct Writable(Vec<(u64, u64)>);

impl Writable {
    /// Folders that do not exist (yet) are left out.
    pub fn new(folders: &[PathBuf]) -> Self {
        Self(folders.iter().filter_map(|folder| fs::metadata(folder).ok()).map(|found| id(&found)).collect())
    }

    /// Opens `path`; without following links where a service could have put them. `ELOOP`: there is one.
    pub fn open(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let Some((root, rest)) = self.split(path) else {
            let options = (flags | OFlag::O_CLOEXEC).bits();
            return Ok(File::options().read(true).custom_flags(options).open(path)?.into());
        };
        let mut at = open_folder(&root)?;
        let names = names(&rest)?;
        let (last, above) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        for name in above {
            at = openat(at.as_fd(), *name, FOLDER, Mode::empty()).map_err(|error| refused(error, name))?;
        }
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let opened = openat(at.as_fd(), *last, flags, Mode::empty()).map_err(|error| refused(error, last))?;
        // With O_PATH the link itself is opened.
        let found = File::from(opened.try_clone()?).metadata()?;
        if found.is_symlink() { Err(refused(nix::Error::ELOOP, last)) } else { Ok(opened) }
    }

    /// The content of a file. Below a folder of services it must be a regular one: a pipe would make the reader wait.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        if self.split(path).is_none() {
            return File::open(path);
        }
        let file = File::from(self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it lies where a service may write, and is not a regular file"));
        }
        Ok(file)
    }

    /// Whether it is there. An error other than "not found" says why it cannot be told.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.open(path, PATH) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Like `fs::create_dir_all`.
    pub fn make_folders(&self, path: &Path) -> io::Result<()> {
        let Some((root, rest)) = self.split(path) else { return fs::create_dir_all(path) };
        let mut at = open_folder(&root)?;
        for name in names(&rest)? {
            match mkdirat(at.as_fd(), name, Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(nix::Error::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = openat(at.as_fd(), name, FOLDER, Mode::empty()).map_err(|error| refused(error, name))?;
        }
        Ok(())
    }

    /// Whether the link at `path` is the word of who wrote the file.
    pub fn follows(&self, path: &Path) -> bool {
        self.split(path).is_none()
    }

    /// The outermost folder above `path` that services write, and the way from there.
    fn split(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        let root = above
            .into_iter()
            .rev()
            .find(|folder| fs::metadata(folder).is_ok_and(|found| self.0.contains(&id(&found))))?;
        Some((root.to_path_buf(), path.strip_prefix(root).ok()?.to_path_buf()))
    }
}

/// What the services of an application may write on the host.
pub fn writable(application: &Application, folders: Option<&Folders>) -> Vec<PathBuf> {
    let mounts = application.services.values().flat_map(|service| &service.mounts);
    let mut writable: Vec<PathBuf> = mounts
        .filter(|mount| !mount.read_only)
        .filter_map(|mount| match (&mount.source, folders) {
            (MountSource::Bind { path, .. }, _) => Some(path.clone()),
            (MountSource::Volume(name), Some(folders)) => {
                Some(folders.volume(application.volumes.get(name)?))
            }
            (MountSource::Volume(_), None) => None,
        })
        .collect();
    writable.sort();
    writable.dedup();
    writable
}

fn id(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = (PATH | OFlag::O_DIRECTORY).bits();
    Ok(File::options().read(true).custom_flags(flags).open(path)?.into())
}

fn names(rest: &Path) -> io::Result<Vec<&Path>> {
    let name = |component| match component {
        Component::Normal(name) => Ok(Path::new(name)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    rest.components().map(name).collect()
}

fn refused(error: nix::Error, name: &Path) -> io::Error {
    match error {
        // With O_DIRECTORY a link is "not a folder".
        nix::Error::ELOOP | nix::Error::ENOTDIR => io::Error::other(format!(
            "`{}` in it lies where a service may write, and is a link or no folder: links there are not followed",
            name.display()
        )),
        error => error.into(),
    }
}
