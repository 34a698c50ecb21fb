//! Bytes from one stream straight to another, through memory that all connections of a worker share: a connection holds
//! only what its reader did not take. Much of it goes from one TCP socket to another through a pipe, without a copy.

mod pipe;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub use self::pipe::sweep;
use self::pipe::{PIPE_BYTES, Pipe, is_unknown};
use crate::Stream;

/// Moved at once, at first and again after a reader was too slow; doubled as long as the reader takes all of it.
const STEP_BYTES_MIN: usize = 16 * 1024;
const STEP_BYTES_MAX: usize = 256 * 1024;
/// From this step on, or for a body of this length, a pipe is worth its two calls.
const PIPED_BYTES_MIN: usize = 64 * 1024;
/// As many moves through a pipe, one after the other, that were smaller than [`STEP_BYTES_MIN`] tell that it is not.
const SMALL_MOVES_MAX: u8 = 4;
/// Held for slow readers of one worker, together. Above, everybody moves [`STEP_BYTES_MIN`] at a time.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    /// A worker is a thread. Its pages come into being as far as they are used.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
    /// The kernel does not splice.
    static IS_COPIED: Cell<bool> = const { Cell::new(false) };
}

/// Bytes that wait for a reader, counted for the worker as long as this lives.
#[derive(Debug, Default)]
pub struct Held(usize);

impl Held {
    pub fn set(&mut self, bytes: usize) {
        HELD_BYTES.set(HELD_BYTES.get() - self.0 + bytes);
        self.0 = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// So much waits for readers of this worker that for none more is to wait than a step of the smallest size.
pub fn is_short() -> bool {
    HELD_BYTES.get() > HELD_BYTES_MAX
}

/// One direction of a connection, and how much it moves at once.
#[derive(Debug)]
pub struct Bulk {
    step_bytes: usize,
    small_moves: u8,
    /// For this direction.
    held: Held,
    /// There are bytes in it.
    pipe: Option<Pipe>,
}

/// What [`Bulk::poll_move`] did. `read` 0: the source has ended. What was not written is held, by the caller or in a pipe.
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
        Self { step_bytes: STEP_BYTES_MIN, small_moves: 0, held: Held::default(), pipe: None }
    }
}

impl Bulk {
    /// Moves what is there, at most `bytes_max` (which is not 0). What `to` does not take is in a pipe, or is appended to
    /// `held`: before the next move the caller has both written, by [`Bulk::poll_drain`] and itself, and tells so by
    /// [`Bulk::release`]. Pending: nothing is there.
    pub fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        bytes_max: u64,
        held: &mut Vec<u8>,
    ) -> Poll<Result<Moved, Side>> {
        debug_assert!(self.pipe.is_none(), "what is in the pipe comes first");
        if let (Stream::Tcp(from), Stream::Tcp(to)) = (&*from, &*to)
            && self.is_worth_a_pipe(bytes_max)
            && let Some(pipe) = Pipe::take()
        {
            match ready!(self.poll_splice(cx, pipe, from, to, bytes_max)) {
                Err(Side::Source(error)) if is_unknown(&error) => IS_COPIED.set(true),
                moved => return Poll::Ready(moved),
            }
        }
        self.poll_copy(cx, from, to, bytes_max, held)
    }

    fn is_worth_a_pipe(&self, bytes_max: u64) -> bool {
        // Of a body the length is known, of a connection it is not.
        let is_large = (PIPED_BYTES_MIN as u64..u64::MAX).contains(&bytes_max);
        let is_last = bytes_max < STEP_BYTES_MIN as u64;
        (is_large || self.step_bytes >= PIPED_BYTES_MIN) && !is_last && !is_short() && !IS_COPIED.get()
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        mut pipe: Pipe,
        from: &TcpStream,
        to: &TcpStream,
        bytes_max: u64,
    ) -> Poll<Result<Moved, Side>> {
        let step = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let filled = pipe.poll_fill(cx, from, step);
        let drained = pipe.poll_drain(cx, to);
        let left = pipe.bytes();
        if drained.is_pending() {
            self.hold(left);
            self.pipe = Some(pipe);
        } else {
            pipe.give_back();
        }
        let read = ready!(filled).map_err(Side::Source)?;
        if let Poll::Ready(Err(error)) = drained {
            return Poll::Ready(Err(Side::Sink(error)));
        }
        if read >= STEP_BYTES_MIN {
            self.small_moves = 0;
            // Of a body that was large, the rest as well.
            self.step_bytes = self.step_bytes.max(PIPED_BYTES_MIN);
        } else {
            self.small_moves += 1;
            if self.small_moves == SMALL_MOVES_MAX {
                self.small_moves = 0;
                self.step_bytes = STEP_BYTES_MIN;
            }
        }
        Poll::Ready(Ok(Moved { read, written: read - left }))
    }

    fn poll_copy(
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
            let step = if is_short() { STEP_BYTES_MIN } else { self.step_bytes };
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

    /// Whether something of the last move waits in a pipe.
    pub fn is_piped(&self) -> bool {
        self.pipe.is_some()
    }

    /// Writes what waits in a pipe. Ready: there is nothing any more. Gives how much was written now in any case.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Stream) -> (usize, Poll<io::Result<()>>) {
        let (Some(pipe), Stream::Tcp(to)) = (&mut self.pipe, to) else { return (0, Poll::Ready(Ok(()))) };
        let before = pipe.bytes();
        let drained = pipe.poll_drain(cx, to);
        let written = before - pipe.bytes();
        if drained.is_ready()
            && let Some(pipe) = self.pipe.take()
        {
            pipe.give_back();
        }
        (written, drained)
    }

    /// What was held has been written.
    pub fn release(&mut self) {
        self.held.set(0);
    }

    fn hold(&mut self, bytes: usize) {
        self.held.set(self.held.0 + bytes);
    }
}

#[cfg(test)]
mod tests;
