//! Pipes through which the kernel hands bytes from one TCP socket to another without copying them (`splice(2)`). A pipe
//! belongs to a direction only while there are bytes in it, so one serves all connections whose readers keep up.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most that a pipe holds, about: it has one place for each of as many pages, and a place may be a larger piece.
pub const PIPE_BYTES: usize = 256 * 1024;
/// Of a worker, each of two descriptors. Whoever finds none copies.
const PIPES_MAX: usize = 16;

thread_local! {
    /// A worker is a thread.
    static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes { free: Vec::new(), count: 0, was_used: false }) };
}

struct Pipes {
    free: Vec<Pipe>,
    /// Those in use as well.
    count: usize,
    /// Since somebody asked last.
    was_used: bool,
}

#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// In it.
    bytes: usize,
}

/// Closes the free pipes of this worker if none was used since it was asked last. For every second or so.
pub fn sweep() {
    let free = PIPES.with_borrow_mut(|pipes| {
        let is_idle = !std::mem::take(&mut pipes.was_used);
        if is_idle { std::mem::take(&mut pipes.free) } else { Vec::new() }
    });
    // Each counts itself out.
    drop(free);
}

impl Pipe {
    /// An empty one. `None`: there are enough, or the kernel gives no more.
    pub fn take() -> Option<Self> {
        let (free, count) = PIPES.with_borrow_mut(|pipes| {
            pipes.was_used = true;
            (pipes.free.pop(), pipes.count)
        });
        if free.is_some() || count >= PIPES_MAX {
            return free;
        }
        let pipe = Self::new().ok()?;
        PIPES.with_borrow_mut(|pipes| pipes.count += 1);
        Some(pipe)
    }

    fn new() -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A user who has many pipes gets smaller ones: more calls, nothing else.
        let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
        Ok(Self { read, write, bytes: 0 })
    }

    /// For the next who needs one. What is not empty is nobody else's: it is closed.
    pub fn give_back(self) {
        if self.bytes == 0 {
            // At the end of a thread the list may be gone before its last user.
            let mut pipe = Some(self);
            let _ = PIPES.try_with(|pipes| pipes.borrow_mut().free.extend(pipe.take()));
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what `from` has, at most `bytes_max`, into the pipe, which is empty. 0: `from` has ended.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.bytes, 0, "a full pipe cannot be told from an empty socket");
        loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || pass(from, &self.write, bytes_max)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.bytes = count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Gives all that is in the pipe to `to`.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while self.bytes > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || pass(&self.read, to, self.bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.bytes -= count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // The same end of a thread.
        let _ = PIPES.try_with(|pipes| pipes.borrow_mut().count -= 1);
    }
}

fn pass(from: impl AsFd, to: impl AsFd, bytes_max: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(splice(from, None, to, None, bytes_max, flags)?)
}

/// Whether the kernel (or what pretends to be one) does not know how.
pub fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM))
}

#[cfg(test)]
pub fn count() -> usize {
    PIPES.with_borrow(|pipes| pipes.count)
}
