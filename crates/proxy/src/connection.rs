//! A stream with what has been read of it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use sinew_transport::Stream;
use sinew_wire::h1::{Buffer, BufferPool, HeadScan};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// First read of a connection that holds no buffer goes to the stack, so that waiting costs no memory.
const SCRATCH_BYTES: usize = 8 * 1024;
/// Room beside the largest head, so that the head alone never fills the buffer.
const HEAD_SLACK_BYTES: usize = 4 * 1024;
/// Of 4 KiB each, per worker.
const FREE_BUFFERS_MAX: usize = 32;
/// Of output, per worker: two for each request in flight.
const FREE_OUTPUTS_MAX: usize = 128;
const FREE_OUTPUT_BYTES_MAX: usize = 4 * 1024;
/// Room for a head and a small body, so that few outputs grow.
const OUTPUT_BYTES: usize = 2 * 1024;

thread_local! {
    /// A worker is a thread.
    static FREE: RefCell<(BufferPool, Vec<Vec<u8>>)> =
        const { RefCell::new((BufferPool::new(FREE_BUFFERS_MAX), Vec::new())) };
}

pub struct Connection {
    pub stream: Stream,
    pub input: Buffer,
    /// How far an incomplete head was looked at.
    pub scan: HeadScan,
}

impl Connection {
    pub fn new(stream: Stream, head_bytes_max: usize) -> Self {
        let input = Buffer::new(head_bytes_max.max(SCRATCH_BYTES) + HEAD_SLACK_BYTES);
        Self { stream, input, scan: HeadScan::default() }
    }

    /// Reads more into `input`; 0: the peer has ended (or the buffer is full, which callers exclude).
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH_BYTES];
            let mut buffer = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            if !bytes.is_empty() {
                FREE.with_borrow_mut(|free| self.input.acquire_from(&mut free.0));
                self.input.extend(bytes);
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        let mut buffer = ReadBuf::new(self.input.spare());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        self.input.filled(count);
        Poll::Ready(Ok(count))
    }

    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Writes `bytes[*written..]` and moves `written`; ready when all of it is out of our hands.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        written: &mut usize,
    ) -> Poll<io::Result<()>> {
        while *written < bytes.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += count;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        poll_fn(|cx| self.poll_send(cx, bytes, &mut written)).await
    }

    /// Gives memory back before waiting for the next message.
    pub fn rest(&mut self) {
        FREE.with_borrow_mut(|free| self.input.release_to(&mut free.0));
    }

    /// As if these bytes had come first.
    pub fn precede(&mut self, bytes: &[u8]) {
        let rest = self.take_input();
        FREE.with_borrow_mut(|free| self.input.acquire_from(&mut free.0));
        self.input.extend(bytes);
        self.input.extend(&rest);
    }

    /// What was read and not used.
    pub fn take_input(&mut self) -> Vec<u8> {
        let bytes = self.input.data().to_vec();
        self.input.consume(bytes.len());
        self.rest();
        bytes
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.input.consume(self.input.len());
        self.rest();
    }
}

/// A piece of memory to write into, given back when dropped.
#[derive(Default)]
pub struct Output(pub Vec<u8>);

impl Output {
    pub fn new() -> Self {
        let free = FREE.with_borrow_mut(|free| free.1.pop());
        Self(free.unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES)))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() == 0 || bytes.capacity() > FREE_OUTPUT_BYTES_MAX {
            return;
        }
        bytes.clear();
        // At the end of a thread the list may be gone before its last user.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.1.len() < FREE_OUTPUTS_MAX {
                free.1.push(bytes);
            }
        });
    }
}
