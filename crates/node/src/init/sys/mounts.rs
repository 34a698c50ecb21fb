//! Mounts by descriptor, and the root.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{check, owned};

/// Attributes of mounts (`MOUNT_ATTR_*`).
pub const READ_ONLY: u64 = 0x1;
pub const NO_SET_UID: u64 = 0x2;
pub const NO_DEVICES: u64 = 0x4;
pub const NO_EXECUTE: u64 = 0x8;

/// A copy of the mounts at and below `path`, attached nowhere.
pub fn copy_tree(path: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC as libc::c_uint
        | libc::AT_RECURSIVE as libc::c_uint
        | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is a constant; the result is a new descriptor.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, path.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Adds attributes to a mount, and to those below it when `recursive`.
pub fn restrict(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let change = MountAttributes { set: attributes, ..Default::default() };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the size that is passed and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached mount on top of what `target` is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    move_mount(mount, target, 0)
}

/// Attaches a detached mount beneath the mount whose root `target` is: it comes to light when that one goes. Linux 6.5.
pub fn attach_beneath(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    const BENEATH: libc::c_uint = 0x200;
    move_mount(mount, target, BENEATH)
}

fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    const FROM_EMPTY_AND_TO_EMPTY: libc::c_uint = 0x4 | 0x40;
    // SAFETY: both paths are constants.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            FROM_EMPTY_AND_TO_EMPTY | flags,
        )
    })?;
    Ok(())
}

/// Makes the working directory the root, the old root stacked on it and then taken away, for every process of this
/// mount namespace.
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: constant paths.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: constant path.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
    Ok(())
}
