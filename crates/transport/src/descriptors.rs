//! Messages of a `SOCK_SEQPACKET` Unix socket with descriptors beside them (`SCM_RIGHTS`). One send is one receive;
//! nothing is ever split or joined, so there is no framing of our own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, bind, connect,
    getsockopt, listen, sendmsg, socket, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod sys;
#[cfg(test)]
mod tests;

/// A connect to a listener whose queue is full is tried again for this long.
const CONNECT_MS_MAX: u64 = 1_000;
const CONNECT_RETRY_MS: u64 = 2;
const QUEUE: i32 = 128;

/// Sends one message. Errors: `WouldBlock` when `socket` does not wait and its buffer is full.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let slices = [io::IoSlice::new(bytes)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(sent) => {
                let reason = format!("sent {sent} of {} bytes of a message", bytes.len());
                return Err(io::Error::other(reason));
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message into `buffer`: its length (0: the other side is gone) and its descriptors, close-on-exec.
/// A message that does not fit, or with more descriptors than [`sinew_spec::seal::DESCRIPTORS_MAX`], is an error of
/// kind `InvalidData`; its descriptors are closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    sys::receive(socket, buffer)
}

/// A listening `SOCK_SEQPACKET` socket at `path`, which must not exist.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let listener = seqpacket()?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&listener, Backlog::new(QUEUE)?)?;
    Ok(listener)
}

fn seqpacket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

/// The uid of the process on the other side, as it was when the connection was made (`SO_PEERCRED`).
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(getsockopt(&socket, sockopt::PeerCredentials)?.uid())
}

/// One connection, for tasks. Both methods are safe to cancel: a message is sent or received whole or not at all.
#[derive(Debug)]
pub struct Channel {
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    /// `socket` must be connected, `SOCK_SEQPACKET` and non-blocking.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: sys::watch(socket)? })
    }

    pub async fn connect(path: &Path) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        let deadline = tokio::time::Instant::now() + Duration::from_millis(CONNECT_MS_MAX);
        loop {
            let socket = seqpacket()?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Self::new(socket),
                // Unix sockets know no connection in progress: EAGAIN is a full queue, and nothing wakes us up.
                Err(nix::Error::EAGAIN) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(CONNECT_RETRY_MS)).await;
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |socket| send(socket.as_fd(), bytes, descriptors)).await
    }

    /// See [`receive`].
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.socket.async_io(Interest::READABLE, |socket| receive(socket.as_fd(), buffer)).await
    }
}

impl Channel {
    /// What has come is still received; what the other side sends from now on fails there.
    pub fn refuse_more(&self) -> io::Result<()> {
        Ok(nix::sys::socket::shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Read)?)
    }
}

/// Accepts connections for tasks.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
}

impl Listener {
    /// See [`listen_at`].
    pub fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: sys::watch(listen_at(path)?)? })
    }

    /// Safe to cancel.
    pub async fn accept(&self) -> io::Result<Channel> {
        let accept = |socket: &OwnedFd| sys::accept(socket.as_fd());
        Channel::new(self.socket.async_io(Interest::READABLE, accept).await?)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}
