//! Mounts of a container whose sources lie below folders that services may write. A path would not do for them: on its
//! way a service can put a link at any time, and the engine follows links. So the engine mounts an empty place at the
//! target. When it has made the container's root, and nothing runs in it yet, a child of the init opens the source
//! without following links, enters the container's mounts and puts the source upon the place.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat};
use sinew_spec::seal::{SealContainer, SealContainerMount};

use super::REASON_BYTES_MAX;
use crate::beneath::Writable;
use crate::init::sys::{self, Fork, NO_DEVICES, NO_SET_UID, READ_ONLY};

#[cfg(test)]
mod tests;

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);
/// Of one container; engines and images mount a few dozen things.
const MOUNTINFO_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Device and inode.
type Id = (u64, u64);

/// Does what leads into the container's mounts, from where no process comes back.
pub fn in_child(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let (told, mut tell) = io::pipe().map_err(|e| format!("make a pipe: {e}"))?;
    match sys::fork().map_err(|e| format!("fork: {e}"))? {
        Fork::Child => {
            drop(told);
            let done = sys::die_with_parent(libc::SIGKILL).map_err(|e| e.to_string()).and_then(|()| work());
            if let Err(reason) = &done {
                let _ = tell.write_all(reason.as_bytes());
            }
            sys::exit(i32::from(done.is_err()))
        }
        Fork::Parent(child) => {
            drop(tell);
            let mut reason = Vec::new();
            let _ = told.take(REASON_BYTES_MAX).read_to_end(&mut reason);
            match (sys::wait_for(child), reason.is_empty()) {
                (true, _) => Ok(()),
                (false, true) => Err("who was to mount the volumes of the container died".to_owned()),
                (false, false) => Err(String::from_utf8_lossy(&reason).into_owned()),
            }
        }
    }
}

/// A source, attached nowhere.
struct Detached {
    mount: OwnedFd,
    /// The same without restrictions: here places can be made.
    plain: OwnedFd,
    place: Id,
    target: PathBuf,
}

/// In a process of its own, which is in the container's mounts afterwards.
pub fn put_here(process: i32, container: &SealContainer) -> Result<(), String> {
    let handle = sys::open_process(process).map_err(|e| format!("look at the container: {e}"))?;
    // In a mount namespace of this user: an ordinary user may mount nothing in the host's.
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("make a mount namespace: {e}"))?;
    let writable = Writable::new(&container.writable);
    let detached: Result<Vec<Detached>, String> =
        container.mounts.iter().map(|mount| detach(mount, &writable)).collect();
    let nothing: Vec<Id> =
        container.nothing.iter().filter_map(|path| fs::metadata(path).ok()).map(id).collect();
    let listed = mountpoints(process).map_err(|e| format!("read what the engine mounted: {e}"))?;
    setns(&handle, CloneFlags::CLONE_NEWNS).map_err(|e| format!("enter the container's mounts: {e}"))?;
    let root = open_root().map_err(|e| format!("open the container's root: {e}"))?;
    // What is covered by another mount is not found, and not meant.
    let look = |point: PathBuf| Some((id(File::from(within(&root, &point).ok()?).metadata().ok()?), point));
    let found: Vec<(Id, PathBuf)> = listed.into_iter().filter_map(look).collect();
    let mut ordered: Vec<(&Detached, &PathBuf)> = Vec::new();
    let detached = detached?;
    for mount in &detached {
        let place = found.iter().find(|(id, _)| *id == mount.place).ok_or_else(|| {
            format!("the engine has not mounted the place of {} in the container", mount.target.display())
        })?;
        ordered.push((mount, &place.1));
    }
    // The outer ones first, or they would cover the inner ones.
    ordered.sort_by_key(|(_, at)| at.components().count());
    for (mount, at) in ordered {
        attach(mount, at, &root, &found, &nothing)
            .map_err(|e| format!("mount {} in the container: {e}", mount.target.display()))?;
    }
    Ok(())
}

