//! One entry of a folder, by descriptor: no path of the host is walked, no link followed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, openat, readlinkat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use crate::init::sys;

/// A file is at rest when it was left alone for as long,
const REST: Duration = Duration::from_millis(150);
/// or is as old: some are written all the time.
const AGE: Duration = Duration::from_millis(1_000);
/// Mounts on one entry: its own, and what was mounted on it.
const STACK_MAX: usize = 16;

/// Device and inode.
pub type Id = (u64, u64);

/// What lies at a name, open but not for reading.
pub struct Entry {
    opened: File,
    pub found: Metadata,
}

impl Entry {
    /// `None`: nothing does.
    pub fn look(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Self>> {
        Self::open(folder, name, OFlag::O_NOFOLLOW)
    }

    pub fn look_behind(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Self>> {
        Self::open(folder, name, OFlag::empty())
    }

    fn open(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlag) -> io::Result<Option<Self>> {
        match openat(folder, name, OFlag::O_PATH | OFlag::O_CLOEXEC | flags, Mode::empty()) {
            Ok(opened) => {
                let opened = File::from(opened);
                let found = opened.metadata()?;
                Ok(Some(Self { opened, found }))
            }
            Err(nix::Error::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn id(&self) -> Id {
        (self.found.dev(), self.found.ino())
    }

    pub fn is_folder(&self) -> bool {
        self.found.is_dir()
    }

    pub fn is_link(&self) -> bool {
        self.found.is_symlink()
    }

    pub fn is_socket(&self) -> bool {
        self.found.file_type().is_socket()
    }

    /// Where a link leads to.
    pub fn target(&self) -> io::Result<OsString> {
        Ok(readlinkat(&self.opened, "")?)
    }

    /// A mount of it, attached nowhere.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        sys::copy_tree(self.opened.as_fd())
    }

    /// Only files rest; what has times of the future does.
    pub fn is_at_rest(&self, now: SystemTime) -> bool {
        let changed = SystemTime::UNIX_EPOCH
            + Duration::new(self.found.ctime().max(0) as u64, self.found.ctime_nsec() as u32);
        let since = |time: SystemTime| now.duration_since(time).unwrap_or(Duration::MAX);
        !self.found.is_file()
            || since(changed) >= REST
            || self.found.created().map_or(true, |created| since(created) >= AGE)
    }

    pub fn attach_to(mount: &OwnedFd, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        sys::attach(mount.as_fd(), open_place(folder, name)?.as_fd())
    }

    /// What is mounted at `name` is replaced without a moment at which nothing is there. An error: the kernel (before
    /// 6.5) cannot do that.
    pub fn exchange(mount: &OwnedFd, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        sys::attach_beneath(mount.as_fd(), open_place(folder, name)?.as_fd())?;
        detach(folder, name)
    }
}

fn open_place(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// For reading its entries; an error when it is a link.
pub fn open_folder(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

pub fn make_folder(folder: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    Ok(mkdirat(folder, name, Mode::from_bits_truncate(mode))?)
}

/// A place for a file to be mounted on.
pub fn make_file(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty()).map(drop)?)
}

pub fn make_link(target: &OsStr, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(symlinkat(target, folder, name)?)
}

/// Owner and mode of a folder made for one of the host. Whom that belongs to may not exist inside.
pub fn make_alike(made: BorrowedFd<'_>, original: &Metadata) -> io::Result<()> {
    let made = File::from(made.try_clone_to_owned()?);
    made.set_permissions(std::fs::Permissions::from_mode(original.mode() & 0o7777))?;
    let _ = fchown(&made, Some(original.uid()), Some(original.gid()));
    Ok(())
}

/// Tells who watches the private folder that a file in it is another one, or has another content: the place under its
/// mount gets its times, and an event.
pub fn announce(made: BorrowedFd<'_>, name: &OsStr, shown: &Metadata) -> io::Result<()> {
    let place = openat(made, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
    let mut place = File::from(place);
    place.write_all(b"\n")?;
    place.set_len(0)?;
    place.set_times(FileTimes::new().set_modified(shown.modified()?))
}

/// Takes the uppermost mount at `name` away; open files stay open.
pub fn detach(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut path = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
    path.push(name);
    Ok(umount2(path.as_os_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Takes every mount at `name` of the private folder away, then the place. Places of the seal's own stay.
pub fn clear(made: BorrowedFd<'_>, seen: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let Some(place) = Entry::look(made, name)? else { return Ok(()) };
    for _ in 0..STACK_MAX {
        match Entry::look(seen, name)? {
            Some(uppermost) if uppermost.id() != place.id() => detach(seen, name)?,
            _ => break,
        }
    }
    remove(made, name, place.is_folder())
}

pub fn remove(made: BorrowedFd<'_>, name: &OsStr, folder: bool) -> io::Result<()> {
    let flag = if folder { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    Ok(unlinkat(made, name, flag)?)
}
