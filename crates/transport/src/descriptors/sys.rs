//! The one place where raw descriptor numbers out of the kernel become owned.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};
use sinew_spec::seal::DESCRIPTORS_MAX;
use tokio::io::unix::AsyncFd;

pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([i32; DESCRIPTORS_MAX]);
    let mut slices = [io::IoSliceMut::new(buffer)];
    let (bytes, flags, descriptors) = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Ok(message) => {
                let mut descriptors = Vec::new();
                // An error here means that the control data was cut; what arrived whole was still handed out.
                if let Ok(parts) = message.cmsgs() {
                    for part in parts {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            // SAFETY: recvmsg installed these numbers in this process just now; nobody else owns them.
                            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                }
                break (message.bytes, message.flags, descriptors);
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is larger than allowed"));
    }
    Ok((bytes, descriptors))
}

/// Close-on-exec and non-blocking.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel made this number for us just now; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Tells the runtime to watch `socket`.
pub(super) fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `register` is unsafe because a type's `AsFd` may lie about which descriptor it owns; `OwnedFd` cannot,
    // and it lives as long as the registration. There is no safe constructor.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}
