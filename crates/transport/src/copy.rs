//! Bytes from one stream to another, both ways, as they are.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};

use crate::Stream;
use crate::bulk::{Bulk, Moved, Side};

/// How much of a connection is moved before other tasks get their turn.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// Bytes that moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub to_upstream: u64,
    pub to_client: u64,
}

/// How a copy ended.
#[derive(Debug)]
pub enum Ended {
    /// Both directions were closed in order.
    Closed,
    /// Nothing moved for the idle time.
    Idle,
    Failed(io::Error),
}

/// What had been read of either side before the copy began.
#[derive(Debug, Default)]
pub struct Early {
    pub client: Vec<u8>,
    pub upstream: Vec<u8>,
}

/// Copies both ways until both directions have ended; what was read before goes first. The end of one
/// direction is passed on (half-close) while the other goes on. Memory is bounded: a direction reads only when what it
/// read before has been written.
pub async fn both_ways(
    client: &mut Stream,
    upstream: &mut Stream,
    early: Early,
    idle: Duration,
) -> (Copied, Ended) {
    let mut forward = Direction { pending: early.client, ..Direction::default() };
    let mut backward = Direction { pending: early.upstream, ..Direction::default() };
    let sleep = tokio::time::sleep(idle);
    tokio::pin!(sleep);
    let ended =
        poll_fn(|cx| poll_both(cx, client, upstream, &mut forward, &mut backward, sleep.as_mut(), idle))
            .await;
    (Copied { to_upstream: forward.moved, to_client: backward.moved }, ended)
}

fn poll_both(
    cx: &mut Context<'_>,
    client: &mut Stream,
    upstream: &mut Stream,
    forward: &mut Direction,
    backward: &mut Direction,
    mut sleep: Pin<&mut Sleep>,
    idle: Duration,
) -> Poll<Ended> {
    let before = forward.moved + backward.moved;
    let states = [forward.poll(cx, client, upstream), backward.poll(cx, upstream, client)];
    let mut done = 0;
    for state in states {
        match state {
            Poll::Ready(Ok(())) => done += 1,
            Poll::Ready(Err(error)) => return Poll::Ready(Ended::Failed(error)),
            Poll::Pending => {}
        }
    }
    if done == 2 {
        return Poll::Ready(Ended::Closed);
    }
    if forward.moved + backward.moved != before {
        sleep.as_mut().reset(Instant::now() + idle);
    }
    ready!(sleep.poll(cx));
    Poll::Ready(Ended::Idle)
}

#[derive(Default)]
struct Direction {
    bulk: Bulk,
    /// Read and not written yet, from `written` on; only while bytes wait for a slow reader.
    pending: Vec<u8>,
    written: usize,
    moved: u64,
    flushing: bool,
    end: End,
}

#[derive(Default, PartialEq)]
enum End {
    #[default]
    Open,
    /// The source has ended; the end has still to be passed on.
    Read,
    Passed,
}

impl Direction {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Poll<io::Result<()>> {
        let mut turn = 0;
        loop {
            let (written, drained) = self.bulk.poll_drain(cx, to);
            self.moved += written as u64;
            turn += written;
            ready!(drained)?;
            while self.written < self.pending.len() {
                let count = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending[self.written..]))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += count;
                self.moved += count as u64;
                self.flushing = true;
                turn += count;
            }
            self.pending = Vec::new();
            self.written = 0;
            self.bulk.release();
            match self.end {
                End::Open => {}
                End::Read => {
                    // A peer that is gone already cannot be told: the other direction decides what that means.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.end = End::Passed;
                    return Poll::Ready(Ok(()));
                }
                End::Passed => return Poll::Ready(Ok(())),
            }
            if turn >= TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_move(cx, from, to)? {
                Poll::Ready(written) => turn += written,
                Poll::Pending => {
                    if self.flushing {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.flushing = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<io::Result<usize>> {
        let moved = ready!(self.bulk.poll_move(cx, from, to, u64::MAX, &mut self.pending));
        let Moved { read, written } = moved.map_err(|(Side::Source(error) | Side::Sink(error))| error)?;
        if read == 0 {
            self.end = End::Read;
        }
        self.moved += written as u64;
        self.flushing |= written > 0;
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests;
