//! A new volume of a container gets what the image has at its target, with owners and modes. The image's own files are
//! seen where the engine mounted the volume, in a copy of the container's mounts in which the volume is taken away.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use sinew_spec::seal::{SealContainer, SealContainerVolume};

use super::mounts::open_root;
use crate::init::sys;

/// Of folders in each other.
const DEPTH_MAX: usize = 128;
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// In a process of its own. `process`: the first one of the container, which runs nothing of the image yet.
pub fn fill_here(process: i32, container: &SealContainer) -> Result<(), String> {
    let handle = sys::open_process(process).map_err(|e| format!("look at the container: {e}"))?;
    let open = |volume: &SealContainerVolume| {
        let opened = nix::fcntl::open(&volume.source, FOLDER, Mode::empty());
        opened.map_err(|e| format!("open {}: {e}", volume.source.display()))
    };
    let opened: Result<Vec<OwnedFd>, String> = container.new_volumes.iter().map(open).collect();
    let opened = opened?;
    setns(&handle, CloneFlags::CLONE_NEWNS).map_err(|e| format!("enter the container's mounts: {e}"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("copy the container's mounts: {e}"))?;
    for (volume, to) in container.new_volumes.iter().zip(opened) {
        fill(volume, to).map_err(|e| {
            format!("copy what the image has at {} into the new volume: {e}", volume.target.display())
        })?;
    }
    Ok(())
}

fn fill(volume: &SealContainerVolume, to: OwnedFd) -> io::Result<()> {
    // Of several containers that begin with it, one fills it, and the others wait for that.
    let to = Flock::lock(File::from(to), FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    if !is_new(&to, 0)? {
        return Ok(());
    }
    // A link on the way leads where it leads for who is in the container: its root is this process's too.
    match umount2(&volume.target, MntFlags::MNT_DETACH) {
        // It went with the volume that it lies in.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let how = OpenHow::new().flags(FOLDER - OFlag::O_NOFOLLOW).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let target = volume.target.strip_prefix("/").unwrap_or(&volume.target);
    let from = match openat2(open_root()?, target, how) {
        Ok(from) => File::from(from),
        // The image has nothing there, or no folder.
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (found, own) = (from.metadata()?, to.metadata()?);
    if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
        return Err(io::Error::other("the volume is still mounted"));
    }
    if names(&from)?.is_empty() {
        // As often made by the engine, as a place for the volume, as by the image.
        return Ok(());
    }
    let filled = copy_entries(&from, &to, 0).and_then(|()| make_alike(&to, &found));
    if filled.is_err() {
        // Half of it would count as filled the next time.
        let _ = clear(&to);
    }
    filled
}

fn copy_entries(from: &File, to: &File, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("more than {DEPTH_MAX} folders in each other")));
    }
    for name in names(from)? {
        let name = name.as_os_str();
        let opened = openat(from, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = File::from(opened.try_clone()?).metadata()?;
        if found.is_symlink() {
            symlinkat(readlinkat(&opened, "")?.as_os_str(), to, name)?;
            let owner = (Some(Uid::from_raw(found.uid())), Some(Gid::from_raw(found.gid())));
            fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        } else if found.is_dir() {
            match mkdirat(to, name, Mode::S_IRWXU) {
                Ok(()) | Err(nix::Error::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let inner = File::from(openat(to, name, FOLDER, Mode::empty())?);
            copy_entries(&File::from(openat(from, name, FOLDER, Mode::empty())?), &inner, depth + 1)?;
            make_alike(&inner, &found)?;
        } else if found.is_file() {
            copy_file(from, to, name, &found)?;
        } else if found.file_type().is_fifo() {
            nix::sys::stat::mknodat(to, name, nix::sys::stat::SFlag::S_IFIFO, Mode::S_IRWXU, 0)?;
            fchownat(
                to,
                name,
                Some(Uid::from_raw(found.uid())),
                Some(Gid::from_raw(found.gid())),
                AtFlags::empty(),
            )?;
            let mode = Mode::from_bits_truncate(found.mode());
            fchmodat(to, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        // A device or a socket of an image is nobody's here.
    }
    Ok(())
}

fn copy_file(from: &File, to: &File, name: &OsStr, found: &fs::Metadata) -> io::Result<()> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut source = File::from(openat(from, name, OFlag::O_RDONLY | flags, Mode::empty())?);
    let made = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | flags;
    let mut copy = File::from(openat(to, name, made, Mode::S_IRUSR | Mode::S_IWUSR)?);
    io::copy(&mut source, &mut copy)?;
    make_alike(&copy, found)?;
    copy.set_modified(found.modified()?)
}

/// Owner, then mode: another owner takes set-user-ID bits away.
fn make_alike(made: &File, found: &fs::Metadata) -> io::Result<()> {
    fchown(made, Some(found.uid()), Some(found.gid()))?;
    made.set_permissions(Permissions::from_mode(found.mode() & 0o7777))
}

/// Whether there is nothing but what engines make as places for further mounts: folders, and files without content.
fn is_new(folder: &File, depth: usize) -> io::Result<bool> {
    for name in names(folder)? {
        let name = name.as_os_str();
        let opened =
            openat(folder, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = File::from(opened).metadata()?;
        let is_place = if found.is_dir() && depth < DEPTH_MAX {
            is_new(&File::from(openat(folder, name, FOLDER, Mode::empty())?), depth + 1)?
        } else {
            found.is_file() && found.len() == 0
        };
        if !is_place {
            return Ok(false);
        }
    }
    Ok(true)
}

fn names(folder: &File) -> io::Result<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = Vec::new();
    // Of its own, or reading would move the other's place.
    let mut listed = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    for entry in listed.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn clear(folder: &File) -> io::Result<()> {
    use nix::unistd::{UnlinkatFlags, unlinkat};
    for name in names(folder)? {
        let name = name.as_os_str();
        match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
            Err(nix::Error::EISDIR) => {
                clear(&File::from(openat(folder, name, FOLDER, Mode::empty())?))?;
                unlinkat(folder, name, UnlinkatFlags::RemoveDir)?;
            }
            removed => removed?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
