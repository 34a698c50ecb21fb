//! Places that the host does not have, in folders that are the host's and read-only: `/etc/app/settings.json`. A private
//! folder in memory takes the place of the nearest one that exists, with everything that is in it shown again; what is
//! missing is made there, and nothing on the host. It is read-only for the service like the folder that it stands for.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::sources::open_path;
use super::{Root, place_missing};
use crate::init::network::Failure;
use crate::init::sys::{self, NO_DEVICES, NO_SET_UID, READ_ONLY};

/// Each becomes a mount.
const ENTRIES_MAX: usize = 8 * 1024;
/// Views of the kernel and its devices: nothing is made there.
const KERNEL: &[&str] = &["proc", "sys", "dev"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
}

impl Root {
    /// Makes an empty folder or file at a place of the new root whose parent is there.
    pub(super) fn place(&self, at: &Path, kind: Kind) -> Result<(), Failure> {
        let failed = |error| place_missing(at, &error);
        match (make(at, kind), at.parent()) {
            (Err(error), Some(parent)) if is_the_hosts(&error) && self.may_be_layered(parent) => {
                self.layer_over(parent).map_err(failed)?;
                make(at, kind).map_err(failed)
            }
            (made, _) => made.map_err(failed),
        }
    }

    fn may_be_layered(&self, folder: &Path) -> bool {
        !KERNEL.iter().any(|kernel| folder.starts_with(self.path.join(kernel)))
    }

    fn layer_over(&self, folder: &Path) -> io::Result<()> {
        let mut layers = self.layers.borrow_mut();
        let made = self.made.join(format!("layer{}", layers.len()));
        let found = fs::metadata(folder)?;
        fs::create_dir(&made)?;
        for (count, entry) in fs::read_dir(folder)?.enumerate() {
            if count == ENTRIES_MAX {
                return Err(io::Error::other(format!("more than {ENTRIES_MAX} files are beside it")));
            }
            match show_again(&entry?.path(), &made) {
                // The host goes on meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                shown => shown?,
            }
        }
        // Whom it belongs to on the host may not exist inside.
        let _ = chown(&made, Some(found.uid()), Some(found.gid()));
        fs::set_permissions(&made, fs::Permissions::from_mode(found.mode() & 0o7777))?;
        let layer = sys::copy_tree(open_path(&made)?.as_fd())?;
        sys::attach(layer.as_fd(), open_path(folder)?.as_fd())?;
        layers.push(layer);
        Ok(())
    }

    /// Everything is in its place.
    pub(super) fn close_layers(&self) -> Result<(), Failure> {
        let close =
            |layer: &OwnedFd| sys::restrict(layer.as_fd(), READ_ONLY | NO_SET_UID | NO_DEVICES, false);
        let closed = self.layers.borrow().iter().try_for_each(close);
        closed.map_err(|e| format!("make a folder read-only: {e}"))
    }
}

fn is_the_hosts(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

/// A copy of the mount keeps what the service may do with it.
fn show_again(entry: &Path, folder: &Path) -> io::Result<()> {
    let Some(name) = entry.file_name() else { return Ok(()) };
    let (found, at) = (fs::symlink_metadata(entry)?, folder.join(name));
    if found.is_symlink() {
        return symlink(fs::read_link(entry)?, at);
    }
    make(&at, if found.is_dir() { Kind::Folder } else { Kind::File })?;
    // A link that took its place meanwhile is not followed.
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(entry)?;
    if opened.metadata()?.file_type() != found.file_type() {
        return Err(io::Error::other(format!("{} is being replaced", entry.display())));
    }
    let copy = sys::copy_tree(opened.as_fd())?;
    sys::attach(copy.as_fd(), open_path(&at)?.as_fd())
}

fn make(at: &Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Folder => match fs::DirBuilder::new().mode(0o755).create(at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        },
        Kind::File => {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600).open(at).map(drop)
        }
    }
}
