//! What the packet filter inside a seal has refused, as the kernel reports it (nfnetlink_log).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// `linux/netlink.h`: length, type, flags, sequence, port id.
const NETLINK_HEADER_BYTES: usize = 16;
/// `linux/netfilter/nfnetlink.h`: family, version, resource id.
const NETFILTER_HEADER_BYTES: usize = 4;
/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET`.
const PACKET_TYPE: u16 = 4 << 8;
const NFULA_PAYLOAD: u16 = 9;
/// The upper bits of an attribute's type are flags.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;
/// One read: a batch of the first bytes of packets.
const READ_BYTES_MAX: usize = 8 * 1024;

/// A refused packet's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    pub address: IpAddr,
    /// 0 where the protocol has none.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl std::fmt::Display for Refused {
    /// `10.0.0.7:502/tcp`, `[fd00::7]:502/udp`, `10.0.0.7/icmp`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.address, self.port) {
            (address, 0) => write!(f, "{address}")?,
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}")?,
            (IpAddr::V6(address), port) => write!(f, "[{address}]:{port}")?,
        }
        match self.protocol {
            1 => f.write_str("/icmp"),
            6 => f.write_str("/tcp"),
            17 => f.write_str("/udp"),
            58 => f.write_str("/icmpv6"),
            other => write!(f, "/{other}"),
        }
    }
}

/// Reads a bound NFLOG socket.
pub struct Reader {
    socket: AsyncFd<OwnedFd>,
}

impl Reader {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: crate::sys::watched(socket)? })
    }

    /// Waits for the next batch. Reports that did not fit the kernel's queue are lost; that is no error.
    pub async fn next(&self) -> io::Result<Vec<Refused>> {
        let mut buffer = vec![0; READ_BYTES_MAX];
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref(), &mut buffer)) {
                Ok(Ok(read)) => return Ok(parse(&buffer[..read])),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_not_ready) => {}
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    crate::sys::receive(socket.as_fd(), buffer)
}

#[cfg(not(target_os = "linux"))]
fn receive(_: &OwnedFd, _: &mut [u8]) -> io::Result<usize> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "NFLOG is known on Linux only"))
}

/// Every packet's destination in a batch of netlink messages; what cannot be read is left out.
pub fn parse(mut batch: &[u8]) -> Vec<Refused> {
    let mut found = Vec::new();
    while batch.len() >= NETLINK_HEADER_BYTES {
        let length = u32::from_ne_bytes([batch[0], batch[1], batch[2], batch[3]]) as usize;
        if length < NETLINK_HEADER_BYTES || length > batch.len() {
            break;
        }
        if u16::from_ne_bytes([batch[4], batch[5]]) == PACKET_TYPE
            && let Some(refused) = batch
                .get(NETLINK_HEADER_BYTES + NETFILTER_HEADER_BYTES..length)
                .and_then(payload)
                .and_then(destination)
        {
            found.push(refused);
        }
        batch = &batch[aligned(length).min(batch.len())..];
    }
    found
}

fn payload(mut attributes: &[u8]) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let length = u16::from_ne_bytes([attributes[0], attributes[1]]) as usize;
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]) & ATTRIBUTE_TYPE_MASK;
        let value = attributes.get(4..length)?;
        if kind == NFULA_PAYLOAD {
            return Some(value);
        }
        attributes = attributes.get(aligned(length)..)?;
    }
    None
}

/// From the first bytes of an IP packet (RFC 791, RFC 8200; extension headers are not followed).
fn destination(packet: &[u8]) -> Option<Refused> {
    let (address, protocol, rest) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (IpAddr::from(Ipv4Addr::from(address)), packet[9], packet.get(header..))
        }
        6 => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (IpAddr::from(Ipv6Addr::from(address)), packet[6], packet.get(40..))
        }
        _ => return None,
    };
    let port = match (protocol, rest) {
        (6 | 17, Some([_, _, high, low, ..])) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    Some(Refused { address, port, protocol })
}

fn aligned(length: usize) -> usize {
    length.div_ceil(4) * 4
}

#[cfg(test)]
mod tests;
