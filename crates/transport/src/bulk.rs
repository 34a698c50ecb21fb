//! Bytes from one stream straight to another, through memory that all connections of a worker share: a connection holds
//! only what its reader did not take.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Stream;

/// Moved at once, at first and again after a reader was too slow; doubled as long as the reader takes all of it.
const STEP_BYTES_MIN: usize = 16 * 1024;
const STEP_BYTES_MAX: usize = 256 * 1024;
/// Held for slow readers of one worker, together. Above, everybody moves [`STEP_BYTES_MIN`] at a time.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

thread_local! {
    /// A worker is a thread. Its pages come into being as far as they are used.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// One direction of a connection, and how much it moves at once.
#[derive(Debug)]
pub struct Bulk {
    step_bytes: usize,
    /// Of what is held for this direction, as counted.
    held_bytes: usize,
}

/// What [`Bulk::poll_move`] did. `read` 0: the source has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub read: usize,
    pub written: usize,
}

/// Which side failed.
#[derive(Debug)]
pub enum Side {
    Source(io::Error),
    Sink(io::Error),
}

impl Default for Bulk {
    fn default() -> Self {
        Self { step_bytes: STEP_BYTES_MIN, held_bytes: 0 }
    }
}

impl Bulk {
    /// Moves what is there, at most `bytes_max` (which is not 0). What `to` does not take is appended to `held`, and is
    /// to be written by the caller before the next move, and then told by [`Bulk::release`]. Pending: nothing is there.
    pub fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        bytes_max: u64,
        held: &mut Vec<u8>,
    ) -> Poll<Result<Moved, Side>> {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.is_empty() {
                *scratch = vec![0; STEP_BYTES_MAX];
            }
            let is_short = HELD_BYTES.get() > HELD_BYTES_MAX;
            let step = if is_short { STEP_BYTES_MIN } else { self.step_bytes };
            let step = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(step);
            let mut buffer = ReadBuf::new(&mut scratch[..step]);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(Side::Source)?;
            let bytes = buffer.filled();
            let mut written = 0;
            while written < bytes.len() {
                match Pin::new(&mut *to).poll_write(cx, &bytes[written..]).map_err(Side::Sink)? {
                    Poll::Ready(0) => return Poll::Ready(Err(Side::Sink(io::ErrorKind::WriteZero.into()))),
                    Poll::Ready(count) => written += count,
                    Poll::Pending => break,
                }
            }
            if written < bytes.len() {
                held.extend_from_slice(&bytes[written..]);
                self.hold(bytes.len() - written);
                self.step_bytes = STEP_BYTES_MIN;
            } else if bytes.len() == self.step_bytes {
                self.step_bytes = (self.step_bytes * 2).min(STEP_BYTES_MAX);
            }
            Poll::Ready(Ok(Moved { read: bytes.len(), written }))
        })
    }

    /// What was held has been written.
    pub fn release(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get() - self.held_bytes);
        self.held_bytes = 0;
    }

    fn hold(&mut self, bytes: usize) {
        HELD_BYTES.set(HELD_BYTES.get() + bytes);
        self.held_bytes += bytes;
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests;
