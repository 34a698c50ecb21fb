//! Netlink messages: just enough to bring up an interface, add a route, load a table of nftables and ask for a log.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;

pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;

/// One or more messages that are sent together.
pub struct Messages {
    bytes: Vec<u8>,
    start: usize,
    sequence: u32,
    acknowledged: u32,
}

impl Messages {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, sequence: 0, acknowledged: 0 }
    }

    /// Begins a message; `fixed` is the structure that follows the header of its kind.
    pub fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) {
        self.end();
        self.sequence += 1;
        self.start = self.bytes.len();
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(fixed);
        self.pad();
    }

    /// The kernel answers the message that was begun last.
    pub fn acknowledge(&mut self) {
        let at = self.start + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | ACKNOWLEDGE;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        self.acknowledged = self.sequence;
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    /// A text with its final zero byte.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn end(&mut self) {
        if self.bytes.len() > self.start {
            let length = (self.bytes.len() - self.start) as u32;
            self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

pub fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let opened = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(opened.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(opened)
}

/// Sends the messages and waits until the acknowledged one was answered; the first error ends it.
pub fn exchange(socket: &OwnedFd, mut messages: Messages) -> io::Result<()> {
    messages.end();
    sendto(socket.as_raw_fd(), &messages.bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = [0; 16 * 1024];
    if messages.acknowledged == 0 {
        return Ok(());
    }
    loop {
        let received = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..received];
        while let Some((kind, sequence, body, after)) = split(rest) {
            rest = after;
            if kind != ERROR || body.len() < 4 {
                continue;
            }
            let code = i32::from_ne_bytes([body[0], body[1], body[2], body[3]]);
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
            if sequence == messages.acknowledged {
                return Ok(());
            }
        }
    }
}

/// Kind, sequence number, body and what follows of the first message in `bytes`.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let header = bytes.get(..HEADER)?;
    let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    let body = bytes.get(HEADER..length)?;
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((kind, sequence, body, &bytes[next..]))
}