fn detach(wanted: &SealContainerMount, writable: &Writable) -> Result<Detached, String> {
    let SealContainerMount { mount, place } = wanted;
    let failed = |e: io::Error| format!("mount {} in the container: {e}", mount.source.display());
    let opened = writable.open(&mount.source, OFlag::O_PATH).map_err(failed)?;
    let found = File::from(opened.try_clone().map_err(failed)?).metadata().map_err(failed)?;
    let stands = fs::symlink_metadata(place).map_err(failed)?;
    let is_same_kind = found.is_dir() == stands.is_dir();
    if !(found.is_dir() || found.is_file()) || !is_same_kind {
        let kind = if stands.is_dir() { "a folder" } else { "a regular file" };
        return Err(failed(io::Error::other(format!("it is not {kind} any more"))));
    }
    let plain = sys::copy_tree(opened.as_fd()).map_err(failed)?;
    let copy = sys::copy_tree(opened.as_fd()).map_err(failed)?;
    let attributes = NO_SET_UID | NO_DEVICES | if mount.read_only { READ_ONLY } else { 0 };
    sys::restrict(copy.as_fd(), attributes, true).map_err(failed)?;
    Ok(Detached { mount: copy, plain, place: id(stands), target: mount.target.clone() })
}

/// What the engine mounted below the place comes upon the new mount again.
fn attach(
    mount: &Detached,
    at: &Path,
    root: &OwnedFd,
    found: &[(Id, PathBuf)],
    nothing: &[Id],
) -> io::Result<()> {
    let mut inner: Vec<(&Path, Id)> =
        found.iter().filter_map(|(id, point)| Some((point.strip_prefix(at).ok()?, *id))).collect();
    inner.retain(|(below, _)| !below.as_os_str().is_empty());
    // Of those in one place, only the last is seen.
    inner.sort();
    inner.dedup_by_key(|(below, _)| *below);
    let tops: Vec<&Path> = inner.iter().map(|(below, _)| *below).collect();
    // Those within others come with them.
    inner.retain(|(below, _)| !tops.iter().any(|top| below != top && below.starts_with(top)));
    let mut copies = Vec::new();
    for (below, id) in inner {
        let opened = within(root, &at.join(below))?;
        let is_folder = File::from(opened.try_clone()?).metadata()?.is_dir();
        copies.push((below, sys::copy_tree(opened.as_fd())?, is_folder, nothing.contains(&id)));
    }
    sys::attach(mount.mount.as_fd(), within(root, at)?.as_fd())?;
    for (below, copy, is_folder, is_cover) in copies {
        // What hides something makes nothing.
        if !is_cover {
            make_place(&mount.plain, below, is_folder)?;
        }
        match beneath(mount.mount.as_fd(), below) {
            Ok(place) => sys::attach(copy.as_fd(), place.as_fd())?,
            Err(error) if is_cover && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::other(format!("{} in it: {error}", below.display()))),
        }
    }
    Ok(())
}

/// As engines do: in the folder of the host.
fn make_place(folder: &OwnedFd, below: &Path, is_folder: bool) -> io::Result<()> {
    let names: Vec<&OsStr> = below.iter().collect();
    let Some((last, above)) = names.split_last() else { return Ok(()) };
    let mut at = folder.try_clone()?;
    for name in above {
        make_folder(&at, name)?;
        at = openat(&at, *name, PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    }
    if is_folder {
        return make_folder(&at, last);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(&at, *last, flags, Mode::from_bits_truncate(0o644)) {
        Ok(_) | Err(nix::Error::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_folder(at: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match mkdirat(at, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn open_root() -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open("/", flags, Mode::empty())?)
}

/// A path of the container without links in it.
fn within(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    beneath(root.as_fd(), path.strip_prefix("/").unwrap_or(path))
}

fn beneath(folder: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(folder, path, how)?)
}

/// Where something is mounted in the container. proc(5): the fifth field of a line.
fn mountpoints(process: i32) -> io::Result<Vec<PathBuf>> {
    let mut text = Vec::new();
    let file = File::open(format!("/proc/{process}/mountinfo"))?;
    file.take(MOUNTINFO_BYTES_MAX).read_to_end(&mut text)?;
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
    Ok(text.split(|byte| *byte == b'\n').filter_map(point).collect())
}

/// Spaces, tabs, line ends and backslashes are written as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.get(..3).filter(|_| *first == b'\\');
        let byte = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

fn id(found: fs::Metadata) -> Id {
    (found.dev(), found.ino())
}
