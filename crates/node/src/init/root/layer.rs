//! Private folders in the place of the host's (`init::layer`): where something must not be seen, and for places that the
//! host does not have in folders that are the host's and read-only (`/etc/app/settings.json`). What is missing is made
//! there, and nothing on the host. The private folder is read-only for the service.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::stat::{Mode, mkdirat};

use super::sources::open_path;
use super::{Root, place_missing};
use crate::init::layer::{Kind, Names, Pace, Tree, make_alike, open_root};
use crate::init::network::Failure;
use crate::init::sys::{self, NO_DEVICES, NO_SET_UID, READ_ONLY};

/// Of a seal: each takes descriptors of the init.
const TREES_MAX: usize = 64;
/// Views of the kernel and its devices: nothing is made there.
const KERNEL: &[&str] = &["proc", "sys", "dev"];

impl Root {
    /// Makes an empty folder or file at a place of the new root whose parent is there.
    pub(super) fn place(&self, at: &Path, kind: Kind) -> Result<(), Failure> {
        let failed = |error| place_missing(at, &error);
        match (make(at, kind), at.parent()) {
            (Err(error), Some(parent)) if is_the_hosts(&error) && self.may_be_layered(parent) => {
                self.layer_over(parent)?;
                make(at, kind).map_err(failed)
            }
            (made, _) => made.map_err(failed),
        }
    }

    fn may_be_layered(&self, folder: &Path) -> bool {
        !KERNEL.iter().any(|kernel| folder.starts_with(self.path.join(kernel)))
    }

    fn layer_over(&self, folder: &Path) -> Result<(), Failure> {
        let inside = Path::new("/").join(folder.strip_prefix(&self.path).unwrap_or(folder));
        let failed = |e: io::Error| format!("make a place in {} inside the seal: {e}", inside.display());
        let copy = sys::copy_tree(open_path(folder).map_err(failed)?.as_fd()).map_err(failed)?;
        self.keep(folder, Some(Kind::Folder))?;
        self.layer(folder, &inside, copy, Names::default(), true)
    }

    /// Shows the root of a mount at a place of the new root, entry by entry. `inside`: the place as the service knows it.
    pub(super) fn layer(
        &self,
        at: &Path,
        inside: &Path,
        original: OwnedFd,
        names: Names,
        sockets: bool,
    ) -> Result<(), Failure> {
        let index = self.trees.borrow().len();
        if index == TREES_MAX {
            return Err(format!("more than {TREES_MAX} folders of a seal hold something that is hidden"));
        }
        let tree = self.tree(index, at, inside, original, names, sockets);
        let tree = tree.map_err(|e| format!("show {} inside the seal: {e}", inside.display()))?;
        if let Some(trouble) = tree.renew(Pace::AtOnce, &mut |_| {}).trouble {
            return Err(trouble);
        }
        self.trees.borrow_mut().push((at.to_path_buf(), tree));
        Ok(())
    }

    fn tree(
        &self,
        index: usize,
        at: &Path,
        inside: &Path,
        original: OwnedFd,
        names: Names,
        sockets: bool,
    ) -> io::Result<Tree> {
        let held = index.to_string();
        mkdirat(&self.held, held.as_str(), Mode::S_IRWXU)?;
        let held = nix::fcntl::openat(&self.held, held.as_str(), nix::fcntl::OFlag::O_PATH, Mode::empty())?;
        sys::attach(original.as_fd(), held.as_fd())?;
        let original = open_root(&original)?;

        let made = self.made.join(format!("tree{index}"));
        fs::create_dir(&made)?;
        let made = OwnedFd::from(fs::File::open(&made)?);
        make_alike(made.as_fd(), &fs::File::from(original.try_clone()?).metadata()?)?;
        let seen = sys::copy_tree(made.as_fd())?;
        sys::attach(seen.as_fd(), open_path(at)?.as_fd())?;
        Ok(Tree::new(inside.into(), original, made, seen, names, sockets))
    }

    /// Something of the seal's own comes to a place of the new root: the tree that the place lies in leaves it alone.
    pub(super) fn keep(&self, at: &Path, kind: Option<Kind>) -> Result<(), Failure> {
        let mut trees = self.trees.borrow_mut();
        // The innermost one, and of those in one place the last.
        let within = trees.iter_mut().filter_map(|(root, tree)| Some((at.strip_prefix(&*root).ok()?, tree)));
        let innermost =
            within.reduce(|a, b| if b.0.as_os_str().len() <= a.0.as_os_str().len() { b } else { a });
        let kept = innermost.map_or(Ok(()), |(below, tree)| tree.keep(below, kind));
        kept.map_err(|e| place_missing(at, &e))
    }

    /// Everything is in its place.
    pub(super) fn close_trees(&self) -> Result<(), Failure> {
        let close =
            |tree: &Tree| sys::restrict(tree.seen().as_fd(), READ_ONLY | NO_SET_UID | NO_DEVICES, false);
        let closed = self.trees.borrow().iter().try_for_each(|(_, tree)| close(tree));
        closed.map_err(|e| format!("make a folder read-only: {e}"))
    }

    pub(super) fn into_trees(self) -> Vec<Tree> {
        self.trees.into_inner().into_iter().map(|(_, tree)| tree).collect()
    }
}

fn is_the_hosts(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
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
