//! What stands behind the proxies: an HTTP/1.1 server that answers every request with the same bytes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use memchr::memmem;
use nix::sys::socket::{Backlog, listen};

/// One request of so many is searched for what proxies have to add.
const SAMPLE_EVERY: u64 = 64;

/// What the origin has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub requests: u64,
    pub sampled: u64,
    /// Of the sampled: those with `x-request-id` and `traceparent`.
    pub marked: u64,
}

impl Seen {
    /// One more request; looked at only now and then.
    pub fn count(&mut self, is_marked: impl FnOnce() -> bool) {
        self.requests += 1;
        if self.requests % SAMPLE_EVERY == 1 {
            self.sampled += 1;
            self.marked += u64::from(is_marked());
        }
    }
}

/// The listeners of the origin, on free ports of loopback.
pub struct Origin {
    pub listeners: Vec<TcpListener>,
    pub ports: Vec<u16>,
}

impl Origin {
    pub fn bind(count: usize) -> io::Result<Self> {
        let listeners: Vec<TcpListener> = (0..count)
            .map(|_| {
                let listener = TcpListener::bind(("127.0.0.1", 0))?;
                listener.set_nonblocking(true)?;
                // `std` queues 128 connections; a burst beyond them would have clients wait for a second.
                listen(&listener, Backlog::MAXALLOWABLE)?;
                Ok(listener)
            })
            .collect::<io::Result<_>>()?;
        let ports = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<io::Result<Vec<u16>>>()?;
        Ok(Self { listeners, ports })
    }
}

/// Head and body of the one answer.
pub fn answer(body_bytes: usize) -> Rc<[u8]> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sat, 21 Nov 2026 05:33:19 GMT\r\n\
         Content-Type: application/json\r\nContent-Length: {body_bytes}\r\nCache-Control: no-cache\r\n\
         ETag: \"5f3a-1\"\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + body_bytes, b'x');
    bytes.into()
}

/// A proxy's connection to the origin.
pub struct Served {
    stream: TcpStream,
    /// The beginning of a head that is not complete.
    head: Vec<u8>,
    /// Of the current request's body.
    body_left: usize,
    /// Answers that are owed, the one that is being written included.
    owed: usize,
    written: usize,
}

impl Served {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, head: Vec::new(), body_left: 0, owed: 0, written: 0 })
    }

    /// Reads and answers as far as that goes without waiting. False: the connection has ended.
    pub fn turn(&mut self, buffer: &mut [u8], request_body: usize, answer: &[u8], seen: &mut Seen) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.take(&buffer[..count], request_body, seen);
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.write(answer).is_ok()
    }

    fn take(&mut self, mut bytes: &[u8], request_body: usize, seen: &mut Seen) {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let count = self.body_left.min(bytes.len());
                self.body_left -= count;
                bytes = &bytes[count..];
                self.owed += usize::from(self.body_left == 0);
                continue;
            }
            let held = self.head.len();
            let head = if held == 0 {
                bytes
            } else {
                self.head.extend_from_slice(bytes);
                &self.head
            };
            let Some(end) = memmem::find(head, b"\r\n\r\n").map(|at| at + 4) else {
                if held == 0 {
                    self.head.extend_from_slice(bytes);
                }
                return;
            };
            seen.count(|| is_marked(&head[..end]));
            bytes = &bytes[end - held..];
            self.head.clear();
            self.body_left = request_body;
            self.owed += usize::from(request_body == 0);
        }
    }

    fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        while self.owed > 0 {
            match self.stream.write(&answer[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.written == answer.len() {
                self.written = 0;
                self.owed -= 1;
            }
        }
        Ok(())
    }
}

impl AsFd for Served {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_marked(head: &[u8]) -> bool {
    let head = head.to_ascii_lowercase();
    memmem::find(&head, b"\r\nx-request-id: ").is_some()
        && memmem::find(&head, b"\r\ntraceparent: 00-").is_some()
}
